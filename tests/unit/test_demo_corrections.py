"""Corrections and where to look in the tab Inspect, without a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad import AnomalyDetector
from vlad.app import handlers, show
from vlad.app.service import Limits, Service
from vlad.app.tabs.inspect_actions import Actions
from vlad.app.tabs.inspect_layout import LOOK_THERE, NOT_THERE, STAYS
from vlad.app.visit import Visit
from vlad.errors import ConfigError
from vlad.synthetic import ProductLine


@pytest.fixture(scope="module")
def lite() -> AnomalyDetector:
    return AnomalyDetector.from_pretrained("lite", device="cpu", rotations=1)


@pytest.fixture
def service(lite):
    service = Service(lite, limits=Limits(pictures=20, references=6))
    yield service
    service.close()


@pytest.fixture
def visit(service):
    return Visit.begin(service)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, line = tmp_path_factory.mktemp("parts"), ProductLine("washer", 5, 160)
    for number in range(8):
        Image.fromarray(line.sample(number).image).save(folder / f"good_{number}.png")
    for number in range(3):
        Image.fromarray(line.sample(20 + number, "foreign patch").image).save(folder / f"bad_{number}.png")
    return folder


@pytest.fixture
def compared(service, visit, files):
    handlers.add_references(service, visit, sorted(files.glob("good_[0-3].png")))
    return visit


def test_a_false_alarm_is_remembered_and_a_miss_labelled(service, compared, files):
    handlers.inspect(service, compared, files / "good_4.png")
    before = compared.prediction.pred_score
    handlers.mark(service, compared, is_good=True)
    assert compared.prediction.pred_score < before / 2 and len(compared.references) == 5 and compared.references[-1] == "good_4"
    handlers.inspect(service, compared, files / "bad_1.png")
    handlers.mark(service, compared, is_good=False)
    assert compared.prediction.threshold_source == "labels" and compared.prediction.pred_label
    assert len(compared.detector.labels.pictures) == 1


def test_what_cannot_be_corrected(service, visit, compared, files):
    with pytest.raises(ConfigError, match="There is no picture"):
        handlers.mark(service, Visit.begin(service), is_good=True)
    alone = Visit.begin(service)
    handlers.inspect(service, alone, files / "bad_0.png")
    with pytest.raises(ConfigError, match="needs normal pictures"):
        handlers.mark(service, alone, is_good=False)
    for number in (4, 5):
        handlers.inspect(service, compared, files / f"good_{number}.png")
        handlers.mark(service, compared, is_good=True)
    with pytest.raises(ConfigError, match="At most 6"):
        handlers.mark(service, compared, is_good=True)


@pytest.mark.parametrize("mode", [LOOK_THERE, NOT_THERE])
def test_where_to_look_is_painted(service, compared, files, mode):
    actions = Actions(service)
    handlers.inspect(service, compared, files / "bad_0.png")
    value = actions.paint_on_it(compared, 0.5).where
    painted = value["background"].copy()
    painted[:80] = (34, 211, 238)
    updates = actions.look_there(compared, value | {"composite": painted}, mode, 0.5)
    assert updates.where_said is not STAYS and len(compared.detector.references) == 4
    above = compared.prediction.anomaly_map[:80].any(), compared.prediction.anomaly_map[80:].any()
    assert above == ((True, False) if mode == LOOK_THERE else (False, True))
    with pytest.raises(ConfigError, match="Nothing is painted"):
        actions.look_there(compared, value, mode, 0.5)
    with pytest.raises(ConfigError, match="nothing to paint on"):
        actions.look_there(compared, None, mode, 0.5)
    actions.look_everywhere(compared, 0.5)
    assert compared.detector.config.look is None and compared.prediction.anomaly_map[:80].any()


def test_the_two_groups_are_drawn_to_one_scale():
    svg = show.two_groups([0.02, 0.03, 0.03], [0.08], 0.05)
    assert "3 good pictures, above the axis, and 1 bad ones" in svg and svg.count("vlad-bad-bar") == 1
    assert show.two_groups([], [0.1], 0.1).count("vlad-good-bar") == 0
    assert np.isfinite(float(svg.split('x1="')[2].split('"')[0]))


def test_an_example_starts_afresh(lite, files):
    from vlad.app.examples import find_examples

    service = Service(lite, examples=find_examples())
    try:
        visit = Visit.begin(service)
        handlers.add_references(service, visit, sorted(files.glob("good_[0-3].png")))
        handlers.inspect(service, visit, files / "bad_0.png")
        handlers.mark(service, visit, is_good=False)
        assert Path(visit.detector.references[0].path).is_file() and visit.detector.labels is not None
        handlers.inspect_example(service, visit, service.examples[0], with_references=True)
        assert visit.detector.labels is None and visit.prediction.threshold_source == "references"
    finally:
        service.close()


def test_a_batch_of_twenty_moves_the_threshold_and_gives_way(service, compared, files, monkeypatch):
    from vlad.app.runs import run_batch

    turns = []
    monkeypatch.setattr(service, "_pass_on", lambda pass_on=service._pass_on: (turns.append(1), pass_on())[1])
    *_, batch = run_batch(service, compared, [*sorted(files.glob("good_*.png")), *sorted(files.glob("bad_*.png")) * 4])
    assert {row.prediction.threshold_source for row in batch.rows} == {"references and 20 pictures of this run"}
    assert "The threshold comes from the references and 20 pictures of this run" in batch.remarks()[0]
    assert len(turns) >= 40  # one for each picture at the first look, and one at the second
