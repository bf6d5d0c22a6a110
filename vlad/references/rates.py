"""Which threshold labelled pictures ask for, and how certain the two rates of error are that it gives.

A rate of n pictures is stated with its exact binomial interval (Clopper and Pearson, Biometrika 1934). The interval holds for a threshold
that did not see the pictures; of one that was chosen on them it holds for a limit on one of the rates, because that places the threshold by
the order of one group alone, and is a little too narrow for a cost, which looks at both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlad.errors import ConfigError

CONFIDENCE = 0.95
ENOUGH_BAD = 10  # anomalous pictures from which on a threshold is weighed against them, where nothing is asked for


@dataclass(frozen=True)
class Rate:
    """An error that `count` of `of` pictures showed."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """In [0, 1]; NaN of no pictures."""
        return self.count / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Between which values it lies with 95 % confidence; 0 and 1 of no pictures."""
        if not self.of:
            return 0.0, 1.0
        from scipy.stats import binomtest

        found = binomtest(self.count, self.of).proportion_ci(CONFIDENCE, method="exact")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count} of {self.of}, between {low:.1%} and {high:.1%}"


def pictures_needed(limit: float, count: int = 0) -> int:
    """How many pictures, of which `count` are called wrongly, promise with 95 % confidence (one-sided) that no larger share than `limit` in
    (0, 1) is: 59 without an error for 5 %, 299 for 1 %."""
    from scipy.stats import beta

    def promised(total: int) -> bool:
        return count < total and float(beta.ppf(CONFIDENCE, count + 1, total - count)) <= limit

    low, high = count, max(2, count + 1)
    while not promised(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if promised(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Rule:
    """What a threshold is to do; at most one of the first three.

    Attributes:
        max_false_alarms: a share in [0, 1) of normal pictures that may be called anomalous, on average over such calibrations; as few
            anomalous ones as possible are missed then. Where there are too few pictures to promise it, none of those given is.
        max_misses: a share in [0, 1) of anomalous pictures that may be called normal; likewise.
        cost_ratio: a miss costs so many times what a false alarm costs, > 0; the sum is made smallest.
        bad_share: of so many anomalous pictures in (0, 1) that sum is made.

    Raises:
        ConfigError: one of them is out of range, or two are given.
    """

    max_false_alarms: float | None = None
    max_misses: float | None = None
    cost_ratio: float | None = None
    bad_share: float = 0.5

    def __post_init__(self) -> None:
        given = [name for name in ("max_false_alarms", "max_misses", "cost_ratio") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"a threshold can keep one of these, got {' and '.join(given)}; leave out one")
        for name in ("max_false_alarms", "max_misses"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"{name} must be a share from 0 to below 1, got {value!r}")
        if self.cost_ratio is not None and not 0 < self.cost_ratio < math.inf:
            raise ConfigError(f"cost_ratio must be a number above 0, got {self.cost_ratio!r}")
        if not 0 < self.bad_share < 1:
            raise ConfigError(f"bad_share must be a share above 0 and below 1, got {self.bad_share!r}")

    @property
    def is_open(self) -> bool:
        """Whether nothing is asked for."""
        return self.max_false_alarms is None and self.max_misses is None and self.cost_ratio is None

    def settled(self, anomalous: int, fpr_limit: float) -> Rule:
        """The rule where nothing is asked for and there are no references: both rates alike with ten anomalous pictures or more. Fewer say
        little about all that can be wrong, so that only as many false alarms as `fpr_limit` are accepted to find them."""
        if not self.is_open:
            return self
        return Rule(cost_ratio=1.0, bad_share=self.bad_share) if anomalous >= ENOUGH_BAD else Rule(max_false_alarms=fpr_limit)

    def __str__(self) -> str:
        if self.max_false_alarms is not None:
            return f"at most {self.max_false_alarms:.1%} false alarms"
        if self.max_misses is not None:
            return f"at most {self.max_misses:.1%} misses"
        if self.cost_ratio is None:
            return "nothing in particular"
        share = "" if self.bad_share == 0.5 else f", {self.bad_share:.1%} of the pictures being anomalous"
        return (
            f"a miss costs {self.cost_ratio:g} times a false alarm{share}" if self.cost_ratio != 1 or share else "both errors weigh alike"
        )


def choose(normal: Sequence[float], anomalous: Sequence[float], rule: Rule) -> float:
    """The threshold in [0, 1] that the rule asks for, from the scores in [0, 1] of both groups; a score above it is anomalous. It lies
    halfway between two scores.

    Raises:
        ConfigError: the rule needs pictures of a group of which there is none.
    """
    good, bad = np.sort(np.asarray(normal, np.float64)), np.sort(np.asarray(anomalous, np.float64))
    cuts = _cuts(np.concatenate([good, bad]))
    false_alarms = len(good) - np.searchsorted(good, cuts, side="right")
    misses = np.searchsorted(bad, cuts, side="right")
    if rule.max_false_alarms is not None:
        _need(good, "normal", rule)
        return float(cuts[np.flatnonzero(false_alarms <= _allowed(rule.max_false_alarms, len(good)))[0]])
    if rule.max_misses is not None:
        _need(bad, "anomalous", rule)
        kept = np.flatnonzero(misses <= _allowed(rule.max_misses, len(bad)))
        return float(cuts[kept[-1]]) if len(kept) else 0.0  # scores of 0 are above no threshold
    _need(good, "normal", rule)
    _need(bad, "anomalous", rule)
    cost = (1 - rule.bad_share) * false_alarms / len(good) + rule.bad_share * (rule.cost_ratio or 1.0) * misses / len(bad)
    values = np.unique(np.concatenate([[0.0], good, bad, [1.0]]))
    widths = np.diff(values)[np.clip(np.searchsorted(values, cuts) - 1, 0, len(values) - 2)]
    best = np.flatnonzero(cost <= cost.min() + 1e-12)
    return float(cuts[best[widths[best].argmax()]])


def lowered(start: float, normal: Sequence[float], anomalous: Sequence[float], fpr_limit: float) -> float:
    """A threshold that comes from elsewhere, lowered to find as many of a few anomalous pictures as it can: no further than needed for
    that, and not so far that more of the normal ones are called anomalous than `fpr_limit` allows, or than are already.

    Args:
        start: the threshold, in [0, 1]; it is never raised, and stays without a normal score.
        normal, anomalous: scores in [0, 1].
        fpr_limit: a share in (0, 1).
    """
    good, bad = np.sort(np.asarray(normal, np.float64)), np.sort(np.asarray(anomalous, np.float64))
    if not len(good):
        return start
    cuts = _cuts(np.concatenate([good, bad, [start]]))
    cuts = np.append(cuts[cuts < start], start)
    false_alarms = len(good) - np.searchsorted(good, cuts, side="right")
    misses = np.searchsorted(bad, cuts, side="right")
    may = false_alarms <= max(int(false_alarms[-1]), _allowed(fpr_limit, len(good)))
    return float(cuts[np.flatnonzero(may & (misses == misses[may].min()))[-1]])


def _cuts(scores: np.ndarray) -> np.ndarray:
    """Every threshold that tells scores apart, ascending: below all, halfway between neighbours, above all."""
    values = np.unique(scores)
    if not len(values):
        return np.array([0.5])
    beyond = min(1.0, values[-1] + max(0.05 * values[-1], 1e-6))
    return np.concatenate([[values[0] / 2], (values[:-1] + values[1:]) / 2, [beyond]])


def _allowed(limit: float, count: int) -> int:
    """How many of `count` may be wrong, so that a further picture is with a probability of `limit` at most (as conformal thresholds do);
    none, where there are too few pictures for that."""
    return max(0, math.floor(limit * (count + 1) + 1e-9) - 1)


def _need(scores: np.ndarray, kind: str, rule: Rule) -> None:
    if not len(scores):
        raise ConfigError(f"a threshold by which {rule} needs {kind} pictures, and there are none; give some")
