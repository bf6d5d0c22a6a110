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
_LEAST, _MOST = 0.05, 0.75  # share of a picture that a part may fill; some encoders see the picture's border as another world


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
    one of them covers at least nine tenths of every picture's outermost patches, and the other 5 to 75 % of every picture.
    A texture that fills the picture, or a part that touches its border, is not cut. (AnomalyDINO, arXiv 2405.14529, section 3.1, decides
    by a list of categories.)
    """
    unit = [F.normalize(values, dim=-1) for values in tokens]
    every = torch.cat(unit)
    centred = (every - every.mean(0)).double()
    direction = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1].float()
    border = [_border(grid).to(every.device) for grid in grids]
    projections = [values @ direction for values in unit]
    if float(torch.cat([p[b] for p, b in zip(projections, border, strict=True)]).mean()) > float(torch.cat(projections).mean()):
        direction, projections = -direction, [-values for values in projections]
    limit, separation = _otsu(torch.cat(projections).cpu().numpy())
    if separation <= _SEPARATION:
        return None
    for values, outermost in zip(projections, border, strict=True):
        is_part = values > limit
        if not _LEAST <= float(is_part.float().mean()) <= _MOST or float((~is_part[outermost]).float().mean()) < _BORDER_SHARE:
            return None
    return Foreground(direction, limit)


def _border(grid: tuple[int, int]) -> Tensor:
    inner = torch.zeros(grid, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    return ~inner.flatten()


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
