"""Regions in words: place on a 3 x 3 grid, shape, size and severity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase

import numpy as np

from vlad.prediction import Prediction
from vlad.scoring.regions import Region, find_regions
from vlad.vlm.answer import Box, Place, Severity

LOCATIONS = ("upper left", "top", "upper right", "left", "centre", "right", "lower left", "bottom", "lower right")
_ELONGATED = 3.0  # ratio of the main axes from which a region is elongated
_SPECK = 0.01  # share of the largest region's area below which a region is a mere speck beside it
_SPREAD = 0.45  # share of its box that it must fill to be compact


def location_of(x: float, y: float, size: tuple[int, int]) -> str:
    """The ninth of a picture of `size` (H, W) that the point lies in, one of `LOCATIONS`."""
    height, width = size
    row, column = (min(2, max(0, int(3 * value / length))) for value, length in ((y, height), (x, width)))
    return LOCATIONS[3 * row + column]


def find_places(prediction: Prediction, *, most: int = 3) -> tuple[tuple[Place, ...], int]:
    """The hottest regions with letters, and how many more there are. One with less than a hundredth of the largest's area gets no letter.

    An anomalous picture whose map stays below the pixel threshold has no region: its hottest place, where the map is above half way from
    its median to its peak, then stands in, with `marked` False.
    """
    heat = prediction.anomaly_map
    if heat is None or prediction.mask_threshold is None:
        return (), 0
    regions, floor, marked = prediction.regions, prediction.mask_threshold, True
    if not regions and prediction.pred_label:
        floor = float(np.median(heat) + heat.max()) / 2
        regions, marked = find_regions(heat, heat > floor)[:1], False
    least = _SPECK * max((region.area for region in regions), default=0)
    chosen = [region for region in regions if region.area >= least][: min(most, len(ascii_uppercase))]
    places = tuple(
        replace(_place(region, heat, floor), label=letter, marked=marked) for letter, region in zip(ascii_uppercase, chosen, strict=False)
    )
    return places, len(regions) - len(chosen)


def _place(region: Region, heat: np.ndarray, floor: float) -> Place:
    """A region in words; its centre is that of its heat above `floor`."""
    left, top, right, bottom = region.box
    excess = np.maximum(heat[top:bottom, left:right].astype(np.float64) - floor, 0)
    if not excess.any():  # a plateau exactly at the floor
        excess = np.ones_like(excess)
    rows, columns = np.indices(excess.shape)
    total = excess.sum()
    y, x = float((rows * excess).sum() / total), float((columns * excess).sum() / total)
    filled = region.area / ((right - left) * (bottom - top))
    return Place(
        label="",
        box=region.box,
        location=location_of(left + x + 0.5, top + y + 0.5, (heat.shape[0], heat.shape[1])),
        shape=_shape_of(excess, x, y, filled),
        share=region.share,
        peak=region.peak,
    )


def _shape_of(weights: np.ndarray, x: float, y: float, filled: float) -> str:
    rows, columns = np.nonzero(weights)
    across, along = (
        np.sort(np.linalg.eigvalsh(np.cov(np.stack([columns - x, rows - y]), aweights=weights[rows, columns], bias=True) + np.eye(2) / 12))
        if len(rows) > 1
        else (1.0, 1.0)
    )
    if along / across >= _ELONGATED**2:
        return "elongated"
    return "compact" if filled >= _SPREAD else "spread out"


def severity_of(share: float, peak: float, threshold: float, *, is_measured: bool) -> Severity:
    """A rough word for how bad it looks, not for what it means to the part: "high" from a twentieth of the part on, or where the map's peak
    is twice its threshold and the place no mere speck; "low" below a hundredth of it with a peak below 1.4 times the threshold; else
    "medium".

    Args:
        share: of the part (the region of interest, else the picture), in [0, 1].
        peak, threshold: of the map, in [0, 1].
        is_measured: whether good pictures set the threshold; words alone have no scale on which twice as much means anything, and the
            severity is "unknown".
    """
    if not is_measured:
        return "unknown"
    times = peak / max(threshold, 1e-6)
    if share >= 0.05 or (times >= 2 and share >= 0.002):
        return "high"
    return "low" if share < 0.01 and times < 1.4 else "medium"


def crop_around(image: np.ndarray, box: Box, *, context: float = 1.5, least: float = 0.2) -> np.ndarray:
    """A square of uint8 (H, W, 3) around a box: `context` times its longer side, at least the share `least` of the picture's longer side,
    inside the picture (and cut to it where the picture is narrower)."""
    height, width = image.shape[:2]
    left, top, right, bottom = box
    side = round(max(context * max(right - left, bottom - top), least * max(height, width), 16))
    across, down = min(side, width), min(side, height)
    x = min(max(0, (left + right - across) // 2), width - across)
    y = min(max(0, (top + bottom - down) // 2), height - down)
    return image[y : y + down, x : x + across]


def size_in_words(share: float) -> str:
    """A share in [0, 1] as percent of the picture, such as "1.2 % of the picture"."""
    percent = 100 * share
    digits = 0 if percent >= 10 else 1 if percent >= 0.1 else 2
    return f"{percent:.{digits}f} % of the picture"


def list_in_words(items: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
