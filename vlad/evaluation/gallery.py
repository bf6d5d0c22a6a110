"""The worst false alarms and misses of a run, with picture, map and truth."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlad.errors import DatasetError, ImageReadError
from vlad.evaluation.datasets import Category, Dataset, Picture, read_truth
from vlad.evaluation.samples import Sample, read_map
from vlad.pictures.reading import DEFAULT_READER, Reader
from vlad.visualization import colourise

_SIDE = 240
_OUTLINE = (64, 240, 255)


@dataclass(frozen=True)
class Case:
    """A picture that was judged wrongly; `picture`, `map` and `truth` are data URIs, "" where there is none."""

    sample: Sample
    picture: str
    map: str
    truth: str


@dataclass(frozen=True)
class Gallery:
    """The worst of one kind.

    Attributes:
        total: how many pictures of the kind there are, of which the worst are shown.
        cases: the worst first.
    """

    total: int
    cases: tuple[Case, ...]


def false_alarms(out: Path, samples: Sequence[Sample], dataset: Dataset | None, most: int = 6, *, read: Reader = DEFAULT_READER) -> Gallery:
    """Normal pictures that were called anomalous, farthest above the threshold first."""
    wrong = [sample for sample in samples if not sample.gt_label and sample.pred_label]
    return _gallery(out, sorted(wrong, key=_margin, reverse=True), dataset, most, read)


def misses(out: Path, samples: Sequence[Sample], dataset: Dataset | None, most: int = 6, *, read: Reader = DEFAULT_READER) -> Gallery:
    """Anomalous pictures that were called normal, farthest below the threshold first."""
    wrong = [sample for sample in samples if sample.gt_label and sample.pred_label is False]
    return _gallery(out, sorted(wrong, key=_margin), dataset, most, read)


def _margin(sample: Sample) -> float:
    return (sample.pred_score or 0.0) - (sample.threshold or 0.0)


def _gallery(out: Path, samples: Sequence[Sample], dataset: Dataset | None, most: int, read: Reader) -> Gallery:
    return Gallery(len(samples), tuple(_case(out, sample, dataset, read) for sample in samples[:most]))


def _case(out: Path, sample: Sample, dataset: Dataset | None, read: Reader) -> Case:
    picture = truth = ""
    found = _find(sample, dataset)
    if found is not None and dataset is not None:
        try:
            pixels = read(found[1].path)
        except ImageReadError:  # gone since the run; the map tells enough
            pixels = None
        if pixels is not None:
            picture = _uri(_fit(pixels))
            truth = _uri(_with_outline(pixels, found[1], found[0])) if sample.gt_label else ""
    small = read_map(out, sample)
    drawn = "" if small is None else _uri(_fit(colourise(small, 0.5 if sample.threshold is None else sample.threshold), smooth=True))
    return Case(sample, picture, drawn, truth)


def _find(sample: Sample, dataset: Dataset | None) -> tuple[Category, Picture] | None:
    for category in () if dataset is None else dataset.categories:
        if category.name == sample.category and dataset is not None:
            for picture in category.test:
                if dataset.relative(picture.path) == sample.image_path:
                    return category, picture
    return None


def _with_outline(pixels: np.ndarray, picture: Picture, category: Category) -> np.ndarray:
    """The picture with its true defect outlined; without, if there is no mask."""
    import cv2

    small = _fit(pixels).copy()
    try:
        truth = read_truth(picture, category, (pixels.shape[0], pixels.shape[1]))
    except DatasetError:
        return small
    if truth is not None and truth.area.any():
        area = cv2.resize(truth.area.astype(np.float32), small.shape[1::-1], interpolation=cv2.INTER_AREA) > 0
        outlines, _ = cv2.findContours(area.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(small, outlines, -1, (0, 0, 0), 4, cv2.LINE_AA)
        cv2.drawContours(small, outlines, -1, _OUTLINE, 2, cv2.LINE_AA)
    return small


def _fit(pixels: np.ndarray, *, smooth: bool = False) -> np.ndarray:
    """uint8 (h, w, 3) with the longer side of the gallery; a small map is enlarged smoothly."""
    import cv2

    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR if smooth else cv2.INTER_CUBIC
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=how), dtype=np.uint8)


def _uri(pixels: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
