"""Checklists for missing, extra and swapped parts, with a backend that really counts what it is shown."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from command import vlad
from PIL import Image
from scipy import ndimage

from vlad.errors import ConfigError, VlmError
from vlad.vlm.backends.base import Reply
from vlad.vlm.checklist import Checklist, Item, check, write_checklist

RED, BLUE = (200, 0, 0), (0, 0, 200)


def tray(red: int, blue: int = 1) -> np.ndarray:
    """Squares in a row on grey."""
    picture = np.full((60, 200, 3), 120, np.uint8)
    for number, colour in enumerate([RED] * red + [BLUE] * blue):
        picture[20:40, 10 + 30 * number : 25 + 30 * number] = colour
    return picture


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int(ndimage.label(np.all(picture == colour, axis=2))[1])


@dataclass
class Counter:
    """Writes questions about red and blue squares and answers them by counting; a question with "perhaps" it always answers with no.

    `likelihood` decides whether it gives probabilities or writes its answer.
    """

    likelihood: bool = True
    questions: tuple[str, ...] = ("Are there 3 red squares?", "Is there 1 blue square?", "Are there 5 red squares?")
    wordings: tuple[str, ...] = ("Do you count 3 or whatever N red squares?",)
    written: str = "{option}"
    most_images: int | None = 2
    name: str = "counter"
    asked: list[Any] = field(default_factory=list)

    def identify(self):
        return self.name

    def chat(self, messages, *, limits=None, schema=None, on_text=None):
        text = messages[-1].parts[-1]
        self.asked.append(messages[-1])
        if "normal examples of: " in text:
            return Reply(f"{len(messages[-1].images)} trays.", "stop", 0.0)
        if "other wordings" in text:
            question = re.search(r'"(.*)" Reply', text)[1]
            others = [question.replace("?", f" ({word})?") for word in ("really", "again")] + [question.replace("?", " (perhaps)?")]
            return Reply("\n".join(f"{number}. {other}" for number, other in enumerate(others, 1)), "stop", 0.0)
        if "different questions" in text:
            return Reply("```json\n" + json.dumps({"questions": list(self.questions)}) + "\n```", "stop", 0.0)
        return Reply(self.written.format(option=self._answer(messages[-1])), "stop", 0.0)

    def letters(self, messages, letters, *, limits=None):
        if not self.likelihood:
            return None
        text = messages[-1].parts[-1]
        right = re.search(rf"([AB])\. {self._answer(messages[-1])}", text)[1]
        return {letter: 0.9 if letter == right else 0.1 for letter in letters}

    def _answer(self, message) -> str:
        number, colour = re.search(r"(\d) (red|blue)", message.parts[-1]).groups()
        if "perhaps" in message.parts[-1]:
            return "No"
        return "Yes" if count(message.images[0], {"red": RED, "blue": BLUE}[colour]) == int(number) else "No"


def test_questions_that_do_not_hold_on_normal_pictures_are_dropped():
    backend = Counter()
    steps: list[str] = []
    checklist = write_checklist(backend, [tray(3), tray(3), tray(3)], class_name="tray", wordings=2, on_step=steps.append)
    assert [item.question for item in checklist.items] == ["Are there 3 red squares?", "Is there 1 blue square?"]
    assert [(item.question, item.accuracy) for item in checklist.dropped] == [("Are there 5 red squares?", 0.0)]
    assert checklist.items[0].wordings == ("Are there 3 red squares (really)?", "Are there 3 red squares (again)?")
    assert (checklist.references, checklist.model, len(steps)) == (3, "counter", 4)
    notes = [len(message.images) for message in backend.asked if "normal examples of: " in message.parts[-1]]
    assert notes == [2, 1]  # it takes two pictures at once
    written = next(message.parts[-1] for message in backend.asked if "different questions" in message.parts[-1])
    assert "2 trays.\n\n1 trays." in written and "normal examples of tray" in written


def test_one_question_without_an_answer_costs_no_other(monkeypatch):
    backend, steps = Counter(), []
    letters = backend.letters

    def faltering(messages, options, *, limits=None):
        if "blue" in messages[-1].parts[-1]:
            raise VlmError("busy")
        return letters(messages, options)

    monkeypatch.setattr(backend, "letters", faltering)
    checklist = write_checklist(backend, [tray(3)] * 2, wordings=0, on_step=steps.append)
    assert [item.question for item in checklist.items] == ["Are there 3 red squares?"]
    assert "2/3 left out, no answer: busy" in steps
    backend.questions = ("Is there 1 blue square?",)
    with pytest.raises(VlmError, match="busy"):
        write_checklist(backend, [tray(3)] * 2, wordings=0)


@pytest.mark.parametrize("likelihood", [True, False])
def test_a_missing_and_an_extra_part_are_named(likelihood):
    backend = Counter(likelihood=likelihood)
    checklist = write_checklist(backend, [tray(3)] * 2, wordings=3)
    normal, missing, extra, both = (check(backend, checklist, picture) for picture in (tray(3), tray(2), tray(3, 2), tray(4, 0)))
    assert normal.failed == () and missing.failed == ("Are there 3 red squares?",) and extra.failed == ("Is there 1 blue square?",)
    assert both.failed == tuple(item.question for item in checklist.items)
    # One of four wordings is always answered with no, so it is outvoted on a normal picture.
    assert normal.score == pytest.approx(0.3 if likelihood else 0.25) and missing.score == pytest.approx(0.9 if likelihood else 1.0)
    assert "All of 2 items" in str(normal) and "- Are there 3 red squares? No (" in str(missing)
    assert json.loads(json.dumps(missing.to_dict()))["failed"] == list(missing.failed)


def test_a_letter_that_is_always_preferred_is_no_verdict(monkeypatch):
    """The options change places from wording to wording, so a model that says B to everything says nothing."""
    backend = Counter()
    checklist = write_checklist(backend, [tray(3)] * 2, wordings=3)
    monkeypatch.setattr(backend, "letters", lambda messages, letters, *, limits=None: {"A": 0.2, "B": 0.8})
    result = check(backend, checklist, tray(3))
    assert result.score == pytest.approx(0.5) and result.failed == ()


@pytest.mark.parametrize(
    ("written", "unread", "failed"),
    [
        ("{option}, that is so", 0, True),
        ("**{option}**", 0, True),
        ("Answer: {option}", 0, True),
        ("So I say {option}.", 0, True),
        ("A cap can be seen.", 8, False),  # an article is no letter
        ("I cannot tell", 8, False),
        ("", 8, False),
    ],
)
def test_answers_that_cannot_be_read_are_counted_and_no_votes(written, unread, failed):
    checklist = write_checklist(Counter(), [tray(3)] * 2, wordings=3)
    result = check(Counter(likelihood=False, written=written), checklist, tray(2))
    assert (result.unread, bool(result.failed)) == (unread, failed)
    if unread == 8:
        assert result.score is None and str(result) == "None of 2 items could be answered."


def test_files_hold_everything_and_can_be_edited(tmp_path):
    checklist = write_checklist(Counter(), [tray(3)] * 2, class_name="tray", wordings=1)
    path = tmp_path / "tray.json"
    checklist.save(path)
    assert Checklist.load(path) == checklist
    data = json.loads(path.read_text())
    data["items"] = data["items"][1:]
    path.write_text(json.dumps(data))
    assert [item.question for item in Checklist.load(path).items] == ["Is there 1 blue square?"]


def test_a_letter_alone_is_a_vote():
    checklist = Checklist(class_name="tray", items=(Item(question="Is it so?"),), dropped=(), references=2, model="m")

    class Lettered(Counter):
        def _answer(self, message):
            return "B"

    assert check(Lettered(likelihood=False), checklist, tray(3)).failed == ("Is it so?",)
    assert check(Lettered(likelihood=False, written="The answer is ({option})."), checklist, tray(3)).failed == ("Is it so?",)


def edited(**change: Any) -> str:
    whole = {"format": "vlad-checklist-1", "class_name": "tray", "items": [{"question": "Is it so?"}], "references": 2, "model": "m"}
    return json.dumps(whole | change)


def test_a_question_added_by_hand_suffices(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text("\ufeff" + edited(), encoding="utf-8")
    assert Checklist.load(path).items == (Item(question="Is it so?"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a checklist as JSON"),
        ("[" * 100_000, "expected a checklist as JSON"),
        ("[]", "expected a checklist of"),
        ('{"format": "other"}', "expected a checklist of"),
        (edited(class_name=5), "class_name: expected str, got 5"),
        (edited(colour="red"), "unknown key 'colour'"),
        (edited(items=[]), "items: expected at least one"),
        (edited(items=[1]), "items, item 1: expected .*got 1"),
        (edited(items=[{"question": None}]), "item 1: expected a question in words, got None"),
        (edited(items=[{"question": "a?", "wordings": "b?"}]), "item 1: wordings: expected a list"),
        (edited(items=[{"question": "a?"}, {"question": "b?", "note": 1}]), "item 2: unknown key 'note'"),
        (edited(items=[{"question": "a?", "accuracy": 7}]), "accuracy from 0 to 1"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, content, message):
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        Checklist.load(path)
    assert str(path) in str(error.value)


def test_what_cannot_be_done_is_said():
    with pytest.raises(VlmError, match="the describer can't count parts"):
        write_checklist(None, [tray(3)] * 2)
    with pytest.raises(ConfigError, match="at least two normal pictures"):
        write_checklist(Counter(), [tray(3)])
    with pytest.raises(VlmError, match="answered none of 1 right"):
        write_checklist(Counter(questions=("Are there 5 red squares?",)), [tray(3)] * 2)
    with pytest.raises(VlmError, match="it wrote none that could be read"):
        write_checklist(Counter(questions=("no question",)), [tray(3)] * 2)


def test_the_command_writes_checks_and_tells(tmp_path, monkeypatch):
    for name, picture in (("good/1", tray(3)), ("good/2", tray(3)), ("new/missing", tray(2)), ("new/fine", tray(3))):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
    (tmp_path / "new/torn.png").write_bytes(b"no picture")
    monkeypatch.setattr("vlad.vlm.backends.load_vlm", lambda name: Counter() if name != "none" else None)
    out = tmp_path / "tray.json"
    done = vlad("checklist", "write", tmp_path / "good", "--vlm", "x", "--out", out, "--class-name", "tray")
    assert done.returncode == 0 and "2 questions kept, 1 dropped" in done.stderr, done.stderr
    done = vlad("checklist", "check", tmp_path / "new", "--checklist", out, "--vlm", "x", "--json", "--fail-on-anomaly")
    rows = {json.loads(line)["image_path"].rsplit("/", 1)[1]: json.loads(line) for line in done.stdout.splitlines()}
    assert done.returncode == 3 and rows["missing.png"]["failed"] == ["Are there 3 red squares?"] and rows["fine.png"]["failed"] == []
    assert rows["torn.png"]["error"] and "torn.png" in done.stderr
    (tmp_path / "new/torn.png").unlink()
    done = vlad("checklist", "check", tmp_path / "new", "--checklist", out, "--vlm", "x", "--fail-on-anomaly")
    assert done.returncode == 1 and "1 of 2 items are not as on the normal pictures" in done.stdout
    done = vlad("checklist", "check", tmp_path / "new", "--checklist", out, "--vlm", "none")
    assert done.returncode == 2 and "the describer can't count" in done.stderr
