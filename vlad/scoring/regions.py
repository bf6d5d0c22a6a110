"""Connected parts of a mask, with what an inspector wants to know of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Region:
    """One 8-connected part of the mask.

    Attributes:
        box: (left, top, right, bottom) in pixels of the picture; right and bottom are exclusive.
        area: number of pixels.
        share: area over the picture's area, in [0, 1].
        peak: largest value of the anomaly map inside, in [0, 1].
        mean: mean value of the anomaly map inside, in [0, 1].
        peak_at: (x, y) of the largest value.
    """

    box: tuple[int, int, int, int]
    area: int
    share: float
    peak: float
    mean: float
    peak_at: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "box": list(self.box), "peak_at": list(self.peak_at)}


def large_parts(mask: np.ndarray, area: int) -> np.ndarray:
    """The bool mask (H, W) without its 8-connected parts of fewer than `area` pixels."""
    labels, boxes = _parts(mask)
    is_large = boxes[:, 4] >= area
    is_large[0] = False
    large: np.ndarray = is_large[labels]
    return large


def find_regions(anomaly_map: np.ndarray, mask: np.ndarray) -> tuple[Region, ...]:
    """The 8-connected parts of the bool mask (H, W), the one with the highest peak of the float map (H, W) first."""
    if not mask.any():
        return ()
    labels, boxes = _parts(mask)
    places = np.flatnonzero(mask)  # row by row
    numbers, values = labels.ravel()[places], anomaly_map.ravel()[places]
    order = np.lexsort((places, -values, numbers))  # of each part the highest value first, and of equal ones the first
    first = order[np.searchsorted(numbers[order], np.arange(1, len(boxes)))]
    sums = np.bincount(numbers, weights=values, minlength=len(boxes))
    regions = []
    for (left, top, width, height, area), total, highest in zip(boxes[1:].tolist(), sums[1:].tolist(), first.tolist(), strict=True):
        y, x = divmod(int(places[highest]), mask.shape[1])
        regions.append(
            Region(
                box=(left, top, left + width, top + height),
                area=area,
                share=area / mask.size,
                peak=float(values[highest]),
                mean=total / area,
                peak_at=(x, y),
            )
        )
    return tuple(sorted(regions, key=lambda region: (-region.peak, -region.area, region.box)))


def parts_of(mask: np.ndarray) -> np.ndarray:
    """The number (H, W) of each pixel's 8-connected part of a bool mask (H, W), from 1; 0 outside."""
    return _parts(mask)[0]


def _parts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number (H, W) of each pixel's part, 0 outside, and of each part, the outside first, (left, top, width, height, area)."""
    import cv2

    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return labels, boxes
