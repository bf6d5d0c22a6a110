"""Metrics of the field. AUROC, average precision and curves come from scikit-learn; AUPRO and sPRO are exact and our own.

Every one returns a float. One that is undefined for the given data is `Undefined`: NaN with a `reason`, never 0.
"""

from vlad.metrics.bootstrap import Interval, bootstrap, percentile_interval, resampled_ranking, resamples
from vlad.metrics.image import (
    Undefined,
    auroc,
    average_precision,
    balanced_accuracy,
    expected_calibration_error,
    f1_max,
    precision,
    recall,
)
from vlad.metrics.pixel import aupro, iou_max, spro
from vlad.metrics.streaming import PictureCounts, PixelCounts, count_pixels

__all__ = [
    "Interval",
    "PictureCounts",
    "PixelCounts",
    "Undefined",
    "aupro",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "bootstrap",
    "count_pixels",
    "expected_calibration_error",
    "f1_max",
    "iou_max",
    "percentile_interval",
    "precision",
    "recall",
    "resampled_ranking",
    "resamples",
    "spro",
]
