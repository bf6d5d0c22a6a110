"""What a detector says of one picture."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlad.errors import ConfigError, VladError
from vlad.scoring.regions import Region, find_regions, large_parts, parts_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlad.pictures.roi import Roi

MAPLESS = "this prediction has no map, because only the image score was asked for; call predict(..., maps=True)"
FILES = ("overlay", "mask", "map", "json")  # kinds that `save` writes unless told otherwise
FILE_KINDS = {  # all that it can write, and how the names end
    "overlay": "_overlay.png",
    "overlay-jpeg": "_overlay.jpg",
    "mask": "_mask.png",
    "map": "_map.tiff",
    "map-deflate": "_map.tiff",
    "map-float16": "_map.npy",
    "json": ".json",
}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prediction:
    """Is something wrong with a picture, and where.

    Attributes:
        image_path: file the picture came from, None if it came as data.
        image_size: (H, W) of the picture as displayed (EXIF orientation applied).
        class_name: noun in the prompts.
        pred_score: in [0, 1], higher is more anomalous.
        threshold: a score above it means anomalous, unless `min_area` says otherwise; None if there is none.
        threshold_source: where the threshold comes from: "text", "references", "references and N pictures of this run", "labels", "mutual"
            or "user"; None without a threshold.
        mask_threshold: a pixel above it belongs to `pred_mask`; from the references unless given, also beside a given `threshold`.
        anomaly_map: float32 (H, W) in [0, 1], an absolute scale, the same for every picture; None if only the score was asked for.
        scores: every partial score by name.
        model: the model that made it.
        prompts: the prompt set that made it.
        seconds: time taken, reading included; a batch's time is shared evenly.
        undecided: why there is no verdict, in words; empty if there is one.
        embedding: float32 (E,), the picture as a whole as a unit vector of the model's space; None if unknown.
        min_area: pixels that a marked place needs to count; None: any.
        roi: the part of the picture that was looked at; None: all of it. The map is 0 outside.
        differs: how the whole picture differs from every reference, in words, e.g. "darker than every reference by 20%".
        warnings: what vlad had to say about the picture and how it was looked at.

    Raises:
        VladError: a score or threshold is no number from 0 to 1, or the map is not float32 of the picture's size with values from 0 to 1.
    """

    image_path: str | None
    image_size: tuple[int, int]
    class_name: str
    pred_score: float
    threshold: float | None
    threshold_source: str | None
    mask_threshold: float | None
    anomaly_map: np.ndarray | None
    scores: dict[str, float]
    model: str
    prompts: str
    seconds: float
    _read: Callable[[], np.ndarray] = field(repr=False)
    embedding: np.ndarray | None = field(default=None, repr=False)
    undecided: str = ""
    min_area: int | None = None
    roi: Roi | None = field(default=None, repr=False)
    differs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("pred_score", "threshold", "mask_threshold"):
            value = getattr(self, name)
            if not (value is None and name != "pred_score") and not 0 <= value <= 1:
                raise VladError(f"{name} of a prediction must be a number from 0 to 1, got {value!r}")
        found = self.anomaly_map
        if found is None:
            return
        if found.dtype != np.float32 or found.shape != tuple(self.image_size):
            raise VladError(f"the map of a prediction must be float32 {tuple(self.image_size)}, got {found.dtype} {found.shape}")
        if found.size and not (found.min() >= 0 and found.max() <= 1):  # also false for NaN
            raise VladError(f"the map of a prediction must hold values from 0 to 1, got {found.min()} to {found.max()}")

    @cached_property
    def pred_label(self) -> bool | None:
        """True if the score is above the threshold and, where `min_area` is set and there is a map, a place as large is; None without a
        threshold. The score alone decides whether a picture is anomalous, and the map where: a normal picture has no marked place."""
        if self.threshold is None:
            return None
        if self.pred_score <= self.threshold or self.min_area is None or self.anomaly_map is None:
            return self.pred_score > self.threshold
        return len(self._places) > 0

    @cached_property
    def pred_mask(self) -> np.ndarray | None:
        """bool (H, W), True where the map is above `mask_threshold`, and nowhere if `pred_label` is False; None without a map or without a
        `mask_threshold`."""
        above = self._above
        if above is None:
            return None
        if self.pred_label is False:
            return np.zeros_like(above)
        return above if self.min_area is None else large_parts(above, self.min_area)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The connected parts of the mask, highest peak first; empty without a map and if `pred_label` is False. An anomalous picture may
        have none: then it differs as a whole."""
        return () if self.pred_label is False else self._places

    @property
    def _above(self) -> np.ndarray | None:
        """bool (H, W), True where the map is above its threshold."""
        return None if self.anomaly_map is None or self.mask_threshold is None else self.anomaly_map > self.mask_threshold

    @cached_property
    def _places(self) -> tuple[Region, ...]:
        """The parts of that, those that are too small left out."""
        above = self._above
        if above is None or self.anomaly_map is None:
            return ()
        return tuple(region for region in find_regions(self.anomaly_map, above) if region.area >= (self.min_area or 1))

    @property
    def image(self) -> np.ndarray:
        """The picture as displayed, uint8 (H, W, 3) RGB; read again from its source.

        Raises:
            ImageReadError: the file has gone or changed into something unreadable.
        """
        return self._read()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the arrays. `anomaly_score`, `anomaly_threshold` and `is_anomalous` are further names for
        `pred_score`, `threshold` and `pred_label`, as inference servers of the field call them."""
        return {
            "image_path": self.image_path,
            "image_size": list(self.image_size),
            "class_name": self.class_name,
            "pred_score": self.pred_score,
            "threshold": self.threshold,
            "threshold_source": self.threshold_source,
            "pred_label": self.pred_label,
            "anomaly_score": self.pred_score,
            "anomaly_threshold": self.threshold,
            "is_anomalous": self.pred_label,
            "undecided": self.undecided,
            "mask_threshold": self.mask_threshold,
            "min_area": self.min_area,
            "roi": None if self.roi is None else self.roi.in_words(),
            "regions": [region.to_dict() for region in self.regions],
            "differs": list(self.differs),
            "warnings": list(self.warnings),
            "scores": dict(self.scores),
            "model": self.model,
            "prompts": self.prompts,
            "seconds": round(self.seconds, 6),
        }

    def __repr__(self) -> str:
        """One line: picture, verdict, marked places."""
        height, width = self.image_size
        places = "" if self.anomaly_map is None else f", {len(self.regions)} marked place{'' if len(self.regions) == 1 else 's'}"
        return f"<Prediction of {self.image_path or 'a picture'}, {width} x {height}: {self.verdict}{places}>"

    @property
    def verdict(self) -> str:
        """The verdict in one line, e.g. `anomalous: score 0.83, threshold 0.50 (text)`, and how the whole picture differs, if it does."""
        whole = f"; as a whole {', '.join(self.differs)}" if self.differs else ""
        return self._verdict + whole

    @property
    def _verdict(self) -> str:
        if self.threshold is None:
            return f"undecided: {self.undecided or f'score {self.pred_score:.2f}, no threshold'}"
        score, threshold = _tell_apart(self.pred_score, self.threshold)
        small = f" but no marked place of {self.min_area} pixels" if self.pred_label is False and self.pred_score > self.threshold else ""
        return f"{'anomalous' if self.pred_label else 'normal'}: score {score}{small}, threshold {threshold} ({self.threshold_source})"

    def overlay(self, *, max_side: int | None = 1600) -> Image:
        """The picture with its heat map and a legend, on an absolute colour scale; the mask is outlined unless the verdict is normal.

        Args:
            max_side: longest side of the picture in the drawing, in pixels; None keeps the picture's. The legend comes below it.

        Raises:
            VladError: there is no map.
            ImageReadError: the picture cannot be read again.
        """
        from vlad.visualization import draw_overlay

        if self.anomaly_map is None:
            raise VladError(MAPLESS)
        return draw_overlay(
            self.image,
            self.anomaly_map,
            threshold=0.5 if self.mask_threshold is None else self.mask_threshold,
            mask=None if self.pred_label is False else self.pred_mask,
            headline=self.verdict if self.threshold is not None else f"undecided: score {self.pred_score:.2f}",
            is_anomalous=self.pred_label,
            footer=f"{self.class_name} · {self.model}",
            look=None if self.roi is None else self.roi.mask(self.image_size),
            max_side=max_side,
        )

    def to_supervision(self) -> Any:
        """The marked places as `supervision.Detections`: boxes, masks bool (N, H, W), peaks as confidence, class 0 called "anomaly"; for
        its annotators, trackers and sinks. Its `HeatMapAnnotator` counts where detections were; `overlay` shows this picture's map.

        Raises:
            VladError: supervision is not installed, or there is no map.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise VladError("to_supervision needs supervision; pip install 'vlad-anomaly[formats]'") from error
        if self.anomaly_map is None and self.pred_label is not False:
            raise VladError(MAPLESS)
        if not self.regions or self.pred_mask is None:
            return Detections.empty()
        labels = parts_of(self.pred_mask)
        masks = np.stack([labels == labels[region.peak_at[1], region.peak_at[0]] for region in self.regions])
        return Detections(
            xyxy=np.array([region.box for region in self.regions], np.float32),
            mask=masks,
            confidence=np.array([region.peak for region in self.regions], np.float32),
            class_id=np.zeros(len(self.regions), int),
            data={"class_name": np.array(["anomaly"] * len(self.regions))},
            metadata={"pred_score": self.pred_score, "model": self.model},
        )

    def save(self, folder: str | Path, *, stem: str | None = None, kinds: Collection[str] = FILES) -> dict[str, Path]:
        """Write STEM.json, and with a map STEM_overlay.png, STEM_mask.png (0 and 255) and STEM_map.tiff (float32, not compressed: a map is
        upsampled noise, of which compression takes a tenth or two in ten times the time).

        Args:
            folder: made if missing.
            stem: beginning of the file names, may contain folders; None takes the picture's file name without suffix, or "picture".
            kinds: which of them, all unless said; instead of "map" also "map-deflate" (the TIFF, compressed) or "map-float16" (for
                `numpy.load`; off by 2.5e-4 at most), instead of "overlay" also "overlay-jpeg", which takes an eighth of the time.

        Returns:
            The written files by kind.

        Raises:
            ConfigError: there is no such kind.
        """
        if unknown := sorted(set(kinds) - set(FILE_KINDS)):
            raise ConfigError(f"files of a prediction are {', '.join(FILE_KINDS)}, got {unknown[0]!r}")
        stem = stem or (Path(self.image_path).stem if self.image_path else "picture")
        base = Path(folder) / stem
        base.parent.mkdir(parents=True, exist_ok=True)
        written = {}
        for kind in (kind for kind in FILE_KINDS if kind in kinds):  # json last: where it is, the others are
            path = base.with_name(base.name + FILE_KINDS[kind])
            if kind == "json":
                text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
                path.write_text(text, encoding="utf-8", errors="surrogateescape")
            elif self.anomaly_map is None or (kind == "mask" and self.pred_mask is None):
                continue
            elif kind.startswith("overlay"):
                _write_picture(path, np.asarray(self.overlay()))
            elif kind == "mask" and self.pred_mask is not None:
                _write_picture(path, self.pred_mask.astype(np.uint8) * 255)
            elif kind == "map-float16":
                path.write_bytes(_npy(self.anomaly_map.astype(np.float16)))
            else:
                path.write_bytes(tiff(self.anomaly_map, is_compressed=kind == "map-deflate"))
            written[kind] = path
        return written


def tiff(values: np.ndarray, *, is_compressed: bool = False) -> bytes:
    """A map float32 (H, W) as a TIFF."""
    from PIL import Image

    file = io.BytesIO()  # given a file, libtiff wants its name in UTF-8, which not every name is
    Image.fromarray(values).save(file, format="TIFF", compression="tiff_adobe_deflate" if is_compressed else None)
    return file.getvalue()


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _write_picture(path: Path, pixels: np.ndarray) -> None:
    """uint8 (H, W) or (H, W, 3); by OpenCV, which takes a fourth of Pillow's time, into memory, because it does not know every name."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, 90] if path.suffix == ".jpg" else []
    is_done, data = cv2.imencode(path.suffix, pixels if pixels.ndim == 2 else pixels[..., ::-1], options)
    if not is_done:
        raise VladError(f"{path}: could not be made a picture of {pixels.shape}")
    path.write_bytes(data.tobytes())


def _tell_apart(score: float, threshold: float) -> tuple[str, str]:
    """Both numbers with as few digits, at least two, as tell them apart; a score of 0.4996 must not read 0.50."""
    gap = abs(score - threshold)
    digits = 2 if gap == 0 else min(6, max(2, math.ceil(-math.log10(gap))))
    return f"{score:.{digits}f}", f"{threshold:.{digits}f}"
