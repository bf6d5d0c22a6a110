"""`vlad ask` as a user runs it, on the embedded model and the example pictures."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from subprocess import PIPE

import pytest
from command import start, vlad
from waiting import LIMIT

from vlad.cli.answers import COLUMNS

EXAMPLES = Path(__file__).resolve().parents[2] / "demos" / "examples"


LITE = ("--model", "lite", "--device", "cpu")


def test_one_picture_as_json():
    run = vlad("ask", EXAMPLES / "washer_scratch.png", "What is wrong?", "--class-name", "washer", "--threshold", "0.01", "--json", *LITE)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert (answer["verdict"], answer["agrees"], answer["evidence"]["class_name"]) == ("anomalous", None, "washer")
    assert answer["evidence"]["threshold"] == 0.01 and answer["model"].startswith("describer, detector lite")
    assert all(0 <= defect["confidence"] <= 1 and defect["location"] for defect in answer["defects"]) and answer["defects"]


def test_a_folder_becomes_a_table_and_loses_nothing_to_a_broken_picture(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("washer_good.png", "washer_scratch.png"):
        shutil.copy(EXAMPLES / name, pictures)
    (pictures / "broken.png").write_bytes(b"no picture")
    references = EXAMPLES / "references" / "washer"
    out = tmp_path / "out"
    run = vlad("ask", pictures, "--references", references, "--out", out, "--quiet", *LITE)
    assert run.returncode == 3 and "broken.png" in run.stderr
    rows = list(csv.DictReader((out / "answers.csv").open(encoding="utf-8")))
    assert tuple(rows[0]) == COLUMNS
    assert {Path(row["image_path"]).name: bool(row["verdict"]) for row in rows} == {
        "broken.png": False,
        "washer_good.png": True,
        "washer_scratch.png": True,
    }
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [line["error"] is None for line in lines] == [bool(row["verdict"]) for row in rows]
    assert lines[-1]["evidence"]["threshold_source"] == "references"
    assert {path.name for path in out.glob("*_places.png")} == {"washer_good_places.png", "washer_scratch_places.png"}
    assert all(name in run.stdout for name in ("washer_good.png", "broken.png", "answer"))


def test_interactive_answers_until_an_empty_line():
    run = start("ask", EXAMPLES / "washer_scratch.png", "--interactive", "--threshold", "0.01", *LITE, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    stdout, stderr = run.communicate("How many places?\nWho made it?\n\nWhere?\n", timeout=LIMIT)
    assert run.returncode == 0, stderr
    assert "stand" in stdout and "name a vision-language model" in stdout
    assert stdout.count("Anomalous: score") == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.png"], 3, "nowhere.png"),
        ([EXAMPLES, "--interactive"], 2, "--interactive takes one picture"),
        ([EXAMPLES / "washer_good.png", "--out", EXAMPLES], 2, "holds"),
        ([EXAMPLES / "washer_good.png", " "], 2, "expected a question"),
        ([EXAMPLES / "washer_good.png", "--json", "--format", "csv"], 2, "exclude each other"),
        ([EXAMPLES / "washer_good.png", "--interactive", "--out", "x"], 2, "--interactive writes no files"),
        ([EXAMPLES / "washer_good.png", EXAMPLES / "leather_good.png"], 2, "one picture and a question, got a second path"),
        ([EXAMPLES / "washer_good.png", "--vlm", "gpt-4o"], 2, "'gpt-4o': expected a vision-language model by name"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(arguments, code, message):
    run = vlad("ask", *arguments)
    assert run.returncode == code and message in run.stderr and "Traceback" not in run.stderr and not run.stdout


def test_refute_needs_a_model_before_anything_is_loaded():
    run = vlad("ask", EXAMPLES / "leather_good.png", "--refute", "--references", EXAMPLES / "gears/good")
    assert run.returncode == 2 and "name one with --vlm" in run.stderr and "model:" not in run.stderr


def test_a_long_question_is_no_path():
    run = vlad("ask", EXAMPLES / "leather_good.png", "Is it ok? " * 60, "--model", "lite", "--quiet")
    assert run.returncode == 0 and "Score" in run.stdout, run.stderr


def test_a_refused_question_leaves_earlier_answers_alone(tmp_path):
    (tmp_path / "answers.csv").write_text("kept")
    run = vlad("ask", EXAMPLES / "washer_good.png", "", "--out", tmp_path)
    assert run.returncode == 2 and (tmp_path / "answers.csv").read_text() == "kept"
