"""Several runs beside each other as one Markdown table, for documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlad.errors import ConfigError
from vlad.evaluation.results import of_no_use, read_results, spread

METRICS = ("image_auroc", "pixel_auroc", "aupro", "spro", "recall", "false_alarms")
Cells = dict[str, dict[str, Any]]  # metric -> mean and std as of `spread`


def runs_table(groups: Mapping[str, Sequence[Path]], metrics: Sequence[str] | None = None) -> str:
    """One row for each group, category and k, and one for the mean over categories where there are several.

    Args:
        groups: folders of runs by name. The numbers of one run are its mean and spread over seeds; those of several, as of training seeds,
            are mean and spread over the runs.
        metrics: columns; None takes those of `METRICS` that were measured.

    Returns:
        Markdown; percent, mean ± sample standard deviation; "!" marks more than half false alarms or misses, "–" what is undefined or was
        not measured.

    Raises:
        ConfigError: a folder holds no results, or a metric is in none of them.
    """
    rows = [(name, *row) for name, folders in groups.items() for row in _group([read_results(folder) for folder in folders])]
    measured = {metric for *_, cells in rows for metric in cells}
    shown = [metric for metric in METRICS if metric in measured] if metrics is None else list(metrics)
    if unknown := [metric for metric in shown if metric not in measured]:
        raise ConfigError(f"no run measured {unknown[0]!r}; there are {', '.join(sorted(measured))}")
    lines = [f"| run | data | k | n | {' | '.join(shown)} |", "|---" * (4 + len(shown)) + "|"]
    lines += [
        f"| {name} | {data} | {k_shot} | {count} | {' | '.join(_cell(cells, metric) for metric in shown)} |"
        for name, data, k_shot, count, cells in rows
    ]
    return "\n".join(lines)


def mean_and_spread(value: Mapping[str, float | None] | None) -> str:
    """Such as 98.9 ± 0.1, in percent; the mean alone where there is no spread, "–" where there is neither."""
    if value is None or value["mean"] is None:
        return "–"
    std = value["std"]
    return f"{100 * value['mean']:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _cell(cells: Cells, metric: str) -> str:
    """With a mark where it says that the verdicts are of no use."""
    is_bad = metric in ("recall", "false_alarms") and bool(of_no_use({metric: cells.get(metric) or {}}))
    return f"{mean_and_spread(cells.get(metric))}{' **!**' if is_bad else ''}"


def _group(runs: Sequence[dict[str, Any]]) -> list[tuple[str, int, int, Cells]]:
    """Rows (data, k, number of seeds or runs, cells), by k, the mean over categories last."""
    found: dict[tuple[int, bool, str], list[dict[str, Any]]] = {}
    for results in runs:
        for row in results["categories"]:
            found.setdefault((row["k_shot"], False, row["category"]), []).append(row)
        for row in results["summary"]:
            if row["n_categories"] > 1:
                found.setdefault((row["k_shot"], True, f"mean of {row['n_categories']}"), []).append(row)
    return [
        (data, k_shot, len(rows[0]["seeds"]) if len(runs) == 1 else len(rows), _joined(rows, single=len(runs) == 1))
        for (k_shot, _, data), rows in sorted(found.items(), key=lambda item: item[0][:2])
    ]


def _joined(rows: Sequence[dict[str, Any]], *, single: bool) -> Cells:
    if single:
        return dict(rows[0]["metrics"])
    names = dict.fromkeys(name for row in rows for name in row["metrics"])
    return {name: spread([row["metrics"].get(name, {}).get("mean") for row in rows]) for name in names}
