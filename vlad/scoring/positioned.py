"""`positioned`: each patch against the nearest one at its own place, in the references that look most like the picture.

Retrieve, then match: of the references the few that are nearest as whole pictures, of those the patches within some places of the grid. A
part that sits where another belongs has a near twin elsewhere in the references, so plain nearest neighbours find nothing wrong with it.

Axes: K references, P patches, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.errors import ConfigError
from vlad.scoring.base import Bank, Method, check_width
from vlad.untrusted.values import tensor

if TYPE_CHECKING:
    from vlad.backbones.base import PatchTokens

NEAREST_PICTURES = 8  # references that a picture is matched with
REACH = 2  # places of the grid in each direction


def near_their_places(shown: Tensor, normal: Tensor, reach: int) -> Tensor:
    """Distances (P,) in [0, 1], (1 - cos) / 2, of each patch of a picture to the nearest one near its place.

    Args:
        shown: unit tokens (rows, cols, C) of the picture.
        normal: unit tokens (K, rows, cols, C) of the references.
        reach: so many places of the grid in each direction are near.
    """
    rows, cols = shown.shape[0], shown.shape[1]
    best = shown.new_full((rows, cols), -1.0)
    for down in range(-min(reach, rows - 1), min(reach, rows - 1) + 1):
        for right in range(-min(reach, cols - 1), min(reach, cols - 1) + 1):
            top, bottom, left, end = max(0, -down), max(0, down), max(0, -right), max(0, right)
            here, there = shown[top : rows - bottom, left : cols - end], normal[:, bottom : rows - top, end : cols - left]
            cosines = torch.einsum("rwc,krwc->krw", here, there).amax(0)
            best = torch.maximum(best, F.pad(cosines, (left, end, top, bottom), value=-1.0))  # no assignment to a slice: ONNX has none
    return ((1 - best) / 2).clamp(0, 1).flatten()


class PositionedBank:
    """The unit tokens (P, C) of each reference, place by place, and its whole as the unit mean of them.

    Args:
        pictures: so many references, the nearest by the whole, are matched with.
        reach: so many places of the grid a normal patch may lie away in each direction.
    """

    def __init__(self, pictures: int = NEAREST_PICTURES, reach: int = REACH) -> None:
        self.pictures, self.reach = pictures, reach
        self._tokens: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._tokens.values())

    def copy(self) -> PositionedBank:
        other = PositionedBank(self.pictures, self.reach)
        other._tokens = dict(self._tokens)
        return other

    def add(self, tokens: Tensor, owners: Tensor) -> None:
        """See `vlad.scoring.base.Bank.add`; all patches of a reference, in row-major order. Changed views of it (`mild_changes`) follow."""
        for owner in owners.unique().tolist():
            rows = F.normalize(tokens[owners.to(tokens.device) == owner], dim=-1)
            before = self._tokens.get(owner)
            self._tokens[owner] = rows if before is None else torch.cat([before, rows])

    def remove(self, owner: int) -> None:
        self._tokens.pop(owner, None)

    def distances(self, tokens: Tensor, *, without: int | None = None) -> Tensor:
        """See `vlad.scoring.base.Bank.distances`; wherever the nearest patch lies. `matched` looks near its place alone."""
        unit = F.normalize(tokens, dim=-1)
        rows = torch.cat(self._nearest(unit, len(tokens), without))
        best = (unit @ rows.flatten(0, -2).T).max(1).values
        return ((1 - best) / 2).clamp(0, 1)

    def matched(self, tokens: Tensor, grid: tuple[int, int], *, without: int | None = None) -> Tensor:
        """Distances (P,) in [0, 1], (1 - cos) / 2 to the nearest of the patches within `reach` places.

        Raises:
            ConfigError: nothing is left to compare with, or the picture has another number of patches than the references.
        """
        unit = F.normalize(tokens, dim=-1)
        rows, cols = grid
        references = torch.cat(self._nearest(unit, rows * cols, without))  # (K, P, C)
        return near_their_places(unit.view(rows, cols, -1), references.view(len(references), rows, cols, -1), self.reach)

    def _nearest(self, unit: Tensor, places: int, without: int | None) -> list[Tensor]:
        """Tokens (V, P, C) of the nearest references, each with its changed views."""
        left = {owner: rows for owner, rows in self._tokens.items() if owner != without}
        if not left:
            raise ConfigError("there is no normal picture to compare with; fit() at least one")
        check_width(unit, next(iter(left.values())).shape[1])
        if any(len(rows) % places for rows in left.values()):
            counts = sorted({len(rows) for rows in left.values()})
            raise ConfigError(
                f"scorer 'positioned' compares place with place and needs pictures of the same framing; this picture has {places} patches, "
                f"the references have {', '.join(map(str, counts))}; use scorer 'nearest'"
            )
        wholes = torch.stack([F.normalize(rows[:places].mean(0), dim=0) for rows in left.values()])
        order = (wholes @ F.normalize(unit.mean(0), dim=0)).topk(min(self.pictures, len(left))).indices.tolist()
        tokens = list(left.values())
        return [tokens[index].view(-1, places, tokens[index].shape[1]) for index in order]

    def state(self) -> dict[str, Tensor]:
        owners = sorted(self._tokens)
        return {"owners": torch.tensor(owners, dtype=torch.long), "tokens": torch.stack([self._tokens[owner] for owner in owners])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        owners = tensor(state, "owners", None, dtype=torch.int64).tolist()
        self._tokens = dict(zip(owners, tensor(state, "tokens", len(owners), None, None, low=-1.01, high=1.01), strict=True))


class Positioned(Method):
    """For parts that always lie in the same place, where one may sit where another belongs."""

    summary = "distance of each patch to the nearest one near its place, in the 8 references most like the picture; for fixed framing"
    takes_coreset = False
    same_framing = True
    takes_tiles = False
    turns = 1

    def new_bank(self) -> PositionedBank:
        return PositionedBank()

    def distances(self, bank: Bank, patches: PatchTokens, without: int | None) -> Tensor:
        """See `Method.distances`."""
        assert isinstance(bank, PositionedBank)
        return bank.matched(patches.tokens, patches.grid, without=without)


METHOD = Positioned()
