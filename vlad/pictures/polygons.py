"""Outlines of defects, and the pixels inside."""

from __future__ import annotations

import math

import numpy as np

Polygon = tuple[tuple[float, float], ...]  # its corners (x, y) in pixels; (0, 0) is the outer corner of the upper left pixel


def draw_polygon(polygon: Polygon, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W) of `size`: the pixels whose centre is inside by the even-odd rule, or on an upper or left side, so that polygons which
    touch share no pixel. What lies outside the picture is cut off."""
    height, width = size
    crossed = np.zeros((height, width + 1), dtype=bool)  # where a line of sight from the left comes over the outline
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], *polygon[:1]), strict=True):
        rows = np.arange(max(math.ceil(min(y0, y1) - 0.5), 0), min(math.ceil(max(y0, y1) - 0.5), height))
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            crossed[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(crossed, axis=1)[:, :width]
