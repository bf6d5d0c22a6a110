"""Rarity inside one picture: a place that resembles no other place of the same picture. Needs neither text nor references.

The idea is MuSc's mutual scoring of unlabelled pictures (arXiv 2401.16753), within a single picture. It suits textures and repeated parts;
on a part whose every region is unique, everything is rare.

Axes: N pictures, P = rows * cols patches, D token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.errors import ConfigError

REACH = 2  # patches; nearer ones share pixels with a patch through the encoder's field of view, and would explain it away
SHARE = 0.02  # of the picture's patches that must resemble a place for it to be common


def rarity(tokens: Tensor, grid: tuple[int, int], *, reach: int = REACH, share: float = SHARE) -> Tensor:
    """Rarity (N, P) in [0, 1] of patch tokens (N, P, D): half the cosine distance to its nearest likes elsewhere in the picture.

    Args:
        tokens: patch tokens on the grid, in row-major order.
        grid: rows and columns.
        reach: places at most so many rows and columns away do not count.
        share: of all places, over how many nearest ones the distance is averaged (at least one).

    Raises:
        ConfigError: the tokens do not fill the grid, or no place of it lies outside the reach.
    """
    rows, cols = grid
    if tokens.ndim != 3 or tokens.shape[1] != rows * cols:
        raise ConfigError(f"expected tokens (N, {rows * cols}, D) for a grid of {rows} x {cols}, got {tuple(tokens.shape)}")
    if max(rows, cols) <= 2 * reach + 1:
        raise ConfigError(f"expected a grid with more than {2 * reach + 1} rows or columns for a reach of {reach}, got {rows} x {cols}")
    near = _near(rows, reach, tokens.device)[:, None, :, None] & _near(cols, reach, tokens.device)[None, :, None, :]
    near = near.reshape(rows * cols, rows * cols)
    unit = F.normalize(tokens.float(), dim=-1)
    count = max(1, round(share * rows * cols))
    out = []
    for picture in unit:  # one by one: P x P numbers each
        similar = (picture @ picture.T).masked_fill_(near, -1.0)
        out.append((1 - similar.topk(count, dim=-1).values.mean(-1)) / 2)
    return torch.stack(out) if out else unit.new_empty(0, rows * cols)


def _near(length: int, reach: int, device: torch.device) -> Tensor:
    axis = torch.arange(length, device=device)
    return (axis[:, None] - axis[None]).abs() <= reach
