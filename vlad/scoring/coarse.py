"""Coarse to fine: large windows side by side over the whole picture, and small ones only where those are warm.

Of a grid of 15 x 15 patches with scales 2 and 3 that are 25 windows of 3 x 3 and some 20 of 2 x 2 instead of 169 and 196. No paper has
measured it; with the same embeddings it leaves out comparisons and changes none.

Axes: P patches, W windows, D joint embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vlad.backbones.grid import window_indices
from vlad.scoring.text import TextScores, anomaly_probability

WARM = 0.2  # share of the patches that are looked at more closely, the warmest
_TINY = 1e-12


def coarse_to_fine(
    encode: Callable[[int, Tensor], Tensor],
    image: Tensor,
    vectors: Tensor,
    *,
    grid: tuple[int, int],
    scales: Sequence[int],
    temperature: float,
) -> TextScores:
    """Scores of one picture as of `score_text`.

    Args:
        encode: embeddings (1, W, D) of the windows of a scale, given by their numbers (W,) in row-major order at stride 1.
        image: (1, D) of the picture as a whole.
        vectors: (2, D), normal first.
        grid: (rows, cols) of patches.
        scales: window sides in patches, two or more; only the largest is looked at everywhere.
        temperature: of the softmax.
    """
    coarse = max(scales)
    score = anomaly_probability(image, vectors, temperature)

    def map_of(scale: int, which: Tensor) -> Tensor:
        scores = anomaly_probability(encode(scale, which), vectors, temperature)[0]
        return some_windows_to_patches(scores, grid, scale, which)

    maps = {coarse: map_of(coarse, side_by_side(grid, coarse))}
    warm = torch.zeros(grid[0] * grid[1], dtype=torch.bool)
    warm[maps[coarse].cpu().argsort(descending=True, stable=True)[: max(1, round(WARM * len(warm)))]] = True
    for scale in sorted(set(scales) - {coarse}, reverse=True):
        inside = warm[window_indices(grid, scale)].all(1).nonzero()[:, 0]
        if len(inside):
            maps[scale] = map_of(scale, inside)
    inverse = torch.stack([score.clamp_min(_TINY).reciprocal().expand(len(warm)), *(1 / found.clamp_min(_TINY) for found in maps.values())])
    multi_scale = (~inverse.isnan()).sum(0) / inverse.nan_to_num(0).sum(0)
    shown = {scale: found.nan_to_num(0)[None] for scale, found in maps.items()}
    return TextScores(image=score, scales=shown, multi_scale=multi_scale[None])


def side_by_side(grid: tuple[int, int], scale: int) -> Tensor:
    """Numbers of the windows that cover the grid side by side; the last of a row or column overlaps where the side is no multiple."""
    rows, cols = ([*range(0, side - scale, scale), side - scale] for side in grid)
    return torch.tensor([row * (grid[1] - scale + 1) + col for row in rows for col in cols])


def some_windows_to_patches(scores: Tensor, grid: tuple[int, int], scale: int, which: Tensor) -> Tensor:
    """Harmonic mean (P,) of the scores (W,) of those windows that cover each patch, NaN where none does."""
    patches = window_indices(grid, scale)[which].to(scores.device)
    inverse = scores.clamp_min(_TINY).reciprocal()[:, None].expand_as(patches)
    empty = scores.new_zeros(grid[0] * grid[1])
    total = empty.index_add(0, patches.flatten(), inverse.flatten())
    count = empty.index_add(0, patches.flatten(), torch.ones_like(inverse).flatten())
    return count / total  # 0 / 0 is NaN
