"""`nearest`: how far each patch lies from the nearest normal one (PatchCore, arXiv 2106.08265; AnomalyDINO, arXiv 2405.14529).

Axes: Q tokens of a query, M rows of a bank, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.errors import ConfigError
from vlad.scoring.base import Method, check_width
from vlad.untrusted.values import tensor

_SIMILARITIES = 2**22  # held at a time: 16 MiB, which stays in a large cache; memory does not grow with the bank


class MemoryBank:
    """Every normal token, searched exactly: A(z, R) = min over r in R of (1 - cos(z, r)) / 2.

    Rows are unit vectors. The search runs in chunks of bounded memory; the nearest row's distance is then computed from the difference
    of the two vectors, which is 0 for equal vectors where 1 minus a cosine is some 1e-8.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor]] = []

    def __len__(self) -> int:
        return sum(len(rows) for rows, _ in self._parts)

    def copy(self) -> MemoryBank:
        other = MemoryBank()
        other._parts = list(self._parts)
        return other

    def add(self, tokens: Tensor, owners: Tensor) -> None:
        if len(tokens):
            self._parts.append((F.normalize(tokens, dim=-1), owners.to(tokens.device)))

    def remove(self, owner: int) -> None:
        kept = [(rows[owners != owner], owners[owners != owner]) for rows, owners in self._parts]
        self._parts = [part for part in kept if len(part[0])]

    @property
    def rows(self) -> Tensor:
        """(M, C) float32 unit vectors."""
        return self._whole()[0]

    @property
    def owners(self) -> Tensor:
        """(M,) int64, the number of the reference that a row came from."""
        return self._whole()[1]

    def distances(self, tokens: Tensor, *, without: int | None = None) -> Tensor:
        """See `vlad.scoring.base.Bank.distances`.

        Raises:
            ConfigError: nothing is left to compare with.
        """
        rows, owners = self._whole()
        if not len(rows) or (without is not None and bool((owners == without).all())):
            raise ConfigError("there is no normal picture to compare with; fit() at least one")
        check_width(tokens, rows.shape[1])
        tokens = F.normalize(tokens, dim=-1)
        best = tokens.new_full((len(tokens),), -torch.inf)
        nearest = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
        step = max(256, _SIMILARITIES // max(1, len(tokens)))
        for start in range(0, len(rows), step):
            cosines = tokens @ rows[start : start + step].T
            if without is not None:
                cosines.masked_fill_(owners[start : start + step] == without, -torch.inf)
            value, index = cosines.max(dim=1)
            is_nearer = value > best
            best = torch.where(is_nearer, value, best)
            nearest = torch.where(is_nearer, index + start, nearest)
        return (tokens - rows[nearest]).square().sum(-1).div_(4).clamp_(max=1)

    def state(self) -> dict[str, Tensor]:
        rows, owners = self._whole()
        return {"rows": rows, "owners": owners}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        rows = tensor(state, "rows", None, None, low=-1.01, high=1.01)
        self._parts = [(rows, tensor(state, "owners", len(rows), dtype=torch.int64))]  # unit vectors; normalising again would change a bit

    def _whole(self) -> tuple[Tensor, Tensor]:
        """One tensor each of all rows and owners; what was added since is joined once, at the first use."""
        if not self._parts:
            return torch.empty(0, 0), torch.empty(0, dtype=torch.long)
        if len(self._parts) > 1:
            self._parts = [(torch.cat([rows for rows, _ in self._parts]), torch.cat([owners for _, owners in self._parts]))]
        return self._parts[0]


class Nearest(Method):
    """The default of `lite` and of patch backbones."""

    summary = "distance of each patch to the nearest normal one; the score is the mean of the highest 1 %"

    def new_bank(self) -> MemoryBank:
        return MemoryBank()


METHOD = Nearest()
