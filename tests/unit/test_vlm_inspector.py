"""The describer, the inspector and `detector.ask`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlad.backbones.base import Advice
from vlad.errors import ConfigError, ImageReadError, VlmError
from vlad.vlm.backends.base import Message, Reply
from vlad.vlm.describer import Describer, heat_inside
from vlad.vlm.inspector import Inspector
from vlad.vlm.places import find_places
from vlad.vlm.vocabulary import DefectVocabulary


@dataclass
class Scripted:
    """A backend that says what it is told to, and remembers what it was shown."""

    replies: list[Any]
    name: str = "scripted"
    most_images: int | None = None
    seen: list[list[Message]] = field(default_factory=list)

    def identify(self):
        return self.name

    def chat(self, messages, *, limits=None, schema=None, on_text=None):
        self.seen.append(list(messages))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if on_text is not None:
            on_text(reply)
        return Reply(reply, "stop", 0.0)

    def letters(self, messages, letters, *, limits=None):
        return None


@pytest.fixture
def picture(golden) -> np.ndarray:
    return golden.pictures()[0]


def saying(answer: str = "A mark.", judgement: str = "anomalous", defects: list | None = None) -> str:
    return json.dumps({"answer": answer, "judgement": judgement, "defects": defects or []})


def text_of(message: Message) -> str:
    return "\n".join(part for part in message.parts if isinstance(part, str))


class Colours:
    """A joint encoder whose space is colour, on a grid of 4 x 4: red places are scratches, blue ones stains."""

    name, grid, scales = "colours", (4, 4), (1, 2)

    def __init__(self, backbone, advice=None):
        self.preprocessing = backbone.preprocessing
        self.advice = advice or Advice()

    def encode_image(self, pixels, *, scales=(), patches=False):
        from torch.nn import functional as F

        from vlad.backbones.base import ImageEmbeddings

        places = F.adaptive_avg_pool2d(pixels, 4).flatten(2).transpose(1, 2)
        return ImageEmbeddings(pixels.mean(dim=(2, 3)), {1: places})

    def encode_text(self, sentences):
        import torch

        return torch.tensor([[1.0, 0, 0] if "scratch" in text else [0, 0, 1.0] for text in sentences])


def vocabulary(*types: str) -> DefectVocabulary:
    return DefectVocabulary(name="few", templates=("{class_name} with {defect}",), types={type_: (f"a {type_}",) for type_ in types})


def test_describer_compares_places_with_words(backbone):
    describer = Describer(Colours(backbone), vocabulary("scratch", "stain"))
    picture = np.full((96, 96, 3), 120, np.uint8)
    picture[:24, :24], picture[48:72, 48:72] = (200, 90, 90), (90, 90, 200)
    heat = np.zeros((96, 96), np.float32)
    heat[:24, :24], heat[48:72, 48:72] = 0.9, 0.8
    red, blue = describer.confidences(picture, heat, [heat_inside(heat, (0, 0, 30, 30)), heat_inside(heat, (40, 40, 80, 80))], "plate")
    assert (next(iter(red)), next(iter(blue))) == ("scratch", "stain")
    assert sum(red.values()) == pytest.approx(1) and list(red.values()) == sorted(red.values(), reverse=True)


def test_describer_takes_off_what_the_whole_picture_shares_with_a_sentence(backbone):
    describer = Describer(Colours(backbone), vocabulary("scratch", "stain"))
    picture = np.full((96, 96, 3), (200, 90, 90), np.uint8)
    heat = np.zeros((96, 96), np.float32)
    heat[:24, :24] = 0.9
    (reddish,) = describer.confidences(picture, heat, [heat], "plate")
    picture[24:] = 120  # now only the place is red
    (red,) = describer.confidences(picture, heat, [heat], "plate")
    assert 0.5 < reddish["scratch"] < red["scratch"]


def test_describer_leaves_out_words_that_the_model_never_learned(backbone):
    advice = Advice(unknown_words=lambda sentences: [text for text in sentences if "hole" in text])
    describer = Describer(Colours(backbone, advice), vocabulary("scratch", "stain", "hole"))
    assert describer.unnamed("plate") == ("hole",)
    picture, heat = np.zeros((96, 96, 3), np.uint8), np.ones((96, 96), np.float32)
    assert set(describer.confidences(picture, heat, [heat], "plate")[0]) == {"scratch", "stain"}


def test_a_type_is_named_from_the_margin_on(backbone, detector, picture):
    result = detector.predict(picture, threshold=0.01)
    places, _ = find_places(result)
    for margin, is_named in ((0.0, True), (1.0, False), (None, False)):
        advice = replace(backbone.advice, type_margin=margin)
        describer = Describer(Colours(backbone, advice), DefectVocabulary.load())
        defect = describer.describe(result, picture, places)[0]
        assert (defect.type != "unknown") is is_named and (defect.confidence > 0) is is_named
        assert len(defect.alternatives) == 4 and defect.type not in dict(defect.alternatives)


def test_ask_answers_with_the_detectors_verdict(detector, picture):
    result = detector.predict(picture, threshold=0.01)
    answer = detector.ask(picture, "What is wrong?", threshold=0.01)
    assert (answer.verdict, answer.is_anomalous, answer.agrees) == ("anomalous", True, None)
    assert answer.evidence.score == result.pred_score
    assert answer.defects and answer.defects[0].box == result.regions[0].box
    (defect, *_) = answer.defects
    assert defect.type == "unknown" and defect.severity == "unknown", "nobody measured this model's names, and no good picture is known"
    assert {name for name, _ in defect.alternatives} <= set(DefectVocabulary.load().types) and len(defect.alternatives) == 4
    assert answer.text.startswith(f"Anomalous: score {result.pred_score:.2f}, threshold 0.01 (user).") and "type" not in answer.text
    assert answer.model == "describer, detector tiny deterministic CLIP"
    assert json.loads(json.dumps(answer.to_dict()))["defects"][0]["box"] == list(result.regions[0].box)
    normal = detector.ask(picture, threshold=0.99)
    assert (normal.verdict, normal.defects) == ("normal", ()) and normal.text.startswith("Normal: score")


def test_describer_says_what_it_cannot_answer(detector, picture):
    assert "name a vision-language model" in detector.ask(picture, "Who made this?", threshold=0.01).text
    assert "stand" in detector.ask(picture, "How many defects are there?", threshold=0.01).text


def test_a_patch_backbone_knows_no_words():
    describer = Describer(None, DefectVocabulary.load())
    heat = np.ones((32, 32), np.float32)
    assert describer.confidences(np.zeros((32, 32, 3), np.uint8), heat, [heat], "nut") == [{}]
    assert "scratch" in describer.unnamed("spanner")


def test_the_vlm_sees_the_evidence(detector, picture, golden, tmp_path):
    notes = tmp_path / "nut.md"
    notes.write_text("Nuts have {six} sides.")
    detector.fit(golden.pictures("reference"))
    vlm = Scripted([saying()])
    answer = Inspector(detector, vlm, knowledge=notes).ask(picture, "Is {score} fine?", class_name="metal nut", threshold=0.01)
    system, asked = vlm.seen[0]
    words = text_of(asked)
    assert "never instructions" in text_of(system)
    for expected in (
        "Nuts have {six} sides.",
        "metal nut",
        f"{answer.evidence.score:.2f}",
        "A at the",
        "Is {score} fine?",
        "normal example",
    ):
        assert expected in words
    captions = [exhibit.caption for exhibit in answer.evidence.exhibits]
    assert len(asked.images) == len(captions) and captions[0] == "the whole picture"
    assert np.array_equal(asked.images[0], picture)
    assert any("closer look at place A" in caption for caption in captions) and "normal example" in captions[2]
    assert answer.evidence.reference == "a picture"
    assert (answer.text, answer.agrees, answer.model) == ("A mark.", True, "scripted, detector tiny deterministic CLIP")


def test_few_pictures_for_a_model_that_takes_few(detector, picture):
    vlm = Scripted([saying()], most_images=2)
    answer = Inspector(detector, vlm).ask(picture, threshold=0.01)
    assert len(vlm.seen[0][1].images) == 2 == len(answer.evidence.exhibits)
    assert "Picture 3" not in text_of(vlm.seen[0][1])


def test_disagreement_is_said_and_changes_nothing(detector, picture):
    answer = Inspector(detector, Scripted([saying("All fine.", "normal")])).ask(picture, threshold=0.01)
    assert (answer.verdict, answer.agrees) == ("anomalous", False)
    assert answer.text.startswith("All fine.") and "takes the picture for normal, the detector for anomalous" in answer.text


def test_an_injected_reply_changes_no_verdict(detector, picture):
    answer = Inspector(detector, Scripted(["OK"])).ask(picture, threshold=0.01)
    assert (answer.verdict, answer.agrees, answer.parse_failures) == ("anomalous", None, 1)
    assert answer.defects and answer.defects[0].source == "describer"


@pytest.mark.parametrize("reply", ["", "  \n", VlmError("server: down")])
def test_without_a_reply_the_describer_stands_in(detector, picture, reply):
    alone = detector.ask(picture, threshold=0.01)
    answer = Inspector(detector, Scripted([reply])).ask(picture, threshold=0.01)
    assert (answer.text, answer.defects, answer.model) == (alone.text, alone.defects, alone.model)
    assert len(answer.problems) == 1 and ("down" in answer.problems[0] or "empty answer" in answer.problems[0])


def test_a_conversation_remembers_and_forgets_what_failed(detector, picture):
    vlm = Scripted([saying("One."), VlmError("slow"), saying("Three.")])
    conversation = Inspector(detector, vlm).converse(picture, threshold=0.01)
    answers = [conversation.ask(question) for question in ("First?", "Second?", "Third?")]
    assert [bool(answer.problems) for answer in answers] == [False, True, False]
    last = vlm.seen[2]
    assert [message.role for message in last] == ["system", "user", "assistant", "user"]
    assert "First?" in text_of(last[1]) and "One." in text_of(last[2]) and "Third?" in text_of(last[3])
    assert not last[3].images and last[1].images  # the pictures are shown once
    with pytest.raises(ConfigError, match="expected a question"):
        conversation.ask("  ")


def test_nothing_is_embedded_or_loaded_twice_for_the_next_question(detector, picture, tmp_path, monkeypatch):
    detector.ask(picture, threshold=0.01)
    monkeypatch.setattr(detector.backbone, "encode_text", None)  # a second embedding of the vocabulary would call it
    detector.ask(picture, "Where?", threshold=0.01)
    loaded = []
    monkeypatch.setattr("vlad.vlm.backends.load_vlm", lambda name: loaded.append(name) or Scripted([saying(), saying()]))
    for _ in range(2):
        detector.ask(picture, vlm="some-vlm")
    assert loaded == ["some-vlm"]
    notes = tmp_path / "notes.md"
    notes.write_text("Round.")
    vlm = Scripted([saying(), saying()])
    for text in ("Round.", "Square."):
        notes.write_text(text)
        detector.ask(picture, vlm=vlm, knowledge=notes)
    assert "Square." in text_of(vlm.seen[1][1]) and "Round." not in text_of(vlm.seen[1][1])  # the edited file is read again


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"x" * 70_000, None])
def test_unreadable_knowledge_is_named(detector, tmp_path: Path, content):
    path = tmp_path / "notes.md"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"notes\.md: expected"):
        detector.ask(np.zeros((32, 32, 3), np.uint8), knowledge=str(path))


def test_unreadable_picture_is_named(detector, tmp_path):
    with pytest.raises(ImageReadError, match=r"gone\.png"):
        detector.ask(tmp_path / "gone.png")
