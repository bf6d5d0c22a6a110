"""`histogram`: how many patches of each kind a picture has, beside how far each lies from the nearest normal one.

Missing and extra parts look normal patch by patch; what is unusual is how many there are. The tokens of the references are grouped into
words (k-means), a picture is a histogram over them, and its distance from the references' histograms is put on one scale with that of its
patches: both in standard deviations of the references left out one by one (component-aware methods for MVTec LOCO do likewise, e.g.
PSAD, arXiv 2312.13783, and UniVAD, 2412.03342).

Axes: K references, P patches, C channels, W words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.scoring.base import Bank, Method, mean_of_top
from vlad.scoring.nearest import MemoryBank

if TYPE_CHECKING:
    from vlad.backbones.encoder import View

WORDS = 8  # of 8, 16, 32, 64 and 128 the best on validation lines of eval/logical_lines.py (seeds 20 to 23)
FEWEST = 5  # references from which on there is a spread of counts; below it patches alone
_REFIT = 32  # up to so many references the words are made anew without the one that is left out
_MOST_TOKENS = 20_000  # of the references, from which the words are made
_PRIOR = 4.0  # so many references' worth of the spread that counting alone brings


@dataclass(frozen=True)
class Words:
    """Kinds of patches, and how often normal pictures have them.

    Attributes:
        centres: (W, C).
        mean, variance: (W,) of the shares of a picture's patches; the variance is shrunk towards that of counting.
    """

    centres: Tensor
    mean: Tensor
    variance: Tensor

    def shares(self, tokens: Tensor) -> Tensor:
        """The histogram (W,) of unit tokens (P, C), whose sum is 1."""
        nearest = torch.cdist(tokens, self.centres).argmin(1)
        return torch.bincount(nearest, minlength=len(self.centres)).float() / len(tokens)

    def distance(self, tokens: Tensor) -> float:
        """Mahalanobis distance, of a diagonal covariance, of the histogram of unit tokens (P, C) from the normal ones."""
        return float(((self.shares(tokens) - self.mean).square() / self.variance).mean().sqrt())


@dataclass(frozen=True)
class _Spread:
    """Means of the references' patch scores and of their histograms' distances, each left out, and the standard deviations."""

    patch: float
    counted: float
    patch_width: float
    counted_width: float


class HistogramBank(MemoryBank):
    """`MemoryBank`, and of the same rows the words. What is left of a reference is its rows, so nothing more is stored."""

    def __init__(self) -> None:
        super().__init__()
        self._words: dict[tuple[int, ...], Words] = {}
        self._known: dict[float, dict[int, tuple[float, float]]] = {}

    def copy(self) -> HistogramBank:
        other = HistogramBank()
        other._parts = list(self._parts)
        return other

    def add(self, tokens: Tensor, owners: Tensor) -> None:
        super().add(tokens, owners)
        self._forget()

    def remove(self, owner: int) -> None:
        super().remove(owner)
        self._forget()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        super().load_state(state)
        self._forget()

    def _forget(self) -> None:
        self._words, self._known = {}, {}

    def words(self, without: tuple[int, ...] = ()) -> Words | None:
        """Of all references but those left out; None if there are fewer than `FEWEST` in all."""
        rows, owners = self.rows, self.owners
        known = owners.unique().tolist()
        if len(known) < FEWEST:
            return None
        without = without if len(known) <= _REFIT else ()
        if without not in self._words:
            self._words[without] = _make_words([rows[owners == owner] for owner in known if owner not in without])
        return self._words[without]

    def fused(self, tokens: Tensor, score: float, top_share: float, without: int | None) -> float:
        """The score of the patches, or where the histogram of unit tokens is farther out in standard deviations, as far out as that, on the
        scale of the patches."""
        words = self.words(() if without is None else (without,))
        spread = self._spread_of(without, top_share)
        if words is None or spread is None:
            return score
        return min(1.0, max(score, spread.patch + spread.patch_width * (words.distance(tokens) - spread.counted) / spread.counted_width))

    def _spread_of(self, without: int | None, top_share: float) -> _Spread | None:
        """None with fewer than `FEWEST` references."""
        known = [pair for owner, pair in self._each(top_share).items() if owner != without]
        if not known:
            return None
        patch, counted = np.array(known).T
        widths = (max(1e-6, float(values.std(ddof=1))) for values in (patch, counted))
        return _Spread(float(patch.mean()), float(counted.mean()), *widths)

    def _each(self, top_share: float) -> dict[int, tuple[float, float]]:
        """Of each reference, as if it had never been added, its patch score and its histogram's distance."""
        if top_share not in self._known:
            found = {}
            rows, owners = self.rows, self.owners
            for owner in owners.unique().tolist():
                words = self.words((owner,))
                if words is not None:
                    own = rows[owners == owner]
                    found[owner] = mean_of_top(self.distances(own, without=owner), top_share), words.distance(own)
            self._known[top_share] = found
        return self._known[top_share]


def _make_words(pictures: list[Tensor]) -> Words:
    from sklearn.cluster import KMeans

    tokens = torch.cat(pictures)
    step = max(1, len(tokens) // _MOST_TOKENS)
    count = min(WORDS, len(tokens))
    fitted = KMeans(count, n_init=1, random_state=0).fit(tokens[::step].cpu().numpy().astype(np.float32))
    centres = torch.from_numpy(fitted.cluster_centers_.astype(np.float32)).to(tokens.device)
    blank = Words(centres, torch.zeros(count), torch.ones(count))
    shares = torch.stack([blank.shares(rows) for rows in pictures])
    mean = shares.mean(0)
    counting = (mean * (1 - mean)).clamp_min(1e-4) / float(np.mean([len(rows) for rows in pictures]))
    variance = ((shares - mean).square().sum(0) + _PRIOR * counting) / (len(pictures) - 1 + _PRIOR)
    return Words(centres, mean, variance.clamp_min(1e-10))


class Histogram(Method):
    """For pictures with a known number of parts, wherever they lie."""

    takes_tiles = False  # the counts of a part are not those of a whole
    summary = "the nearest-patch score, or how unusual the number of patches of each kind is; for missing and extra parts; 5 references on"
    takes_coreset = False
    turns = 1

    def new_bank(self) -> HistogramBank:
        return HistogramBank()

    def score(self, bank: Bank, view: View, distances: Tensor, top_share: float, without: int | None) -> float:
        """See `Method.score`; the map stays that of the patches."""
        assert isinstance(bank, HistogramBank) and view.patches is not None
        tokens = view.patches.tokens if view.inside is None else view.patches.tokens[view.inside]
        found = super().score(bank, view, distances, top_share, without)
        return bank.fused(F.normalize(tokens, dim=-1), found, top_share, without)


METHOD = Histogram()
