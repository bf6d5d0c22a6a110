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
    from scipy import ndimage

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3), dtype=bool))
    is_large = np.bincount(labels.ravel()) >= area
    is_large[0] = False
    large: np.ndarray = is_large[labels]
    return large


def find_regions(anomaly_map: np.ndarray, mask: np.ndarray) -> tuple[Region, ...]:
    """The 8-connected parts of the bool mask (H, W), the one with the highest peak of the float map (H, W) first."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3), dtype=bool))
    regions = []
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[window] == number
        values = np.where(inside, anomaly_map[window], -np.inf)
        top, left = window[0].start, window[1].start
        y, x = np.unravel_index(int(values.argmax()), values.shape)
        area = int(inside.sum())
        regions.append(
            Region(
                box=(left, top, window[1].stop, window[0].stop),
                area=area,
                share=area / mask.size,
                peak=float(values[y, x]),
                mean=float(anomaly_map[window][inside].mean(dtype=np.float64)),
                peak_at=(left + int(x), top + int(y)),
            )
        )
    return tuple(sorted(regions, key=lambda region: (-region.peak, -region.area, region.box)))
