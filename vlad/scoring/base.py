"""What a scoring method is: how normal tokens are kept, and how far another picture lies from them.

Axes: Q tokens of a query, M rows of a bank, C channels, P patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from vlad.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from vlad.backbones.base import PatchTokens
    from vlad.backbones.encoder import View
    from vlad.scoring.foreground import Foreground

PATCHES = "patches"  # the bank of patch tokens; those of windows are called by `window_bank`


def window_bank(scale: int) -> str:
    """The name of the bank of windows of `scale` x `scale` patches."""
    return f"windows_{scale}"


def check_width(tokens: Tensor, width: int) -> None:
    """
    Raises:
        ConfigError: tokens (Q, C) are of another width than those that are remembered.
    """
    if tokens.shape[-1] != width:
        raise ConfigError(f"the references were seen by another model: {width} values a patch, this one has {tokens.shape[-1]}; fit again")


class Bank(Protocol):
    """Normal tokens in a form that tells how far another token lies from them."""

    def __len__(self) -> int: ...

    def copy(self) -> Bank:
        """A bank that can be changed without changing this one."""
        ...

    def add(self, tokens: Tensor, owners: Tensor) -> None:
        """Take tokens (M, C), each with the number of the reference that it came from (M,)."""
        ...

    def remove(self, owner: int) -> None:
        """Forget everything that came from a reference."""
        ...

    def distances(self, tokens: Tensor, *, without: int | None = None) -> Tensor:
        """Distances (Q,) in [0, 1] of tokens (Q, C), as if the reference numbered `without` had never been added."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors by name from which `load_state` makes the same bank again."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Comparison:
    """How far a picture lies from the references: a score in [0, 1], and the distances (P,) of its patches on their grid.

    Attributes:
        shown: share of the grid's height and width that the picture fills; see `PatchTokens`.
    """

    score: float
    distances: Tensor
    grid: tuple[int, int]
    shown: tuple[float, float]


class Method:
    """A way to compare a picture with references. A new one is a subclass in a file of its own, an object of it called `METHOD`, and a line
    in `vlad.scoring.methods`.

    Attributes:
        summary: what it does, in a sentence for the table of docs/references.md.
        needs_windows: compares windows of a joint encoder beside patches, so a patch backbone cannot serve it.
        searches: its banks are `MemoryBank`s, which the `search` setting concerns.
        takes_coreset: its bank may hold a share of the tokens alone.
        same_framing: compares place with place, so every picture must show the part in the same place: no turned copies, no tiles.
        takes_tiles: a part of a picture can be compared like a whole one.
        turns: how many angles each of a few references is remembered at, unless the `rotations` setting says.
    """

    summary: ClassVar[str]
    needs_windows: ClassVar[bool] = False
    searches: ClassVar[bool] = False
    takes_coreset: ClassVar[bool] = True
    same_framing: ClassVar[bool] = False
    takes_tiles: ClassVar[bool] = True
    turns: ClassVar[int] = 8

    def new_bank(self) -> Bank:
        """An empty bank, one each for the patches and for every scale of windows that the method needs."""
        raise NotImplementedError

    def compare(
        self,
        banks: Mapping[str, Bank],
        view: View,
        *,
        top_share: float,
        foreground: Foreground | None = None,
        without: int | None = None,
    ) -> Comparison:
        """How far a view lies from what the banks hold: the distance of each patch token, 0 outside the foreground if there is one and
        outside the region of interest; the score is the mean of the highest `top_share` (AnomalyDINO, arXiv 2405.14529).

        Raises:
            ConfigError: the tokens are of another width than those remembered, or nothing is left to compare with.
        """
        assert view.patches is not None  # the caller asked for them
        patches = view.patches
        distances = self.distances(banks[PATCHES], patches, without)
        if foreground is not None:
            distances = distances * foreground.mask(patches.tokens, patches.grid)
        if view.inside is not None:
            distances = distances * view.inside
        score = self.score(banks[PATCHES], view, distances, top_share, without)
        return Comparison(score, distances, patches.grid, patches.shown)

    def distances(self, bank: Bank, patches: PatchTokens, without: int | None) -> Tensor:
        """The distance (P,) of each patch; a method that looks elsewhere says so here."""
        return bank.distances(patches.tokens, without=without)

    def score(self, bank: Bank, view: View, distances: Tensor, top_share: float, without: int | None) -> float:
        """The score of a view whose patches have these distances (P,); a method that sees more than patches says so here."""
        return mean_of_top(distances, top_share, view.inside)


def mean_of_top(distances: Tensor, share: float, inside: Tensor | None = None) -> float:
    """Mean of the highest `share` of the patch distances (P,), of one patch at least (AnomalyDINO, arXiv 2405.14529, section 3.2); with a
    bool (P,) of those patches alone that are `inside`."""
    if inside is not None:
        distances = distances[inside]
    count = max(1, round(share * distances.numel()))
    return float(distances.topk(count).values.mean())
