"""Rows of a bank in clusters, so that a token is compared with the rows near it instead of all: as FAISS' inverted file (IVF) does it.

Axes: Q tokens of a query, M rows, G clusters, C channels. All vectors are unit vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

FEWEST = 2048  # rows from which on clusters pay
PROBES = 3  # clusters whose rows a token is compared with
_STEPS = 4  # of k-means
_SAMPLE = 64  # rows for each cluster that k-means sees
_BLOCK = 8192  # rows that are assigned together


class Clusters:
    """Rows sorted by cluster.

    Args:
        rows: (M, C), those of a cluster side by side.
        owners: (M,).
        centres: (G, C).
        sizes: (G,) int64, rows of each cluster; they add up to M.
    """

    def __init__(self, rows: Tensor, owners: Tensor, centres: Tensor, sizes: Tensor) -> None:
        self.rows, self.owners, self.centres, self.sizes = rows, owners, centres, sizes
        self._starts = [0, *sizes.cumsum(0).tolist()]

    @classmethod
    def of(cls, rows: Tensor, owners: Tensor) -> Clusters:
        """Some sqrt(M) clusters by spherical k-means from rows drawn once and for all. The same rows in the same order give the same."""
        count = max(1, round(math.sqrt(len(rows))))
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: _SAMPLE * count].to(rows.device)
        sample = rows[drawn]
        centres = sample[:count].clone()
        for _ in range(_STEPS):
            sums = torch.zeros_like(centres).index_add_(0, _nearest_centre(sample, centres), sample)
            is_empty = sums.norm(dim=1, keepdim=True) == 0
            centres = torch.where(is_empty, centres, F.normalize(sums, dim=1))
        found = _nearest_centre(rows, centres)
        order = found.argsort(stable=True)
        return cls(rows[order], owners[order], centres, torch.bincount(found, minlength=count))

    def nearest(self, tokens: Tensor, without: int | None = None) -> tuple[Tensor, Tensor]:
        """The highest cosine (Q,) of each token (Q, C) with the rows of the `PROBES` clusters whose centres are nearest to it, and the row
        (Q,); minus infinity where there is none in them that is not of the owner `without`."""
        probes = min(PROBES, len(self.centres))
        asked = (tokens @ self.centres.T).topk(probes, dim=1).indices.flatten()
        order = asked.argsort(stable=True)
        counts = torch.bincount(asked, minlength=len(self.centres)).tolist()
        best = tokens.new_full((len(asked),), -torch.inf)
        nearest = torch.zeros(len(asked), dtype=torch.long, device=tokens.device)
        shares = tokens[order // probes].split(counts)
        done = 0
        with _one_thread():
            for some, start, end in zip(shares, self._starts, self._starts[1:], strict=False):
                if len(some) and end > start:
                    cosines = some @ self.rows[start:end].T
                    if without is not None:
                        cosines.masked_fill_(self.owners[start:end] == without, -torch.inf)
                    torch.max(cosines, 1, out=(best[done : done + len(some)], nearest[done : done + len(some)]))
                    nearest[done : done + len(some)] += start
                done += len(some)
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        found, which = best[places].view(-1, probes).max(dim=1)
        return found, nearest[places].view(-1, probes).gather(1, which[:, None])[:, 0]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Inside, torch uses one thread: waking others for each of hundreds of small products takes three times as long as they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _nearest_centre(rows: Tensor, centres: Tensor) -> Tensor:
    """The cluster (M,) of each row."""
    return torch.cat([(some @ centres.T).argmax(1) for some in rows.split(_BLOCK)])
