"""The demo as a visitor meets it: a real Chromium goes through every tab."""

from __future__ import annotations

import json
import os
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import CHROMIUM, STANDS_STILL, chromium, is_quiet, open_tab, visiting
from demo import EXAMPLES, ScriptedVlm, served
from PIL import Image
from waiting import LIMIT, wait_until

from vlad import AnomalyDetector
from vlad.app.runs import run_batch
from vlad.app.service import Limits

pytest.importorskip("gradio", reason="the demo needs the extra vlad-anomaly[demo]")
playwright = pytest.importorskip("playwright.sync_api", reason="a browser is driven by playwright, of the extra vlad-anomaly[dev]")

SCRATCH = EXAMPLES / "washer_scratch.png"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine (apt-get install chromium)")
HOSTILE = "<img src=x onerror=\"document.title='owned'\"> **bold** [link](javascript:alert(1)) Region A."
expect: Any = playwright.expect
expect.set_options(timeout=LIMIT * 1000)


@pytest.fixture(scope="module")
def browser():
    with chromium(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def running(browser):
    """A demo whose visitors wait as long as they must, and which knows a picture that was taken away however late it is sent again."""
    vlm = ScriptedVlm(json.dumps({"answer": HOSTILE, "judgement": "anomalous", "defects": []}))
    detector = AnomalyDetector.from_pretrained("lite", device="cpu")
    with (
        served(detector, vlm=vlm, limits=Limits(pictures=25, seconds=LIMIT, batch_seconds=LIMIT)) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("vlad.app.tabs.inspect_actions._ECHO", LIMIT)
        yield running


@pytest.fixture(scope="module")
def address(running):
    return running[0]


@pytest.fixture
def page(browser, address):
    with visiting(browser, address, viewport={"width": 1280, "height": 900}) as page:
        yield page


def upload(page: Any, path: Path | list[Path], where: str = "#picture") -> None:
    if where == "#picture" and page.locator("#picture button[aria-label='Clear'], #picture button[title='Clear']").count():
        page.locator("#picture button[aria-label='Clear'], #picture button[title='Clear']").first.click()
    page.locator(f"{where} input[type=file]").first.set_input_files(path)


def test_an_example_a_threshold_and_the_files(page, tmp_path):
    page.locator("#examples button.thumbnail-item").nth(6).click()  # the good leather
    expect(page.locator("#verdict h2")).to_have_text("Nothing looks wrong")
    expect(page.locator("#pair img").first).to_be_visible()
    page.locator("#examples button.thumbnail-item").nth(1).click()
    expect(page.locator("#verdict h2")).to_have_text("Something looks wrong")
    expect(page.locator("#places tbody tr")).to_have_count(1)
    verdict = page.locator("#verdict .vlad-head p").inner_text()
    threshold = page.locator("#threshold input[type=number]")
    threshold.fill("1")
    threshold.press("Enter")
    expect(page.locator("#verdict h2")).to_have_text("Nothing looks wrong")
    expect(page.locator("#verdict")).to_contain_text("set by you")
    assert page.locator("#verdict .vlad-head p").inner_text() != verdict
    for button, suffix in (("#download-png", "png"), ("#download-json", "json"), ("#download-map", "tiff")):
        with page.expect_download() as download:
            page.locator(button).click()
        file = tmp_path / f"result.{suffix}"
        download.value.save_as(file)
        if suffix == "json":
            assert json.loads(file.read_text())["threshold"] == 1
        else:
            assert np.array(Image.open(file)).size >= 512 * 512


def test_a_picture_that_was_taken_away_is_gone(page):
    page.locator("#picture button[aria-label*='Remove'], #picture button[aria-label='Clear']").first.click()
    expect(page.locator("#verdict h2")).to_have_text("No picture yet")
    page.wait_for_timeout(1500)  # the browser may send the old picture once more, or not: there is no event to wait for
    expect(page.locator("#verdict h2")).to_have_text("No picture yet")
    open_tab(page, "Ask")
    page.locator(".suggestion").first.click()
    expect(page.locator(".toast-body")).to_contain_text("There is no picture to ask about")


def test_the_box_alone_compares_the_example_and_an_own_picture_leaves_it(page):
    page.locator("#good button").first.click()  # the good pictures are folded away
    expect(page.locator("#verdict")).to_contain_text("from the good pictures")
    page.get_by_label("Compare examples with four good ones").uncheck()
    expect(page.locator("#verdict h2")).to_have_text("Undecided")
    page.get_by_label("Compare examples with four good ones").check()
    expect(page.locator("#verdict")).to_contain_text("from the good pictures")
    expect(page.locator("#reference-count")).to_contain_text("4 good pictures that come with the example")
    upload(page, EXAMPLES / "leather_good.png")
    expect(page.locator("#verdict")).to_contain_text("no good ones to compare with")
    expect(page.locator("#verdict h2")).to_have_text("Undecided")
    expect(page.locator("#reference-count")).to_contain_text("None")
    page.locator("#threshold input[type=number]").fill("0.9")
    page.locator("#threshold input[type=number]").press("Enter")
    expect(page.locator("#verdict")).to_contain_text("set by you")


def test_an_emptied_threshold_is_a_message(page):
    box = page.locator("#threshold input[type=number]")
    box.fill("")
    box.press("Enter")
    expect(page.locator(".toast-body").first).to_contain_text("number from 0 to 1")
    expect(page.locator("#verdict h2")).to_have_text("Something looks wrong")


def test_a_batch_leaves_others_their_turn(page, browser, address, tmp_path, monkeypatch):
    visited, pictures = threading.Event(), []

    def with_a_pause(*arguments: Any, **options: Any) -> Iterator[Any]:  # else it may be done before the browser has opened a page
        for batch in run_batch(*arguments, **options):
            yield batch
            if len(batch.rows) == 10:
                visited.wait(LIMIT)

    monkeypatch.setattr("vlad.app.tabs.batch.run_batch", with_a_pause)
    for number in range(12):
        pictures.append(tmp_path / f"{number}.png")
        Image.open(SCRATCH).rotate(number).save(pictures[-1])
    open_tab(page, "Batch")
    upload(page, pictures, "#batch-files")
    page.locator("#batch-start").click()
    expect(page.locator("#batch-summary")).to_contain_text("of 12 done")
    with visiting(browser, address):
        assert "Done" not in page.locator("#batch-summary").inner_text()
        visited.set()
    expect(page.locator("#batch-summary")).to_contain_text("12 of 12 inspected")


def test_keyboard_alone_reaches_an_example(page):
    second = page.locator("#examples button.thumbnail-item").nth(6)
    second.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#verdict h2")).to_have_text("Nothing looks wrong")
    images = page.locator("img:visible")
    assert all(images.nth(number).get_attribute("alt") is not None for number in range(images.count()))


def test_two_visitors_never_meet(page, browser, address):
    with visiting(browser, address) as other:
        page.locator("#good button").first.click()
        with page.expect_file_chooser() as chooser:
            page.locator("#add-references").click()
        chooser.value.set_files(sorted((EXAMPLES / "references" / "washer").iterdir())[:2])
        expect(page.locator("#reference-count")).to_contain_text("2 good pictures")
        expect(page.locator("#verdict")).to_contain_text("from the good pictures")
        other.locator("#inspect").click()
        expect(page.locator("#verdict")).to_contain_text("Compared with 2 good pictures")
        expect(other.locator("#verdict")).to_contain_text("Compared with 4 good pictures")
        other.locator("#good button").first.click()
        expect(other.locator("#reference-count")).to_contain_text("4 good pictures that come with the example")
        open_tab(page, "Ask")
        page.locator(".suggestion").first.click()
        expect(page.locator("#chat")).to_contain_text("Answered by scripted")
        open_tab(other, "Ask")
        expect(other.locator("#chat")).not_to_contain_text("Answered by")
    open_tab(page, "Inspect")
    page.locator("#clear-references").click()
    expect(page.locator("#verdict")).to_contain_text("no good ones to compare with")


def test_closing_the_page_deletes_what_it_had(browser, running):
    address, service = running
    before = set(service.folder.iterdir())
    with visiting(browser, address):
        (mine,) = set(service.folder.iterdir()) - before
        assert list(mine.rglob("*.json"))
    wait_until(lambda: not mine.exists(), "what the visitor had was deleted")


def test_what_a_vlm_writes_is_text(page):
    open_tab(page, "Ask")
    expect(page.locator("#ask-picture img")).to_be_visible()
    page.locator("#question textarea, #question input").fill("What is <b>wrong</b>?")
    page.locator("#ask").click()
    expect(page.locator("#chat")).to_contain_text("**bold**")
    expect(page.locator("#chat")).to_contain_text("<img src=x onerror=")
    expect(page.locator("#chat")).to_contain_text("What is <b>wrong</b>?")
    assert page.title() != "owned" and not page.locator("#chat img[src='x'], #chat a[href^='javascript'], #chat strong, #chat b").count()


def test_a_batch_of_twenty_with_a_bad_one(page, tmp_path):
    pictures = []
    for number in range(19):
        small = Image.open(sorted(EXAMPLES.glob("*.png"))[number % 8]).resize((160, 160))
        small.save(tmp_path / f"part_{number:02d}.png")
        pictures.append(tmp_path / f"part_{number:02d}.png")
    (tmp_path / "bad.png").write_text("no picture")
    open_tab(page, "Batch")
    page.locator("#batch-files input[type=file]").set_input_files([*pictures, tmp_path / "bad.png"])
    expect(page.locator("#batch-files")).to_contain_text("bad")
    page.locator("#batch-start").click()
    expect(page.locator("#batch-summary")).to_contain_text("19 of 20 inspected")
    expect(page.locator("#batch-summary")).to_contain_text("bad.png: is none of")
    expect(page.locator("#batch-gallery img")).to_have_count(19)
    captions = page.locator("#batch-gallery .caption-label").all_inner_texts()
    scores = [float(caption.split()[0]) for caption in captions]
    assert scores == sorted(scores, reverse=True) and page.locator("#batch-histogram .vlad-limit").count() == 0
    assert all(" undecided" in caption for caption in captions)
    expect(page.locator("#batch-summary")).to_contain_text("show no one kind of product")
    with page.expect_download() as download:
        page.locator("#batch-csv").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 21


def test_gears_are_judged_by_each_other(page):
    open_tab(page, "Batch")
    page.get_by_role("button", name="Try 12 gears").click()
    expect(page.locator("#batch-summary")).to_contain_text("12 of 12 inspected, 2 anomalous, 10 normal")
    expect(page.locator("#batch-summary")).to_contain_text("12 pictures were judged by each other")
    captions = page.locator("#batch-gallery .caption-label").all_inner_texts()
    assert [caption.split()[-1] for caption in captions[:2]] == ["04_missing_part.png", "09_scratch.png"]
    threshold = page.locator("#batch-threshold input[type=number]")
    threshold.fill("0")
    threshold.press("Enter")
    expect(page.locator("#batch-summary")).to_contain_text("12 of 12 inspected, 12 anomalous, 0 normal")
    expect(page.locator("#batch-summary")).to_contain_text("set by you")
    expect(page.locator("#batch-gallery .caption-label").last).to_contain_text("anomalous")
    wait_until(lambda: is_quiet(page), "the table is written")
    with page.expect_download() as download:
        page.locator("#batch-csv").click()
    assert ",False," not in Path(download.value.path()).read_text()


def test_a_drawn_defect_is_found(page):
    open_tab(page, "Draw")
    page.wait_for_selector("#editor canvas")
    expect(page.locator("#editor")).to_contain_text("%")
    page.evaluate(STANDS_STILL, "#editor canvas")  # the editor fits its canvas after it is shown, and says so nowhere
    box = page.locator("#editor canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y - 40)
    page.mouse.down()
    page.mouse.move(x, y - 70, steps=5)
    page.mouse.move(x + 50, y - 40, steps=5)
    page.mouse.up()
    page.wait_for_timeout(500)
    page.locator("#draw-look").click()
    expect(page.locator("#draw-verdict h2")).to_have_text("Found")
    expect(page.locator("#draw-verdict")).to_contain_text("Before: normal")


def test_other_words_change_the_map(page):
    open_tab(page, "Prompts")
    page.locator("#normal textarea").fill("a photo of a damaged {class_name}.")
    page.locator("#anomalous textarea").fill("a photo of a flawless {class_name}.")
    page.locator("#compare").click()
    expect(page.locator("#own-verdict")).to_contain_text("normal: score")
    expect(page.locator("#shipped-verdict")).to_contain_text("anomalous: score")
    page.locator("#normal textarea").fill("")
    page.locator("#compare").click()
    expect(page.locator(".toast-wrap")).to_contain_text("no normal sentence")
    open_tab(page, "About")
    expect(page.get_by_text("What was measured")).to_be_visible()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("cut.png", SCRATCH.read_bytes()[:3000], "cut.png: cannot be read"),
        ("text.png", b"this is no picture", "text.png: is none of"),
        ("empty.png", b"", "empty"),
        ("wide.png", png_header(20_000, 10_000), "200,000,000 pixels"),
        ("heavy.png", bytes(30 * 2**20), "exceeds|too large|maximum"),
    ],
)
def test_a_bad_upload_is_a_message_and_the_page_goes_on(page, tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    upload(page, tmp_path / name)
    expect(page.locator(".toast-wrap")).to_contain_text(re.compile(message, re.IGNORECASE))
    assert "Traceback" not in page.content() and os.sep + "tmp" not in page.locator(".toast-wrap").inner_text()
    page.locator("#examples button.thumbnail-item").nth(6).click()
    expect(page.locator("#verdict h2")).to_have_text("Nothing looks wrong")


def test_deep_and_printed_pictures_are_inspected(page, tmp_path):
    grey = np.asarray(Image.open(SCRATCH).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "deep.png")
    Image.open(SCRATCH).convert("CMYK").save(tmp_path / "print.jpg")
    for name in ("deep.png", "print.jpg"):
        upload(page, tmp_path / name)
        expect(page.locator("#verdict .vlad-facts")).to_contain_text(name)
        expect(page.locator("#verdict h2")).to_have_text("Undecided")
        with page.expect_download() as download:
            page.locator("#download-json").click()
        assert json.loads(Path(download.value.path()).read_text())["image_path"] == name


def test_forty_files_are_too_many(page, tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    open_tab(page, "Batch")
    page.locator("#batch-files input[type=file]").set_input_files(sorted(tmp_path.iterdir()))
    page.wait_for_function("document.querySelectorAll('#batch-files tr, #batch-files .file').length >= 40")
    page.locator("#batch-start").click()
    expect(page.locator(".toast-wrap")).to_contain_text("at most 25 can be inspected")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(browser, address, scheme):
    with visiting(browser, address, viewport={"width": 390, "height": 844}, color_scheme=scheme) as phone:
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        assert phone.locator("#verdict").bounding_box()["y"] < 844  # what was found shows on the first screen
