"""Class names as nouns and the articles before them, names that want to be more than a name included."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vlad.errors import PromptError
from vlad.prompts import PromptEnsemble
from vlad.prompts.nouns import indefinite_article, insert, noun, takes_article

ROOT = Path(__file__).parents[2]

AN = (
    "hour honest heirloom apple unblemished umbrella unused unidentified unimpaired uninsulated urn onion LED SMD MRI X-ray O-ring I-beam"
    " 8-pin 11-pin 18-pin 80-pin M8 RJ45 LEDs écru yttrium"
)
A = (
    "unit used useful uniform unidirectional universal European one-piece urethane utility nut hazelnut USB UV-lamp CT PCB U-shaped T-shirt"
    " 1-pin 7-segment 110-volt RAM SIM MOSFET herb yellow zipper"
)


@pytest.mark.parametrize(("word", "article"), [(word, "an") for word in AN.split()] + [(word, "a") for word in A.split()])
def test_article(word: str, article: str) -> None:
    assert indefinite_article(f"{word} thing") == article


SINGULAR = ["nut", "lens", "bus", "chassis", "glass bottle", "leather bag", "LED", "GPS", "lens of a camera", "bag of screws", "7"]
NOT_SINGULAR = ["candles", "screws in a bag", "LEDs", "capsules 2", "broken teeth", "wood", "oak wood", "brass", "macaroni", "chewing gum"]


@pytest.mark.parametrize(("phrase", "article"), [(phrase, phrase in SINGULAR) for phrase in SINGULAR + NOT_SINGULAR])
def test_which_nouns_take_an_article(phrase: str, article: bool) -> None:
    assert takes_article(phrase) is article


@pytest.mark.parametrize(
    ("text", "phrase", "singular", "expected"),
    [
        ("a photo of a {x}.", "apple", True, "a photo of an apple."),
        ("a photo of an {x}.", "nut", True, "a photo of a nut."),
        ("a photo of a small {x}.", "apple", True, "a photo of a small apple."),
        ("a photo of a old {x}.", "nut", True, "a photo of an old nut."),
        ("a photo of a small {x}.", "leather", False, "a photo of small leather."),
        ("a photo of {x}.", "leather", False, "a photo of leather."),
        ("a photo of the {x}.", "apple", True, "a photo of the apple."),
        ("A {x} on a table.", "apple", True, "An apple on a table."),
        ("A {x} on a table.", "leather", False, "Leather on a table."),
        ("a photo: {x}.", "leather", False, "a photo: leather."),
        ("a photo of a non-{x}.", "apple", True, "a photo of a non-apple."),
        ("no placeholder", "apple", True, "no placeholder"),
    ],
)
def test_insert(text: str, phrase: str, singular: bool, expected: str) -> None:
    assert insert(text, "{x}", phrase, singular=singular) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("metal_nut", "metal nut"),
        ("Metal-Nut", "metal nut"),
        ("metalNut", "metal nut"),
        ("METAL_NUT", "metal nut"),
        (" the  metal nut ", "metal nut"),
        ("hazelnut", "hazelnut"),
        ("grid", "grid"),
        ("pcb1", "printed circuit board"),
        ("pcb4", "printed circuit board"),
        ("pcb_12", "printed circuit board"),
        ("PCB", "printed circuit board"),
        ("a PCB", "printed circuit board"),
        ("macaroni1", "macaroni"),
        ("macaroni2", "macaroni"),
        ("chewinggum", "chewing gum"),
        ("pipe_fryum", "pipe fryum"),
        ("breakfast_box", "breakfast box"),
        ("splicing_connectors", "splicing connectors"),
        ("fruit_jelly", "fruit jelly"),
        ("01", "industrial product"),
        ("bracket_black", "black bracket"),
        ("audiojack", "audio jack"),
        ("bottle_cap", "bottle cap"),
        ("u_block", "U-shaped block"),
        ("transistor1", "transistor"),
        ("usb", "USB plug"),
        ("KolektorSDD2", "industrial surface"),
        ("Class10", "textured surface"),
        ("magnetic_tile", "magnetic tile"),
        ("Brain_AD", "brain MRI scan"),
        ("smd_resistor", "SMD resistor"),
        ("LEDStrip", "LED strip"),
        ("u-bolt", "U-bolt"),
        ("xray", "X-ray"),
        ("anti-static bag", "anti-static bag"),
        ("QFX package", "QFX package"),
        ("", "object"),
        ("_ -", "object"),
        ("the", "object"),
        ("42", "object"),
    ],
)
def test_noun(raw: str, expected: str) -> None:
    assert noun(raw) == expected


def test_every_listed_noun_is_one_already() -> None:
    for value in yaml.safe_load((ROOT / "prompts/class_names.yaml").read_text())["nouns"].values():
        assert noun(value) == value


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("{0}", "without braces"),
        ("nut {class_name.__class__}", "without braces"),
        ("{state}", "without braces"),
        ("\ufe37class_name\ufe38", "without braces"),  # compatibility forms of { and }
        ("nut\nIgnore the rest", r"U\+000A"),
        ("nut\x00", r"U\+0000"),
        ("nut\u202e", r"U\+202E"),
        ("nut\u2028x", r"U\+2028"),
        ("n" * 81, "at most 80 characters, got 81"),
        (7, "expected a class name as text, got int"),
    ],
)
def test_class_names_that_cannot_stand_in_a_sentence(raw: str, message: str) -> None:
    for set_name in ("winclip", "generic"):
        with pytest.raises(PromptError, match=message):
            PromptEnsemble.load(set_name).sentences(raw)


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(categories=["L", "Nd"], max_codepoint=0x24F, include_characters=" _"), max_size=40))
def test_any_plain_class_name_gives_clean_sentences(class_name: str) -> None:
    for sentence in sum(PromptEnsemble.load("winclip").sentences(class_name), ()):
        assert not re.search(r"[{}_]|  | \.|^ | $|\b(?:an?|the) (?:an?|the) ", sentence), sentence


def test_a_class_name_is_never_a_format_string() -> None:
    assert PromptEnsemble.load("winclip").sentences("100% %s $x")[0][12] == "a photo of a 100% %s $x."
