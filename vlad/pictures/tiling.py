"""Large pictures in overlapping tiles: where the tiles lie, and how their maps become one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class TileGrid:
    """Overlapping tiles of one size over a picture of `height` x `width` pixels: first rows, first columns and the size of a tile."""

    height: int
    width: int
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    tile_height: int
    tile_width: int

    @classmethod
    def over(cls, height: int, width: int, tile: int, *, overlap: float = 0.25, least: int = 1) -> TileGrid:
        """Tiles of `tile` pixels a side, or of the picture's short side where that is smaller (but never below `least`), so that tiles
        are as square as the picture allows. A picture no larger than a tile is one tile."""
        if height <= tile and width <= tile:
            return cls(height, width, (0,), (0,), height, width)
        side = min(tile, max(min(height, width), least))
        tile_height, tile_width = min(side, height), min(side, width)
        return cls(height, width, _starts(height, tile_height, overlap), _starts(width, tile_width, overlap), tile_height, tile_width)

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def boxes(self) -> Iterator[Box]:
        """Every tile as (left, top, right, bottom), in row-major order."""
        for top in self.rows:
            for left in self.cols:
                yield left, top, left + self.tile_width, top + self.tile_height

    def blend(self, maps: Iterable[np.ndarray]) -> np.ndarray:
        """Tile maps (tile_height, tile_width) in the order of `boxes` to one float32 map (height, width).

        Each tile weighs most in its middle and fades linearly towards its border; the weights of all tiles at a pixel sum to 1, per
        axis, so that no second picture-sized array is needed.
        """
        blended = np.zeros((self.height, self.width), np.float32)
        row_weights = _axis_weights(self.rows, self.tile_height, self.height)
        col_weights = _axis_weights(self.cols, self.tile_width, self.width)
        boxes = self.boxes()
        for values in maps:
            left, top, right, bottom = next(boxes)
            blended[top:bottom, left:right] += values * np.outer(row_weights[self.rows.index(top)], col_weights[self.cols.index(left)])
        return blended


def _starts(length: int, tile: int, overlap: float) -> tuple[int, ...]:
    """First pixels of evenly spread tiles that overlap by at least the given share; the last tile ends at the border."""
    if length <= tile:
        return (0,)
    step = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // step) + 1
    return tuple(round(i * (length - tile) / (count - 1)) for i in range(count))


def _axis_weights(starts: tuple[int, ...], tile: int, length: int) -> list[np.ndarray]:
    """For each tile its weights (tile,) along one axis; over all tiles they sum to 1 at every pixel."""
    ramp = np.minimum(np.arange(1, tile + 1), np.arange(tile, 0, -1)).astype(np.float64)
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += ramp
    return [(ramp / total[start : start + tile]).astype(np.float32) for start in starts]
