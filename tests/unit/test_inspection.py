"""The report of a run for people: whole in one file, in the right order, harmless whatever files are called."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from vlad.output.inspection import write_inspection


def row(name: str, score: float | None, label: bool | None = None, **changes) -> dict:
    values = {
        "image_path": f"parts/{name}", "time": "2026-01-02T03:04:05.678+00:00", "pred_score": score, "threshold": 0.5,
        "pred_label": label, "threshold_source": "references", "undecided": "", "class_name": "nut", "model": "a model", "n_regions": 1,
        "differs": [], "scores": {}, "image_size": [50, 100], "files": name.partition(".")[0], "error": None,
    }  # fmt: skip
    return values | changes


def write(out: Path, *rows: dict) -> str:
    out.mkdir(exist_ok=True)
    (out / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return write_inspection(out, [("model", "a model (weights 0123)")]).read_text()


def test_counts_order_and_pictures(tmp_path):
    cv2.imwrite(str(tmp_path / "b_overlay.png"), np.full((600, 800, 3), 90, np.uint8))
    html = write(
        tmp_path, row("a.png", 0.6, True), row("b.png", 0.9, True), row("c.png", 0.45, False),
        row("d.png", 0.1, False, scores={"outlier": 1.0}),
        {"image_path": "parts/e.png", "error": "e.png: is no picture", "model": "a model"},
        row("f.png", 0.4, None, threshold=None, undecided="one picture alone"),
    )  # fmt: skip
    assert "<h1>2 of 4 pictures anomalous</h1>" in html and "e.png: is no picture" in html and "Undecided: one picture alone." in html
    names = re.findall(r"<figcaption><b>(.*?)</b>", html)
    assert names == ["b.png", "a.png", "f.png", "c.png", "d.png"], "the farthest above the threshold first, then the nearest below it"
    assert (
        "80% above the threshold" in html
        and "10% below the threshold" in html
        and "weights 0123" in html
        and "0.5, from references" in html
    )
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(re.findall(r'base64,([^"]+)"', html)[0]), np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (180, 360, 3), "the legend below the picture is left out"
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert len(data) > 500 and html.count("no picture</div>") == 4
    assert [int(one) for one in re.findall(r"<b>(\d+)</b></div>", html)] == [2, 2, 1, 1, 1]
    assert not re.search(r'(src|href)="(?!data:)', html) and "<script" not in html and "url(" not in html


def test_names_are_only_text(tmp_path):
    html = write(
        tmp_path, row("<script>alert(1)<b>\u202egnp.png", 0.9, True, model="<i>x", error=None), {"image_path": "a", "error": "<u>no"}
    )
    assert "<script>" not in html and "<i>x" not in html and "<u>no" not in html and "\u202e" not in html
    assert "&lt;script&gt;alert(1)&lt;b&gt;gnp.png" in html


def test_what_a_stream_says(tmp_path):
    html = write(
        tmp_path, row("a.png", 0.2, False), row("b.png", 0.2, False, scores={"drift": 1.0}, differs=["darker than every reference"])
    )
    assert "The stream had moved away at 1 of 2 pictures, first at parts/b.png." in html and "darker than every reference" in html


@pytest.mark.parametrize(
    ("rows", "headline"), [([], "No picture could be judged"), ([row("a.png", 0.4, None)], "1 pictures without a verdict")]
)
def test_without_verdicts(tmp_path, rows, headline):
    assert f"<h1>{headline}</h1>" in write(tmp_path, *rows)


def test_a_long_run_shows_what_matters(tmp_path):
    html = write(tmp_path, *(row(f"{number}.png", 0.6 + number / 1e4, True) for number in range(300)))
    assert html.count("<figcaption>") == 48 and "48 of 300" in html and "<b>299.png</b>" in html
