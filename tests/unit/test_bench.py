"""The bench without a page: parts, corrections, thresholds, and what becomes of them when something goes wrong."""

from __future__ import annotations

import json
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad import AnomalyDetector
from vlad.app.batches import STOPPED, Batch
from vlad.app.bench import acts, view
from vlad.app.bench.learning import RULES
from vlad.app.bench.parts import Shelf
from vlad.app.bench.state import ANOMALOUS, MARKED, Bench
from vlad.app.names import for_visitors, own_name, shown_name
from vlad.app.service import Limits, Service
from vlad.app.tabs.bench import SHOWN, Desk
from vlad.app.visit import Newcomer, Visit
from vlad.errors import ConfigError, ImageReadError, OutputError
from vlad.synthetic import ProductLine

ALIKE, NO_MISS = "Both errors weigh alike", "No miss"


@pytest.fixture(scope="module")
def lite() -> AnomalyDetector:
    return AnomalyDetector.from_pretrained("lite", device="cpu", rotations=1)


@pytest.fixture
def service(lite, tmp_path):
    service = Service(lite, limits=Limits(pictures=20, references=6), workspace=tmp_path / "parts")
    yield service
    service.close()


@pytest.fixture
def visit(service):
    return Visit.begin(service)


@pytest.fixture
def bench(visit) -> Bench:
    return visit.bench


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder, line = tmp_path_factory.mktemp("washers"), ProductLine("washer", 5, 160)
    for number in range(8):
        Image.fromarray(line.sample(number).image).save(folder / f"good_{number}.png")
    for number in range(3):
        Image.fromarray(line.sample(20 + number, "foreign patch").image).save(folder / f"bad_{number}.png")
    return folder


@pytest.fixture
def fitted(service, bench, files) -> Bench:
    acts.make_part(service, bench, "washer M8", "washer")
    acts.add_good(service, bench, sorted(files.glob("good_[0-3].png")))
    return bench


@pytest.fixture
def looked(service, fitted, files) -> Bench:
    *_, found = acts.look(service, fitted, sorted(files.glob("good_[4-7].png")) + sorted(files.glob("bad_*.png")))
    assert len(found.rows) == 7
    return fitted


def row_of(bench: Bench, name: str) -> int:
    return next(number for number, row in enumerate(bench.batch.rows) if row.name == name)


def choose(bench: Bench, name: str) -> None:
    acts.pick(bench, bench.batch.rows[row_of(bench, name)].thumbnail.stem, name)


def learn(service: Service, bench: Bench) -> list[str]:
    return next(one for one in list(acts.learn(service, bench)) if isinstance(one, list))


def test_a_part_is_a_detector_and_another_visitor_goes_on_with_it(service, looked, files):
    folder = service.workspace / "washer-M8"
    assert json.loads((folder / "part.json").read_text())["name"] == "washer M8"
    other = Visit.begin(service).bench
    acts.open_part(service, other, "washer M8")
    assert [one.name for one in other.part.good] == ["good_0.png", "good_1.png", "good_2.png", "good_3.png"]
    assert all(one.path.parent == folder / "pictures" for one in other.part.good)
    alone = AnomalyDetector.load(folder / "detector").predict(files / "bad_0.png")
    row = looked.batch.rows[row_of(looked, "bad_0.png")].prediction
    assert (alone.pred_score, alone.threshold) == (row.pred_score, row.threshold) and row.pred_label
    (card,) = other.shelf.cards()
    assert (card.name, card.class_name, card.good, card.corrected) == ("washer M8", "washer", 4, 0)


def test_what_is_shown_large_is_what_was_found(service, looked, files):
    choose(looked, "bad_1.png")
    prediction, picture = acts.picked(service, looked)
    alone = looked.part.detector.predict(files / "bad_1.png", class_name="washer")
    assert prediction.pred_score == alone.pred_score and prediction.regions == alone.regions and prediction.image_path == "bad_1.png"
    assert np.abs(prediction.anomaly_map - alone.anomaly_map).max() < 2e-3, "a map is kept in half precision"
    assert np.array_equal(picture, np.asarray(Image.open(files / "bad_1.png")))
    with pytest.raises(ConfigError, match="no longer there"):
        acts.pick(looked, "0099_plain", "bad_1.png")


def test_a_false_alarm_is_remembered_and_a_bad_one_sets_the_threshold(service, looked):
    false_alarm = looked.batch.rows[row_of(looked, "good_5.png")]
    acts.move(looked, false_alarm.prediction.pred_score / 2)
    acts.keep(looked)
    for name, is_good in (("good_5.png", True), ("bad_0.png", False), ("bad_1.png", False)):
        choose(looked, name)
        acts.correct(looked, is_good)
    assert looked.open_marks == looked.marks and len(looked.marks) == 3
    (note,) = [note for note in learn(service, looked) if "let go" in note]
    assert note.startswith("Your threshold of 0.")
    assert len(looked.part.detector.references) == 5 and len(looked.part.detector.labels.pictures) == 2
    assert looked.batch.rows[row_of(looked, "good_5.png")].prediction.pred_score < false_alarm.prediction.pred_score / 2
    assert {row.prediction.threshold_source for row in looked.batch.rows} == {"labels"}
    assert not looked.open_marks and len(looked.marks) == 3 and not looked.is_stale
    with pytest.raises(ConfigError, match="nothing to learn from"):
        learn(service, looked)


def test_who_changes_a_mind_changes_the_part(service, looked):
    acts.move(looked, 0.0)
    acts.keep(looked)
    choose(looked, "good_4.png")
    acts.correct(looked, True)
    learn(service, looked)
    assert len(looked.part.detector.references) == 5
    choose(looked, "good_4.png")
    acts.correct(looked, False)
    learn(service, looked)
    assert len(looked.part.detector.references) == 4 and [one.is_anomalous for one in looked.part.detector.labels.pictures] == [True]
    choose(looked, "good_4.png")
    with pytest.raises(ConfigError, match="has learned from this one"):
        acts.correct(looked, None)
    choose(looked, "good_5.png")
    acts.correct(looked, True)
    acts.correct(looked, None)
    assert list(looked.marks) == [row_of(looked, "good_4.png")]


def test_a_good_one_that_was_called_so_counts_for_the_threshold_alone(service, looked):
    acts.move(looked, 1.0)
    acts.keep(looked)
    acts.correct_all(looked, True)
    learn(service, looked)
    assert len(looked.part.detector.references) == 4 and len(looked.part.detector.labels.pictures) == 7


def test_a_threshold_moves_without_the_model_and_is_kept(service, looked, monkeypatch):
    monkeypatch.setattr(type(service.detector.encoder), "see", lambda *_, **__: pytest.fail("the model ran"))
    own = looked.threshold
    acts.move(looked, 1.0)
    assert looked.shown.summary() == "7 of 7 inspected, 0 anomalous, 7 normal" and looked.batch.threshold == own
    assert "set by you" in " ".join(looked.shown.remarks())
    acts.move(looked, round(own, 4))
    assert looked.moved is None and looked.shown is looked.batch, "back where it was"
    acts.move(looked, 0.9)
    assert acts.keep(looked) == 0.9 and looked.moved is None and not looked.is_stale
    assert looked.part.detector.config.threshold == 0.9 and looked.part.detector.history[-1]["act"] == "threshold"
    with pytest.raises(ConfigError, match="needs labelled pictures"):
        acts.follow_rule(looked, ALIKE)
    acts.follow_rule(looked, "What vlad advises")
    assert looked.part.detector.config.threshold is None and looked.is_stale, "it may follow the pictures, which are to be looked at again"
    assert f"threshold {own:.4f}, for these pictures 0.9000" in view.head(looked)


def test_a_rule_needs_pictures_of_its_kind(service, looked):
    choose(looked, "good_6.png")
    acts.correct(looked, True)
    acts.move(looked, 1.0)
    acts.keep(looked)
    learn(service, looked)
    acts.follow_rule(looked, "No false alarm")
    before = looked.part.detector
    with pytest.raises(ConfigError, match="needs anomalous pictures"):
        acts.follow_rule(looked, NO_MISS)
    assert looked.part.detector is before


def test_the_way_back(service, looked):
    acts.add_good(service, looked, [looked.uploads[0].path])
    assert looked.is_stale and "look again" in view.head(looked)
    assert acts.undo(service, looked) == "add" and len(looked.part.detector.references) == 4
    list(acts.look(service, looked, None))
    assert not looked.is_stale
    with pytest.raises(ConfigError, match="no earlier state"):
        acts.undo(service, looked)
    acts.make_part(service, looked, "another")
    with pytest.raises(ConfigError, match="no earlier state"):
        acts.undo(service, looked)


def test_the_way_back_is_of_ones_own_changes(service, fitted, files):
    other = Visit.begin(service).bench
    acts.open_part(service, other, "washer M8")
    acts.move(other, 0.3)
    acts.keep(other)
    with pytest.raises(ConfigError, match="changed by somebody else"):
        acts.undo(service, fitted)
    assert AnomalyDetector.load(fitted.part.folder / "detector").config.threshold == 0.3


def test_taking_back_a_threshold_leaves_what_was_learned(service, looked):
    choose(looked, "bad_0.png")
    acts.correct(looked, False)
    learn(service, looked)
    acts.move(looked, 0.9)
    acts.keep(looked)
    assert acts.undo(service, looked) == "threshold" and not looked.open_marks and looked.marks
    assert acts.undo(service, looked) == "label" and not looked.marks


def test_what_is_marked_is_what_the_visitor_sees(looked):
    choose(looked, "bad_0.png")
    seen = looked.large
    choose(looked, "good_4.png")
    with pytest.raises(ConfigError, match="nothing was marked"):
        acts.correct(looked, False, seen)
    assert not looked.marks
    acts.correct(looked, True, looked.large)
    assert looked.marks == {row_of(looked, "good_4.png"): True}


def test_one_picture_is_not_good_and_bad(service, fitted, files, tmp_path):
    (tmp_path / "copy.png").write_bytes((files / "bad_0.png").read_bytes())
    list(acts.look(service, fitted, [files / "bad_0.png", tmp_path / "copy.png"]))
    before = fitted.part.detector
    for name, is_good in (("bad_0.png", False), ("copy.png", True)):
        choose(fitted, name)
        acts.correct(fitted, is_good)
    with pytest.raises(ConfigError, match=r"copy\.png and bad_0\.png are the same|bad_0\.png and copy\.png are the same"):
        learn(service, fitted)
    assert fitted.part.detector is before and len(list(fitted.part.pictures.iterdir())) == 4


def test_where_to_look_keeps_what_was_labelled(service, looked):
    choose(looked, "bad_2.png")
    acts.correct(looked, False)
    learn(service, looked)
    acts.follow_rule(looked, NO_MISS)
    painted = np.zeros((160, 160), bool)
    painted[:80] = True
    acts.look_where(service, looked, painted, ignore=False)
    assert looked.is_stale and looked.part.detector.config.roi is not None
    assert looked.part.detector.labels.asked.max_misses == RULES[NO_MISS]["max_misses"]
    assert [one["act"] for one in looked.part.detector.history] == ["fit", "label", "rule", "look"]
    list(acts.look(service, looked, None))
    below = np.load(looked.batch.rows[row_of(looked, "bad_2.png")].map_file)[80:]
    assert not below.any()
    with pytest.raises(ConfigError, match="Nothing is painted"):
        acts.look_where(service, looked, painted & False, ignore=False)
    acts.look_where(service, looked, None, ignore=False)
    assert looked.part.detector.config.look is None


def test_two_people_at_one_part(service, fitted, files):
    other = Visit.begin(service).bench
    acts.open_part(service, other, "washer M8")
    acts.add_good(service, other, [files / "good_4.png"])
    with pytest.raises(ConfigError, match="changed by somebody else"):
        acts.add_good(service, fitted, [files / "good_5.png"])
    assert len(fitted.part.detector.references) == 4 and len(list(fitted.part.pictures.iterdir())) == 5, "nothing of it is left"
    acts.open_part(service, fitted, "washer M8")
    acts.add_good(service, fitted, [files / "good_5.png"])
    assert len(fitted.part.detector.references) == 6


def test_one_act_at_a_time(service, fitted, files):
    looking = acts.look(service, fitted, sorted(files.glob("good_*.png")))
    next(looking)
    for act in (
        lambda: acts.add_good(service, fitted, [files / "bad_0.png"]),
        lambda: acts.move(fitted, 0.5),
        lambda: acts.export(fitted, files),
    ):
        with pytest.raises(ConfigError, match="still at work"):
            act()
    fitted.stop()
    *_, found = looking
    assert found.cut_off == STOPPED and fitted.batch is found and len(found.rows) < 8 and not fitted.is_at_work
    acts.move(fitted, 0.5)


def test_a_look_that_is_stopped_before_its_first_result_leaves_the_last_one(service, looked):
    choose(looked, "bad_0.png")
    acts.correct(looked, False)
    before, picked = looked.batch, looked.picked
    again = acts.look(service, looked, None, on_progress=lambda *_: looked.stop())
    *_, found = again
    assert found.cut_off == STOPPED and not found.rows
    assert looked.batch is before and looked.picked == picked and len(looked.open_marks) == 1
    assert acts.picked(service, looked) is not None, "its maps are still there"


def test_the_zip_is_a_detector(service, looked, tmp_path, files):
    choose(looked, "bad_0.png")
    acts.correct(looked, False)
    learn(service, looked)
    with zipfile.ZipFile(acts.export(looked, tmp_path / "out")) as archive:
        archive.extractall(tmp_path)
    loaded = AnomalyDetector.load(tmp_path / "washer-M8")
    row = looked.batch.rows[row_of(looked, "good_7.png")].prediction
    alone = loaded.predict(files / "good_7.png")
    assert (alone.pred_score, alone.threshold, alone.threshold_source) == (row.pred_score, row.threshold, "labels")
    assert looked.packed[0] is looked.part.detector
    folder = tmp_path / "washer-M8"
    shutil.rmtree(looked.part.folder)
    moved = AnomalyDetector.load(folder)
    assert all(Path(one.path).parent == folder / "pictures" for one in moved.references)
    assert str(service.workspace) not in (folder / "config.json").read_text()
    assert len(moved.add_references([files / "good_6.png"]).references) == 5, "its pictures can be seen again"
    with pytest.raises(ConfigError, match="nothing to keep"):
        acts.make_part(service, looked, "empty")
        acts.export(looked, tmp_path)


def test_bad_files_are_named_and_what_was_there_stays(service, fitted, files, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ImageReadError, match=r"^broken.png: "):
        acts.add_good(service, fitted, [tmp_path / "broken.png"])
    told = acts.add_good(service, fitted, [tmp_path / "broken.png", files / "good_4.png"])
    assert told[0].startswith("Left out: broken.png: ") and str(tmp_path) not in " ".join(told)
    with pytest.raises(ConfigError, match="At most 6 good pictures"):
        acts.add_good(service, fitted, [files / "good_5.png"] * 2)
    *_, found = acts.look(service, fitted, [tmp_path / "broken.png", files / "bad_0.png"])
    assert [row.name for row in found.failed] == ["broken.png"] and fitted.order() == [1]
    with pytest.raises(ConfigError, match="at most 20"):
        list(acts.look(service, fitted, [files / "bad_0.png"] * 21))
    assert fitted.batch is not None, "what was found before is still there"


def test_names_of_parts(service, bench):
    for name in ("", "  ", "x" * 61, "a\x00b"):
        with pytest.raises(ConfigError, match="needs a name"):
            acts.make_part(service, bench, name)
    acts.make_part(service, bench, "../../evil")
    assert bench.part.folder == service.workspace / "evil"
    with pytest.raises(ConfigError, match="already"):
        acts.make_part(service, bench, "../../EVIL")
    acts.make_part(service, bench, "...evil")
    assert bench.part.folder == service.workspace / "evil-2"
    (service.workspace / "evil" / "part.json").write_text("{]")
    assert [card.name for card in bench.shelf.cards()] == ["...evil"]
    (bench.part.folder / "detector").mkdir()
    (bench.part.folder / "detector" / "config.json").write_text("{]")
    (card,) = bench.shelf.cards()
    assert card.changed == "damaged"
    with pytest.raises(ConfigError, match="already"):
        acts.make_part(service, bench, "...evil")
    with pytest.raises(ConfigError, match="cannot be opened"):
        acts.open_part(service, bench, "...evil")
    with pytest.raises(ConfigError, match="There is no part"):
        acts.open_part(service, bench, "../../evil")
    assert "<b>" not in view.shelf([*bench.shelf.cards()], is_shared=True).replace("<b></b>", "")


def test_a_part_of_another_model_is_not_opened(service, fitted, monkeypatch):
    config = fitted.part.folder / "detector" / "config.json"
    entry = json.loads(config.read_text())
    entry["model"]["fingerprint"] = "0" * 64
    config.write_text(json.dumps(entry))
    with pytest.raises(ConfigError, match="is the model: it was made with another one"):
        acts.open_part(service, fitted, "washer M8")
    assert fitted.part is not None and not fitted.is_at_work


def test_a_workspace_that_cannot_be_written(service, fitted, files, monkeypatch):
    def full(*_, **__):
        raise OutputError("no space left")

    monkeypatch.setattr(AnomalyDetector, "save", full)
    before = fitted.part.detector
    with pytest.raises(OutputError):
        acts.add_good(service, fitted, [files / "good_6.png"])
    assert fitted.part.detector is before and len(list(fitted.part.pictures.iterdir())) == 4


def test_parts_of_a_visit_go_with_it(lite, files):
    service = Service(lite)
    try:
        visit, other = Visit.begin(service), Visit.begin(service)
        acts.add_good(service, visit.bench, [files / "good_0.png"])
        assert visit.bench.part.name == "Part 1" and visit.bench.part.folder.is_relative_to(visit.folder)
        assert other.bench.shelf.cards() == []
        visit.forget()
        assert not visit.folder.exists() and visit.bench.part is None
    finally:
        service.close()


def test_parts_of_one_name_made_at_once(service):
    benches, refused = [Visit.begin(service).bench for _ in range(6)], []

    def make(bench: Bench) -> None:
        try:
            acts.make_part(service, bench, "race")
        except ConfigError as error:
            refused.append(error)

    threads = [threading.Thread(target=make, args=(bench,)) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 5 and [card.name for card in benches[0].shelf.cards()] == ["race"]


def test_a_shared_shelf_gets_no_part_by_accident(service, bench, files):
    for act in (
        lambda: list(acts.look(service, bench, [files / "good_0.png"])),
        lambda: acts.add_good(service, bench, [files / "good_0.png"]),
    ):
        with pytest.raises(ConfigError, match="No part is open"):
            act()
    assert bench.shelf.cards() == []


def test_a_browser_has_one_visit_however_much_it_asks_for_at_once(service):
    import copy

    newcomer = Newcomer(service)
    first, second = copy.deepcopy(newcomer), copy.deepcopy(newcomer)
    assert isinstance(first, Visit) and first is not second and first.folder != second.folder


def test_only_what_is_new_is_sent(service, visit, looked):
    desk = Desk(service)
    import gradio as gr

    def told(seal, *anew):
        _, now, *values = desk.tell(visit, seal, *anew)
        return now, {name for name, value in zip(SHOWN, values, strict=True) if value != gr.skip()}

    seal, names = told(None)
    assert names == set(SHOWN)
    assert told(seal) == (gr.skip(), set())
    acts.filter_rows(looked, ANOMALOUS)
    seal, names = told(seal)
    assert "only" in names and "pair" not in names and "good" not in names
    choose(looked, "bad_2.png")
    seal, names = told(seal)
    assert {"verdict", "pair"} <= names and "cards" not in names
    assert told(seal - 1)[1] == set(SHOWN), "a page that shows something older is told everything"
    assert told(looked.sent, "threshold")[1] == {"threshold"}
    looked.drops += 1
    assert told(looked.sent)[1] == {"good_files"}, "the box is emptied"


def test_many_at_once_leave_one_order(service, visit, looked):
    """Sixteen threads press whatever there is; afterwards everything fits together."""
    desk, errors = Desk(service), []

    def press(number: int) -> None:
        for turn in range(12):
            try:
                presses = (
                    (acts.move, looked, 0.01 * (number + turn)),
                    (acts.keep, looked),
                    (acts.correct_all, looked, bool(turn % 2)),
                    (acts.filter_rows, looked, MARKED),
                    (desk.tell, visit, looked.sent),
                )
                act, *given = presses[(number + turn) % 5]
                act(*given)
            except ConfigError as error:
                if "still at work" not in str(error):
                    errors.append(error)

    threads = [threading.Thread(target=press, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and not looked.is_at_work
    acts.keep(looked)
    assert looked.part.detector.config.threshold == looked.threshold == looked.batch.threshold
    assert AnomalyDetector.load(looked.part.folder / "detector").config.threshold == looked.threshold


def test_what_visitors_read_names_no_place_of_the_server():
    place, code = "/tmp/x/parts/nut/pictures/ab_0a1b2c3d.png", " (detector.remove_references(['/x/y.png']), or fit again without it)"
    assert for_visitors(f"['{place}'] differs; leave it out{code}; if good") == "['ab.png'] differs; leave it out; if good"
    assert shown_name(own_name("nut (1).PNG", "0123456789")) == "nut_1.png" and own_name("..", "0123456789").startswith("picture_01234567")


def test_a_batch_under_another_threshold_is_another_one(service, looked):
    batch: Batch = looked.batch
    moved = batch.at(0.0)
    assert moved.summary().startswith("7 of 7 inspected, 7 anomalous") and moved is not batch and batch.threshold != 0
    assert all(one.thumbnail == one.thumbnails[1] for one in moved.rows) and batch.at(1.0).rows[0].thumbnail == batch.rows[0].thumbnails[0]
    assert "The threshold is set by you." in moved.remarks() and "The threshold is set by you." not in batch.remarks()


def test_two_groups_and_the_shelf_are_drawn(looked):
    assert "vlad-good-bar" in view.charts(looked) and "what was looked at" in view.charts(looked)
    alone = view.usage(looked.part, is_shared=False)
    assert "unzip washer-M8.zip" in alone and "vlad detect PICTURES --model washer-M8" in alone
    assert Shelf(Path("/nowhere")).cards() == [] and view.top_of(looked) <= 1
