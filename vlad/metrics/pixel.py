"""Exact metrics of anomaly maps against masks. They hold all scores in memory; `vlad.metrics.streaming` bounds it.

AUPRO and sPRO are areas under a curve of a region overlap over the false-positive rate (FPR). Both are computed without thresholds: a
region's pixel adds its share to the overlap of every false positive below it, so the area is a sum over defective pixels of the number of
normal pixels that score lower, which one sort of the normal pixels answers for all. Only those within the FPR limit are sorted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from vlad.errors import MetricError
from vlad.metrics.image import Undefined, checked, missing_kind

_AUPRO, _SPRO = "aupro(anomaly_maps, gt_masks)", "spro(anomaly_maps, gt_regions, saturations)"
_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def aupro(anomaly_maps: Any, gt_masks: Any, fpr_limit: float = 0.3) -> float:
    """Area under the per-region overlap curve up to a false-positive rate, divided by it: in [0, 1] (Bergmann et al., IJCV 2021).

    The curve gives for every threshold the mean share of a region that is found, each 8-connected region of each mask counting alike,
    over the share of all normal pixels that are called anomalous; straight between thresholds and cut off exactly at `fpr_limit`. Every
    score is a threshold, so a strictly monotone change of the scores changes nothing.

    Args:
        anomaly_maps: scores (N, H, W), or a sequence of N maps (H, W) of any sizes.
        gt_masks: masks of the same shapes, above 0 is defective; bool, whole numbers from 0 on, or floats of at most two values each.
        fpr_limit: in (0, 1].

    Returns:
        `Undefined` unless there are defective and normal pixels.

    Raises:
        MetricError: shapes differ, a score is not finite, a mask looks like a map, or the limit is out of range.
    """
    normal, defective, regions = _pool(anomaly_maps, gt_masks)
    return _region_area(normal, defective, regions, np.bincount(regions).astype(float), fpr_limit)


def spro(
    anomaly_maps: Any, gt_regions: Sequence[Sequence[ArrayLike]], saturations: Sequence[Sequence[float]], fpr_limit: float = 0.05
) -> float:
    """Area under the saturated per-region overlap curve (Bergmann et al., IJCV 2022), as for MVTec LOCO AD.

    A region counts as found in full as soon as `saturation` of its pixels are found: a missing object may be marked anywhere in a large
    area. With saturations equal to the regions' areas and connected regions it is `aupro`.

    Args:
        anomaly_maps: see `aupro`.
        gt_regions: for each map its regions, bool (H, W) each, which may be unconnected; an overlap counts for the first.
        saturations: for each map the saturation of each region in pixels, > 0; more than the region's area counts as the area.
        fpr_limit: in (0, 1].

    Returns:
        `Undefined` unless there are defective and normal pixels.

    Raises:
        MetricError: as for `aupro`; or the numbers of regions and saturations differ.
    """
    labelled, limits = [], []
    for name, given in (("gt_regions", gt_regions), ("saturations", saturations)):
        if not _is_list(given) or not all(map(_is_list, given)):
            raise MetricError(f"expected {name} as a list with a list for each map, got {_shown(given)}; the arguments are {_SPRO}")
    if len(gt_regions) != len(saturations):
        raise MetricError(f"expected regions and saturations for each map, got {len(gt_regions)} and {len(saturations)}")
    for masks, values in zip(gt_regions, saturations, strict=True):
        if len(masks) != len(values) or any(value <= 0 for value in values):
            raise MetricError(f"expected a saturation > 0 for each of {len(masks)} regions, got {list(values)}")
        labelled.append(number_regions(masks, _SPRO))
        limits.append(np.asarray(values, float))
    normal, defective, regions = _pool(anomaly_maps, labelled, count=[len(masks) for masks in gt_regions])
    every = np.concatenate(limits) if limits else np.zeros(0)
    return _region_area(normal, defective, regions, every, fpr_limit)


def iou_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """The highest intersection over union of the mask and the thresholded map over all thresholds, all pixels pooled, in (0, 1].
    Arguments and errors as for `vlad.metrics.auroc`."""
    from sklearn.metrics import precision_recall_curve

    truth, values = checked(labels, scores)
    if undefined := missing_kind(truth, normal=False, what="pixel"):
        return undefined
    hits, found, _ = precision_recall_curve(truth, values)
    f1 = 2 * hits * found / np.maximum(hits + found, np.finfo(float).tiny)
    return float((f1 / (2 - f1)).max())


def connected_regions(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers (H, W) from 1 on for the 8-connected regions of a bool mask, 0 elsewhere, and how many there are."""
    if not mask.any():
        return np.zeros(mask.shape, np.int32), 0
    numbers, count = ndimage.label(mask, structure=_EIGHT_CONNECTED)
    return numbers, int(count)


def number_regions(masks: Sequence[ArrayLike], call: str = "") -> np.ndarray | None:
    """One map (H, W) with the number from 1 on of the mask that each pixel belongs to, of the first if of several; None for none."""
    numbers = None
    for number, mask in enumerate(masks, start=1):
        inside = checked_mask(mask, call) > 0
        numbers = np.zeros(inside.shape, np.int32) if numbers is None else numbers
        numbers[inside & (numbers == 0)] = number
    return numbers


def checked_mask(mask: Any, call: str = "") -> np.ndarray:
    """A mask as an array, after a look at whether it can be one; `call` is how the arguments go, for the message.

    Raises:
        MetricError: it is no array of numbers, holds NaN or negative values, or is a float array of more than two values.
    """
    values = _array(mask, "mask", call)
    if values.dtype.kind == "b" or not values.size:
        return values
    low, high = values.min(), values.max()
    if not low >= 0:  # NaN is not
        raise MetricError(f"expected masks of values >= 0, above 0 is defective, got one that holds {low}{_order(call)}")
    if values.dtype.kind == "f" and not ((values == low) | (values == high)).all():
        raise MetricError(f"expected masks, got floats of more than two values from {low:g} to {high:g} as in a map{_order(call)}")
    return values


def check_limit(fpr_limit: float) -> float:
    if not 0 < fpr_limit <= 1:
        raise MetricError(f"expected fpr_limit in (0, 1], got {fpr_limit}")
    return float(fpr_limit)


def saturated_shares(scores: np.ndarray, regions: np.ndarray, saturations: np.ndarray) -> np.ndarray:
    """What each defective pixel adds to its region's overlap (M,), summing to 1 for each region: of a region's pixels, those with the
    highest scores count 1 / saturation each until it is full.

    Args:
        scores: (M,).
        regions: (M,) numbers of the regions from 0 on.
        saturations: (R,) in pixels; more than the region's area counts as the area.
    """
    areas = np.bincount(regions, minlength=len(saturations))
    full = np.minimum(saturations, areas)
    if (full == areas).all():
        return 1 / full[regions]
    order = np.lexsort((-scores, regions))
    rank = np.empty(len(scores))
    rank[order] = np.arange(len(scores)) - np.repeat(np.cumsum(areas) - areas, areas)
    return np.clip(full[regions] - rank, 0, 1) / full[regions]


def _pool(maps: Iterable[Any], masks: Iterable[Any], count: list[int] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of all normal pixels, scores of all defective ones, and the number of the region of each of these, over all pictures.

    With `count`, masks are maps of numbers of so many regions already (None for a picture without any); else they are labelled here.
    """
    normal, defective, regions = [], [], []
    total = 0
    maps = _each(maps, "map", _AUPRO if count is None else _SPRO)
    masks = list(masks) if count is not None else [checked_mask(mask, _AUPRO) for mask in _each(masks, "mask", _AUPRO)]
    if len(maps) != len(masks):
        raise MetricError(f"expected a mask for each anomaly map, got {len(masks)} masks and {len(maps)} maps")
    for index, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        if mask is not None and scores.shape != mask.shape:
            raise MetricError(f"expected masks of the maps' shapes, picture {index} has a map {scores.shape} and a mask {mask.shape}")
        if not np.isfinite(scores).all():
            raise MetricError(f"expected finite scores, the map of picture {index} holds NaN or infinite values")
        if count is None:
            numbers, n_regions = connected_regions(mask > 0)
        else:
            numbers, n_regions = (np.zeros(scores.shape, np.int32) if mask is None else mask), count[index]
        inside = numbers > 0
        normal.append(scores[~inside])
        defective.append(scores[inside])
        regions.append(numbers[inside] - 1 + total)
        total += n_regions
    if not maps:
        return np.zeros(0), np.zeros(0), np.zeros(0, int)
    return np.concatenate(normal), np.concatenate(defective), np.concatenate(regions)


def _each(maps: Any, what: str, call: str) -> list[np.ndarray]:
    """Maps (H, W), one by one; a single map (H, W) is one, and an axis of one channel, (N, 1, H, W), is left out."""
    if not isinstance(maps, Iterable) or isinstance(maps, (str, bytes, dict)):
        raise MetricError(f"expected {what}s (N, H, W) or a list of them, got {_shown(maps)}{_order(call)}")
    arrays = [_array(one, what, call) for one in maps]
    if arrays and arrays[0].ndim == 1:
        arrays = [_array(maps, what, call)]
    arrays = [array[0] if array.ndim == 3 and array.shape[0] == 1 else array for array in arrays]
    if any(array.ndim != 2 for array in arrays):
        raise MetricError(f"expected {what}s (N, H, W), got one of shape {next(a.shape for a in arrays if a.ndim != 2)}{_order(call)}")
    return arrays


def _array(value: Any, what: str, call: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:  # rows of different lengths, a tensor on a GPU
        raise MetricError(f"expected a {what} (H, W) of numbers, got {_shown(value)}: {error}") from error
    if array.dtype.kind not in "buif":
        raise MetricError(f"expected a {what} (H, W) of numbers, got {_shown(value)}{_order(call)}")
    return array


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes, dict))


def _order(call: str) -> str:
    return f"; the arguments are {call}" if call else ""


def _shown(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _region_area(normal: np.ndarray, defective: np.ndarray, regions: np.ndarray, saturations: np.ndarray, fpr_limit: float) -> float:
    limit = check_limit(fpr_limit)
    if not defective.size:
        return Undefined("there is no defective pixel")
    if not normal.size:
        return Undefined("there is no normal pixel")
    shares = saturated_shares(defective, regions, saturations) / np.unique(regions).size
    allowed = limit * normal.size  # false positives until the limit, not a whole number
    rank = min(max(math.ceil(allowed), 1), normal.size)
    last = np.partition(normal, normal.size - rank)[normal.size - rank]  # the score of the false positive that crosses the limit
    above = np.sort(normal[normal > last])
    order = np.argsort(defective)
    shares, defective = shares[order], defective[order]
    lower = (np.searchsorted(above, defective, "left") + np.searchsorted(above, defective, "right")) / 2  # ties count half
    area = float(shares @ lower)
    # The last step of the curve, over all normal pixels that tie with `last`, is cut off where it crosses the limit.
    before = float(shares[np.searchsorted(defective, last, "right") :].sum())
    after = float(shares[np.searchsorted(defective, last, "left") :].sum())
    width = allowed - above.size
    reached = before + (after - before) * width / np.count_nonzero(normal == last)
    return (area + width * (before + reached) / 2) / allowed
