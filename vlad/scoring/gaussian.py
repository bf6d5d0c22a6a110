"""`gaussian`: at each place of the grid, how unusual a patch is among those that normal pictures show there (PaDiM, arXiv 2011.08785).

Axes: K references, P patches, C channels, D of them chosen.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.errors import ConfigError
from vlad.scoring.base import Method, check_width
from vlad.untrusted.values import tensor

CHANNELS = 100  # as PaDiM takes at random of 448
FLOOR = 1e-3  # variance of a channel that is always allowed for; unit tokens of 100 channels vary by some 0.1 in all


class GaussianBank:
    """A normal distribution of the tokens at each place: mean m, and the covariance S of the references, shrunk towards a multiple of the
    identity (oracle approximating shrinkage, Chen et al. 2010, made for fewer samples than channels).

    The distance is FLOOR / 4 * (z - m)^T (S + FLOOR I)^-1 (z - m): a squared Mahalanobis distance in [0, 1]. Where the references do not
    vary it is |z - m|^2 / 4, the scale of the nearest neighbour's distance.

    Args:
        channels: so many of the C channels are compared, chosen at random once and for all; PaDiM found random ones as good as principal
            components.
    """

    def __init__(self, channels: int = CHANNELS) -> None:
        self.channels = channels
        self._tokens: dict[int, Tensor] = {}  # (V * P, D) of each reference, view by view
        self._fitted: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._tokens.values())

    def copy(self) -> GaussianBank:
        other = GaussianBank(self.channels)
        other._tokens, other._fitted = dict(self._tokens), self._fitted
        return other

    def add(self, tokens: Tensor, owners: Tensor) -> None:
        """See `vlad.scoring.base.Bank.add`; all patches of a reference, in row-major order. Changed views of it (`mild_changes`) follow,
        and count like pictures."""
        for owner in owners.unique().tolist():
            rows = self._chosen(tokens[owners.to(tokens.device) == owner])
            before = self._tokens.get(owner)
            self._tokens[owner] = rows if before is None else torch.cat([before, rows])
        self._fitted = None

    def remove(self, owner: int) -> None:
        self._tokens.pop(owner, None)
        self._fitted = None

    def distances(self, tokens: Tensor, *, without: int | None = None) -> Tensor:
        """See `vlad.scoring.base.Bank.distances`; all patches of a picture, in row-major order.

        Raises:
            ConfigError: nothing is left to compare with, or the picture has another number of patches than the references.
        """
        if without is not None:
            others = self.copy()
            others.remove(without)
            return others.distances(tokens)
        if not self._tokens:
            raise ConfigError("there is no normal picture to compare with; fit() at least one")
        rows = self._chosen(tokens)
        self._check(rows)
        mean, factors = self.fitted(len(rows))
        white = torch.linalg.solve_triangular(factors, (rows - mean)[..., None], upper=False)[..., 0]
        return white.square().sum(-1).mul_(FLOOR / 4).clamp_(max=1)

    def state(self) -> dict[str, Tensor]:
        owners = sorted(self._tokens)
        return {
            "owners": torch.tensor(owners, dtype=torch.long),
            "tokens": torch.stack([self._tokens[owner] for owner in owners]),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        owners = tensor(state, "owners", None, dtype=torch.int64).tolist()
        self._tokens = dict(zip(owners, tensor(state, "tokens", len(owners), None, None), strict=True))
        self._fitted = None

    def _chosen(self, tokens: Tensor) -> Tensor:
        """(P, D) of unit tokens (P, C); fewer channels than wanted are all taken."""
        unit = F.normalize(tokens, dim=-1)
        return unit[:, chosen_channels(tokens.shape[-1], self.channels).to(unit.device)]

    def fitted(self, places: int) -> tuple[Tensor, Tensor]:
        """Means (P, D) and lower Cholesky factors (P, D, D) at so many places."""
        if self._fitted is None:
            self._fitted = _fit(torch.cat([seen.view(-1, places, seen.shape[1]) for seen in self._tokens.values()]))
        return self._fitted

    def _check(self, rows: Tensor) -> None:
        check_width(rows, next(iter(self._tokens.values())).shape[1])
        if any(len(seen) % len(rows) for seen in self._tokens.values()):
            counts = ", ".join(map(str, sorted({len(seen) for seen in self._tokens.values()})))
            raise ConfigError(
                "scorer 'gaussian' compares place with place and needs pictures of the same framing; this picture has "
                f"{len(rows)} patches, the references have {counts}; use scorer 'nearest'"
            )


def chosen_channels(width: int, count: int) -> Tensor:
    """The channels (D,) that are compared of so many."""
    order = torch.randperm(width, generator=torch.Generator().manual_seed(0))
    return order[:count].sort().values


def _fit(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Means (P, D) of tokens (K, P, D), and lower Cholesky factors (P, D, D) of their shrunk covariances + FLOOR I."""
    count, _, width = tokens.shape
    mean = tokens.mean(0)
    centred = (tokens - mean).transpose(0, 1)  # (P, K, D)
    covariance = centred.transpose(1, 2) @ centred / count
    trace = covariance.diagonal(dim1=1, dim2=2).sum(1)
    square = covariance.square().sum((1, 2))
    rest = (count + 1 - 2 / width) * (square - trace.square() / width)
    shrinkage = torch.where(rest > 0, ((1 - 2 / width) * square + trace.square()) / rest.clamp_min(1e-30), torch.ones_like(rest)).clamp(
        0, 1
    )
    identity = torch.eye(width, device=tokens.device)
    shrunk = (1 - shrinkage)[:, None, None] * covariance + (shrinkage * trace / width + FLOOR)[:, None, None] * identity
    return mean, torch.linalg.cholesky(shrunk)


class Gaussian(Method):
    """For parts that always lie in the same place."""

    summary = "how unusual each patch is among the normal ones at its place (PaDiM); for parts that always lie in the same place"
    takes_coreset = False
    same_framing = True
    takes_tiles = False
    turns = 1

    def new_bank(self) -> GaussianBank:
        return GaussianBank()


METHOD = Gaussian()
