"""An exported detector beside the one that it was made of: does it say the same?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlad.errors import ImageReadError, warn
from vlad.pictures.reading import ImageSource, describe_source

if TYPE_CHECKING:
    from vlad.deploy.runtime import ExportedDetector

FILE = "check.json"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of it.

    Attributes:
        pictures: how many were compared.
        score: the largest difference of a score.
        map: the largest difference of a pixel of a map.
        flipped: pictures with another verdict.
        nearest: the smallest distance of a score from its threshold; a difference of scores beyond it could flip a verdict.
        left_out: pictures that could not be compared, with the reason.
    """

    pictures: int
    score: float
    map: float
    flipped: tuple[str, ...]
    nearest: float | None
    left_out: tuple[str, ...]

    def in_words(self) -> str:
        """One line."""
        flips = "no verdict flips" if not self.flipped else f"{len(self.flipped)} verdicts flip: {', '.join(self.flipped[:3])}"
        near = "" if self.nearest is None else f"; the nearest score to its threshold is {self.nearest:.1e} away"
        return f"{self.pictures} pictures: scores differ by at most {self.score:.1e}, maps by {self.map:.1e}; {flips}{near}"

    def write(self, folder: Path) -> Path:
        """As check.json beside the export."""
        path = folder / FILE
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def compare(detector: Any, exported: ExportedDetector, pictures: Iterable[ImageSource] = ()) -> Comparison:
    """Both on the references that can still be read, and on the pictures given. The search of the detector is exact here, as that of an
    export is.

    Raises:
        ImageReadError: there is no picture at all.
    """
    exact: Any = detector
    if detector.memory is not None and detector.config.search != "exact":
        # Its own thresholds, because a calibration under another search is not what is asked for here.
        bounds, _ = detector._bounds(detector._scorer(memory=detector.memory), detector.config)
        exact = detector.copy(threshold=bounds.image, mask_threshold=bounds.pixel, search="exact")
    sources, left_out = _sources(detector, list(pictures))
    scores, maps, flipped, nearest, count = [0.0], [0.0], [], [], 0
    for name, source in sources:
        one, other = (one.predict([source], on_error="return")[0] for one in (exact, exported))
        if isinstance(one, ImageReadError) or isinstance(other, ImageReadError):
            left_out.append(f"{name}: {one if isinstance(one, ImageReadError) else other}")
            continue
        count += 1
        scores.append(abs(one.pred_score - other.pred_score))
        if one.anomaly_map is not None and other.anomaly_map is not None:
            maps.append(float(np.abs(one.anomaly_map - other.anomaly_map).max()))
        if one.pred_label != other.pred_label:
            flipped.append(name)
        if one.threshold is not None:
            nearest.append(abs(one.pred_score - one.threshold))
    if not count:
        raise ImageReadError(f"there is no picture to compare on; give some{f' ({left_out[0]})' if left_out else ''}")
    found = Comparison(
        pictures=count,
        score=max(scores),
        map=max(maps),
        flipped=tuple(flipped),
        nearest=min(nearest) if nearest else None,
        left_out=tuple(left_out),
    )
    if found.flipped:
        warn(f"the exported detector gives other verdicts on {len(found.flipped)} of {count} pictures; do not use it")
    return found


def _sources(detector: Any, pictures: Sequence[ImageSource]) -> tuple[list[tuple[str, ImageSource]], list[str]]:
    """Names and pictures, and why some cannot be had."""
    found: list[tuple[str, ImageSource]] = []
    left_out: list[str] = []
    for reference in detector.references:
        try:
            found.append((reference.path or "a reference", reference.again(detector.reader.white_level)))
        except ImageReadError as error:
            left_out.append(str(error))
    return found + [(describe_source(picture), picture) for picture in pictures], left_out
