"""Is a dataset what it should be: every picture and mask is opened, counts are compared with the published ones."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vlad.errors import DatasetError, ImageReadError
from vlad.evaluation.datasets import Category, Dataset, Picture, read_mask, read_truth
from vlad.pictures.reading import read_image

_INVERTED = 0.5  # share of a mask, and of its edge, from which on it may mark what is good
Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        level: "error" makes numbers wrong or impossible, "warning" makes them differ from published ones, "note" is good to know.
        kind: "no-good-pictures", "no-anomalous-pictures", "no-references", "unreadable-picture", "missing-mask", "bad-mask", "empty-mask",
            "no-masks", "resized-mask", "inverted-masks", "looks-like-a-mask", "duplicate", "count", "missing-category", "sizes".
        category: its name, "" for the dataset.
        message: what was expected, what came, what to do.
    """

    level: Level
    kind: str
    category: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.kind}: {f'{self.category}: ' if self.category else ''}{self.message}"


def check_dataset(dataset: Dataset, *, progress: Callable[[], object] = lambda: None) -> list[Finding]:
    """All findings, category by category. `progress` is called after each picture; `dataset_size` says how many there are."""
    findings = []
    for category in dataset.categories:
        findings += [*check_lists(dataset, category), *_check_files(category, progress)]
    known, here = dataset.layout.counts, {category.name for category in dataset.categories}
    if here & known.keys() and (missing := [name for name in known if name not in here]):
        findings.append(Finding("note", "missing-category", "", f"{len(missing)} of {len(known)} are not here: {', '.join(missing)}"))
    return findings


def dataset_size(dataset: Dataset) -> int:
    """Pictures that `check_dataset` opens."""
    return sum(len(_pictures(category)) for category in dataset.categories)


def check_lists(dataset: Dataset, category: Category) -> Iterator[Finding]:
    """What the file lists alone tell; quick."""
    good = sum(not picture.is_anomalous for picture in category.test)
    anomalous = len(category.test) - good
    expects = f"expected\n{dataset.layout.expects}"
    if not good:
        yield Finding("error", "no-good-pictures", category.name, f"no normal test picture, AUROC is undefined without; {expects}")
    if not anomalous:
        yield Finding("error", "no-anomalous-pictures", category.name, f"no anomalous test picture, AUROC is undefined without; {expects}")
    if not category.references:
        yield Finding("warning", "no-references", category.name, f"no normal training picture, few-shot runs are impossible; {expects}")
    for picture in category.test:
        if picture.expected_mask is not None:
            yield Finding("error", "missing-mask", category.name, f"{picture.path} has no mask, expected {picture.expected_mask}")
    yield from _without_masks(category)
    if anomalous and not any(picture.is_marked or picture.expected_mask for picture in category.test):
        yield Finding("note", "no-masks", category.name, "no masks, so there will be no pixel metrics")
    published = dataset.layout.counts.get(category.name)
    if published is not None:
        pairs = (("references", len(category.references)), ("good", good), ("anomalous", anomalous))
        for name, count in pairs:
            expected = getattr(published, name)
            if expected is not None and expected != count:
                message = f"{count} {name} pictures, published are {expected}; numbers will not compare with published ones"
                yield Finding("warning", "count", category.name, message)


def _without_masks(category: Category) -> Iterator[Finding]:
    """Kinds of defects of which no picture has a mask, where others have."""
    kinds: dict[str, list[Picture]] = {}
    for picture in category.test:
        if picture.is_anomalous:
            kinds.setdefault(picture.defect, []).append(picture)
    bare = [name for name, pictures in kinds.items() if not any(one.is_marked or one.expected_mask for one in pictures)]
    if bare and len(bare) < len(kinds):
        yield Finding("warning", "no-masks", category.name, f"no picture of {', '.join(bare)} has a mask; they count for no pixel metric")


def inverted_masks(category: Category) -> str | None:
    """A question, where the masks mark most of their pictures, the edge included: is white good there? Looks at eight masks at most."""
    masks = [path for picture in category.test if len(picture.masks) == 1 for path in picture.masks]
    shares, edges = [], []
    for path in masks[:: max(1, len(masks) // 8)][:8]:
        try:
            marked = (read_mask(path) > 0) != category.white_is_good
        except DatasetError:
            continue
        shares.append(marked.mean())
        edges.append(np.concatenate([marked[0], marked[-1], marked[:, 0], marked[:, -1]]).mean())
    if not shares or min(np.median(shares), np.median(edges)) <= _INVERTED:
        return None
    option = "leave --white-is-good out" if category.white_is_good else "add --white-is-good"
    return f"the masks mark {np.median(shares):.0%} of their pictures, and the edge too; if that is what is good, {option}"


def _check_files(category: Category, progress: Callable[[], object]) -> Iterator[Finding]:
    """Open every picture and mask."""
    seen: dict[bytes, Path] = {}
    sizes: Counter[tuple[int, int]] = Counter()
    trained = {picture.path for picture in category.references}
    told = False
    if question := inverted_masks(category):
        yield Finding("warning", "inverted-masks", category.name, question)
    for picture in _pictures(category):
        progress()
        try:
            pixels = read_image(picture.path)
        except ImageReadError as error:
            yield Finding("error", "unreadable-picture", category.name, str(error))
            continue
        size = (pixels.shape[0], pixels.shape[1])
        sizes[size] += 1
        if _looks_like_a_mask(pixels):
            message = f"{picture.path} has no colour but black and white, as a mask; if it is one, it must not lie among the pictures"
            yield Finding("warning", "looks-like-a-mask", category.name, message)
        for finding in _check_mask(picture, category, size):
            if finding.kind != "resized-mask" or not told:
                yield finding
            told = told or finding.kind == "resized-mask"
        key = hashlib.blake2b(pixels.tobytes() + np.array(size).tobytes(), digest_size=16).digest()
        if (twin := seen.setdefault(key, picture.path)) != picture.path:
            crosses = not category.shared and (twin in trained) != (picture.path in trained)
            what = "the same pixels are in training and test, which flatters few-shot numbers" if crosses else "the same pixels twice"
            yield Finding("error" if crosses else "warning", "duplicate", category.name, f"{twin} and {picture.path}: {what}")
    if len(sizes) > 1:
        shown = ", ".join(f"{width} x {height} ({count})" for (height, width), count in sizes.most_common(4))
        yield Finding("note", "sizes", category.name, f"{len(sizes)} sizes of pictures: {shown}{', ...' if len(sizes) > 4 else ''}")


def _check_mask(picture: Picture, category: Category, size: tuple[int, int]) -> Iterator[Finding]:
    if not picture.is_marked:
        return
    try:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            truth = read_truth(picture, category, size)
    except DatasetError as error:
        yield Finding("error", "bad-mask", category.name, str(error))
        return
    for note in notes:
        yield Finding("note", "resized-mask", category.name, str(note.message).removeprefix(f"{category.name}: "))
    if truth is not None and not truth.area.any():
        what = picture.masks[0] if picture.masks else "the polygon listed for it"
        yield Finding("warning", "empty-mask", category.name, f"{picture.path} is anomalous, but {what} marks nothing")


def _looks_like_a_mask(pixels: np.ndarray) -> bool:
    """Black and white in two levels, each more than a speck."""
    if not ((pixels == 0) | (pixels == 255)).all():
        return False
    white = (pixels > 0).mean()
    return bool((pixels == pixels[..., :1]).all() and 0 < white < 1)


def _pictures(category: Category) -> list[Picture]:
    return list({picture.path: picture for picture in (*category.references, *category.test)}.values())
