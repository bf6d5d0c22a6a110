"""MMAD on a miniature file built here: the published rules on hand-made answers, references, notes, failures and resuming."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad.errors import ConfigError, DatasetError, VlmError
from vlad.evaluation.mmad import Answered, Question, load_questions, read_answers, run_mmad, score
from vlad.vlm.backends.base import Reply
from vlad.vlm.choice import choose, read_choice, read_strictly

OPTIONS = {"A": "A scratch on the rim.", "B": "A crack at the neck.", "C": "No defect."}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B", ("B", "letter")),
        ("Answer: B.", ("B", "letter")),
        ("A or B? I say B", ("B", "letter")),  # two letters: the last
        ("A dent is visible: C", ("C", "letter")),
        ("A dent is visible.", ("A", "letter")),  # the article counts, as published
        ("it shows a crack at the neck", ("B", "text")),  # no letter: the closest option
        ("B1 and ABC say no defect", ("C", "text")),  # letters inside words are none
        ("E", ("E", "letter")),  # of no option: wrong, but an answer
        (" \n", (None, "none")),
    ],
)
def test_published_rules_of_reading(reply, expected):
    assert read_choice(reply, OPTIONS) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("The answer is B. Note that A is a common distractor.", "B"),
        ("Sorry, I can't recognise the image.", None),
        ("Option B is correct, while option D is not.", "B"),
        ("a", "A"),
        ("(C)", "C"),
        ("C. Scratch", "C"),
        ("C) Scratch", "C"),
        ("A scratch is visible", None),
        ("Yes, there is.", "A"),
        ("No", "B"),
        ("Nothing", None),
        ("**D**", "D"),
        ("The correct answer is **C**.", "C"),
        ("The answer is: (b).", "B"),
        ("I would choose D because A is wrong.", "D"),
        ("A or B", None),
        ("The answer is A. The answer is B.", None),
        ("The answer is A, not B.", "A"),
        ("E", None),  # of no option
        ("Answer: d", "D"),
        ("The answer is a scratch", None),
        ("the answer is not B", None),
        ("B is the answer", "B"),
        ("option c", "C"),
        (r"\boxed{D}", "D"),
        ("The defect is a hole.", None),
        ("The answer is B or C", None),
        ("Answer: A and B are both wrong, C", None),
        ("**A** is wrong", None),
        ("A. B. C. D.", None),
        ("Option A. Scratch\nOption B. Crack", None),
        ("A: no\nB: yes", None),
        ("<think>the answer is A?</think>B", "B"),
        ("B. Crack\n\nThe answer is A", None),
        ("Scratch or hole, I can't tell", None),
        ("No defect? Yes, there is", None),
        ("No, wait. Yes", None),
        ("If the answer is B, there would be a hole.", None),
        ("If it were a hole the answer would be D. The answer is C.", "C"),
        ("The answer is certainly B.", "B"),
        ("Yes/No", None),
        ("Either B or C is correct", None),
        ("", None),
    ],
)
def test_a_strict_reading_takes_what_is_plain(reply, expected):
    assert read_strictly(reply, {"A": "Yes", "B": "No", "C": "Scratch", "D": "Hole"}) == expected


def test_both_readings_are_reported_with_the_share_that_gives_no_letter():
    options, kind = {"A": "Round.", "B": "Six sides."}, "Object Analysis"
    replies = ["B", "The answer is A. B is wrong, A is not.", "Sorry, I cannot help with that.", "A hexagon."]
    questions = [
        Question(image_path=f"DS/nut/good/{n}.png", number=0, type=kind, question="?", options=options, answer="B", references=())
        for n in range(5)
    ]
    common = {"number": 0, "type": kind, "answer": "B"}
    given = [
        Answered(image_path=f"DS/nut/good/{n}.png", chosen=read_choice(reply, options)[0], how="letter", reply=reply, **common)
        for n, reply in enumerate(replies)
    ]
    given.append(Answered(image_path="DS/nut/good/4.png", chosen="B", how="likelihood", **common))
    table = score(given, questions)
    assert table["strict"]["mean"][kind] == 2 / 5 and table["unread"] == {kind: pytest.approx(2 / 5)}
    assert table["mean"][kind] == sum(one.chosen == "B" for one in given) / 5
    assert "strict" not in score(given)


@dataclass
class Chooser:
    """Answers with the next reply; a dict is likelihoods of letters."""

    replies: list
    name: str = "chooser"
    most_images: int | None = None
    seen: list = field(default_factory=list)

    def identify(self):
        return self.name

    def chat(self, messages, *, limits=None, schema=None, on_text=None):
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Reply(reply, "stop", 0.0)

    def letters(self, messages, letters, *, limits=None):
        self.seen.append(messages)
        return self.replies.pop(0) if isinstance(self.replies[0], dict) else None


def test_likelihood_goes_before_text():
    choice = choose(Chooser([{"A": 0.2, "B": 0.5, "C": 0.3}]), [], OPTIONS)
    assert (choice.letter, choice.how, choice.reply) == ("B", "likelihood", "")
    with pytest.raises(ConfigError, match="at least two options"):
        choose(Chooser(["A"]), [], {"A": "yes"})


def answered(path: str, type_: str, *, right: bool | None) -> Answered:
    return Answered(
        image_path=path, number=0, type=type_, answer="A", chosen=None if right is None else "A" if right else "B", how="letter"
    )


def test_published_rules_of_scoring():
    detection, kind = "Anomaly Detection", "Defect Classification"
    table = score(
        [
            *[answered(f"DS/nut/good/{n}.png", detection, right=n < 1) for n in range(4)],  # 1 of 4 normal pictures
            answered("DS/nut/bent/0.png", detection, right=True),  # 1 of 1 anomalous
            *[answered(f"DS/nut/bent/{n}.png", kind, right=n < 1) for n in range(2)],
            answered("VisA/pcb/bad/0.png", kind, right=True),
            answered("VisA/pcb/bad/1.png", kind, right=None),
        ]
    )
    assert table["datasets"]["DS"] == pytest.approx({detection: (0.25 + 1) / 2, kind: 0.5, "Average": (0.625 + 0.5) / 2})
    assert table["datasets"]["VisA"] == {kind: 1.0, "Average": 1.0}
    assert table["mean"][kind] == 0.75 and table["mean"]["Average"] == pytest.approx((0.5625 + 1) / 2)
    assert table["mean"]["Object Analysis"] is None and table["failures"] == 1 and table["n"][kind] == 3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mmad"
    for name, value in (("good/0", 50), ("bent/0", 90), ("ref/0", 130)):
        path = root / "DS" / "nut" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((32, 32, 3), value, np.uint8)).save(path)
    detection = {"Question": "Is there any defect?", "Options": {"A": "Yes.", "B": "No."}, "type": "Anomaly Detection"}
    detail = {"Question": "Which shape?", "Options": {"A": "Round.", "B": "Six sides."}, "Answer": "B", "type": "Object Details"}
    templates = ["DS/nut/ref/0.png"]
    data = {
        "DS/nut/good/0.png": {"conversation": [detection | {"Answer": "B"}], "similar_templates": templates},
        "DS/nut/bent/0.png": {"conversation": [detection | {"Answer": "A"}, detail], "similar_templates": templates},
    }
    (root / "mmad.json").write_text(json.dumps(data))
    (root / "domain_knowledge.json").write_text(json.dumps({"DS": {"nut": {"bent": "Nuts can be bent."}}}))
    return root


def test_a_run_shows_reference_and_notes_and_goes_on_after_failures(root, tmp_path):
    out = tmp_path / "out"
    first = Chooser(["B", VlmError("down"), {"A": 0.1, "B": 0.9}])
    table = run_mmad(first, root, out, knowledge=True)
    assert (table["failures"], table["mean"]["Object Analysis"], table["model"]) == (1, 1.0, "chooser")
    _, user = first.seen[0]
    assert [int(image[0, 0, 0]) for image in user.images] == [130, 50]  # the reference, then the picture
    assert "Nuts can be bent." in user.parts[2] and "A. Yes.\nB. No." in user.parts[-1]
    with pytest.raises(ConfigError, match="add --resume"):
        run_mmad(Chooser([]), root, out, knowledge=True)
    with pytest.raises(ConfigError, match="holds a run of"):
        run_mmad(Chooser([]), root, out, knowledge=False, resume=True)
    with pytest.raises(ConfigError, match=r"'model': 'chooser'.* now it is .*'model': 'other'"):
        run_mmad(Chooser([], name="other"), root, out, knowledge=True, resume=True)
    with (out / "answers.jsonl").open("a") as file:
        file.write('{"image_path": "cut o')
    second = Chooser(["A"])  # only the failed question is left
    table = run_mmad(second, root, out, knowledge=True, resume=True)
    assert second.replies == [] and table["failures"] == 0
    assert table["mean"]["Anomaly Detection"] == 1.0 and len(read_answers(out / "answers.jsonl")) == 3
    assert json.loads((out / "mmad.json").read_text())["mean"] == table["mean"]


def test_a_run_of_other_questions_is_not_gone_on_with(root, tmp_path):
    run_mmad(Chooser(["B", "A", "B"]), root, tmp_path / "out")
    path = root / "mmad.json"
    path.write_text(path.read_text().replace('"Answer": "B"', '"Answer": "A"'))
    with pytest.raises(ConfigError, match="holds a run of"):
        run_mmad(Chooser([]), root, tmp_path / "out", resume=True)


def test_damaged_files_of_a_run_lose_only_what_they_held(root, tmp_path):
    out = tmp_path / "out"
    run_mmad(Chooser(["B", "A", "B"]), root, out)
    lines = (out / "answers.jsonl").read_text().splitlines()
    (out / "answers.jsonl").write_text("\n".join([lines[0], "{garbled", lines[2]]) + "\n")
    again = Chooser(["A"])
    assert run_mmad(again, root, out, resume=True)["failures"] == 0 and again.replies == []
    (out / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json: expected what a run says of itself"):
        run_mmad(Chooser([]), root, out, resume=True)


def test_a_server_that_is_gone_ends_the_run(root, tmp_path):
    data = json.loads((root / "mmad.json").read_text())
    data["DS/nut/bent/0.png"]["conversation"] *= 6
    (root / "mmad.json").write_text(json.dumps(data))
    chooser = Chooser(["B", *[VlmError("down")] * 12])
    with pytest.raises(VlmError, match="10 questions in a row got no answer, the last because: down; go on with --resume"):
        run_mmad(chooser, root, tmp_path / "out")
    assert len(chooser.replies) == 2 and len(read_answers(tmp_path / "out/answers.jsonl")) == 11
    assert run_mmad(Chooser(["A"] * 12), root, tmp_path / "out", resume=True)["failures"] == 0


@pytest.mark.parametrize("place", ["/etc/passwd", "../../x.png"])
def test_paths_stay_below_the_benchmark(root, place):
    data = json.loads((root / "mmad.json").read_text())
    data["DS/nut/bent/0.png"]["similar_templates"] = place
    (root / "mmad.json").write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="expected paths below its folder"):
        load_questions(root)


def test_notes_of_another_shape_are_shown_as_they_are(root, tmp_path):
    (root / "domain_knowledge.json").write_text(json.dumps({"DS": "Mind the thread."}))
    chooser = Chooser(["B", "A", "B"])
    run_mmad(chooser, root, tmp_path / "out", knowledge=True)
    assert "Mind the thread." in chooser.seen[0][1].parts[2]


def test_no_reference_without_shots(root, tmp_path):
    chooser = Chooser(["B", "A", "B"])
    run_mmad(chooser, root, tmp_path / "out", k_shot=0)
    assert all(len(messages[1].images) == 1 for messages in chooser.seen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Answer": "D"}, "the answer 'D' is none of"),
        ({"type": "Poetry"}, "got 'Poetry'"),
        ({"Options": None}, "expected 'conversation' with"),
        ({"Options": {"A": "Yes"}}, "at least two options"),
    ],
)
def test_malformed_questions_are_named(root, change, message):
    data = json.loads((root / "mmad.json").read_text())
    data["DS/nut/bent/0.png"]["conversation"][1] |= change
    (root / "mmad.json").write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=message) as error:
        load_questions(root)
    assert "DS/nut/bent/0.png" in str(error.value)


def test_a_missing_benchmark_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"mmad\.json: expected"):
        load_questions(tmp_path)
