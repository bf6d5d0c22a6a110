"""What the describer says: an answer to the question that was asked, and no more than was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlad.errors import PromptError
from vlad.prompts import data_folder
from vlad.vlm.answer import Defect, Evidence, Place
from vlad.vlm.intents import Intents
from vlad.vlm.vocabulary import DefectVocabulary
from vlad.vlm.wording import UNKNOWN, describe

VOCABULARY = DefectVocabulary(
    name="few",
    templates=("{class_name} with {defect}",),
    types={
        "scratch": ("a scratch", "a scratch mark"),
        "crack": ("a crack", "a fracture"),
        "cut": ("a cut", "a tear"),
        "hole": ("a hole", "a puncture"),
        "dent": ("a dent",),
        "missing part": ("a missing part", "a broken off piece"),
    },
    also={"missing part": ("missing",), "dent": ("dented",)},
    categories={"nut": ("scratch", "dent")},
)
PLACES = (
    Place(label="A", box=(10, 20, 60, 30), location="upper left", shape="elongated", share=0.012, peak=0.9),
    Place(label="B", box=(70, 70, 90, 90), location="lower right", shape="compact", share=0.004, peak=0.7),
)
DEFECTS = (
    Defect(
        type="scratch", location="upper left", box=(10, 20, 60, 30), severity="high", confidence=0.61, region="A", shape="elongated",
        share=0.012, alternatives=(("crack", 0.22), ("cut", 0.1)),
    ),
    Defect(
        type="dent", location="lower right", box=(70, 70, 90, 90), severity="low", confidence=0.3, region="B", shape="compact", share=0.004,
        alternatives=(("scratch", 0.28),),
    ),
)  # fmt: skip
EVIDENCE = Evidence(
    image_path=None, image_size=(100, 100), class_name="plate", score=0.83, threshold=0.5, threshold_source="text", places=PLACES
)
NORMAL = replace(EVIDENCE, score=0.2, places=())


def say(question: str, evidence: Evidence = EVIDENCE, defects: tuple[Defect, ...] = DEFECTS, unnamed: tuple[str, ...] = ("hole",)) -> str:
    types = VOCABULARY.types_for(evidence.class_name)
    return describe(evidence, defects, question, asked=VOCABULARY.asked_for(question), types=types, unnamed=unnamed)


@pytest.mark.parametrize("question", ["What is wrong?", "what's wrong with it", "Describe the defects", "Which kind of damage is it?"])
def test_what(question):
    assert say(question) == (
        "Anomalous: score 0.83, threshold 0.50 (text). A: an elongated mark at the upper left, 1.2 % of the picture, high severity; "
        "closest to 'scratch' (0.61), then 'crack' (0.22). B: a compact mark at the lower right, 0.4 % of the picture, low severity; "
        "of no clear type, between 'dent' (0.30) and 'scratch' (0.28). Types are hints (accuracy not measured; no words "
        "for hole)."
    )


@pytest.mark.parametrize(
    ("question", "said", "unsaid"),
    [
        ("Where is it?", "A: at the upper left (x 10 to 60, y 20 to 30 px).", "scratch"),
        ("How large is it?", "A: 1.2 % of the picture, 50 x 10 px around it.", "upper left"),
        ("How bad is it?", "B: low severity. Severity goes by area and heat alone", "scratch"),
        ("How many defects?", "2 places stand out", "scratch"),
        ("Is it OK?", "The hottest place is at the upper left, 1.2 % of the picture.", "scratch"),
        ("Why?", "how much nearer the picture is to the abnormal sentences", "scratch"),
        ("Is there a crack?", "A, at the upper left: 'crack' 0.22; nearest is 'scratch' (0.61).", "hole"),
        ("Is that a scratch?", "'scratch' 0.61; the nearest, before 'crack' (0.22).", "hole"),
        ("A tear or a fracture?", "'crack' 0.22 and 'cut' 0.10", "hole"),
        ("Is there a dent?", "A, at the upper left: 'dent' not among the 3 nearest", "hole"),
        ("Are there holes?", "This model has no words for hole, so it cannot tell whether it is one.", "'hole' not among"),
        ("How many holes does it have?", "2 places stand out. That counts places, not 'hole'.", "One defect"),
        ("Is it dented?", "B, at the lower right: 'dent' 0.30; the nearest", "hole"),
        ("Is something missing?", "'missing part' not among the 3 nearest", "hole"),
        ("Is the top left damaged?", "At the upper left: A.", "px"),
        ("Anything in the middle?", "Nothing stands out at the centre; A is at the upper left and B is at the lower right.", "px"),
        (
            "How wide is it in millimetres?",
            "50 x 10 px around it. B: 0.4 % of the picture, 20 x 20 px around it. How long a pixel",
            "upper",
        ),
        ("What is the score?", "The hottest place", "scratch"),
    ],
)
def test_answers_follow_the_question(question, said, unsaid):
    text = say(question)
    assert text.startswith("Anomalous: score 0.83, threshold 0.50 (text).") and said in text and unsaid not in text


@pytest.mark.parametrize(
    "question",
    [
        "What colour is it?",
        "Is it the same defect as yesterday?",
        "Who made it?",
        "What is the capital of France?",
        "What is wrong with my code?",
        "What is the part number?",
        "Where can I buy a new one?",
        "How big is the plate?",
        "How large is the picture?",
        "Why is the sky blue?",
        "Will it break?",
        "Ist etwas kaputt?",
    ],
)
def test_what_was_not_measured_is_not_answered(question):
    text = say(question)
    assert text.startswith("Anomalous: score 0.83, threshold 0.50 (text). Asked in English, the describer can say") and len(text) < 280
    assert "name a vision-language model" in text


def test_a_type_that_is_not_listed_for_the_thing_is_told():
    text = say("Is there a crack or a dent?", replace(EVIDENCE, class_name="brass nut"))
    assert "'crack': not among the types listed for brass nut." in text and "'dent' 0.30" in text and "'crack' 0.22" not in text


@pytest.mark.parametrize("question", ["What is wrong?", "Where?", "Describe it", "How many?"])
def test_a_normal_picture_has_nothing_to_describe(question):
    assert say(question, NORMAL, ()) == ("Normal: score 0.20, threshold 0.50 (text). No place stands out, so there is none to describe.")
    assert "none to compare with 'scratch'" in say("Is there a scratch?", NORMAL, ())
    assert "warmest place is at the upper left" in say(question, replace(NORMAL, places=PLACES), ())


def test_a_close_call_shows_its_digits():
    close = replace(EVIDENCE, score=0.02341, threshold=0.0232, threshold_source="references")
    assert say("Is it fine?", close).startswith("Anomalous: score 0.0234, threshold 0.0232 (references).")


def test_without_threshold_or_words():
    undecided = replace(EVIDENCE, threshold=None, undecided="one picture alone")
    assert say("Why?", undecided, ()).startswith("Undecided: one picture alone. Score 0.83. Without a threshold there is no verdict")
    assert "below the threshold" not in say("Why?", undecided, ()) and DEFECTS[0].location in say("What is wrong?", undecided)
    wordless = tuple(replace(defect, type=UNKNOWN, confidence=0.0, alternatives=()) for defect in DEFECTS)
    assert say("What is wrong?", defects=wordless).endswith("B: a compact mark at the lower right, 0.4 % of the picture, low severity.")
    assert say("Which type is it?", defects=wordless).endswith("this model cannot tell: it has no words for any.")
    asked = say("Is there a scratch?", defects=wordless, unnamed=tuple(VOCABULARY.types))
    assert asked.count("no words for its type") == 2 and "cannot tell whether" not in asked


def test_types_that_are_too_seldom_right_are_not_named():
    ranked = tuple(
        replace(one, type=UNKNOWN, confidence=0.0, severity="unknown", alternatives=((one.type, one.confidence), *one.alternatives))
        for one in DEFECTS
    )
    assert say("What is wrong?", defects=ranked) == (
        "Anomalous: score 0.83, threshold 0.50 (text). A: an elongated mark at the upper left, 1.2 % of the picture. "
        "B: a compact mark at the lower right, 0.4 % of the picture."
    )
    assert "the nearest are 'scratch' and 'crack'" in say("What kind of defect is it?", defects=ranked)
    assert "'crack' 0.22; nearest is 'scratch' (0.61)" in say("Is there a crack?", defects=ranked)
    assert say("How bad is it?", defects=ranked).endswith(
        "A: how bad cannot be judged from one picture. B: how bad cannot be judged from one picture."
    )


def test_places_left_out_and_unmarked_are_said():
    assert "3 further places are not described." in say("What is wrong?", replace(EVIDENCE, places_left_out=3))
    assert "5 places stand out" in say("How many?", replace(EVIDENCE, places_left_out=3))
    unmarked = replace(EVIDENCE, places=(replace(PLACES[0], marked=False),))
    assert "nothing passed the pixel threshold" in say("Where?", unmarked, DEFECTS[:1])


def test_types_are_found_by_whole_words():
    assert VOCABULARY.asked_for("Scratches, or a broken off piece?") == ("scratch", "missing part")
    assert VOCABULARY.asked_for("Is the executive cutting it?") == ()
    assert Intents.load().places_in("Is it at the top right, or in the center?") == ("upper right", "centre")
    assert Intents.load().places_in("Is it all right?") == ()


@pytest.mark.parametrize(
    ("question", "intents"),
    [
        ("What’s wrong?", {"kind", "verdict"}),
        ("Where is it and how bad is it?", {"where", "severity"}),
        ("How many millimetres long?", {"count", "length", "size"}),
        ("WHY", {"why"}),
        ("Why is the sky blue?", set()),
        ("Why was it rejected?", {"why"}),
        ("Will it break soon?", {"future"}),
        ("Explain: which part looks unusual?", {"why", "kind", "verdict"}),
        ("Is Smalltown's sizeable badge there?", set()),  # whole words only
    ],
)
def test_questions_mean_intents(question, intents):
    assert Intents.load().meant_by(question) == intents


@pytest.mark.parametrize(
    ("question", "beyond"),
    [
        ("What is the colour of it?", True),
        ("What is wrong with the colour?", False),
        ("How large is the metal nut?", True),
        ("How large is the scratch on the metal nut?", False),
        ("How large is the hole of the whole part?", True),
        ("Where should I look?", True),
        ("Is it 3 mm?", False),
    ],
)
def test_words_that_ask_for_more_are_no_excuse(question, beyond):
    intents = Intents.load()
    assert intents.is_beyond(question, "metal nut") is beyond
    assert not intents.is_beyond(question, "metal nut", answerable=True)
    assert intents.is_beyond(f"{question} Will it hold?", "metal nut", answerable=True)


def test_places_come_in_the_order_of_the_question():
    assert Intents.load().places_in("Is it at the bottom, on the upper left or in the middle? At the bottom?") == (
        "bottom",
        "upper left",
        "centre",
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  length:", "  lengths:", r"intents: expected a mapping with kind, .*, got .*lengths"),
        ("  top: [top]", "  top: []", r"places\.top: expected a list of phrases, got \[\]"),
        ("  bottom: [bottom]\n", "", r"places: expected a mapping with upper left"),
        ("      - =why\n", "      - why ..\n", r"intents\.why\.phrases: expected words with .*'why \.\.'"),
        ("      - explain\n", "      - expl(ain\n", r"intents\.why\.phrases: expected words"),
        ("    unless: [where", "    except: [where", r"intents\.where: expected a mapping with phrases, unless, got except, phrases"),
        ("version: 1", "version: 1\ncolour: red", r"expected a mapping with name, .*, got .*colour"),
    ],
)
def test_faulty_intents_are_named(tmp_path, old, new, message):
    shipped = (data_folder() / "intents" / "english.yaml").read_text(encoding="utf-8")
    assert old in shipped
    path = tmp_path / "mine.yaml"
    path.write_text(shipped.replace(old, new), encoding="utf-8")
    with pytest.raises(PromptError, match=message) as error:
        Intents.load(path)
    assert str(error.value).startswith(f"{path}: ")
