"""A finished run of `vlad eval` in a tracker of experiments: its settings, its metrics, its report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlad.errors import ConfigError

NAMES = ("mlflow", "wandb")
_ARTIFACTS = ("results.json", "report.html", "report.md", "samples.jsonl")
_LONGEST = 500  # letters of a parameter; MLflow takes 6,000, some servers less


def check_tracker(name: str) -> None:
    """
    Raises:
        ConfigError: there is no such tracker, or its package is missing; told before anything is measured.
    """
    from importlib.util import find_spec

    if name not in NAMES:
        raise ConfigError(f"--log takes {' or '.join(NAMES)}, got {name!r}")
    if find_spec(name) is None:
        raise ConfigError(f"--log {name} needs its package; pip install {name}")


def log_run(name: str, results: Mapping[str, Any], out: Path) -> str:
    """Log a run where the tracker's own environment variables say, and return where that is.

    Args:
        name: "mlflow" or "wandb".
        results: of `summarise`.
        out: the run's folder, whose report and tables become artifacts.

    Raises:
        ConfigError: the tracker cannot be reached; the run's folder is complete all the same.
    """
    check_tracker(name)
    files = [out / file for file in _ARTIFACTS if (out / file).is_file()]
    try:
        return (_mlflow if name == "mlflow" else _wandb)(results, out.name, files)
    except Exception as error:  # each tracker has errors of its own, of network and of file systems
        reason = str(error).strip() or type(error).__name__
        raise ConfigError(f"--log {name}: the run could not be logged ({reason[:300]}); {out} is complete") from error


def params_of(results: Mapping[str, Any]) -> dict[str, str]:
    """Everything that decides the numbers, by names such as detector.scorer."""
    return {
        f"{part}.{name}": str(value)[:_LONGEST]
        for part in ("dataset", "model", "prompts", "detector", "settings", "versions")
        for name, value in results[part].items()
        if value is not None
    }


def metrics_of(results: Mapping[str, Any]) -> Iterator[tuple[int, str, float]]:
    """k, name and value of each metric: means over categories and seeds, and each category's own as CATEGORY/NAME."""
    for row in results["summary"]:
        yield from ((row["k_shot"], name, value) for name, value in _means(row["metrics"]))
    for row in results["categories"]:
        yield from ((row["k_shot"], f"{row['category']}/{name}", value) for name, value in _means(row["metrics"]))


def _means(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        mean = value.get("mean") if isinstance(value, dict) else value
        if isinstance(mean, (int, float)) and math.isfinite(mean):
            yield name, float(mean)


def _mlflow(results: Mapping[str, Any], run_name: str, files: list[Path]) -> str:
    import mlflow

    mlflow.set_experiment(f"vlad {results['dataset']['title']}")
    with mlflow.start_run(run_name=run_name) as run:
        mlflow.log_params(params_of(results))
        mlflow.set_tags({"model": results["model"]["name"], "dataset": results["dataset"]["title"]})
        for k_shot, name, value in metrics_of(results):
            mlflow.log_metric(_allowed(name), value, step=k_shot)
        for file in files:
            mlflow.log_artifact(str(file))
        return f"MLflow run {run.info.run_id}"


def _allowed(name: str) -> str:
    """Of other signs MLflow takes none in a metric's name."""
    return "".join(sign if sign.isalnum() or sign in "_-. /" else "_" for sign in name)


def _wandb(results: Mapping[str, Any], run_name: str, files: list[Path]) -> str:
    import wandb

    with wandb.init(project="vlad", name=run_name, config=params_of(results), tags=[results["model"]["name"][:64]]) as run:
        by_k: dict[int, dict[str, float]] = {}
        for k_shot, name, value in metrics_of(results):
            by_k.setdefault(k_shot, {})[name] = value
        for k_shot, values in sorted(by_k.items()):
            run.log({"k_shot": k_shot, **values})
        for file in files:
            run.save(str(file), base_path=str(file.parent), policy="now")
        return f"W&B run {run.id}"
