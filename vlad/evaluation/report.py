"""The report of a run: one HTML file that holds everything, and the same numbers as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlad.disk import replace_text
from vlad.evaluation.anchors import Anchor, load_anchors
from vlad.evaluation.datasets import Dataset
from vlad.evaluation.gallery import Gallery, false_alarms, misses
from vlad.evaluation.results import of_no_use, pixel_counts, read_results
from vlad.evaluation.samples import Sample, read_samples
from vlad.evaluation.table import mean_and_spread
from vlad.output import charts
from vlad.pictures.reading import Reader

HEADLINES = {
    "image_auroc": "Image AUROC",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO",
    "spro": "sPRO",
}
MEANINGS = {
    "image_auroc": "chance that an anomalous picture scores above a normal one",
    "image_ap": "area under precision over recall, pictures",
    "image_f1_max": "best F1 of pictures over all thresholds, in hindsight",
    "balanced_accuracy": "mean of recall and of the share of normal pictures called normal, at the detector's threshold",
    "recall": "share of anomalous pictures found at the detector's threshold",
    "precision": "share of alarms that are right at the detector's threshold",
    "false_alarms": "share of normal pictures called anomalous at the detector's threshold; lower is better",
    "ece": "expected calibration error of picture scores; lower is better",
    "pixel_auroc": "the same as image AUROC for all pixels together",
    "pixel_ap": "area under precision over recall, pixels",
    "pixel_f1_max": "best F1 of pixels over all thresholds",
    "pixel_iou_max": "best intersection over union over all thresholds, pixels together",
    "aupro": "area under the mean overlap with defect regions up to the false-positive limit",
    "spro": "the same with saturation, as MVTec LOCO defines it",
}
_ANCHOR_METRICS = ("image_auroc", "pixel_auroc", "aupro")
_MOST_CATEGORIES_DRAWN = 40


@dataclass(frozen=True)
class Block:
    """What is drawn for one k: curves and histograms of its first seed, and the worst cases."""

    k_shot: int
    seed: int
    image_curves: tuple[str, ...]
    pixel_curves: tuple[str, ...]
    histograms: tuple[tuple[str, str], ...]
    defects: tuple[dict[str, Any], ...]
    alarms: Gallery
    misses: Gallery


def write_report(out: Path, dataset: Dataset | None = None) -> list[Path]:
    """Write report.html and report.md beside a run's results.json and return their paths.

    Args:
        out: folder of a run.
        dataset: for the pictures of the worst cases; without it their maps alone are shown.

    Raises:
        ConfigError: the folder holds no results, or they are of a newer schema.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    results = read_results(out)
    samples = read_samples(out)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=lambda name: bool(name) and str(name).endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "spread": mean_and_spread,
        "interval": interval,
        "milliseconds": milliseconds,
        "of_no_use": of_no_use,
    }
    context = {
        "results": results,
        "headlines": [(name, title) for name, title in HEADLINES.items() if _has(results, name)],
        "meanings": {name: text for name, text in MEANINGS.items() if _has(results, name)},
        "colours": charts.COLOURS,
        "anchors": _anchors(results),
        "is_whole": _is_whole(results, dataset),
        "blocks": [_block(out, results, samples, k_shot, dataset) for k_shot in sorted({unit["k_shot"] for unit in results["units"]})],
        "pixel_error": _pixel_error(results["units"]),
        "latency": _latency(results["units"]),
        "settings": _settings(results),
    }
    written = []
    for name in ("report.html", "report.md"):
        path = out / name
        text = environment.get_template(name).render(context)
        replace_text(path, text.rstrip() + "\n", errors="backslashreplace")
        written.append(path)
    return written


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def interval(value: Sequence[float] | None) -> str:
    return "" if value is None else f"{percent(value[0])} to {percent(value[1])}"


def milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{1000 * value:,.0f} ms"


def _has(results: dict[str, Any], metric: str) -> bool:
    return any(metric in row["metrics"] for row in results["summary"])


def _anchors(results: dict[str, Any]) -> list[Anchor]:
    """Published rows of the dataset for the ks that were measured."""
    if not _is_published(results):
        return []
    k_shots = {row["k_shot"] for row in results["summary"]}
    rows = [anchor for anchor in load_anchors() if anchor.dataset == results["dataset"]["name"] and anchor.k_shot in k_shots]
    return sorted(rows, key=lambda row: (row.k_shot, row.auxiliary_training, row.whole_test_set, -(row.image_auroc or 0)))


def _is_published(results: dict[str, Any]) -> bool:
    """Whether the numbers may stand beside published ones; runs of before did not say it."""
    from vlad.evaluation.datasets import LAYOUTS

    layout = LAYOUTS.get(results["dataset"]["name"])
    said = results["dataset"].get("is_published")
    if said is not None or layout is None:
        return said is not False
    return layout.are_published((unit["category"], unit["n_good"], unit["n_anomalous"]) for unit in results["units"])


def _is_whole(results: dict[str, Any], dataset: Dataset | None) -> bool:
    """Whether all categories with published counts were measured, as the anchors' means are."""
    from vlad.evaluation.datasets import LAYOUTS

    layout = dataset.layout if dataset is not None else LAYOUTS.get(results["dataset"]["name"])
    return layout is not None and bool(layout.counts) and set(layout.counts) <= set(results["dataset"]["categories"])


def _block(out: Path, results: dict[str, Any], samples: Sequence[Sample], k_shot: int, dataset: Dataset | None) -> Block:
    units = [unit for unit in results["units"] if unit["k_shot"] == k_shot]
    seed = units[0]["seed"]
    mine = [sample for sample in samples if sample.k_shot == k_shot and sample.seed == seed]
    groups: dict[str, list[Sample]] = {}
    for sample in mine:
        if sample.pred_score is not None:
            groups.setdefault(sample.category, []).append(sample)
    drawn = dict(list(groups.items())[:_MOST_CATEGORIES_DRAWN])
    white = results["detector"].get("white_level")
    read = Reader(white_level=white if isinstance(white, int) else None)  # of "auto" every unit has its own
    return Block(
        k_shot=k_shot,
        seed=seed,
        image_curves=_image_curves(drawn),
        pixel_curves=_pixel_curves(out, drawn, results["settings"]["fpr_limit"]),
        histograms=tuple((category, _histogram(group)) for category, group in drawn.items()),
        defects=tuple(
            {"category": unit["category"], "defect": defect, **values}
            for unit in units
            if unit["seed"] == seed
            for defect, values in unit["defects"].items()
        ),
        alarms=false_alarms(out, mine, dataset, read=read),
        misses=misses(out, mine, dataset, read=read),
    )


def _image_curves(groups: dict[str, list[Sample]]) -> tuple[str, ...]:
    from sklearn.metrics import precision_recall_curve, roc_curve

    roc, pr = [], []
    for category, group in groups.items():
        labels = np.array([sample.gt_label for sample in group])
        scores = np.array([sample.pred_score for sample in group], float)
        if labels.any() and not labels.all():
            false_rate, found, _ = roc_curve(labels, scores)
            hits, recalled, _ = precision_recall_curve(labels, scores)
            roc.append(charts.Line(category, false_rate, found))
            pr.append(charts.Line(category, recalled, hits))
    if not roc:
        return ()
    return (
        charts.curves(roc, x_label="false alarms", y_label="recall", diagonal=True),
        charts.curves(pr, x_label="recall", y_label="precision"),
    )


def _pixel_curves(out: Path, groups: dict[str, list[Sample]], fpr_limit: float) -> tuple[str, ...]:
    roc, pro = [], []
    for category, group in groups.items():
        counts = pixel_counts(out, group, fpr_limit)
        found = {} if counts is None else counts.curves()
        if found:
            roc.append(charts.Line(category, *found["roc"]))
            pro.append(charts.Line(category, *found["pro"]))
    if not roc:
        return ()
    return (
        charts.curves(roc, x_label="false-positive pixels", y_label="recall of pixels", diagonal=True),
        charts.curves(pro, x_label=f"false-positive pixels, to {fpr_limit:g}", y_label="overlap with defects", x_max=fpr_limit),
    )


def _histogram(group: Sequence[Sample]) -> str:
    normal = [sample.pred_score for sample in group if not sample.gt_label and sample.pred_score is not None]
    anomalous = [sample.pred_score for sample in group if sample.gt_label and sample.pred_score is not None]
    thresholds = sorted({sample.threshold for sample in group if sample.threshold is not None})
    return charts.histogram(normal, anomalous, thresholds)


def _pixel_error(units: Sequence[dict[str, Any]]) -> dict[str, str] | None:
    """The largest stated error of each pixel metric over all units, in words; None without pixel metrics."""
    worst: dict[str, float] = {}
    for unit in units:
        for name, error in unit["pixel_errors"].items():
            worst[name] = max(worst.get(name, 0.0), error)
    return {"metrics": ", ".join(f"{percent(error, 2)} ({name})" for name, error in worst.items())} if worst else None


def _latency(units: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median over units of the time of a picture, by k."""
    rows = []
    for k_shot in sorted({unit["k_shot"] for unit in units}):
        some = [unit["seconds"] for unit in units if unit["k_shot"] == k_shot and unit["seconds"]["p50"] is not None]
        if some:
            rows.append({"k_shot": k_shot} | {name: float(np.median([seconds[name] for seconds in some])) for name in ("p50", "p95")})
    return rows


def _settings(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Everything that decides the numbers, as name and value."""
    rows = [("created", results["created"])]
    for part in ("dataset", "model", "prompts", "detector", "settings", "versions", "machine"):
        for name, value in results[part].items():
            if value is not None:
                rows.append((f"{part}.{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows
