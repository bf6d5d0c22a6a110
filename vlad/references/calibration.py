"""Thresholds from normal pictures alone, and what so few pictures can and cannot promise.

The scores that go in are those of the references, each scored as if it were no reference (leave-one-out). A nearest-neighbour distance
never rises when a reference is added, so such a score is at least what the picture would get beside all others: `conformal` thresholds
keep their promise exactly for pictures exchangeable with the references. With a coreset, a search by clusters, or the subspace scorer,
this holds only approximately; for the augmented views of a single reference nothing is promised.

`shrinkage` has no guarantee and needs fewer pictures to be useful: the bound of `student` on log scores, with a prior for their spread
and without much regard for one odd reference (`vlad.references.shrinkage`). From one reference there is no leave-one-out score; its
mirrored views against itself stand for one.

Two or three references say next to nothing about how far normal scores spread: the t quantile of 1 or 2 degrees of freedom is 6.3 or 2.9
at 5 %, so `student` then puts the threshold where no defect reaches it. Two references that differ a little are enough for that. There
the bound is capped by a second sample of pictures that are known to be normal: slightly changed views of each reference (moved, turned,
blurred, noisy), each compared with the other references alone. The views of one reference are not independent, so the cap is a reasoned
guess and no prediction bound; it only ever lowers the threshold, and never below the highest score of a reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlad.references.shrinkage import IMAGE_PRIOR, PIXEL_PRIOR, SpreadPrior, shrinkage_bound
from vlad.scoring.pictures import Conditions

FEW = 3  # up to so many references a threshold is a guess, and slightly changed views cap that of `student`
EXCESS = (
    2.5  # up to so many times the false alarms that `shrinkage` aims at came by, on the mean of photographs; eval/results/thresholds.md
)


@dataclass(frozen=True)
class Calibration:
    """Scores of normal pictures, from which thresholds follow.

    Attributes:
        image_scores: image scores in [0, 1].
        pixel_scores: for each of those pictures the highest value of its map, in [0, 1].
        is_held_out: True if every score is of a reference against the others, False if they are of augmented views of the only one.
        image_view_scores, pixel_view_scores: of slightly changed views of two or three references, each against the other references; empty
            for more references.
        conditions: what the scores were made under; None in folders of earlier versions, before `load` has filled it in.
        image_mirror_scores, pixel_mirror_scores: of mirrored views of an only reference against itself; empty for more, and in folders of
            earlier versions.
    """

    image_scores: tuple[float, ...]
    pixel_scores: tuple[float, ...]
    is_held_out: bool
    image_view_scores: tuple[float, ...] = ()
    pixel_view_scores: tuple[float, ...] = ()
    conditions: Conditions | None = None
    image_mirror_scores: tuple[float, ...] = ()
    pixel_mirror_scores: tuple[float, ...] = ()

    def image_threshold(self, method: str, fpr_limit: float) -> float:
        """Of normal pictures, a share of `fpr_limit` should score above it, in [0, 1]."""
        mirrors, method = self.image_mirror_scores, self._possible(method)
        return threshold(self.image_scores, method, fpr_limit, views=self.image_view_scores, mirrors=mirrors, prior=IMAGE_PRIOR)

    def pixel_threshold(self, method: str, fpr_limit: float) -> float:
        """Of normal pictures, a share of `fpr_limit` should have any pixel above it, in [0, 1]."""
        mirrors, method = self.pixel_mirror_scores, self._possible(method)
        return threshold(self.pixel_scores, method, fpr_limit, views=self.pixel_view_scores, mirrors=mirrors, prior=PIXEL_PRIOR)

    def _possible(self, method: str) -> str:
        """Folders of earlier versions hold no mirrored views of an only reference; then `student` bounds the changed ones, as it did."""
        return "student" if method == "shrinkage" and not self.is_held_out and not self.image_mirror_scores else method

    def p_value(self, score: float) -> float:
        """Conformal p-value in [1 / (k + 1), 1]: the share of normal pictures, this one counted among them, that score at least as high.
        For a normal picture P(p <= a) <= a, so a picture with p <= a may be called anomalous at a false-positive rate of a."""
        return (1 + sum(other >= score for other in self.image_scores)) / (1 + len(self.image_scores))

    def promise(self, method: str, fpr_limit: float) -> str:
        """How many false alarms to expect, on one line and in plain words; `guarantee` says what is certain."""
        count = len(self.image_scores) if self.is_held_out else 1
        start = f"from {count} good picture{'s' if count > 1 else ''}"
        if count <= FEW:
            return f"{start}, which is a guess and can be far off; give more good pictures"
        wanted = round(1 / fpr_limit)
        if method == "conformal":
            able = count >= references_needed(fpr_limit)
            return f"{start}; expect at most 1 false alarm in {wanted if able else count + 1} on average"
        if method == "shrinkage":
            return f"{start}; expect about 1 false alarm in {max(2, round(wanted / EXCESS))} to {wanted}"
        return f"{start}; aims at 1 false alarm in {wanted}"

    def guarantee(self, method: str, fpr_limit: float) -> str:
        """What the threshold does and does not promise, in the exact terms of a statistician, in a sentence or two."""
        count = len(self.image_scores)
        if not self.is_held_out:
            return "the threshold comes from augmented views of the only reference and promises nothing; give more normal pictures"
        needed = references_needed(fpr_limit)
        if method == "conformal" and count >= needed:
            return f"{count} normal pictures: on average over fits, at most {fpr_limit:.1%} of normal pictures score above the threshold"
        if count <= FEW:
            wanted = f"{needed} promise {fpr_limit:.1%} with the conformal method"
            return f"{count} normal pictures promise nothing, the threshold is a guess; {wanted}"
        average, confident = 1 / (count + 1), 1 - 0.05 ** (1 / count)
        limit = (
            f"the strictest false-positive rate that {count} can promise, with a threshold at their highest score, is {average:.1%} on "
            f"average over fits and {confident:.1%} with 95 % confidence"
        )
        wanted = f"{needed} promise {fpr_limit:.1%} with the conformal method"
        basis = (
            "the highest of their scores is taken" if method == "conformal" else f"the {method} threshold is an estimate of {fpr_limit:.1%}"
        )
        return f"{count} normal pictures: {basis}; {limit}; {wanted}"


def threshold(
    scores: Sequence[float],
    method: str,
    fpr_limit: float,
    *,
    views: Sequence[float] = (),
    mirrors: Sequence[float] = (),
    prior: SpreadPrior = IMAGE_PRIOR,
) -> float:
    """A threshold in [0, 1] that a share of `fpr_limit` of normal scores should exceed, from k normal scores.

    - `shrinkage`: see `shrinkage_bound`, with `prior`. `fpr_limit` is the probability under its model, for a new product like those that
      the prior was learned on. With the scores of `mirrors`, of an only reference, their geometric mean is the one score.
    - `student`: the one-sided prediction bound mean + t(k - 1) * s * sqrt(1 + 1 / k), exact for normally distributed scores. It reaches
      beyond the highest score, which few pictures need. With the scores of `views` it goes no further than the same bound over `scores` and
      `views` together; see the top of this file.
    - `quantile`: the empirical quantile with linear interpolation; never beyond the highest score.
    - `conformal`: the ceil((k + 1)(1 - fpr_limit))-th lowest score, exact for exchangeable scores of any distribution; where k is too
      small for that, the highest score.
    """
    values = np.sort(np.asarray(scores, np.float64))
    count = len(values)
    if method == "shrinkage" and len(mirrors):
        middle = float(np.exp(np.log(np.maximum(mirrors, 1e-6)).mean()))
        value = shrinkage_bound([middle], fpr_limit, prior, are_held_out=False)
    elif method == "shrinkage":
        value = shrinkage_bound(scores, fpr_limit, prior)
    elif method == "conformal":
        value = values[min(count, _rank(count, fpr_limit)) - 1]
    elif method == "quantile" or count == 1:
        value = np.quantile(values, 1 - fpr_limit)
    else:
        value = _prediction_bound(values, fpr_limit)
        if len(views):
            value = min(value, max(values[-1], _prediction_bound(np.concatenate([values, views]), fpr_limit)))
    return float(np.clip(value, 0, 1))


def _prediction_bound(values: np.ndarray, fpr_limit: float) -> float:
    from scipy.stats import t

    count = len(values)
    return float(values.mean() + t.ppf(1 - fpr_limit, count - 1) * values.std(ddof=1) * math.sqrt(1 + 1 / count))


def guess_note(count: int, fpr_limit: float) -> str | None:
    """What to say of a threshold from so few references that it is a guess; None of one from more."""
    if count > FEW:
        return None
    return (
        f"the threshold from {count} reference{'s' if count > 1 else ''} is a guess and can be far off; give more normal pictures "
        f"({references_needed(fpr_limit)} promise {fpr_limit:.1%}), or set threshold"
    )


def references_needed(fpr_limit: float) -> int:
    """The smallest number of normal pictures for which a conformal threshold promises `fpr_limit`."""
    return math.ceil(1 / fpr_limit - 1 - 1e-9)


def _rank(count: int, fpr_limit: float) -> int:
    return math.ceil((count + 1) * (1 - fpr_limit) - 1e-9)
