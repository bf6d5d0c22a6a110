"""Pixel metrics of any number of pictures in bounded memory: scores are counted in fixed bins, and the error of that is stated.

A picture becomes a `PictureCounts` of some kilobytes, whatever its size: how many of its normal pixels, and of each defective
region's, fall into each of 16,384 bins. Bins are fixed, so the counts of a picture depend on no other picture: they can be stored, added
in any order, left out or drawn several times (bootstrap). Half of the bins' density is even in the score and half in its log-odds, so that
scores crowded at 0.5 are told apart and so are those crowded at 0 or 1.

Within a bin the order of scores is lost. What any order could change is bounded from above and from below bin by bin; `PixelCounts.errors`
gives the larger distance, so the exact value lies within `metrics[name] ± errors[name]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vlad.errors import MetricError
from vlad.metrics.image import Undefined
from vlad.metrics.pixel import check_limit, connected_regions, number_regions, saturated_shares

BINS = 16_384
_LOG_ODDS = 14.0  # log-odds from -14 to 14 are told apart, scores from 8e-7 to 1 - 8e-7


def bin_of(scores: np.ndarray) -> np.ndarray:
    """Bin numbers, uint16, of scores in [0, 1]; a higher score never has a lower bin.

    Raises:
        MetricError: a score is outside [0, 1] or not finite.
    """
    values = np.asarray(scores, np.float64)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise MetricError(f"expected anomaly maps in [0, 1], got {values.min():g} to {values.max():g}; bring them to this scale")
    with np.errstate(divide="ignore"):
        log_odds = np.clip(np.log(values) - np.log1p(-values), -_LOG_ODDS, _LOG_ODDS)
    position = (values + log_odds / (2 * _LOG_ODDS) + 0.5) / 2
    return np.minimum(position * BINS, BINS - 1).astype(np.uint16)


@dataclass(frozen=True, eq=False)
class PictureCounts:
    """Pixels of one picture by bin, as sparse triples.

    Attributes:
        bins: (M,) uint16.
        counts: (M,) uint32, pixels in that bin of that region.
        regions: (M,) uint16, number of the region from 1 on, 0 for normal pixels.
        saturations: (R,) float64, pixels after which a region counts as found in full; its area for AUPRO.
    """

    bins: np.ndarray
    counts: np.ndarray
    regions: np.ndarray
    saturations: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """For `numpy.savez_compressed`; `PictureCounts(**arrays)` gives it back."""
        return {"bins": self.bins, "counts": self.counts, "regions": self.regions, "saturations": self.saturations}


def count_pixels(
    anomaly_map: ArrayLike, gt_mask: ArrayLike | Sequence[ArrayLike], saturations: Sequence[float] | None = None
) -> PictureCounts:
    """Count one picture's pixels.

    Args:
        anomaly_map: scores (H, W) in [0, 1].
        gt_mask: mask (H, W), above 0 is defective, whose 8-connected regions count; or with `saturations` a sequence of regions (H, W).
        saturations: in pixels for each region, as for `vlad.metrics.spro`.

    Raises:
        MetricError: shapes differ, a score is outside [0, 1], or there is not one saturation > 0 for each region.
    """
    scores = np.asarray(anomaly_map)
    if saturations is None:
        mask = np.asarray(gt_mask)
        numbers, n_regions = connected_regions(mask > 0)
        full: np.ndarray = np.bincount(numbers.ravel(), minlength=n_regions + 1)[1:].astype(np.float64)
    else:
        masks: Sequence[Any] = list(gt_mask)  # type: ignore[arg-type]
        if len(masks) != len(saturations) or any(value <= 0 for value in saturations):
            raise MetricError(f"expected a saturation > 0 for each of {len(masks)} regions, got {list(saturations)}")
        found = number_regions(masks)
        numbers, n_regions = (np.zeros(scores.shape, np.int32) if found is None else found), len(masks)
        full = np.asarray(saturations, np.float64)
    if scores.shape != numbers.shape or scores.ndim != 2:
        raise MetricError(f"expected a map and a mask (H, W) of one shape, got {scores.shape} and {numbers.shape}")
    if n_regions > np.iinfo(np.uint16).max:
        raise MetricError(f"expected at most 65,535 regions in a mask, got {n_regions}; is it a mask?")
    bins, numbers = bin_of(scores).ravel(), numbers.ravel()
    is_inside = numbers > 0
    normal = np.bincount(bins[~is_inside], minlength=BINS)  # without sorting a million pixels
    there = np.flatnonzero(normal)
    keys, counts = np.unique(numbers[is_inside].astype(np.int64) * BINS + bins[is_inside], return_counts=True)
    keys, counts = np.concatenate([there, keys]), np.concatenate([normal[there], counts])
    return PictureCounts((keys % BINS).astype(np.uint16), counts.astype(np.uint32), (keys // BINS).astype(np.uint16), full)


class PixelCounts:
    """The pixels of N pictures by bin, and the metrics that follow.

    Args:
        pictures: one for each picture.
        fpr_limit: of the area under the (saturated) per-region overlap curve, in (0, 1].

    Attributes:
        is_saturated: whether any region counts as found in full at another number of pixels than its area, so that the area is sPRO's.

    Raises:
        MetricError: the limit is out of range.
    """

    def __init__(self, pictures: Sequence[PictureCounts], *, fpr_limit: float = 0.3) -> None:
        from scipy.sparse import csr_matrix

        self.fpr_limit = check_limit(fpr_limit)
        self.n_pictures = len(pictures)
        self.is_saturated = False
        normal, regions, owners, shares, row = [], [], [], [], 0
        for index, picture in enumerate(pictures):
            inside = picture.regions > 0
            normal.append((picture.counts[~inside], np.full((~inside).sum(), index), picture.bins[~inside]))
            present, numbers = np.unique(picture.regions[inside], return_inverse=True)  # a region hidden by others has no pixel
            regions.append((picture.counts[inside], numbers + row, picture.bins[inside]))
            full = picture.saturations[present - 1]
            self.is_saturated |= not np.array_equal(full, np.bincount(numbers, weights=picture.counts[inside], minlength=len(full)))
            shares.append(_binned_shares(picture, inside, numbers, full))
            owners += [index] * len(present)
            row += len(present)
        self._owners = np.array(owners, dtype=np.int64)
        self._normal = csr_matrix(_triples(normal), shape=(self.n_pictures, BINS), dtype=np.float64)
        values, rows, bins = _triples_apart(regions)
        self._regions = csr_matrix((values, (rows, bins)), shape=(row, BINS), dtype=np.float64)
        share_values = np.concatenate(shares) if shares else np.zeros(0)
        self._shares = csr_matrix((share_values, (rows, bins)), shape=(row, BINS), dtype=np.float64)

    @cached_property
    def normal(self) -> np.ndarray:
        """Normal pixels by bin, (BINS,), lowest scores first."""
        return np.asarray(self._normal.sum(axis=0)).ravel()

    @cached_property
    def defective(self) -> np.ndarray:
        """Defective pixels by bin, (BINS,)."""
        return np.asarray(self._regions.sum(axis=0)).ravel()

    @property
    def undefined(self) -> Undefined | None:
        """Why the metrics are undefined, None if they are not."""
        if not self.defective.any():
            return Undefined(f"there is no defective pixel in {self.n_pictures} pictures with masks")
        if not self.normal.any():
            return Undefined(f"there is no normal pixel in {self.n_pictures} pictures with masks")
        return None

    def metrics(self) -> dict[str, float]:
        """`pixel_auroc`, `pixel_ap`, `pixel_f1_max`, `pixel_iou_max` and `aupro`, each in [0, 1]; `Undefined` if there are no
        defective or no normal pixels. With saturations, `aupro` is sPRO's area."""
        from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

        names = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_iou_max", "aupro")
        if undefined := self.undefined:
            return dict.fromkeys(names, undefined)
        labels, bins, weights = self._weighted()
        hits, found, _ = precision_recall_curve(labels, bins, sample_weight=weights)
        f1 = float((2 * hits * found / np.maximum(hits + found, np.finfo(float).tiny)).max())
        values = (
            float(roc_auc_score(labels, bins, sample_weight=weights)),
            float(average_precision_score(labels, bins, sample_weight=weights)),
            f1,
            f1 / (2 - f1),
            float(_areas(self.normal, self._overlap(np.ones(self.n_pictures)), self.fpr_limit)),
        )
        return dict(zip(names, values, strict=True))

    def errors(self) -> dict[str, float]:
        """For each of `metrics` how far at most the exact value is from it, because scores within a bin are not told apart; empty if
        the metrics are undefined."""
        if self.undefined:
            return {}
        values, total = self.metrics(), self.defective.sum()
        wrong, right = self.normal[::-1], self.defective[::-1]  # from the highest scores down, as the curves run
        wrong_after, right_after = np.cumsum(wrong), np.cumsum(right)
        wrong_before, right_before = wrong_after - wrong, right_after - right
        best_f1 = (2 * right_after / (right_after + wrong_before + total)).max()  # a bin's defective pixels come first
        with np.errstate(invalid="ignore"):
            best_ap = np.nansum(right * right_after / (right_after + wrong_before)) / total
            worst_ap = (
                np.nansum(right * (right_before + np.minimum(right, 1)) / (right_before + np.minimum(right, 1) + wrong_after)) / total
            )
        overlap = self._overlap(np.ones(self.n_pictures))
        low, high = _area_bounds(self.normal, overlap, self.fpr_limit)
        return {
            "pixel_auroc": float(wrong @ right / (2 * wrong.sum() * total)),
            "pixel_ap": float(max(best_ap - values["pixel_ap"], values["pixel_ap"] - worst_ap)),
            "pixel_f1_max": float(best_f1 - values["pixel_f1_max"]),
            "pixel_iou_max": float(best_f1 / (2 - best_f1) - values["pixel_iou_max"]),
            "aupro": float(max(high - values["aupro"], values["aupro"] - low)),
        }

    def resampled(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """`pixel_auroc` and `aupro` for each of B draws of pictures with replacement: indices (B, N). NaN where a draw has no defect."""
        result = {"pixel_auroc": np.full(len(draws), np.nan), "aupro": np.full(len(draws), np.nan)}
        if self.undefined:
            return result
        for index, draw in enumerate(draws):
            times = np.bincount(draw, minlength=self.n_pictures).astype(float)
            normal, defective = times @ self._normal, times[self._owners] @ self._regions
            if defective.any() and normal.any():
                result["pixel_auroc"][index] = _areas(normal, defective / defective.sum(), 1.0)
                result["aupro"][index] = _areas(normal, self._overlap(times), self.fpr_limit)
        return result

    def curves(self, points: int = 200) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """ "roc" (false-positive rate, recall), "pr" (recall, precision) and "pro" (false-positive rate, overlap), thinned to about
        `points` for drawing; empty if undefined."""
        from sklearn.metrics import precision_recall_curve, roc_curve

        if self.undefined:
            return {}
        labels, bins, weights = self._weighted()
        false_rate, found, _ = roc_curve(labels, bins, sample_weight=weights)
        hits, recalled, _ = precision_recall_curve(labels, bins, sample_weight=weights)
        normal, overlap = self.normal[::-1], self._overlap(np.ones(self.n_pictures))[::-1]
        pro = (np.cumsum(normal) / normal.sum(), np.cumsum(overlap))
        return {"roc": _thin(false_rate, found, points), "pr": _thin(recalled[::-1], hits[::-1], points), "pro": _thin(*pro, points)}

    def _weighted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, bins and pixel counts of the bins that are not empty, for scikit-learn."""
        normal, defective = np.flatnonzero(self.normal), np.flatnonzero(self.defective)
        labels = np.repeat([0, 1], [normal.size, defective.size])
        return labels, np.concatenate([normal, defective]), np.concatenate([self.normal[normal], self.defective[defective]])

    def _overlap(self, times: np.ndarray) -> np.ndarray:
        """What each bin adds to the mean overlap of regions, (BINS,), summing to 1; picture i counts `times[i]` times."""
        weights = times[self._owners]
        return np.asarray(weights @ self._shares).ravel() / max(weights.sum(), 1e-300)


def _binned_shares(picture: PictureCounts, inside: np.ndarray, numbers: np.ndarray, saturations: np.ndarray) -> np.ndarray:
    """What each (region, bin) of a picture adds to its region's overlap; within a bin pixels are alike."""
    counts, bins = picture.counts[inside].astype(np.int64), picture.bins[inside]
    areas = np.bincount(numbers, weights=counts, minlength=len(saturations))
    full = np.minimum(saturations, areas)
    if (full == areas).all():
        return counts / full[numbers]
    each = saturated_shares(np.repeat(bins.astype(np.int64), counts), np.repeat(numbers, counts), saturations)
    return np.add.reduceat(each, np.cumsum(counts) - counts)


def _areas(normal: np.ndarray, overlap: np.ndarray, limit: float) -> float:
    """Area under the curve of summed `overlap` (adding to 1) over the false-positive rate up to `limit`, divided by it."""
    false_rate = np.concatenate([[0.0], np.cumsum(normal[::-1]) / normal.sum()])
    found = np.concatenate([[0.0], np.cumsum(overlap[::-1])])
    end = int(np.searchsorted(false_rate, limit, "left"))  # the first point at or beyond the limit; the line to it is cut off there
    share = (limit - false_rate[end - 1]) / (false_rate[end] - false_rate[end - 1])
    x = np.append(false_rate[:end], limit)
    y = np.append(found[:end], found[end - 1] + share * (found[end] - found[end - 1]))
    return float(np.trapezoid(y, x)) / limit


def _area_bounds(normal: np.ndarray, overlap: np.ndarray, limit: float) -> tuple[float, float]:
    """Lowest and highest value of `_areas` over all orders of scores within bins."""
    false_rate = np.cumsum(normal[::-1]) / normal.sum()
    width = np.diff(np.minimum(np.concatenate([[0.0], false_rate]), limit))
    after = np.cumsum(overlap[::-1])
    return float(width @ (after - overlap[::-1])) / limit, float(width @ after) / limit


def _triples_apart(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not parts:
        return np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
    values, rows, bins = (np.concatenate(column) for column in zip(*parts, strict=True))
    return values, rows, bins.astype(np.int64)


def _triples(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    values, rows, bins = _triples_apart(parts)
    return values, (rows, bins)


def _thin(x: np.ndarray, y: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """At most about `points` of a curve's points, evenly along its length, both ends kept."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    chosen = np.unique(np.searchsorted(along, np.linspace(0, along[-1], points)).clip(0, len(x) - 1))
    chosen = np.union1d(chosen, [0, len(x) - 1])
    return x[chosen], y[chosen]
