"""Which patches of a grid a window covers: the order of windows that every backbone keeps to."""

from __future__ import annotations

import torch
from torch import Tensor

from vlad.errors import ConfigError


def window_indices(grid: tuple[int, int], scale: int) -> Tensor:
    """Patch indices (W, scale * scale) of every window, for one gather of all windows of a scale.

    Raises:
        ConfigError: the window does not fit on the grid.
    """
    rows, cols = grid
    if not 1 <= scale <= min(rows, cols):
        raise ConfigError(
            f"a window of {scale} x {scale} patches does not fit on a grid of {rows} x {cols}; use scales from 1 to {min(rows, cols)}"
        )
    patches = torch.arange(rows * cols).reshape(rows, cols)
    return patches.unfold(0, scale, 1).unfold(1, scale, 1).reshape(-1, scale * scale)
