"""Which patches show the part and which the background it lies on, from the first principal component of the normal tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_BORDER_SHARE = 0.9  # of the outermost patches must be background
_SEPARATION = 0.75  # share of the projections' variance that the two sides explain; two halves of one uniform bar explain 0.75
_DEPTH, _DEPTH_SHARE = 2, 0.5  # so deep, and in such a share of places, the background must reach: padding makes a frame of any texture
_LEAST, _MOST = 0.05, 0.75  # share of a picture that a part may fill


@dataclass(frozen=True)
class Foreground:
    """A direction (C,) in token space and a limit: patches whose unit token projects above it belong to the part."""

    direction: Tensor
    limit: float

    def mask(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """bool (P,) from tokens (P, C): the part, its holes filled and one patch around it, so that its outline is looked at as well."""
        from scipy import ndimage

        above = ((F.normalize(tokens, dim=-1) @ self.direction) > self.limit).reshape(grid).cpu().numpy()
        filled = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(above, 1), np.ones((3, 3)))[1:-1, 1:-1])
        return torch.from_numpy(ndimage.binary_dilation(filled, np.ones((3, 3)))).flatten().to(tokens.device)


def find_foreground(tokens: Sequence[Tensor], grids: Sequence[tuple[int, int]]) -> Foreground | None:
    """The foreground of normal pictures with tokens (P, C) on their grids, or None where it is not safe to cut anything off.

    Safe means: the first principal component splits the patches of all references into two clearly separate groups (Otsu's criterion),
    one of them covers at least nine tenths of every picture's outermost patches and half of those two deeper, and the other 5 to 75 % of
    every picture.
    A texture that fills the picture, or a part that touches its border, is not cut. (AnomalyDINO, arXiv 2405.14529, section 3.1, decides
    by a list of categories.)
    """
    unit = [F.normalize(values, dim=-1) for values in tokens]
    every = torch.cat(unit)
    centred = (every - every.mean(0)).double()
    direction = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1].float()
    border = [(_depth(grid) == 0).to(every.device) for grid in grids]
    deeper = [(_depth(grid) == _DEPTH).to(every.device) for grid in grids]
    projections = [values @ direction for values in unit]
    if float(torch.cat([p[b] for p, b in zip(projections, border, strict=True)]).mean()) > float(torch.cat(projections).mean()):
        direction, projections = -direction, [-values for values in projections]
    limit, separation = _otsu(torch.cat(projections).cpu().numpy())
    if separation <= _SEPARATION:
        return None
    for values, outermost, ring in zip(projections, border, deeper, strict=True):
        is_part = (values > limit).float()
        fills = float(is_part.mean())
        if not _LEAST <= fills <= _MOST or float(is_part[outermost].mean()) > 1 - _BORDER_SHARE:
            return None
        if not len(is_part[ring]) or float(is_part[ring].mean()) > 1 - _DEPTH_SHARE:
            return None
    return Foreground(direction, limit)


def _depth(grid: tuple[int, int]) -> Tensor:
    """For each patch (P,) how many patches lie between it and the nearest border."""
    rows, cols = (torch.minimum(torch.arange(length), torch.arange(length).flip(0)) for length in grid)
    return torch.minimum(rows[:, None], cols[None]).flatten()


def _otsu(values: np.ndarray) -> tuple[float, float]:
    """The limit that splits values (M,) best in two groups, and the share of their variance that the split explains (Otsu 1979)."""
    ordered = np.sort(values.astype(np.float64))
    below = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)
    gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / (len(ordered) - below)
    between = below * (len(ordered) - below) / len(ordered) ** 2 * gap**2
    best = int(between.argmax())
    variance = ordered.var()
    return float((ordered[best] + ordered[best + 1]) / 2), float(between[best] / variance) if variance > 0 else 0.0
