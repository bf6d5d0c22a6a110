"""The numbers of a run: from samples to results.json, and back.

results.json: `schema_version`, `created`, what was run (`dataset`, `model`, `prompts`, `detector`, `settings`, as in run.json), `versions`,
`machine`, and
- `units`: for each category, k and seed the counts, `metrics` (null if undefined, with the reason in `undefined`), `intervals` (bootstrap
  over pictures, 95 %), `pixel_errors` (how far at most a pixel metric is off because it was counted in bins), `defects`, `seconds`;
- `categories`: for each category and k mean and standard deviation over seeds;
- `summary`: for each k the mean over categories, then mean and standard deviation over seeds, with intervals;
- `problems`: what could not be run or read.
"""

from __future__ import annotations

import json
import math
import os
import platform
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from vlad import __version__
from vlad.disk import replace_text
from vlad.errors import ConfigError
from vlad.evaluation.samples import SCHEMA_VERSION, Sample, read_counts, read_samples
from vlad.metrics import (
    PixelCounts,
    Undefined,
    auroc,
    average_precision,
    balanced_accuracy,
    expected_calibration_error,
    f1_max,
    percentile_interval,
    precision,
    recall,
    resampled_ranking,
    resamples,
)
from vlad.untrusted.values import parse_json

RANKING: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "image_auroc": auroc,
    "image_ap": average_precision,
    "image_f1_max": f1_max,
}
DECIDING: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "balanced_accuracy": balanced_accuracy,
    "recall": recall,
    "precision": precision,
}
_PIXEL_RESAMPLES = 200  # each costs milliseconds; enough for two digits of an interval
_PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "numpy", "scipy", "scikit-learn", "pillow")

_NO_USE = 0.5  # of either error, from which on a verdict is no better than a coin


@dataclass(frozen=True)
class Measured:
    """One unit: what goes into results.json, and the metrics' values over bootstrap resamples for the summary."""

    unit: dict[str, Any]
    resampled: dict[str, np.ndarray]


def summarise(out: Path, problems: Sequence[str] = ()) -> dict[str, Any]:
    """Compute all numbers of the run in `out` from its samples and write results.json; the same samples give the same numbers.

    Args:
        out: folder of a run, complete or not.
        problems: what the run reported.

    Returns:
        What results.json holds.

    Raises:
        ConfigError: the folder holds no run, or one of a newer schema.
    """
    identity = _read_json(out / "run.json", "run")
    samples = read_samples(out)
    grouped: dict[tuple[int, int, str], list[Sample]] = {}
    for sample in samples:
        grouped.setdefault((sample.k_shot, sample.seed, sample.category), []).append(sample)
    settings = identity["settings"]
    measured = [measure(out, group, settings["fpr_limit"], settings["bootstrap"]) for group in grouped.values()]
    results = {
        **identity,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "machine": {"system": platform.platform(terse=True), "processor": platform.machine(), "cpus": os.cpu_count()},
        "units": [one.unit for one in measured],
        "categories": _by_category(measured),
        "summary": _summary(measured),
        "problems": [*problems, *_sample_problems(samples)],
    }
    replace_text(out / "results.json", json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return results


def read_results(place: Path) -> dict[str, Any]:
    """results.json of a run's folder, or the file itself.

    Raises:
        ConfigError: there is none, it is damaged, or of a newer schema.
    """
    return _read_json(place / "results.json" if place.is_dir() else place, "results")


def measure(out: Path, samples: Sequence[Sample], fpr_limit: float, n_resamples: int) -> Measured:
    """The numbers of one unit.

    Args:
        out: the run's folder, for the counted pixels.
        samples: of one category, k and seed.
        fpr_limit: see `EvalSettings`.
        n_resamples: for the intervals; 0 computes none.
    """
    first = samples[0]
    scored = [sample for sample in samples if sample.pred_score is not None]
    labels = np.array([sample.gt_label for sample in scored], dtype=bool)
    scores = np.array([sample.pred_score for sample in scored], dtype=np.float64)
    values = image_metrics(scored)
    resampled: dict[str, np.ndarray] = {}
    if n_resamples and labels.any() and not labels.all():
        drawn = resampled_ranking(labels, scores, category_resamples(scored, n_resamples))
        resampled = {name: drawn[metric.__name__] for name, metric in RANKING.items()}
    pixels, with_pixels = _pixel_counts(out, scored, fpr_limit)
    errors: dict[str, float] = {}
    if pixels is not None:
        overlap = "spro" if pixels.is_saturated else "aupro"
        renamed = {"aupro": overlap}
        values |= {renamed.get(name, name): value for name, value in pixels.metrics().items()}
        errors = {renamed.get(name, name): value for name, value in pixels.errors().items()}
        pixel_labels = [sample.gt_label for sample in with_pixels]
        if n_resamples and errors and any(pixel_labels) and not all(pixel_labels):
            redrawn = pixels.resampled(category_resamples(with_pixels, min(n_resamples, _PIXEL_RESAMPLES)))
            resampled |= {renamed.get(name, name): value for name, value in redrawn.items()}
    seconds = [sample.seconds for sample in scored if sample.seconds is not None]
    unit = {
        "category": first.category,
        "k_shot": first.k_shot,
        "seed": first.seed,
        "n_good": int((~labels).sum()),
        "n_anomalous": int(labels.sum()),
        "n_failed": len(samples) - len(scored),
        "n_with_masks": len(with_pixels),
        "thresholds": sorted({sample.threshold for sample in scored if sample.threshold is not None}),
        "threshold_source": next((sample.threshold_source for sample in scored), None),
        "metrics": {name: _finite(value) for name, value in values.items()},
        "undefined": {name: value.reason for name, value in values.items() if isinstance(value, Undefined)},
        "intervals": {name: _interval(drawn) for name, drawn in resampled.items()},
        "pixel_errors": errors,
        "defects": _defects(scored),
        "seconds": {name: _finite(value) for name, value in _quantiles(seconds).items()},
    }
    return Measured(unit, resampled)


def image_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """Metrics of picture scores, and of the verdicts at the detector's own threshold; `Undefined` where they are.

    `image_auroc`, `image_ap`, `image_f1_max`; `balanced_accuracy`, `recall`, `precision`, `false_alarms` (share of normal pictures that
    are called anomalous); `ece` (the scores taken as probabilities).
    """
    scored = [sample for sample in samples if sample.pred_score is not None]
    labels = np.array([sample.gt_label for sample in scored], dtype=bool)
    scores = np.array([sample.pred_score for sample in scored], dtype=np.float64)
    values = {name: metric(labels, scores) for name, metric in RANKING.items()}
    if any(sample.pred_label is None for sample in scored):
        values |= dict.fromkeys((*DECIDING, "false_alarms"), Undefined("the detector has no threshold"))
    else:
        called = np.array([sample.pred_label for sample in scored], dtype=bool)
        values |= {name: metric(labels, called) for name, metric in DECIDING.items()}
        values["false_alarms"] = float(called[~labels].mean()) if (~labels).any() else Undefined("there is no normal picture")
    within = bool(scores.size) and scores.min() >= 0 and scores.max() <= 1
    values["ece"] = expected_calibration_error(labels, scores) if within else Undefined("there are no scores in [0, 1]")
    return values


def category_resamples(samples: Sequence[Sample], n: int) -> np.ndarray:
    """Draws (n, N) of pictures of one unit: the same for every k and seed of a category, so that their differences are paired, and
    independent of other categories."""
    return resamples([sample.gt_label for sample in samples], n=n, seed=zlib.crc32(samples[0].category.encode()))


def of_no_use(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Why the verdicts of a row are of no use, however good its ranking is; empty if they are not: more than half of the good pictures are
    called anomalous, or more than half of the others are missed, on the mean."""
    means = {name: (metrics.get(name) or {}).get("mean") for name in ("false_alarms", "recall")}
    parts = []
    if means["false_alarms"] is not None and means["false_alarms"] > _NO_USE:
        parts.append(f"{means['false_alarms']:.0%} of the good pictures are called anomalous")
    if means["recall"] is not None and means["recall"] < 1 - _NO_USE:
        parts.append(f"{1 - means['recall']:.0%} of the bad ones are missed")
    return " and ".join(parts)


def pixel_counts(out: Path, samples: Sequence[Sample], fpr_limit: float) -> PixelCounts | None:
    """All counted pixels of some samples, None if there are none."""
    return _pixel_counts(out, samples, fpr_limit)[0]


def _pixel_counts(out: Path, samples: Sequence[Sample], fpr_limit: float) -> tuple[PixelCounts | None, list[Sample]]:
    with_pixels = [sample for sample in samples if sample.pixels is not None]
    counts = [found for sample in with_pixels if (found := read_counts(out, sample)) is not None]
    return (PixelCounts(counts, fpr_limit=fpr_limit) if counts else None), with_pixels


def _defects(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """For each defect type how many, how many found at the threshold, and AUROC against all normal pictures."""
    normal = [sample.pred_score or 0.0 for sample in samples if not sample.gt_label]
    found = {}
    for defect in sorted({sample.defect for sample in samples if sample.gt_label}):
        some = [sample for sample in samples if sample.defect == defect]
        labels = [False] * len(normal) + [True] * len(some)
        called = [sample.pred_label for sample in some]
        found[defect] = {
            "n": len(some),
            "recall": None if None in called else float(np.mean([bool(value) for value in called])),
            "image_auroc": _finite(auroc(labels, [*normal, *(sample.pred_score or 0.0 for sample in some)])),
        }
    return found


def _by_category(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    groups: dict[tuple[int, str], list[Measured]] = {}
    for one in measured:
        groups.setdefault((one.unit["k_shot"], one.unit["category"]), []).append(one)
    return [
        {
            "category": category,
            "k_shot": k_shot,
            "seeds": [one.unit["seed"] for one in group],
            "metrics": {name: spread([one.unit["metrics"].get(name) for one in group]) for name in _metric_names(group)},
        }
        for (k_shot, category), group in groups.items()
    ]


def _summary(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    rows = []
    for k_shot in sorted({one.unit["k_shot"] for one in measured}):
        group = [one for one in measured if one.unit["k_shot"] == k_shot]
        seeds = sorted({one.unit["seed"] for one in group})
        metrics: dict[str, dict[str, Any]] = {}
        for name in _metric_names(group):
            means = [mean_over([one.unit["metrics"].get(name) for one in group if one.unit["seed"] == seed]) for seed in seeds]
            metrics[name] = spread(means) | {"interval": _summary_interval(group, name)}
            undefined = sorted({one.unit["category"] for one in group if one.unit["metrics"].get(name) is None})
            if undefined:
                metrics[name]["undefined_in"] = undefined
        categories = sorted({one.unit["category"] for one in group})
        rows.append({"k_shot": k_shot, "seeds": seeds, "n_categories": len(categories), "metrics": metrics})
    return rows


def _summary_interval(group: Sequence[Measured], name: str) -> list[float] | None:
    """Of the mean over categories and seeds: every resample draws pictures anew in each category, the same for all of its seeds."""
    drawn = [one.resampled[name] for one in group if name in one.resampled and one.unit["metrics"].get(name) is not None]
    return _interval(np.mean(drawn, axis=0)) if drawn else None


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation of the defined values; null without any, or with fewer than two."""
    defined = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(defined)) if defined else None,
        "std": float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
    }


def mean_over(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _metric_names(group: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(name for one in group for name in one.unit["metrics"]))


def _interval(drawn: np.ndarray) -> list[float] | None:
    if not np.isfinite(drawn).all():
        return None
    interval = percentile_interval(drawn)
    return [interval.low, interval.high]


def _quantiles(seconds: Sequence[float]) -> Mapping[str, float]:
    if not seconds:
        return dict.fromkeys(("p50", "p95"), Undefined("no picture was predicted"))
    return {"p50": float(np.quantile(seconds, 0.5)), "p95": float(np.quantile(seconds, 0.95))}


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _sample_problems(samples: Sequence[Sample]) -> list[str]:
    """Every unreadable picture and mask once, however many units met it."""
    return list(dict.fromkeys(text for sample in samples for text in (sample.error, sample.mask_error) if text))


def _versions() -> dict[str, str]:
    found = {"vlad": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _read_json(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"expected the {what} of an evaluation at {path}, found no file; make it with `vlad eval DATA_ROOT --out FOLDER`")
    try:
        values = parse_json(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except ValueError as error:
        raise ConfigError(f"{path}: damaged ({error}); evaluate again") from error
    found = values.get("schema_version") if isinstance(values, dict) else None
    if not isinstance(found, int) or found > SCHEMA_VERSION:
        raise ConfigError(f"{path}: expected schema {SCHEMA_VERSION} or older, got {found!r}; use a newer vlad")
    return values
