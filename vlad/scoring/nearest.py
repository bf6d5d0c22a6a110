"""`nearest`: how far each patch lies from the nearest normal one (PatchCore, arXiv 2106.08265; AnomalyDINO, arXiv 2405.14529).

Axes: Q tokens of a query, M rows of a bank, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.errors import ConfigError
from vlad.scoring.base import Method, check_width
from vlad.scoring.clusters import FEWEST, Clusters
from vlad.untrusted.values import tensor

_REFINED = 1 / 32  # share of the tokens, those that seem farthest, which are searched in all rows
_SIMILARITIES = 2**22  # held at a time: 16 MiB, which stays in a large cache; memory does not grow with the bank


class MemoryBank:
    """Every normal token: A(z, R) = min over r in R of (1 - cos(z, r)) / 2.

    Rows are unit vectors. The exact search runs in chunks of bounded memory; the nearest row's distance is then computed from the
    difference of the two vectors, which is 0 for equal vectors where 1 minus a cosine is some 1e-8. A large bank on a CPU is searched by
    clusters unless `is_exact`: then the tokens that seem farthest, on which the score rests, are searched once more in all rows, and the
    others' distances are the exact ones or, for a few tokens in a hundred, slightly larger.

    Attributes:
        is_exact: whether every row is looked at for every token.
    """

    def __init__(self) -> None:
        self.is_exact = True
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._clusters: Clusters | None = None

    def __len__(self) -> int:
        return sum(len(rows) for rows, _ in self._parts)

    def copy(self) -> MemoryBank:
        other = MemoryBank()
        other.is_exact, other._parts, other._clusters = self.is_exact, list(self._parts), self._clusters
        return other

    def add(self, tokens: Tensor, owners: Tensor) -> None:
        if len(tokens):
            self._parts.append((F.normalize(tokens, dim=-1), owners.to(tokens.device)))
            self._clusters = None

    def remove(self, owner: int) -> None:
        kept = [(rows[owners != owner], owners[owners != owner]) for rows, owners in self._parts]
        self._parts = [part for part in kept if len(part[0])]
        self._clusters = None

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
        clusters = self._clustered()
        rows, owners = self._whole() if clusters is None else (clusters.rows, clusters.owners)
        if not len(rows) or (without is not None and bool((owners == without).all())):
            raise ConfigError("there is no normal picture to compare with; fit() at least one")
        check_width(tokens, rows.shape[1])
        tokens = F.normalize(tokens, dim=-1)
        if clusters is None:
            return _distances(tokens, rows, _nearest(tokens, rows, owners, without))
        cosines, nearest = clusters.nearest(tokens, without)
        far = (-cosines).topk(max(1, math.ceil(len(tokens) * _REFINED))).indices
        again = torch.cat([far, torch.isinf(cosines).nonzero()[:, 0]]).unique()
        nearest[again] = _nearest(tokens[again], rows, owners, without)
        return _distances(tokens, rows, nearest)

    def state(self) -> dict[str, Tensor]:
        clusters = self._clustered()
        if clusters is None:
            rows, owners = self._whole()
            return {"rows": rows, "owners": owners}
        return {"rows": clusters.rows, "owners": clusters.owners, "centres": clusters.centres, "sizes": clusters.sizes}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        rows = tensor(state, "rows", None, None, low=-1.01, high=1.01)
        owners = tensor(state, "owners", len(rows), dtype=torch.int64)
        self._parts = [(rows, owners)]  # unit vectors; normalising again would change a bit
        self._clusters = None
        if "centres" in state:
            centres = tensor(state, "centres", None, rows.shape[1], low=-1.01, high=1.01)
            sizes = tensor(state, "sizes", len(centres), dtype=torch.int64)
            if int(sizes.min()) < 0 or int(sizes.sum()) != len(rows):
                raise ConfigError(f"the tensor 'sizes' must tell the rows of each cluster, {len(rows)} in all, got {int(sizes.sum())}")
            self._clusters = Clusters(rows, owners, centres, sizes)

    def _clustered(self) -> Clusters | None:
        """The rows in clusters, made at the first need; None where the search is exact."""
        if self.is_exact or len(self) < FEWEST:
            return None
        found = self._clusters
        if found is None:
            rows, owners = self._whole()
            if rows.device.type != "cpu":  # a GPU looks at all rows sooner
                return None
            found = Clusters.of(rows, owners)
            self._parts = [(found.rows, found.owners)]  # the same memory
            self._clusters = found
        return found

    def _whole(self) -> tuple[Tensor, Tensor]:
        """One tensor each of all rows and owners; what was added since is joined once, at the first use."""
        if not self._parts:
            return torch.empty(0, 0), torch.empty(0, dtype=torch.long)
        if len(self._parts) > 1:
            self._parts = [(torch.cat([rows for rows, _ in self._parts]), torch.cat([owners for _, owners in self._parts]))]
        return self._parts[0]


def _nearest(tokens: Tensor, rows: Tensor, owners: Tensor, without: int | None) -> Tensor:
    """The row (Q,) nearest to each unit token (Q, C), of those that are not of the owner `without`."""
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
    return nearest


def _distances(tokens: Tensor, rows: Tensor, nearest: Tensor) -> Tensor:
    return (tokens - rows[nearest]).square().sum(-1).div_(4).clamp_(max=1)


class Nearest(Method):
    """The default of `lite` and of patch backbones."""

    summary = "distance of each patch to the nearest normal one; the score is the mean of the highest 1 %"
    searches = True

    def new_bank(self) -> MemoryBank:
        return MemoryBank()


METHOD = Nearest()
