"""Metrics of labels and scores: of pictures, or of pixels when arrays of any shape are given."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from vlad.errors import MetricError


class Undefined(float):
    """NaN that says why: `auroc([1, 1], [0.2, 0.3]).reason` is "there is no normal one among 2"."""

    reason: str

    def __new__(cls, reason: str) -> Self:
        value = super().__new__(cls, "nan")
        value.reason = reason
        return value

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # pickled and copied with its reason
        return (self.reason,)

    def __repr__(self) -> str:
        return f"nan ({self.reason})"


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve, in [0, 1]: the chance that an anomalous one scores above a normal one, ties counted half.

    Args:
        labels: 1 or True for anomalous, 0 or False for normal; any shape.
        scores: finite numbers of the same shape, higher is more anomalous.

    Returns:
        `Undefined` unless both kinds are there.

    Raises:
        MetricError: shapes differ, labels are not binary, or a score is not finite.
    """
    from sklearn.metrics import roc_auc_score

    truth, values = checked(labels, scores)
    return missing_kind(truth) or float(roc_auc_score(truth, values))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision, the area under the precision-recall curve by steps, in (0, 1]. Arguments and errors as for `auroc`;
    `Undefined` without an anomalous one."""
    from sklearn.metrics import average_precision_score

    truth, values = checked(labels, scores)
    return missing_kind(truth, normal=False) or float(average_precision_score(truth, values))


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """The highest F1 over all thresholds, in (0, 1]: of the best threshold in hindsight, not of one that could have been chosen.
    Arguments and errors as for `auroc`; `Undefined` without an anomalous one."""
    from sklearn.metrics import precision_recall_curve

    truth, values = checked(labels, scores)
    if undefined := missing_kind(truth, normal=False):
        return undefined
    hits, found, _ = precision_recall_curve(truth, values)
    return float((2 * hits * found / np.maximum(hits + found, np.finfo(float).tiny)).max())


def recall(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of the anomalous that are called anomalous; `predictions` are binary. Errors as for `auroc`."""
    truth, called = _binary_pair(labels, predictions)
    return missing_kind(truth, normal=False) or float(called[truth].mean())


def precision(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of those called anomalous that are; `Undefined` if none is called so. Errors as for `auroc`."""
    truth, called = _binary_pair(labels, predictions)
    return float(truth[called].mean()) if called.any() else Undefined(f"none of {called.size} is called anomalous")


def balanced_accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Mean of the share of anomalous and of the share of normal ones that are called right. Errors as for `auroc`."""
    truth, called = _binary_pair(labels, predictions)
    return missing_kind(truth) or float((called[truth].mean() + 1 - called[~truth].mean()) / 2)


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike, *, n_bins: int = 15) -> float:
    """How far scores are from probabilities, in [0, 1]: over `n_bins` bins of equal width, the mean distance between the bin's mean
    score and its share of anomalous ones, weighted by size (Guo et al. 2017, arXiv 1706.04599, for a binary score).

    Returns:
        `Undefined` for no data at all.

    Raises:
        MetricError: as for `auroc`; a score outside [0, 1]; n_bins below 1.
    """
    truth, values = checked(labels, scores)
    if n_bins < 1:
        raise MetricError(f"expected n_bins >= 1, got {n_bins}")
    if not truth.size:
        return Undefined("there is no picture")
    if values.min() < 0 or values.max() > 1:
        raise MetricError(f"expected scores in [0, 1], got {values.min():g} to {values.max():g}; only probabilities can be calibrated")
    bins = np.minimum((values * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=values - truth, minlength=n_bins)
    return float(np.abs(gaps).sum() / truth.size)


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Flat bool labels and flat float scores."""
    truth, values = _binary(labels, "labels"), np.asarray(scores)
    if truth.shape != values.shape:
        raise MetricError(f"expected one score for each label, got labels {truth.shape} and scores {values.shape}")
    if values.dtype.kind not in "fiub":
        raise MetricError(f"expected scores to be numbers, got dtype {values.dtype}")
    values = values if values.dtype.kind == "f" else values.astype(np.float64)
    if not np.isfinite(values).all():
        raise MetricError(f"expected finite scores, {int((~np.isfinite(values)).sum())} of {values.size} are NaN or infinite")
    return truth.ravel(), values.ravel()


def missing_kind(truth: np.ndarray, *, normal: bool = True, what: str = "one") -> Undefined | None:
    """Why a metric that needs anomalous ones, and normal ones unless `normal` is False, is undefined; None if it is not."""
    if not truth.any():
        return Undefined(f"there is no anomalous {what} among {truth.size}")
    if normal and truth.all():
        return Undefined(f"there is no normal {what} among {truth.size}")
    return None


def _binary(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype != bool and array.size and (array.dtype.kind not in "fiu" or not np.isin(array, (0, 1)).all()):
        raise MetricError(f"expected {name} of 0 and 1, got dtype {array.dtype} with {np.unique(array)[:5].tolist()}")
    return array.astype(bool)


def _binary_pair(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    truth, called = _binary(labels, "labels"), _binary(predictions, "predictions")
    if truth.shape != called.shape:
        raise MetricError(f"expected one prediction for each label, got labels {truth.shape} and predictions {called.shape}")
    return truth.ravel(), called.ravel()
