"""A prediction bound for normal scores from few of them, with a prior for how far such scores spread (empirical Bayes).

A handful of scores says little about their own spread, so it is shrunk towards what other products have: the variance of log scores is
given a scaled inverse chi-square prior, and the bound is the quantile of the posterior predictive t distribution (Gelman et al., Bayesian
Data Analysis, section 3.2, with a flat prior for the centre). Scores are distances, which vary by factors, hence logarithms; a bound that
is a multiple of the scores does not hang on their unit.

Deviations from the median are cut off at `CUT` scales (winsorised, Huber), so that one odd reference moves the bound little. The price:
pictures that are as odd and still good are false alarms, and more than the nominal share of normal pictures score above the bound; see
eval/results/thresholds.md.

The constants are for patch distances of `lite`, from procedural product lines and never from photographs: near what `python
eval/thresholds.py learn` finds on half of the lines, chosen on those and the other half. Where text has a weight in the score (a CLIP's
default), or with another backbone, they are carried over unmeasured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CUT = 3.0  # scales beyond which a deviation counts no further
_LEAST = 1e-6  # of a score, before its logarithm


@dataclass(frozen=True)
class SpreadPrior:
    """What scores of other products say about those of a new one.

    Attributes:
        spread: typical standard deviation of log scores, s0.
        degrees: how many degrees of freedom that is worth, nu0.
        decline: a leave-one-out score, made with k - 1 references, lies above that of a new picture beside all k by a factor of
            exp(decline / k).
    """

    spread: float
    degrees: float
    decline: float


IMAGE_PRIOR = SpreadPrior(0.10, 3.0, 0.2)
PIXEL_PRIOR = SpreadPrior(0.13, 3.0, 0.2)


def shrinkage_bound(scores: Sequence[float], fpr_limit: float, prior: SpreadPrior, *, are_held_out: bool = True, cut: float = CUT) -> float:
    """The score > 0 that a new normal picture exceeds with probability `fpr_limit`, under the model above.

    With m and s the winsorised mean and variance of k log scores and v = (nu0 s0^2 + (k - 1) s^2) / (nu0 + k - 1), it is
    exp(m - decline / k + t(nu0 + k - 1) sqrt(v (1 + 1 / k))), t being the 1 - `fpr_limit` quantile. From one score alone the spread is the
    prior's.

    Args:
        scores: k >= 1 normal scores >= 0, in any order.
        fpr_limit: in (0, 0.5].
        are_held_out: False of scores that are no leave-one-out scores, which do not decline.
        cut: scales beyond which a deviation counts no further.
    """
    from scipy.stats import t

    count = len(scores)
    centre, squares = _winsorised(np.log(np.maximum(np.asarray(scores, np.float64), _LEAST)), prior, cut)
    degrees = prior.degrees + count - 1
    variance = (prior.degrees * prior.spread**2 + squares) / degrees
    decline = prior.decline / count if are_held_out else 0.0
    return float(np.exp(centre - decline + t.ppf(1 - fpr_limit, degrees) * math.sqrt(variance * (1 + 1 / count))))


def _winsorised(values: np.ndarray, prior: SpreadPrior, cut: float) -> tuple[float, float]:
    """Mean and sum of squared deviations (k,) after cutting off at `cut` scales, the scale being the median deviation shrunk likewise."""
    values = np.sort(values)  # so that sums do not hang on the order
    median, count = float(np.median(values)), len(values)
    robust = 1.4826 * float(np.median(np.abs(values - median)))
    scale = math.sqrt((prior.degrees * prior.spread**2 + (count - 1) * robust**2) / (prior.degrees + count - 1))
    kept = np.clip(values - median, -cut * scale, cut * scale)
    return median + float(kept.mean()), float(((kept - kept.mean()) ** 2).sum())
