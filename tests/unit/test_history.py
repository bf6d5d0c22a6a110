"""What was done to a saved detector, and the way back."""

from __future__ import annotations

import json
import multiprocessing
import re
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.cli import app
from vlad.errors import ConfigError
from vlad.history import MOST_STEPS, in_words, locked, undo
from vlad.persistence import read_state, write_state
from vlad.synthetic import ProductLine

pytestmark = pytest.mark.filterwarnings("ignore:.*enlarged to 448", "ignore:.*is a guess")


@pytest.fixture(scope="module")
def lite() -> AnomalyDetector:
    return AnomalyDetector(LiteBackbone(device="cpu"), rotations=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, line = tmp_path_factory.mktemp("parts"), ProductLine("gear", 3, 160)
    for number in range(8):
        Image.fromarray(line.sample(number).image).save(folder / f"good_{number}.png")
    for number in range(3):
        Image.fromarray(line.sample(number, "foreign patch").image).save(folder / f"bad_{number}.png")
    return folder


@pytest.fixture
def model(lite, files, tmp_path):
    return lite.copy().fit(sorted(files.glob("good_[0-3].png"))).save(tmp_path / "model")


def acts(folder) -> list[str]:
    return [one["act"] for one in read_state(folder).history]


def result(folder, lite, path):
    found = AnomalyDetector.load(folder, backbone=lite.backbone).predict(path)
    return found.pred_score, found.threshold, found.threshold_source


def test_every_act_is_logged_and_can_be_undone(model, lite, files):
    states = [result(model, lite, files / "bad_0.png")]
    for change in (
        lambda detector: detector.add_references(files / "good_4.png"),
        lambda detector: detector.calibrate(bad=files / "bad_0.png", add=True),
        lambda detector: detector.remove_references(files / "good_0.png"),
        lambda detector: detector.remove_labels(detector.labels.pictures),
    ):
        detector = AnomalyDetector.load(model, backbone=lite.backbone)
        change(detector)
        detector.save(model)
        states.append(result(model, lite, files / "bad_0.png"))
    assert acts(model) == ["fit", "add", "label", "remove", "unlabel"] and len(set(states)) == 5
    for state in states[-2::-1]:
        with locked(model):
            assert undo(model)["act"] == "undo"
        assert result(model, lite, files / "bad_0.png") == state
    assert acts(model) == ["fit", "add", "label", "remove", "unlabel", *["undo"] * 4]
    with locked(model), pytest.raises(ConfigError, match="no earlier state to go back to"):
        undo(model)
    assert not (model / "steps").exists()


def test_after_going_back_another_way_can_be_taken(model, lite, files):
    for name in ("good_4.png", "good_5.png"):
        AnomalyDetector.load(model, backbone=lite.backbone).add_references(files / name).save(model)
        with locked(model):
            undo(model)
    detector = AnomalyDetector.load(model, backbone=lite.backbone).add_references(files / "good_6.png")
    detector.save(model)
    assert len(detector.references) == 5 and acts(model) == ["fit", "add", "undo", "add", "undo", "add"]
    with locked(model):
        undo(model)
    assert len(AnomalyDetector.load(model, backbone=lite.backbone).references) == 4


def test_few_steps_are_kept_and_take_no_room(model, lite, files):
    before = (model / "memory.safetensors").stat().st_ino
    for number in range(MOST_STEPS + 3):
        detector = AnomalyDetector.load(model, backbone=lite.backbone)
        path = files / "bad_0.png"
        detector.calibrate(bad=path, add=True) if number % 2 == 0 else detector.remove_labels(detector.labels.pictures)
        detector.save(model)
        if number == 0:  # a further name of the same data
            assert {(step / "memory.safetensors").stat().st_ino for step in (model / "steps").iterdir()} == {before}
    steps = sorted((model / "steps").iterdir())
    assert len(steps) == MOST_STEPS
    assert all((step / "config.json").is_file() and (step / "memory.safetensors").is_file() for step in steps)


def test_a_save_without_a_change_keeps_no_step_and_one_of_something_else_does(model, lite, files):
    AnomalyDetector.load(model, backbone=lite.backbone).save(model)
    assert not (model / "steps").exists()
    AnomalyDetector.load(model, backbone=lite.backbone).add_references(files / "good_4.png").save(model)
    assert (model / "steps").exists()
    before = result(model, lite, files / "bad_0.png")
    lite.copy().fit(files / "good_5.png").save(model)  # replaced by another one, which can be undone as well
    assert acts(model) == ["fit"] and result(model, lite, files / "bad_0.png") != before
    with locked(model):
        undo(model)
    assert result(model, lite, files / "bad_0.png") == before


def test_of_two_who_save_neither_loses(model, lite, files):
    one, other = (AnomalyDetector.load(model, backbone=lite.backbone) for _ in range(2))
    one.add_references(files / "good_4.png").save(model)
    first = result(model, lite, files / "bad_0.png")
    other.add_references(files / "good_5.png").save(model)
    with locked(model):
        undo(model)
    assert result(model, lite, files / "bad_0.png") == first


def _save_again_and_again(folder, ready, done) -> None:
    state = read_state(folder)
    number = 0
    while not done.is_set():
        number += 1
        write_state(folder, replace(state, text={"noun": torch.full((2, 8), float(number))}))
        ready.set()


def test_who_reads_while_another_writes_reads_the_old_or_the_new(model):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_save_again_and_again, args=(model, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        seen = {float(read_state(model).text["noun"][0, 0]) for _ in range(200)}
    finally:
        done.set()
        other.join()
    assert len(seen) > 1


def test_what_a_kill_has_left_goes_with_the_next_save(model, lite, files):
    (model / ".tmpAb12Cd").write_bytes(b"half a file")
    AnomalyDetector.load(model, backbone=lite.backbone).add_references(files / "good_4.png").save(model)
    assert not list(model.glob(".tmp*"))


def test_an_interrupted_save_leaves_the_old_or_the_new(model, lite, files, monkeypatch):
    import vlad.persistence as persistence

    before = result(model, lite, files / "bad_0.png")
    detector = AnomalyDetector.load(model, backbone=lite.backbone).add_references(files / "good_4.png")
    monkeypatch.setattr(persistence, "sha256_of", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        detector.save(model)
    monkeypatch.undo()
    assert result(model, lite, files / "bad_0.png") == before and acts(model) == ["fit"]
    detector.save(model)
    assert acts(model) == ["fit", "add"]


def test_entries_in_words(model):
    (line,) = map(in_words, read_state(model).history)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00  fit      4 references, threshold 0\.\d{4}", line)
    assert in_words({}) == "?  ?        0 references"


def test_a_damaged_history_is_named(model, lite):
    config = json.loads((model / "config.json").read_text())
    config["history"] = "yesterday"
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="history must be a list"):
        AnomalyDetector.load(model, backbone=lite.backbone)


def _hold(folder, ready, done) -> None:
    with locked(folder):
        ready.set()
        done.wait(60)


def test_one_writer_at_a_time(model, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="holds no detector"), locked(tmp_path):
        pass
    monkeypatch.setattr("vlad.history.LOCK_SECONDS", 0.2)
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(model, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(ConfigError, match="in use by another process"), locked(model):
            pass
    finally:
        done.set()
        other.join()
    with locked(model):
        pass


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def test_the_commands(model, files):
    good, bad = files / "good_5.png", files / "bad_1.png"
    done = run("references", model, "add", good)
    assert done.exit_code == 0 and "references: 5 pictures" in done.stderr
    done = run("references", model, "add", "--bad", bad)
    assert "from labels; 0 of 5 good pictures called anomalous, 0 of 1 bad ones missed" in done.stderr
    listed = run("references", model, "list").stdout
    assert str(good) in listed and re.search(rf"bad +0\.\d{{4}}  {re.escape(str(bad))}", listed) and "#5" in listed
    assert run("references", model, "add", good).stderr.count("nothing has changed") == 1
    assert run("references", model, "remove", "#1", bad).exit_code == 0
    log = run("references", model, "log").stdout.splitlines()
    assert [line.split()[1] for line in log] == ["fit", "add", "label", "unlabel", "remove"]
    assert str(good) in log[1] and f"{bad} (bad)" in log[2]
    assert run("references", model, "undo").exit_code == 0
    assert "references: 5 pictures" in run("references", model, "list").stdout
    with pytest.raises(ConfigError, match="neither a reference nor a labelled picture"):
        run("references", model, "remove", "elsewhere.png")


def test_calibrate(model, files, tmp_path):
    chart = tmp_path / "chart.svg"
    options = ["--good", files / "good_[4-7].png", "--bad", files / "bad_*.png"]
    done = run("calibrate", model, *options, "--max-misses", "0", "--chart", chart)
    assert done.exit_code == 0 and chart.is_file() and "misses: 0 of 3, between 0.0% and 70.8% (95 %)" in done.stdout
    assert "threshold_source" in run("detect", files / "bad_0.png", "--model", model, "--format", "csv").stdout
    assert ",labels," in run("detect", files / "bad_0.png", "--model", model, "--format", "csv").stdout
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = run("calibrate", model, *options, "--bad", tmp_path / "broken.png")
    assert done.exit_code == 3 and "left out of the labels" in done.stderr and (model / "calibration.png").is_file()
    with pytest.raises(ConfigError, match="expected labelled pictures"):
        run("calibrate", model)
    with pytest.raises(ConfigError, match="one of these, got max_false_alarms and cost_ratio"):
        run("calibrate", model, *options, "--max-false-alarms", "0.1", "--cost-ratio", "2")


def test_times_do_not_go_backwards(model, lite, files):
    AnomalyDetector.load(model, backbone=lite.backbone).add_references(files / "good_4.png").save(model)
    times = [one["time"] for one in read_state(model).history]
    assert times == sorted(times) and all(one.startswith(time.strftime("%Y")) for one in times)
