"""The demo's plain functions, on the embedded model and without a server."""

from __future__ import annotations

import gc
import inspect
import json
import socket
import struct
import threading
import warnings
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio
import numpy as np
import pytest
from gradio.components.image_editor import EditorData
from gradio.data_classes import FileData
from gradio.processing_utils import save_file_to_cache
from PIL import Image
from waiting import LIMIT, wait_until

from vlad import AnomalyDetector
from vlad.app import api, chat, handlers, show
from vlad.app.batches import Batch, Row, time_left
from vlad.app.examples import find_example_batch, find_examples
from vlad.app.painting import look_for_paint
from vlad.app.runs import run_batch
from vlad.app.service import BusyError, Limits, Service, without_address
from vlad.app.tabs.inspect_actions import Actions
from vlad.app.tabs.inspect_layout import STATE, STAYS, Updates
from vlad.app.uploads import read_upload, short_name
from vlad.app.visit import Visit
from vlad.app.widgets import limit_slider, paint_input
from vlad.app.wording import ANOMALOUS, NORMAL, compare_words
from vlad.cli.demo import is_loopback
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.vlm.backends.base import Reply

EXAMPLES = Path(__file__).resolve().parents[2] / "demos" / "examples"
SCRATCH, GOOD = EXAMPLES / "washer_scratch.png", EXAMPLES / "capsule_good.png"


@pytest.fixture(scope="module")
def lite() -> AnomalyDetector:
    return AnomalyDetector.from_pretrained("lite", device="cpu")


@pytest.fixture
def service(lite):
    service = Service(lite, limits=Limits(pictures=30, references=4), examples=find_examples())
    yield service
    service.close()


@pytest.fixture
def visit(service):
    return Visit.begin(service)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


BAD = {
    "truncated.png": (SCRATCH.read_bytes()[:2000], "cut off"),
    "text.png": (b"this is a text and no picture at all", "is none of"),
    "empty.png": (b"", "empty"),
    "huge.png": (png_header(20_000, 10_000), "200,000,000 pixels"),
    "heavy.png": (b"\0" * (21 * 2**20), "21 MB"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_upload_is_named_and_its_place_on_the_server_is_not(service, visit, tmp_path, name):
    data, reason = BAD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageReadError, match=reason) as error:
        handlers.inspect(service, visit, tmp_path / name)
    assert str(error.value).startswith(f"{name}: ") and str(tmp_path) not in str(error.value)
    assert handlers.inspect(service, visit, SCRATCH).regions  # the visitor goes on


def test_sixteen_bits_and_cmyk_are_read_as_vlad_reads_them(service, tmp_path):
    grey = (np.linspace(0, 1, 64 * 64).reshape(64, 64) * 65535).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    assert np.array_equal(read_upload(tmp_path / "deep.png", service.limits)[..., 0], ((grey.astype(np.uint32) + 128) // 257))
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    red = read_upload(tmp_path / "print.jpg", service.limits)[15, 20]
    assert red[0] > 200 and red[1] < 60


def test_a_threshold_moves_without_the_model_and_as_predict_would(service, visit, monkeypatch):
    handlers.inspect(service, visit, SCRATCH, "washer")
    expected = service.detector.predict(SCRATCH, class_name="washer", threshold=0.9)
    monkeypatch.setattr(type(service.detector.encoder), "see", lambda *_, **__: pytest.fail("the model ran"))
    found = handlers.adjust(visit, 0.9, 0.9)
    assert (found.pred_label, found.threshold_source, found.regions) == (expected.pred_label, "user", expected.regions)
    assert not handlers.adjust(visit, 1.0, 1.0).pred_label and visit.prediction.regions == ()


def test_references_belong_to_one_visitor(service, visit):
    other = Visit.begin(service)
    with warnings.catch_warnings():
        warnings.simplefilter("error", VladWarning)  # notes are handed over, not printed
        told = handlers.add_references(service, visit, sorted((EXAMPLES / "references" / "washer").iterdir())[:2])
    assert len(told.names) == 2 and any("guess" in note for note in told.notes)
    mine, theirs = (handlers.inspect(service, one, SCRATCH) for one in (visit, other))
    assert (mine.threshold_source, theirs.threshold_source) == ("references", None) and theirs.undecided
    assert service.detector.memory is None and other.detector.encoder.joint is visit.detector.encoder.joint
    with pytest.raises(ConfigError, match="At most 4"):
        handlers.add_references(service, visit, [SCRATCH] * 3)
    folder = visit.folder
    assert list(folder.rglob("*.png"))
    visit.forget()
    assert not folder.exists() and visit.picture is None and visit.detector.memory is None


def test_files_for_download_hold_the_result(service, visit):
    handlers.inspect(service, visit, SCRATCH, name='we/ird "näme".png')
    files = handlers.write_files(visit)
    assert all(path.parent.parent == visit.folder for path in files.values())
    assert json.loads(files["json"].read_text())["pred_score"] == visit.prediction.pred_score
    with Image.open(files["map"]) as raw:
        assert np.array_equal(np.array(raw), visit.prediction.anomaly_map)


def test_a_batch_survives_what_is_in_an_archive(service, visit, tmp_path):
    archive = tmp_path / "parts.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../../../evil.png", SCRATCH.read_bytes())
        file.writestr("bomb.png", b"\0" * (21 * 2**20))
        file.writestr("bad/text.png", "no picture")
        file.writestr("notes.txt", "left out without a word")
    (tmp_path / "broken.zip").write_bytes(b"PK no archive")
    *_, batch = run_batch(service, visit, [archive, GOOD, tmp_path / "broken.zip"])
    assert [row.name for row in batch.sorted_rows] == ["parts.zip/evil.png", "capsule_good.png"]
    assert {row.name for row in batch.failed} == {"parts.zip/bomb.png", "parts.zip/bad/text.png", "broken.zip"}
    assert not list(tmp_path.parent.rglob("evil.png")) and "too large when unpacked" in batch.failed[0].error
    assert batch.summary() == "2 of 5 inspected, 2 undecided, 3 could not be read"
    assert batch.remarks() == [
        "2 undecided: 2 pictures are too few to be judged by each other; give 8 or more of one product, or references"
    ]
    scores = [line.split(",")[1] for line in batch.to_csv().splitlines()[1:3]]
    assert float(scores[0]) > float(scores[1])


def test_a_batch_leaves_the_good_pictures_of_an_example_aside(service, visit):
    handlers.inspect_example(service, visit, service.examples[0], with_references=True)
    *_, batch = run_batch(service, visit, find_example_batch())
    assert batch.summary() == "12 of 12 inspected, 2 anomalous, 10 normal" and batch.by_each_other == 12
    assert batch.remarks()[0].startswith("No good pictures were given, so 12 pictures were judged by each other")


def test_a_batch_has_limits(lite, service, visit):
    with pytest.raises(ConfigError, match="These are 500 pictures, and at most 30"):
        run_batch(service, visit, [SCRATCH] * 500).__next__()
    with pytest.raises(ConfigError, match="no picture"):
        next(run_batch(service, visit, []))
    hasty = Service(lite, limits=Limits(batch_seconds=-1))
    (batch,) = run_batch(hasty, Visit.begin(hasty), [SCRATCH])
    assert batch.cut_off and not batch.rows
    hasty.close()


def test_a_name_is_no_formula_and_no_markup():
    batch = Batch(1, [Row("=HYPERLINK(1)", error="=HYPERLINK(1): bad")])
    assert "'=HYPERLINK(1)" in batch.to_csv()
    assert short_name("../../a\n<b>.png") == "a?<b>.png" and len(short_name("x" * 300)) <= 81
    assert "<script>" not in show.waiting_card("<script>", "<script>")
    assert (time_left(10, 5, 10), time_left(100, 1, 10)) == ("about 10 s left", "about 15 min left")


def test_paint_is_found_where_it_is(service):
    clean = read_upload(GOOD, service.limits)
    painted = clean.copy()
    painted[200:215, 180:300] = 20
    capsule = next(example for example in service.examples if example.path == GOOD)
    found = look_for_paint(service, handlers.fitted_copy(service, capsule), clean, painted)
    assert found.found and not found.before.pred_label and found.covered > 0.3
    assert found.painted.sum() == pytest.approx(15 * 120, rel=0.01)
    with pytest.raises(ConfigError, match="Nothing is painted"):
        look_for_paint(service, service.detector, clean, clean)
    with pytest.raises(ConfigError, match="without cropping"):
        look_for_paint(service, service.detector, clean, painted[:-1])


def test_words_change_the_map_and_swapping_them_turns_it_over(service):
    picture = read_upload(SCRATCH, service.limits)
    normal, anomalous = "\n".join(NORMAL), "\n".join(ANOMALOUS)
    found = compare_words(service, picture, "washer", normal, anomalous)
    swapped = compare_words(service, picture, "washer", anomalous, normal)
    assert found.own.pred_score > 0.9 and found.own.pred_score + swapped.own.pred_score == pytest.approx(1, abs=1e-5)
    assert np.array_equal(found.shipped.anomaly_map, swapped.shipped.anomaly_map)
    with pytest.raises(ConfigError, match="no normal sentence"):
        compare_words(service, picture, "", " \n", anomalous)
    noted = compare_words(service, picture, "", normal, "a photo of a zygomorphic thing.").notes
    assert any("zygomorphic" in note for note in noted)


def test_questions_continue_one_conversation_until_the_picture_changes(service, visit):
    with pytest.raises(ConfigError, match="no picture to ask"):
        next(chat.ask(service, visit, "What is wrong?"))
    handlers.inspect(service, visit, SCRATCH, "washer")
    (first,) = chat.ask(service, visit, "What is wrong?")
    (second,) = chat.ask(service, visit, "Where is it?")
    assert first.verdict == "undecided" and first.defects and len(visit.conversation.answers) == 2 and second.question == "Where is it?"
    handlers.inspect(service, visit, GOOD)
    assert visit.conversation is None
    for question in ("", "x" * 501):
        with pytest.raises(ConfigError, match="question"):
            next(chat.ask(service, visit, question))


def test_an_example_is_fitted_once_for_all(service, monkeypatch):
    example = service.examples[0]
    first, second = Visit.begin(service), Visit.begin(service)
    assert handlers.inspect_example(service, first, example, with_references=True).threshold_source == "references"
    monkeypatch.setattr(AnomalyDetector, "fit", lambda *_, **__: pytest.fail("fitted twice"))
    handlers.inspect_example(service, second, example, with_references=True)
    assert len(second.references) == 4 == len(second.thumbnails)
    assert handlers.inspect_example(service, first, example).threshold_source is None and first.references == ()


def test_a_copy_shares_weights_alone(lite):
    copy = lite.copy(threshold=0.3)
    copy.fit(sorted((EXAMPLES / "references" / "washer").iterdir())[:2])
    assert lite.memory is None and lite.config.threshold is None and copy.backbone is lite.backbone
    twin = copy.copy()
    twin.remove_references([twin.references[0]])
    assert (len(copy.references), len(twin.references)) == (2, 1)
    assert copy.predict(SCRATCH).pred_score == copy.copy().predict(SCRATCH).pred_score
    with pytest.raises(ConfigError, match="seen again"):
        copy.copy(rotations=1)


def test_the_model_is_for_one_at_a_time(lite):
    service = Service(lite, limits=Limits(seconds=0.05, waiting=1))
    with service.turn(), pytest.raises(BusyError, match="busy"), service.turn():
        pass
    with service.turn():
        pass
    crowded = Service(lite, limits=Limits(waiting=0))
    with crowded.turn(), pytest.raises(BusyError, match="Too many"), crowded.turn():
        pass
    service.close(), crowded.close()


@pytest.mark.parametrize(("host", "inside"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("part", False)])
def test_loopback(host, inside):
    assert is_loopback(host) is inside


def test_the_next_free_port():
    from vlad.app.server import listen

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with listen("127.0.0.1", port) as sock:
            assert port < sock.getsockname()[1] < port + 20
    with pytest.raises(ConfigError, match="cannot listen"):
        listen("192.0.2.1", 7860)


def test_the_histogram_says_what_it_shows():
    drawn = show.histogram([0.1, 0.2, 0.9], 0.5)
    assert "3 scores" in drawn and "1 above the threshold" in drawn and drawn.count("vlad-hot") == 1
    assert "No picture" in show.histogram([], None)


@pytest.mark.parametrize(("score", "close"), [(0.0234, True), (0.0225, True), (0.03, False), (0.01, False)])
def test_a_close_call_is_called_so(service, score, close):
    visit = Visit.begin(service)
    handlers.inspect_example(service, visit, service.examples[0], with_references=False)
    card = show.verdict_card(replace(visit.prediction, pred_score=score, threshold=0.0232))
    assert ("A close call: the score is within 5% of the threshold." in card) is close


def test_turns_come_in_order(lite):
    """A batch that asks for its next turn stands behind a visitor who came in between; who gives up leaves the line."""
    service = Service(lite, limits=Limits(waiting=2, seconds=0.05))
    order: list[str] = []
    entered, waiting = threading.Event(), threading.Event()

    def batch() -> None:
        for number in range(2):
            with service.turn():
                order.append(f"batch {number}")
                entered.set()
                assert waiting.wait(LIMIT)

    def visitor() -> None:
        with service.turn():
            order.append("visitor")

    threads = [threading.Thread(target=batch), threading.Thread(target=visitor)]
    threads[0].start()
    assert entered.wait(LIMIT)
    with pytest.raises(BusyError, match="was busy for"), service.turn():
        pytest.fail("two at once")
    service.limits = Limits(waiting=2, seconds=LIMIT)
    threads[1].start()
    wait_until(lambda: service._line, "the visitor waited")
    waiting.set()
    for thread in threads:
        thread.join(LIMIT)
    assert order == ["batch 0", "visitor", "batch 1"]
    with service.turn():  # free again
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_entry_of_an_archive_costs_no_other_picture(service, visit, tmp_path, method):
    path = tmp_path / "parts.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.write(SCRATCH, "torn.png")
        archive.write(GOOD, "fine.png")
    data = bytearray(path.read_bytes())
    data[200:1200] = bytes(1000)  # inside the first entry
    path.write_bytes(data)
    *_, batch = run_batch(service, visit, [path, SCRATCH])
    assert [row.name for row in batch.failed] == ["parts.zip/torn.png"] and len(batch.scores) == 2


def test_a_hottest_place_that_is_not_marked_is_called_so(service, visit):
    prediction = handlers.inspect(service, visit, SCRATCH)
    assert "Marked places, hottest first" in show.place_table(*handlers.places_of(prediction))
    prediction = handlers.adjust(visit, 0.0, 1.0)
    places, left_out = handlers.places_of(prediction)
    assert not places[0].marked
    assert "nothing is above the threshold of the map" in show.place_table(places, left_out)
    assert "no place is marked" in show.verdict_card(prediction)


def test_the_value_that_a_slider_shows_is_the_same_threshold(service, visit):
    example = service.examples[0]
    before = handlers.inspect_example(service, visit, example, with_references=True)
    after = handlers.adjust(visit, round(before.threshold, 4), 0.5)
    assert (after.threshold, after.threshold_source) == (before.threshold, "references")
    assert handlers.adjust(visit, round(before.threshold, 4) + 0.001, 0.5).threshold_source == "user"


def test_own_good_pictures_replace_those_of_an_example(service, visit):
    handlers.inspect_example(service, visit, service.examples[0], with_references=True)
    assert visit.borrowed and len(visit.references) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VladWarning)
        told = handlers.add_references(service, visit, sorted((EXAMPLES / "references" / "screw").iterdir())[:2])
    assert len(told.names) == 2 and not visit.borrowed and len(visit.detector.references) == 2


def test_the_folder_of_a_visitor_goes_with_the_visitor(service):
    visit = Visit.begin(service)
    folder = visit.folder
    assert folder.is_dir()
    del visit
    gc.collect()
    assert not folder.exists()


def test_addresses_of_servers_are_not_for_visitors():
    assert without_address("m at http://10.0.0.5:8000/v1, detector lite") == "m, detector lite"
    assert without_address("VLM at http://host/v1: gave no answer") == "VLM: gave no answer"


def test_no_endpoint_tells_a_servers_address(lite):
    reply = '{"answer": "Fine.", "judgement": "normal", "defects": [{"type": "dent", "region": "A"}]}'
    vlm = SimpleNamespace(name="m at http://10.0.0.5:8000/v1", most_images=None, chat=lambda *_, **__: Reply(reply, "stop", 0.0))
    service = Service(lite.copy(text_threshold=0.5), vlm)
    assert api.describe_model(service)["answers"] == "m"
    answer = api.ask(service, str(SCRATCH))
    assert answer["text"].startswith("Fine.") and "m takes the picture for normal" in answer["text"] and answer["defects"]
    assert "10.0.0.5" not in json.dumps(answer)
    service.close()
    assert api.describe_model(Service(lite))["answers"] == "describer"


@pytest.mark.parametrize(("threshold", "used", "source"), [(None, None, None), (0, 0, "user"), (0.25, 0.25, "user"), (1.0, 1, "user")])
def test_a_threshold_of_zero_is_one(service, threshold, used, source):
    found = api.detect(service, str(SCRATCH), threshold=threshold)
    assert (found["threshold"], found["threshold_source"]) == (used, source)
    (row,) = api.detect_batch(service, [str(SCRATCH)], threshold=threshold)["results"]
    assert (row["threshold"], row["threshold_source"]) == (used, source)


@pytest.mark.parametrize("threshold", [-1, 1.5, float("nan")])
def test_no_threshold_lies_outside(service, threshold):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        api.detect(service, str(SCRATCH), threshold=threshold)


def test_endpoints_are_a_table_and_each_has_a_description_and_its_components():
    from vlad.app.endpoints import _inputs

    names = [endpoint.name for endpoint in api.ENDPOINTS]
    assert names == ["detect", "heat_map", "detect_batch", "find_painted", "ask", "compare_prompts", "describe_model"]
    with gradio.Blocks():
        known = set(_inputs())
    for endpoint in api.ENDPOINTS:
        _, *parameters = inspect.signature(endpoint.action).parameters
        assert set(parameters) <= known and all(f"{name}: " in endpoint.action.__doc__ for name in parameters)


def test_new_values_go_to_the_parts_of_their_name():
    moved = Updates(verdict="bad", threshold=0.3, mask_threshold=0.4).stay("threshold")
    stays = gradio.skip()
    assert dict(zip(STATE, moved.values(STATE), strict=True)) == dict.fromkeys(STATE, stays) | {"verdict": "bad", "mask_threshold": 0.4}
    assert moved.over(Updates(verdict="good", table="none")) == Updates(verdict="bad", mask_threshold=0.4, table="none")
    assert Updates(pair=None).values(("pair",)) == [None]  # emptied
    with pytest.raises(ValueError, match="none for mask_threshold; add it to the event"):
        moved.values(("verdict",))


def test_a_moved_threshold_leaves_the_slider_in_the_hand_alone(service, visit):
    actions = Actions(service)
    actions.load(visit, False, 0.5, 0)
    moved = actions.move_threshold(visit, 0.9, 0.5)
    assert moved.threshold is STAYS and moved.mask_threshold == 0.9 and visit.prediction.threshold == 0.9  # one scale for words
    moved = actions.move_mask_threshold(visit, 0.3, 0.5)
    assert moved.mask_threshold is STAYS and moved.threshold is STAYS and visit.prediction.mask_threshold == 0.3
    assert moved.png is STAYS and actions.renew_files(visit, 0.5).png is not STAYS
    gone = actions.arrived(visit, None, "", 0.5)
    assert gone.pair is None and gone.table == "" and visit.prediction is None


def test_a_picture_that_was_taken_away_stays_away_however_the_browser_says_so(service, visit, tmp_path, monkeypatch):
    """Gradio tells of it without a path or with the old one, and may send the old picture once more."""
    actions, now = Actions(service), [100.0]
    monkeypatch.setattr("vlad.app.tabs.inspect_actions.time", SimpleNamespace(monotonic=lambda: now[0]))
    cached = save_file_to_cache(service.examples[0].path, str(tmp_path))
    for path in (None, cached):
        actions.load(visit, False, 0.5, 0)
        assert visit.prediction is not None
        actions.forget_picture(visit, path)
        assert actions.arrived(visit, cached, "", 0.5).pair is None and visit.prediction is None
    other = save_file_to_cache(service.examples[1].path, str(tmp_path))
    assert actions.arrived(visit, other, "", 0.5).pair is not None, "another one is looked at at once"
    actions.forget_picture(visit)
    assert actions.arrived(visit, other, "", 0.5).pair is None
    now[0] += 60
    assert actions.arrived(visit, other, "", 0.5).pair is not None, "and the same one later"


def test_a_picture_too_large_to_paint_on_is_not_decoded(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_header(7000, 7000))
    editor = paint_input(None, pixels=25_000_000)
    with pytest.raises(gradio.Error, match="49,000,000 pixels, the limit is 25,000,000"):
        editor.preprocess(EditorData(background=FileData(path=str(path)), layers=[], composite=None))


@pytest.mark.parametrize("value", [None, "a", 2, -0.1, True])
def test_a_limit_that_is_no_number_is_a_message(value):
    with pytest.raises(gradio.Error, match="number from 0 to 1"):
        limit_slider(label="Threshold").preprocess(value)
    assert limit_slider(label="Threshold").preprocess(0.25) == 0.25


def sealed(name: str, **options):
    """An action of the tab Inspect as Gradio calls it."""
    from vlad.app.tabs.inspect import _sealed

    def call(service, visit, *values):
        actions = Actions(service)
        actions.show = lambda visit, number, beside, opacity: actions.load(visit, beside, opacity, number)
        return dict(zip(STATE, _sealed(getattr(actions, name), **options)(visit, *values), strict=True))

    return call


def test_an_action_meant_for_another_result_shows_the_one_that_is_there(service, visit):
    load, move, mark = (
        sealed("show", is_quick=False),
        sealed("move_threshold", is_quick=True),
        sealed("mark_bad", is_quick=False, of_result=True),
    )
    first = load(service, visit, 0, True, 0.5, "")
    second = load(service, visit, 1, True, 0.5, first["seal"])
    late = move(service, visit, 0.9, 0.5, first["seal"])
    assert visit.prediction.threshold != 0.9 and late["verdict"] == second["verdict"] and late["threshold"] == second["threshold"]
    late = mark(service, visit, 0.5, first["seal"])
    assert visit.detector.labels is None and late["picture"] == second["picture"], "the second example was not called bad"
    assert mark(service, visit, 0.5, late["seal"])["seal"] != late["seal"] and visit.detector.labels is not None


def test_an_action_that_fails_halfway_is_taken_back(service, visit, monkeypatch):
    load, again = sealed("show", is_quick=False), sealed("again_beside", is_quick=False)
    first = load(service, visit, 0, False, 0.5, "")
    before = visit.prediction, visit.references, visit.detector

    def busy(*_, **__):
        raise BusyError("too many")

    monkeypatch.setattr(handlers, "inspect", busy)
    told = again(service, visit, True, 0.5, first["seal"])
    assert (visit.prediction, visit.references, visit.detector) == before and told["with_references"] is False


def test_what_was_passed_over_is_told_in_the_end(service, visit, monkeypatch):
    load, move, see = sealed("show", is_quick=False), sealed("move_threshold", is_quick=True), type(service.detector.encoder).see
    first = load(service, visit, 0, False, 0.5, "")
    moved = []

    def meanwhile(*arguments, **options):
        moved.append(move(service, visit, 0.9, 0.5, first["seal"]))
        return see(*arguments, **options)

    monkeypatch.setattr(type(service.detector.encoder), "see", meanwhile)
    second = load(service, visit, 1, False, 0.5, first["seal"])
    assert all(value == gradio.skip() for value in moved[0].values())
    assert second["threshold"] == 0.5 and visit.prediction.threshold is None


def test_a_picture_that_cannot_be_read_has_no_verdict(service, visit, tmp_path):
    load, arrived = sealed("show", is_quick=False), sealed("arrived", is_quick=False)
    first = load(service, visit, 0, False, 0.5, "")
    (tmp_path / "text.png").write_text("no picture")
    told = arrived(service, visit, str(tmp_path / "text.png"), "", 0.5, first["seal"])
    assert "was not inspected" in told["verdict"] and told["pair"] is None and visit.prediction is None
