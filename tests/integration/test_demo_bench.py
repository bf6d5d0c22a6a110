"""The bench as an inspector meets it, and the page under somebody who presses everything: what it shows is what was computed."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import CHROMIUM, STANDS_STILL, chromium, is_quiet, open_tab, upload, visiting
from demo import EXAMPLES, served
from PIL import Image
from waiting import LIMIT, wait_until

from vlad import AnomalyDetector
from vlad.app import show
from vlad.app.bench import view
from vlad.app.service import Limits
from vlad.app.tabs.batch import under
from vlad.app.tabs.bench_layout import STEPS
from vlad.app.tabs.inspect_actions import _advice
from vlad.app.visit import Visit
from vlad.synthetic import ProductLine

pytest.importorskip("gradio", reason="the demo needs the extra vlad-anomaly[demo]")
playwright = pytest.importorskip("playwright.sync_api", reason="a browser is driven by playwright, of the extra vlad-anomaly[dev]")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine (apt-get install chromium)")
expect: Any = playwright.expect
expect.set_options(timeout=LIMIT * 1000)


@pytest.fixture(scope="module")
def browser():
    with chromium(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def visits():
    """Everybody who came, the last one last."""
    return []


@pytest.fixture(scope="module")
def running(visits, tmp_path_factory):
    begin = Visit.begin
    limits = Limits(pictures=25, references=12, seconds=LIMIT, batch_seconds=LIMIT)
    detector = AnomalyDetector.from_pretrained("lite", device="cpu", rotations=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Visit, "begin", classmethod(lambda cls, service: visits.append(begin(service)) or visits[-1]))
        patch.setattr("vlad.app.tabs.inspect_actions._ECHO", LIMIT)
        with served(detector, limits=limits, workspace=tmp_path_factory.mktemp("parts")) as running:
            yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder, line = tmp_path_factory.mktemp("washers"), ProductLine("washer", 5, 160)
    for number in range(10):
        Image.fromarray(line.sample(number).image).save(folder / f"good_{number}.png")
    for number in range(5):
        Image.fromarray(line.sample(20 + number, "foreign patch").image).save(folder / f"bad_{number}.png")
    return folder


@pytest.fixture
def page(browser, running):
    with visiting(browser, running[0], viewport={"width": 1440, "height": 850}) as page:
        yield page


def make_part(page: Any, name: str) -> None:
    open_tab(page, "Bench", STEPS[0])
    page.locator("#bench-name input, #bench-name textarea").first.fill(name)
    page.locator("#bench-make").click()
    expect(page.locator("#bench-head")).to_contain_text(f"{name} · 0 good")


def captions(page: Any) -> list[str]:
    return page.locator("#bench-gallery .caption-label").all_inner_texts()


def pick(page: Any, name: str) -> None:
    place = next(number for number, caption in enumerate(captions(page)) if caption.endswith(name))
    page.locator("#bench-gallery button.thumbnail-item").nth(place).click()
    expect(page.locator("#bench-verdict")).to_contain_text(name)


def test_from_good_pictures_to_a_detector_on_the_command_line(page, files, tmp_path):
    head = page.locator("#bench-head")
    make_part(page, "washer M8")
    open_tab(page, "2 Good pictures")
    upload(page, "#bench-good-files", *sorted(files.glob("good_[0-3].png")))
    expect(head).to_contain_text("4 good")
    expect(page.locator("#bench-good img")).to_have_count(4)
    open_tab(page, "3 Look and correct")
    upload(page, "#bench-files", *sorted(files.glob("good_[4-9].png")), *sorted(files.glob("bad_*.png")))
    expect(page.locator("#bench-files")).to_contain_text("good_9")
    page.locator("#bench-look").click()
    expect(head).to_contain_text("11 of 11 inspected")
    scores = [float(caption.split()[0]) for caption in captions(page)]
    assert len(scores) == 11 and scores == sorted(scores, reverse=True)
    for name, button in (("bad_0.png", "#bench-is-bad"), ("bad_1.png", "#bench-is-bad"), ("good_5.png", "#bench-is-good")):
        pick(page, name)
        page.locator(button).click()
        expect(page.locator("#bench-verdict")).to_contain_text("You call it")
    expect(head).to_contain_text("3 corrections to learn from")
    page.locator("#bench-learn").click()
    expect(page.locator("#bench-learn")).to_have_text("Learn from corrections")
    expect(head).to_contain_text("corrected")
    expect(page.locator("#bench-gallery .caption-label").first).to_contain_text("anomalous")
    open_tab(page, "4 Threshold")
    expect(page.locator("#bench-rates")).to_contain_text("False alarms")
    expect(page.locator("#bench-found .vlad-bad-bar").first).to_be_attached()
    box = page.locator("#bench-threshold input[type=number]")
    box.fill("0.9")
    box.press("Enter")
    expect(head).to_contain_text("0.9000 being tried")
    expect(head).to_contain_text("0 anomalous, 11 normal")
    page.locator("#bench-follow").click()
    expect(head).not_to_contain_text("being tried")
    open_tab(page, "2 Good pictures")
    page.locator("#bench-where button").first.click()
    page.locator("#bench-where-take").click()
    canvas = page.locator("#bench-where-editor canvas").first
    expect(canvas).to_be_visible()
    wait_until(lambda: is_quiet(page), "the picture is there to be painted on")
    page.evaluate(STANDS_STILL, "#bench-where-editor canvas")
    place = canvas.bounding_box()
    across = [place["x"] + place["width"] * share for share in (0.35, 0.5, 0.65)]
    page.mouse.move(across[0], place["y"] + place["height"] / 2)
    page.mouse.down()
    for x in across:
        page.mouse.move(x, place["y"] + place["height"] / 2, steps=5)
    page.mouse.up()
    page.locator("#bench-where-use").click()
    expect(head).to_contain_text("a part of the picture counts")
    expect(head).to_contain_text("look again")
    page.locator("#bench-where-everywhere").click()
    expect(head).not_to_contain_text("a part of the picture counts")
    open_tab(page, "3 Look and correct")
    page.locator("#bench-again").click()
    expect(head).not_to_contain_text("look again")
    found = {caption.splitlines()[1]: (caption.split()[0], caption.splitlines()[0].split()[-1]) for caption in captions(page)}
    open_tab(page, "5 Keep")
    page.locator("#bench-pack").click()
    with page.expect_download() as download:
        page.locator("#bench-export").click()
    download.value.save_as(tmp_path / "part.zip")
    shutil.unpack_archive(tmp_path / "part.zip", tmp_path)
    command = [sys.executable, "-m", "vlad", "detect", str(files), "--model", str(tmp_path / "washer-M8"), "--out", str(tmp_path / "found")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=10 * LIMIT)
    assert run.returncode in (0, 1), run.stderr
    table = [line.split(",") for line in (tmp_path / "found" / "results.csv").read_text().splitlines()]
    column = {name: number for number, name in enumerate(table[0])}
    for line in table[1:]:
        name = Path(line[column["image_path"]]).name
        if name in found:
            score, verdict = found[name]
            assert float(line[column["pred_score"]]) == pytest.approx(float(score), abs=6e-4)
            assert line[column["pred_label"]].lower() == str(verdict == "anomalous").lower()


def test_a_picture_of_the_bench_is_asked_about(page, files):
    make_part(page, "asked about")
    open_tab(page, "2 Good pictures")
    upload(page, "#bench-good-files", *sorted(files.glob("good_[0-3].png")))
    expect(page.locator("#bench-head")).to_contain_text("4 good")
    open_tab(page, "3 Look and correct")
    upload(page, "#bench-files", files / "bad_2.png")
    expect(page.locator("#bench-files")).to_contain_text("bad_2")
    page.locator("#bench-look").click()
    expect(page.locator("#bench-head")).to_contain_text("1 of 1 inspected")
    page.locator("#bench-take").click()
    expect(page.locator("#verdict .vlad-facts")).to_contain_text("bad_2.png")
    expect(page.locator("#verdict")).to_contain_text("Compared with 4 good pictures")
    expect(page.get_by_role("tab", name="Inspect", exact=True)).to_have_attribute("aria-selected", "true")
    open_tab(page, "Ask")
    page.locator(".suggestion").first.click()
    expect(page.locator("#chat")).to_contain_text("Answered by")


def number_of(page: Any, where: str) -> float:
    return float(page.locator(f"{where} input[type=number]").input_value())


def words(html: str) -> str:
    """The text of HTML, on one line."""
    text = re.sub(r"<[^>]+>", " ", html).replace("&amp;", "&").replace("&#x27;", "'").replace("&quot;", '"').replace("&lt;", "<")
    return " ".join(text.replace("&gt;", ">").split())


def shown_in(page: Any, where: str) -> str:
    return words(page.locator(f"{where} .prose, {where} .html-container, {where}").last.evaluate("one => one.innerHTML"))


def differences(page: Any, visit: Visit) -> list[str]:
    """Where the page and the visitor's state say something else."""
    found = []

    def same(what: str, on_page: Any, there: Any) -> None:
        if on_page != there:
            found.append(f"{what}: the page says {on_page!r}, the server {there!r}")

    prediction = visit.prediction
    if prediction is None:
        same("verdict", "No picture yet" in shown_in(page, "#verdict") or "was not inspected" in shown_in(page, "#verdict"), True)
    else:
        same("verdict", shown_in(page, "#verdict"), words(show.verdict_card(prediction, note=_advice(visit))))
        same("threshold", number_of(page, "#threshold"), 0.5 if prediction.threshold is None else round(prediction.threshold, 4))
        same("map threshold", number_of(page, "#map-threshold"), round(prediction.mask_threshold, 4))
        again = visit.detector.predict(visit.picture, class_name=visit.class_name or None)
        same("score", prediction.pred_score, again.pred_score)
        same("picture", [visit.shown in source for source in sources(page, "#picture")], [True])
    if visit.example is not None:
        same("box", page.locator("#with-references input").is_checked(), visit.borrowed)
    same("good pictures", str(len(visit.references) or "None") in shown_in(page, "#reference-count"), True)
    same("good pictures", len(visit.references), len(visit.detector.references))
    bench = visit.bench
    same("bench", shown_in(page, "#bench-head"), words(view.head(bench)))
    same("part", page.locator("#bench-parts input").input_value(), "" if bench.part is None else bench.part.name)
    rows = [] if bench.shown is None else [(bench.shown.rows[number], bench.marks.get(number)) for number in bench.order()]
    there = [view.caption(row.name, row.prediction.pred_score, row.prediction.pred_label, mark) for row, mark in rows]
    same("gallery", [caption.strip() for caption in captions_of(page, "#bench-gallery")], there)
    same("bench threshold", number_of(page, "#bench-threshold"), 0.5 if bench.threshold is None else round(bench.threshold, 4))
    same("filter", page.locator("#bench-only input:checked").get_attribute("value"), bench.only)
    if bench.part is not None:
        same("good of the part", len(captions_of(page, "#bench-good")), len(bench.part.detector.references))
        if (bench.part.folder / "detector" / "config.json").is_file():
            kept = AnomalyDetector.load(bench.part.folder / "detector", backbone=bench.part.detector.backbone)
            same("what is kept", (kept.history, kept.config), (bench.part.detector.history, bench.part.detector.config))
    if bench.batch is not None and bench.judged_by is not None and bench.judged_by.references:  # else by each other, if there are enough
        number = int(np.argmax(bench.batch.scores)) if not bench.batch.failed else None
        if number is not None:
            row = bench.batch.rows[number]
            again = bench.judged_by.predict(bench.uploads[number].path, class_name=bench.part.class_name or None, maps=False)
            same("score on the bench", row.prediction.pred_score, again.pred_score)
    if visit.batch is not None:
        batch = under(visit.batch, number_of(page, "#batch-threshold"))
        same("batch", shown_in(page, "#batch-summary"), words(view.summary(batch, "Done")))
        there = [view.caption(row.name, row.prediction.pred_score, row.prediction.pred_label) for row in batch.sorted_rows]
        same("gallery of the batch", [caption.strip() for caption in captions_of(page, "#batch-gallery")], there)
    return found


def sources(page: Any, where: str) -> list[str]:
    return page.locator(f"{where} img").evaluate_all("all => all.map(one => decodeURIComponent(one.src))")


def captions_of(page: Any, where: str) -> list[str]:
    """Also of a tab that is not open, whose texts a browser does not render."""
    return page.locator(f"{where} .caption-label").evaluate_all("all => all.map(one => one.textContent)")


def presses(page: Any, files: Path, chance: random.Random) -> dict[str, Callable[[], None]]:
    """Everything that can be pressed, by name."""
    pictures = [files / "bad_0.png", files / "good_9.png", EXAMPLES / "leather_cut.png"]

    def click(where: str, nth: int = 0) -> Callable[[], None]:
        return lambda: page.locator(where).nth(nth).click(timeout=700, force=True)

    def some(where: str) -> Callable[[], None]:
        return lambda: click(where, chance.randrange(max(1, page.locator(where).count())))()

    def number(where: str) -> Callable[[], None]:
        def write() -> None:
            box = page.locator(f"{where} input[type=number]")
            box.fill(f"{chance.random():.3f}", timeout=700)
            box.press("Enter")

        return write

    def give(where: str, *paths: Path) -> Callable[[], None]:
        return lambda: upload(page, where, *chance.sample(paths, min(len(paths), 3)))

    def add_good() -> None:
        with page.expect_file_chooser(timeout=700) as chooser:
            page.locator("#add-references").click(timeout=700)
        chooser.value.set_files(chance.sample(sorted(files.glob("good_*.png")), 2))

    def name_part() -> None:
        page.locator("#bench-name input, #bench-name textarea").first.fill(f"part {chance.randrange(1000)}", timeout=700)
        page.locator("#bench-make").click(timeout=700)

    def rule() -> None:
        page.locator("#bench-rule input").click(timeout=700)
        some("#bench-rule [role=option]")()

    def choose_part() -> None:
        page.locator("#bench-parts input").click(timeout=700)
        some("#bench-parts [role=option]")()

    inspect: dict[str, Callable[[], None]] = {
        "example": some("#examples button.thumbnail-item"),
        "box": click("#with-references input"),
        "inspect": click("#inspect"),
        "picture": give("#picture", chance.choice(pictures)),
        "no picture": click("#picture button[aria-label*='Remove'], #picture button[aria-label='Clear']"),
        "threshold": number("#threshold"),
        "map threshold": number("#map-threshold"),
        "opacity": number("#opacity"),
        "good": click("#is-good"),
        "bad": click("#is-bad"),
        "add": add_good,
        "forget": click("#clear-references"),
    }
    part = {"make": name_part, "choose": choose_part}
    good = {
        "give good": give("#bench-good-files", *sorted(files.glob("good_*.png"))),
        "choose good": some("#bench-good button.thumbnail-item"),
        "leave": click("#bench-leave"),
    }
    look = {
        "give": give("#bench-files", *sorted(files.iterdir())),
        "look": click("#bench-look"),
        "again": click("#bench-again"),
        "stop": click("#bench-stop"),
        "only": some("#bench-only input"),
        "pick": some("#bench-gallery button.thumbnail-item"),
        "is good": click("#bench-is-good"),
        "is bad": click("#bench-is-bad"),
        "unmark": click("#bench-unmark"),
        "all good": click("#bench-all-good"),
        "learn": click("#bench-learn"),
        "open": click("#bench-take"),
    }
    threshold = {"move": number("#bench-threshold"), "keep": click("#bench-keep"), "rule": rule}
    threshold["follow"] = click("#bench-follow")
    keep = {"pack": click("#bench-pack"), "undo": click("#bench-undo")}
    tabs = {("Inspect",): inspect, ("Bench", "1 Part"): part, ("Bench", "2 Good pictures"): good}
    batch = {"gears": click("#batch-examples"), "batch threshold": number("#batch-threshold")}
    tabs |= {("Batch",): batch, ("Bench", "3 Look and correct"): look, ("Bench", "4 Threshold"): threshold, ("Bench", "5 Keep"): keep}

    def on(tab: tuple[str, ...], press: Callable[[], None]) -> Callable[[], None]:
        def act() -> None:
            open_tab(page, *tab)
            press()

        return act

    return {name: on(tab, press) for tab, some_presses in tabs.items() for name, press in some_presses.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_pressed_the_page_shows_what_was_computed(browser, running, visits, files, seed):
    chance, done = random.Random(seed), []
    with visiting(browser, running[0], viewport={"width": 1440, "height": 1000}) as page:
        visit = visits[-1]
        page.locator("#good button").first.click()  # what was never open is not there
        open_tab(page, "Batch")
        make_part(page, f"pressed {seed}")
        for step in STEPS:
            open_tab(page, step)
        open_tab(page, STEPS[1])
        upload(page, "#bench-good-files", *sorted(files.glob("good_[0-3].png")))
        everything = presses(page, files, chance)
        for _ in range(3):
            for name in chance.sample(sorted(everything), 16):
                done.append(name)
                try:
                    everything[name]()
                except playwright.Error as error:
                    done[-1] += f" ({type(error).__name__})"  # it is not there now, or covered
            try:
                wait_until(lambda: is_quiet(page) and not differences(page, visit), "the page shows what was computed")
            except AssertionError:
                counts = page.evaluate("[window.asked, window.answered]")
                pytest.fail(f"after {', '.join(done)}; asked, answered {counts}: " + "\n".join(differences(page, visit)))
