"""What a tracker of experiments is told of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlad.errors import ConfigError
from vlad.evaluation.trackers import check_tracker, log_run, metrics_of, params_of

RUN = Path(__file__).parents[2] / "eval" / "results" / "bottle-lite"


@pytest.fixture(scope="module")
def results() -> dict:
    return json.loads((RUN / "results.json").read_text())


def test_metrics_and_settings(results):
    found = {(k, name): value for k, name, value in metrics_of(results)}
    row = next(one for one in results["summary"] if one["k_shot"] == 4)
    assert found[4, "image_auroc"] == row["metrics"]["image_auroc"]["mean"] and (0, "bottle/image_auroc") in found
    settings = params_of(results)
    assert settings["dataset.name"] == "mvtec" and settings["model.source"] == "lite" and "detector.threshold" not in settings


def test_there_is_no_such_tracker():
    with pytest.raises(ConfigError, match="--log takes mlflow or wandb, got 'comet'"):
        check_tracker("comet")


def test_mlflow_keeps_a_run(results, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'runs.db'}")
    monkeypatch.chdir(tmp_path)
    identity = log_run("mlflow", results, RUN).removeprefix("MLflow run ")
    run = mlflow.get_run(identity)
    mean = next(one for one in results["summary"] if one["k_shot"] == 4)["metrics"]["image_auroc"]["mean"]
    assert run.data.metrics["image_auroc"] == pytest.approx(mean) and run.data.params["model.source"] == "lite"
    assert [one.step for one in mlflow.MlflowClient().get_metric_history(identity, "image_auroc")] == [0, 1, 4]
    assert "results.json" in {one.path for one in mlflow.MlflowClient().list_artifacts(identity)}


def test_wandb_keeps_a_run(results, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="W&B is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert log_run("wandb", results, RUN).startswith("W&B run ") and list(tmp_path.rglob("*.wandb"))


def test_a_tracker_that_fails_is_told_of(results, tmp_path, monkeypatch):
    monkeypatch.setattr("vlad.evaluation.trackers.check_tracker", lambda name: None)
    monkeypatch.setattr("vlad.evaluation.trackers._mlflow", lambda *_: (_ for _ in ()).throw(OSError("no route to host")))
    with pytest.raises(ConfigError, match=r"could not be logged \(no route to host\); .* is complete"):
        log_run("mlflow", results, tmp_path)
