"""`winclip`: WinCLIP+'s association of patches and windows with normal ones (arXiv 2303.14814, section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlad.scoring.base import PATCHES, Bank, Comparison, Method, window_bank
from vlad.scoring.nearest import MemoryBank
from vlad.scoring.windows import windows_to_patches

if TYPE_CHECKING:
    from vlad.backbones.encoder import View
    from vlad.scoring.foreground import Foreground


class WinClip(Method):
    """The default of a CLIP. Knows no turned copies, and looks at the whole picture whatever the foreground."""

    summary = "WinCLIP+: distances of patches and windows to the nearest normal ones; the score is the highest"
    needs_windows = True
    searches = True
    turns = 1

    def new_bank(self) -> MemoryBank:
        return MemoryBank()

    def compare(
        self,
        banks: Mapping[str, Bank],
        view: View,
        *,
        top_share: float,
        foreground: Foreground | None = None,
        without: int | None = None,
    ) -> Comparison:
        """The mean of patch and window association, and as the score its maximum before upsampling."""
        assert view.patches is not None  # the caller asked for them
        patches = view.patches
        remembered = {scale: values[0] for scale, values in view.windows.items() if window_bank(scale) in banks}
        windows = {scale: banks[window_bank(scale)].distances(values, without=without) for scale, values in remembered.items()}
        distances = winclip_map(banks[PATCHES].distances(patches.tokens, without=without), windows, patches.grid)
        if view.inside is not None:
            distances = distances * view.inside
        return Comparison(float(distances.max()), distances, patches.grid, patches.shown)


def winclip_map(patch: Tensor, windows: Mapping[int, Tensor], grid: tuple[int, int]) -> Tensor:
    """WinCLIP+'s association map (P,): the mean of the patch distances (P,) and, for each scale, of the window distances (W,) averaged
    harmonically over the windows that cover a patch."""
    scales = [windows_to_patches(distances[None], grid, scale)[0] for scale, distances in windows.items()]
    return torch.stack([patch, *scales]).mean(0)


METHOD = WinClip()
