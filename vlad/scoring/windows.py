"""Sliding windows over a grid of patches: which patches a window covers, and how window scores become a patch map.

Axes: N pictures, P = rows * cols patches, W windows, s window side in patches. Windows lie at stride 1, in row-major order.

    a grid of 4 x 4 patches        windows of 2 x 2, W = 9       of 3 x 3, W = 4        how many windows of 2 x 2 cover a patch

    +--+--+--+--+                  +=====+--+--+                 +========+--+          1  2  2  1
    | 0| 1| 2| 3|                  |  0  | 2| 3|                 |        | 3|          2  4  4  2
    +--+--+--+--+                  |     +=====+                 |    0   +--+          2  4  4  2
    | 4| 5| 6| 7|                  +=====|  5  |                 |        | 7|          1  2  2  1
    +--+--+--+--+                  | 8| 9|     |                 +========+--+
    | 8| 9|10|11|                  +--+--+=====+                 | 8| 9|10|11|          the map at a patch is the harmonic mean
    +--+--+--+--+                  |12|13|14|15|                 +--+--+--+--+          of the scores of those windows, and the
    |12|13|14|15|                  +--+--+--+--+                 |12|13|14|15|          multi-scale map that of all scales' maps
    +--+--+--+--+                  0 covers 0 1 4 5              +--+--+--+--+          and of the score of the whole picture
                                   5 covers 6 7 10 11
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.backbones.grid import window_indices

_TINY = 1e-12  # a score of zero would make the harmonic mean undefined; below this nothing is told apart


@lru_cache(maxsize=32)
def _coverage(grid: tuple[int, int], scale: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Coverage matrix (W, P), 1 where a window covers a patch, and the true coverage count (P,), 1 to scale**2."""
    indices = window_indices(grid, scale)
    matrix = torch.zeros(len(indices), grid[0] * grid[1])
    matrix.scatter_(1, indices, 1.0)
    matrix = matrix.to(device)
    return matrix, matrix.sum(0)


def windows_to_patches(scores: Tensor, grid: tuple[int, int], scale: int) -> Tensor:
    """Harmonic mean over the windows that cover each patch: window scores (N, W) to patch scores (N, P).

    One matrix product with the coverage matrix (WinCLIP, arXiv 2303.14814, section 4.2; by the true coverage count).
    """
    coverage, count = _coverage(grid, scale, scores.device)
    return count / (scores.clamp_min(_TINY).reciprocal() @ coverage)


def harmonic_mean(scores: list[Tensor]) -> Tensor:
    """Elementwise harmonic mean of tensors that broadcast against each other."""
    inverse = torch.stack(torch.broadcast_tensors(*(score.clamp_min(_TINY).reciprocal() for score in scores)))
    return len(scores) / inverse.sum(0)


def upsample(patch_map: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Bilinear upsampling (align_corners=False, no smoothing) of patch maps (N, P) to (N, H, W) for `size` = (H, W)."""
    return F.interpolate(patch_map.reshape(-1, 1, *grid), size=size, mode="bilinear", align_corners=False)[:, 0]
