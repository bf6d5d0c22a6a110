"""Normal tokens as a linear subspace: cheap at test time, because a bank of any size becomes one matrix (SubspaceAD)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.errors import ConfigError
from vlad.scoring.base import Method, check_width
from vlad.untrusted.values import tensor


class SubspaceBank:
    """The principal components that keep `variance` of the normal tokens' variance; a distance is what they leave of a token.

    With unit tokens z, mean m and components V: d(z) = |(z - m) - V V^T (z - m)|^2 / 4, in [0, 1] and on the scale of the nearest
    neighbour's distance |z - r|^2 / 4. The same interface as `MemoryBank`; what is kept of a reference is its count, sum and matrix of
    second moments (C, C), so that it can be left out or removed. Unlike a nearest neighbour, adding a reference may raise a distance.

    Args:
        variance: share of the variance to keep, below 1; 0.99 as SubspaceAD.
    """

    def __init__(self, variance: float = 0.99) -> None:
        self.variance = variance
        self._counts: dict[int, int] = {}
        self._sums: dict[int, Tensor] = {}
        self._moments: dict[int, Tensor] = {}
        self._fitted: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return sum(self._counts.values())

    def copy(self) -> SubspaceBank:
        other = SubspaceBank(self.variance)
        other._counts, other._sums, other._moments = dict(self._counts), dict(self._sums), dict(self._moments)
        return other

    def add(self, tokens: Tensor, owners: Tensor) -> None:
        for owner in owners.unique().tolist():
            rows = F.normalize(tokens[owners.to(tokens.device) == owner], dim=-1)
            moment = rows.T @ rows
            self._counts[owner] = self._counts.get(owner, 0) + len(rows)
            self._sums[owner] = self._sums[owner] + rows.sum(0) if owner in self._sums else rows.sum(0)
            self._moments[owner] = self._moments[owner] + moment if owner in self._moments else moment
        self._fitted = None

    def remove(self, owner: int) -> None:
        for kept in (self._counts, self._sums, self._moments):
            kept.pop(owner, None)
        self._fitted = None

    def distances(self, tokens: Tensor, *, without: int | None = None) -> Tensor:
        """See `vlad.scoring.base.Bank.distances`.

        Raises:
            ConfigError: nothing is left to compare with.
        """
        if without is not None:
            others = self.copy()
            others.remove(without)
            return others.distances(tokens)
        if self._fitted is None:
            self._fitted = self._fit()
        mean, components = self._fitted
        check_width(tokens, len(mean))
        centred = F.normalize(tokens, dim=-1) - mean
        residual = centred - (centred @ components) @ components.T
        return residual.square().sum(-1).div_(4).clamp_(max=1)

    def _fit(self) -> tuple[Tensor, Tensor]:
        """Mean (C,) and components (C, r), as few as keep the variance. In float64: the last components are tiny differences."""
        total = len(self)
        if not total:
            raise ConfigError("there is no normal picture to compare with; fit() at least one")
        mean = torch.stack([value.double() for value in self._sums.values()]).sum(0) / total
        moment = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
        for value in self._moments.values():
            moment += value
        values, vectors = torch.linalg.eigh(moment / total - torch.outer(mean, mean))
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        explained = values.cumsum(0)
        rank = int((explained < self.variance * explained[-1]).sum()) + 1 if float(explained[-1]) > 0 else 0
        return mean.float(), vectors[:, :rank].float().contiguous()

    def state(self) -> dict[str, Tensor]:
        owners = sorted(self._counts)
        return {
            "owners": torch.tensor(owners, dtype=torch.long),
            "counts": torch.tensor([self._counts[owner] for owner in owners], dtype=torch.long),
            "sums": torch.stack([self._sums[owner] for owner in owners]),
            "moments": torch.stack([self._moments[owner] for owner in owners]),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        owners = tensor(state, "owners", None, dtype=torch.int64).tolist()
        sums = tensor(state, "sums", len(owners), None)
        counts = tensor(state, "counts", len(owners), dtype=torch.int64, low=0)
        self._counts = dict(zip(owners, counts.tolist(), strict=True))
        self._sums = dict(zip(owners, sums, strict=True))
        self._moments = dict(zip(owners, tensor(state, "moments", len(owners), sums.shape[1], sums.shape[1]), strict=True))
        self._fitted = None


class Subspace(Method):
    """Its time does not grow with the references."""

    summary = "what the principal components of the normal patches leave over; its time does not grow with the references"
    takes_coreset = False

    def new_bank(self) -> SubspaceBank:
        return SubspaceBank()


METHOD = Subspace()
