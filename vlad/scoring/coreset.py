"""Fewer rows for a memory bank: those that leave no normal token far from a kept one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 8_192  # tokens that are thinned out together; time per token grows with it, memory is one block's


@dataclass(frozen=True)
class CoresetLoss:
    """What thinning out cost, as distances (1 - cos) / 2 of the dropped tokens to the nearest kept one.

    Attributes:
        tokens: tokens before.
        kept: tokens after.
        radius: the largest distance; no score can rise by more than a token this far away makes it.
        mean: the mean over all tokens, kept ones count 0.
    """

    tokens: int = 0
    kept: int = 0
    radius: float = 0.0
    mean: float = 0.0

    def __add__(self, other: CoresetLoss) -> CoresetLoss:
        tokens = self.tokens + other.tokens
        mean = (self.mean * self.tokens + other.mean * other.tokens) / max(1, tokens)
        return CoresetLoss(tokens, self.kept + other.kept, max(self.radius, other.radius), mean)


def greedy_coreset(tokens: Tensor, share: float) -> tuple[Tensor, CoresetLoss]:
    """Indices of the kept tokens, ascending, and the loss: k-centre greedy (as PatchCore, arXiv 2106.08265) on tokens (M, C).

    The token farthest from all kept ones is kept next; the radius is at most twice the smallest possible for that number. Starts at the
    token farthest from the mean, so nothing is random.
    """
    count = max(1, round(share * len(tokens)))
    rows = F.normalize(tokens, dim=-1)
    if count >= len(rows):
        return torch.arange(len(rows), device=rows.device), CoresetLoss(len(rows), len(rows))
    chosen = torch.empty(count, dtype=torch.long, device=rows.device)
    current = (rows @ F.normalize(rows.mean(0), dim=0)).argmin()
    best = torch.full((len(rows),), -torch.inf, device=rows.device)
    for place in range(count):
        chosen[place] = current
        best = torch.maximum(best, rows @ rows[current])
        best[current] = torch.inf  # never chosen again, not even among equal tokens
        current = best.argmin()
    best[chosen] = 1
    distances = ((1 - best) / 2).clamp(0, 1)
    return chosen.sort().values, CoresetLoss(len(rows), count, float(distances.max()), float(distances.mean()))
