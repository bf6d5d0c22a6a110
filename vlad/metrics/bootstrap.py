"""Bootstrap confidence intervals over pictures: how much a number would move with other pictures of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vlad.errors import MetricError


@dataclass(frozen=True)
class Interval:
    """Lower and upper end of a confidence interval."""

    low: float
    high: float


def resamples(labels: ArrayLike, *, n: int, seed: int = 0) -> np.ndarray:
    """Indices (n, N) of pictures drawn with replacement, normal and anomalous ones apart, so that every draw has as many of each as the
    original and no metric becomes undefined by chance.

    Raises:
        MetricError: n is below 1.
    """
    truth = np.asarray(labels).astype(bool).ravel()
    if n < 1:
        raise MetricError(f"expected at least one bootstrap resample, got {n}")
    rng = np.random.default_rng(seed)
    drawn = np.empty((n, truth.size), dtype=np.int64)
    for kind in (False, True):
        members = np.flatnonzero(truth == kind)
        if members.size:
            drawn[:, members] = rng.choice(members, (n, members.size))
    return drawn


def percentile_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """The central `level` of a metric's values over resamples.

    Raises:
        MetricError: level is not in (0, 1).
    """
    if not 0 < level < 1:
        raise MetricError(f"expected a confidence level in (0, 1), got {level}")
    low, high = np.quantile(np.asarray(values, float), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def bootstrap(
    metric: Callable[[np.ndarray, np.ndarray], float],
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Confidence interval of `metric(labels, scores)` over pictures, e.g. of `auroc`; percentile method, see `resamples`.

    Raises:
        MetricError: n or level is out of range, or the metric refuses the data.
    """
    truth, values = np.asarray(labels).ravel(), np.asarray(scores).ravel()
    return percentile_interval([metric(truth[some], values[some]) for some in resamples(truth, n=n, seed=seed)], level=level)


def resampled_ranking(labels: ArrayLike, scores: ArrayLike, draws: np.ndarray) -> dict[str, np.ndarray]:
    """`auroc`, `average_precision` and `f1_max` for each of B draws (B, N), as (B,) each: what the functions of these names give, without
    a thousand calls of them. Every draw must hold a normal and an anomalous one, see `resamples`."""
    truth, values = np.asarray(labels).astype(bool).ravel(), np.asarray(scores, float).ravel()
    order = np.argsort(-values)
    times = np.zeros((len(draws), truth.size))
    np.add.at(times, (np.arange(len(draws))[:, None], draws), 1)
    times, truth, values = times[:, order], truth[order], values[order]
    thresholds = np.append(np.flatnonzero(np.diff(values)), truth.size - 1)  # the last of those that tie
    found, wrong = np.cumsum(times * truth, axis=1)[:, thresholds], np.cumsum(times * ~truth, axis=1)[:, thresholds]
    total, normal = found[:, -1:], wrong[:, -1:]
    start = np.zeros((len(draws), 1))
    hits = found / np.maximum(found + wrong, 1)
    return {
        "auroc": np.trapezoid(np.hstack([start, found / total]), np.hstack([start, wrong / normal]), axis=1),
        "average_precision": (np.diff(found / total, axis=1, prepend=0) * hits).sum(axis=1),
        "f1_max": (2 * found / (found + wrong + total)).max(axis=1),
    }
