"""Regions in words, vocabularies, wording and the reading of replies."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from vlad.errors import PromptError
from vlad.prediction import Prediction
from vlad.vlm.answer import Place
from vlad.vlm.parsing import answer_so_far, parse_answer
from vlad.vlm.places import LOCATIONS, crop_around, find_places, location_of, severity_of, size_in_words
from vlad.vlm.templates import Templates
from vlad.vlm.vocabulary import DefectVocabulary


def prediction(heat: np.ndarray, *, score: float = 0.9, mask_threshold: float = 0.5) -> Prediction:
    return Prediction(
        image_path=None,
        image_size=heat.shape,
        class_name="metal nut",
        pred_score=score,
        threshold=0.5,
        threshold_source="text",
        mask_threshold=mask_threshold,
        anomaly_map=heat.astype(np.float32),
        scores={},
        model="test",
        prompts="winclip",
        seconds=0.0,
        _read=lambda: np.zeros((*heat.shape, 3), np.uint8),
    )


def test_locations_are_the_nine_parts():
    centres = [(x, y) for y in (10, 45, 80) for x in (20, 90, 160)]
    assert tuple(location_of(x, y, (90, 180)) for x, y in centres) == LOCATIONS
    assert location_of(180, 90, (90, 180)) == "lower right"  # the far edge belongs to the last ninth


def test_places_are_lettered_by_heat_and_described():
    heat = np.zeros((90, 90))
    heat[3:7, 2:62] = 0.7  # a line at the top
    heat[70:80, 70:80] = 0.9  # a square at the lower right
    heat[85, 2] = 0.6
    places, left_out = find_places(prediction(heat), most=2)
    assert [(place.label, place.location, place.shape) for place in places] == [
        ("A", "lower right", "compact"),
        ("B", "top", "elongated"),
    ]
    assert places[0].box == (70, 70, 80, 80) and places[0].share == pytest.approx(100 / 8100) and places[0].marked
    assert left_out == 1


def test_a_diagonal_line_is_elongated_though_its_box_is_square():
    heat = np.zeros((60, 60))
    heat[np.arange(5, 55), np.arange(5, 55)] = 0.8
    assert find_places(prediction(heat))[0][0].shape == "elongated"


def test_a_ring_is_spread_out():
    rows, columns = np.indices((90, 90))
    heat = 0.8 * (np.abs(np.hypot(rows - 45, columns - 45) - 30) < 1.5)
    place = find_places(prediction(heat))[0][0]
    assert (place.shape, place.location) == ("spread out", "centre")


def test_an_anomalous_picture_without_a_region_shows_its_hottest_place():
    heat = np.full((90, 90), 0.1)
    heat[10:20, 70:80] = 0.4
    (place,), left_out = find_places(prediction(heat))
    assert (place.location, place.marked, place.box, left_out) == ("upper right", False, (70, 10, 80, 20), 0)
    assert find_places(prediction(heat, score=0.2)) == ((), 0)


@pytest.mark.parametrize(
    ("share", "peak", "expected"),
    [
        (0.001, 0.12, "low"), (0.006, 0.11, "low"), (0.001, 0.15, "medium"), (0.02, 0.11, "medium"), (0.06, 0.11, "high"),
        (0.003, 0.2, "high"), (0.001, 0.3, "medium"),
    ],
)  # fmt: skip
def test_severity(share, peak, expected):
    assert severity_of(share, peak, 0.1, is_measured=True) == expected
    assert severity_of(share, peak, 0.1, is_measured=False) == "unknown", "one picture alone does not tell"


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0123, "1.2 % of the picture"), (0.4, "40 % of the picture"), (0.00012, "0.01 % of the picture")]
)
def test_sizes_in_words(share, expected):
    assert size_in_words(share) == expected


@pytest.mark.parametrize("box", [(0, 0, 4, 4), (190, 90, 200, 100), (0, 0, 200, 100), (99, 0, 101, 100)])
def test_crops_hold_their_box_and_stay_inside(box):
    rows, columns = np.indices((100, 200))
    crop = crop_around(np.stack([columns, rows, rows], axis=2).astype(np.uint8), box)
    left, top, right, bottom = crop[0, 0, 0], crop[0, 0, 1], int(crop[0, -1, 0]) + 1, int(crop[-1, 0, 1]) + 1
    assert left <= box[0] and top <= box[1] and right >= box[2] and bottom >= box[3]
    assert crop.shape[0] >= 40  # a fifth of the longer side


def test_generic_vocabulary_fits_classes():
    vocabulary = DefectVocabulary.load()
    assert {
        "scratch",
        "crack",
        "hole",
        "stain",
        "dent",
        "missing part",
        "misplaced part",
        "contamination",
        "discolouration",
        "deformation",
    } <= set(vocabulary.types)
    assert vocabulary.types_for("green metal_nut") == vocabulary.categories["metal nut"]
    assert vocabulary.types_for("spanner") == tuple(vocabulary.types)
    assert "a photo of a metal nut with a scratch" in vocabulary.sentences("metal_nut", "scratch")
    assert "a photo of leather with a scratch" in vocabulary.sentences("leather", "scratch")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ntemplates: ['{class_name} {defect}']\n", "expected a mapping with name, templates and types"),
        ("name: x\ntemplates: ['{class_name}']\ntypes: {a: [a b], b: [b]}\n", "once each"),
        ("name: x\ntemplates: ['{class_name} {defect}']\ntypes: {a: [a b]}\n", "at least two types"),
        ("name: x\ntemplates: ['{class_name} {defect}']\ntypes: {a: [a b], b: word}\n", "types.b: expected a list"),
        ("name: x\ntemplates: ['{class_name} {defect}']\ntypes: {a: [a], b: [b]}\ncategories: {nut: [c]}\n", "categories.nut: .* 'c'"),
        ("name: x\ncolour: red\ntemplates: ['{class_name} {defect}']\ntypes: {a: [a], b: [b]}\n", "unknown key 'colour'"),
    ],
)
def test_faulty_vocabularies_are_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(PromptError, match=message) as error:
        DefectVocabulary.load(path)
    assert str(path) in str(error.value)


def test_an_edited_vocabulary_is_read_again_and_another_is_not(tmp_path):
    path = tmp_path / "mine.yaml"
    text = "name: x\ntemplates: ['{class_name} with {defect}']\ntypes: {a: [a b], b: [b]}\n"
    path.write_text(text)
    first = DefectVocabulary.load(path)
    assert DefectVocabulary.load(path) is first
    path.write_text(text.replace("b: [b]", "c: [c]"))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert set(DefectVocabulary.load(path).types) == {"a", "c"}
    path.unlink()
    with pytest.raises(PromptError, match=r"mine\.yaml"):
        DefectVocabulary.load(path)


def test_an_unknown_vocabulary_lists_the_known():
    with pytest.raises(PromptError, match=r"expected one of .*generic.*'nuts'"):
        DefectVocabulary.load("nuts")


def test_values_are_filled_in_once(tmp_path):
    path = tmp_path / "words.yaml"
    path.write_text('name: words\nquestion: "Q: {question} of {thing}"\n')
    templates = Templates.load(path, {"question": {"question", "thing"}})
    assert templates.fill("question", question="{thing}?", thing="nut") == "Q: {thing}? of nut"
    with pytest.raises(PromptError, match=r"question: expected placeholders among question, got \{thing\}"):
        Templates.load(path, {"question": {"question"}})
    with pytest.raises(PromptError, match="expected the text 'system'"):
        Templates.load(path, {"question": {"question", "thing"}, "system": set()})


PLACE = Place(label="B", box=(1, 2, 3, 4), location="upper left", shape="compact", share=0.01, peak=0.8)
WHOLE = (
    '{"answer": "A scratch.", "judgement": "anomalous", "defects": [{"type": "scratch", "region": "b", "location": "somewhere", '
    '"severity": "severe", "confidence": "80 %"}]}'
)


@pytest.mark.parametrize(
    "reply",
    [
        f'<think>like {{"answer": "...", "judgement": "normal", "defects": []}}</think>{WHOLE}',
        f'like {{"answer": "...", "judgement": "normal", "defects": []}}, so: {WHOLE}',
        "{x} " * 2000 + WHOLE,
        WHOLE,
        f"Here it is:\n```json\n{WHOLE}\n```\nBye {{}}",
        f"Sure {{x}}! {WHOLE} trailing",
        WHOLE.replace("}]}", "},]}"),
    ],
)
def test_replies_are_read_however_they_are_wrapped(reply):
    parsed = parse_answer(reply, [PLACE], "m")
    (defect,) = parsed.defects
    assert (parsed.text, parsed.judgement, parsed.failures) == ("A scratch.", True, ())
    assert (defect.type, defect.region, defect.box, defect.location) == ("scratch", "B", (1, 2, 3, 4), "upper left")
    assert (defect.severity, defect.confidence, defect.source) == ("high", 0.8, "m")


@pytest.mark.parametrize(
    ("reply", "text", "judgement", "n_failures"),
    [
        ("It is scratched.", "It is scratched.", None, 1),
        (WHOLE[:-30], "A scratch.", True, 1),  # cut off: the answer is read, and the defect inside is not mistaken for the whole
        ('{"answer": "A \\"B\\" ma', 'A "B" ma', None, 1),
        ('{"answer": "ok", "judgement": "fine", "defects": []}', "ok", None, 1),
        ('{"answer": 3, "judgement": "unsure", "defects": {}}', "", None, 2),
        ('{"answer": "ok", "judgement": "normal", "defects": [{"region": "A"}, 7]}', "ok", False, 2),
        ('["answer"]', '["answer"]', None, 1),
        ("{" * 100_000, "{" * 100_000, None, 1),
    ],
)
def test_unreadable_replies_are_counted(reply, text, judgement, n_failures):
    parsed = parse_answer(reply, [PLACE], "m")
    assert (parsed.text, parsed.judgement, parsed.defects, len(parsed.failures)) == (text, judgement, (), n_failures)


def test_a_place_that_was_not_marked_has_no_box():
    parsed = parse_answer(WHOLE, [replace(PLACE, label="A")], "m")
    assert (parsed.defects[0].box, parsed.defects[0].location, parsed.defects[0].region) == (None, "somewhere", None)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ('{"answer": "A scr', "A scr"),
        ('{"answer": "A \\"deep\\" scratch\\', 'A "deep" scratch'),
        ('{"answer": "caf\\u00', "caf"),
        ('{"ans', ""),
        ('```json\n{"answer": "two\\nlines", "judge', "two\nlines"),
        ("It is scratched.", "It is scratched."),
    ],
)
def test_what_a_vlm_has_written_so_far(raw, words):
    assert answer_so_far(raw) == words
