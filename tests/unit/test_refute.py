"""Propose, then refute: what a VLM is shown, how its two answers are joined, and that the verdict stays the detector's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, VlmError
from vlad.vlm.answer import Place
from vlad.vlm.backends.base import Limits, Reply
from vlad.vlm.refute import check_places, in_words

rng = np.random.default_rng(0)


class Eyes:
    """Sees whether two pictures differ, by their brightest pixel.

    Args:
        likelihood: tells letters by probability instead of words.
        says: what it writes instead.
        bias: always prefers the letter A.
    """

    most_images = None
    name = "eyes"

    def __init__(self, *, likelihood: bool = True, says: str = "", bias: bool = False) -> None:
        self.likelihood, self.says, self.bias = likelihood, says, bias
        self.seen: list = []

    def identify(self) -> str:
        return self.name

    def _letter(self, messages) -> str:
        first, second = messages[-1].images
        self.seen.append((first, second))
        wanted = "Yes" if abs(int(first.max()) - int(second.max())) > 5 else "No"
        text = messages[-1].parts[-1]
        return "A" if self.bias or f"A: {wanted}" in text else "B"

    def letters(self, messages, letters, *, limits=None):
        if not self.likelihood:
            return None
        letter = self._letter(messages)
        return {one: 0.9 if one == letter else 0.1 for one in letters}

    def chat(self, messages, *, limits=None, schema=None, on_text=None) -> Reply:
        if len(messages[-1].images) != 2:
            return Reply('{"answer": "Something is odd.", "anomalous": true}', "stop", 0.0)
        return Reply(self.says or self._letter(messages), "stop", 0.0)


def place(label: str, box: tuple[int, int, int, int]) -> Place:
    return Place(label=label, box=box, location="centre", shape="compact", share=0.01, peak=0.9)


GOOD = np.full((200, 300, 3), 100, np.uint8)
BAD = GOOD.copy()
BAD[20:60, 20:60] = 250
PLACES = (place("A", (20, 20, 60, 60)), place("B", (240, 140, 280, 180)))


class TestChecks:
    @pytest.mark.parametrize("likelihood", [True, False])
    def test_a_place_that_differs_and_one_that_does_not(self, likelihood):
        backend = Eyes(likelihood=likelihood)
        first, second = check_places(backend, BAD, GOOD, PLACES, "part", limits=Limits())
        assert (first.label, second.label) == ("A", "B") and not first.is_refuted and second.is_refuted
        assert first.differs == pytest.approx(0.9 if likelihood else 1.0) and second.differs == pytest.approx(0.1 if likelihood else 0.0)
        assert len(backend.seen) == 4, "each in both orders of the options"
        assert in_words((first, second), "eyes").startswith("Beside the nearest good part, eyes sees no difference at place B.")
        assert in_words((first,), "eyes") == ""

    def test_the_same_place_of_a_reference_of_another_size(self):
        large = np.kron(GOOD, np.ones((2, 2, 1), np.uint8))
        large[280:360, 480:560] = 7
        backend = Eyes()
        check_places(backend, BAD, large, PLACES[1:], "part", limits=Limits())
        assert backend.seen[0][1].min() == 7 and backend.seen[0][0].min() == 100

    def test_who_prefers_a_letter_has_said_nothing(self):
        (likely,) = check_places(Eyes(bias=True), BAD, GOOD, PLACES[:1], "part", limits=Limits())
        (written,) = check_places(Eyes(bias=True, likelihood=False), BAD, GOOD, PLACES[:1], "part", limits=Limits())
        assert likely.differs == 0.5 and not likely.is_refuted
        assert written.differs is None and "it said both" in written.why

    def test_no_plain_answer_a_failure_and_no_time(self):
        (vague,) = check_places(Eyes(likelihood=False, says="Hard to tell."), BAD, GOOD, PLACES[:1], "part", limits=Limits())
        assert vague.differs is None and "it gave no plain answer: 'Hard to tell.'" in vague.why

        class Broken(Eyes):
            def letters(self, messages, letters, *, limits=None):
                raise VlmError("the server went away")

        assert [one.why for one in check_places(Broken(), BAD, GOOD, PLACES, "part", limits=Limits())] == ["the server went away"] * 2
        late = check_places(Eyes(), BAD, GOOD, PLACES, "part", limits=Limits(seconds=0))
        assert [one.why for one in late] == ["the 0 seconds were up"] * 2


class TestInAsk:
    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls) -> AnomalyDetector:
        normal = [np.full((160, 160, 3), 120, np.uint8) + rng.integers(0, 12, (160, 160, 3), dtype=np.uint8) for _ in range(4)]
        return AnomalyDetector(LiteBackbone(device="cpu"), rotations=1).fit(normal)

    def damaged(self) -> np.ndarray:
        picture = np.full((160, 160, 3), 120, np.uint8) + rng.integers(0, 12, (160, 160, 3), dtype=np.uint8)
        picture[60:100, 60:100] = [200, 30, 30]
        return picture

    def test_the_answer_tells_and_the_verdict_stays(self, fitted):
        backend = Eyes()
        answer = fitted.ask(self.damaged(), vlm=backend, refute=True)
        assert answer.verdict == "anomalous" and answer.checks and answer.checks[0].label == "A" and not answer.checks[0].is_refuted
        assert answer.to_dict()["checks"][0]["label"] == "A"

        class Blind(Eyes):
            def _letter(self, messages) -> str:
                return "B" if "A: Yes" in messages[-1].parts[-1] else "A"

        refuted = fitted.ask(self.damaged(), vlm=Blind(), refute=True)
        assert refuted.verdict == "anomalous" and all(one.is_refuted for one in refuted.checks)
        assert "eyes sees no difference at place" in refuted.text and "The verdict is the detector's." in refuted.text
        assert fitted.ask(self.damaged(), vlm=backend).checks == ()

    def test_what_was_not_checked_is_said(self, fitted, tmp_path):
        one_at_a_time = Eyes()
        one_at_a_time.most_images = 1
        answer = fitted.ask(self.damaged(), vlm=one_at_a_time, refute=True)
        assert answer.checks == () and "takes one picture at a time, so no place was checked" in answer.problems[-1]
        assert not any(len(pair) == 2 for pair in one_at_a_time.seen)
        path = tmp_path / "good.png"
        Image.fromarray(self.damaged() // 2 + 60).save(path)
        detector = AnomalyDetector(LiteBackbone(device="cpu"), rotations=1, threshold=0.01).fit([path])
        path.unlink()
        answer = detector.ask(self.damaged(), vlm=Eyes(), refute=True)
        assert answer.checks == () and "no reference can be read any more" in answer.problems[-1]
        spots = np.full((320, 320, 3), 120, np.uint8) + np.random.default_rng(1).integers(0, 12, (320, 320, 3), dtype=np.uint8)
        for place in range(5):
            spots[20 + 60 * place : 44 + 60 * place, 20 + 60 * place : 44 + 60 * place] = [200, 30, 30]
        answer = fitted.ask(spots, vlm=Eyes(), refute=True)
        left = answer.evidence.places_left_out
        assert left > 0 and len(answer.checks) == len(answer.evidence.places)
        assert f"{left} further place{'s were' if left > 1 else ' was'} not checked beside a good part." in answer.text

    def test_limits_go_with_both_ways_of_asking(self):
        seconds = []

        class Clock(Eyes):
            def letters(self, messages, letters, *, limits=None):
                seconds.append(limits.seconds)
                return super().letters(messages, letters)

        check_places(Clock(), BAD, GOOD, PLACES, "part", limits=Limits(seconds=20))
        assert len(seconds) == 4 and all(0 < one <= 20 for one in seconds) and seconds == sorted(seconds, reverse=True)

    def test_the_verdict_is_the_one_of_predict(self, fitted):
        strict = fitted.copy(min_area=10_000)
        picture = self.damaged()
        assert strict.predict(picture).pred_score > strict.predict(picture).threshold
        answer = strict.ask(picture)
        assert strict.predict(picture).pred_label is False and answer.verdict == "normal" and answer.text.lower().startswith("normal")

    def test_it_needs_both(self, fitted):
        with pytest.raises(ConfigError, match="give it a vision-language model"):
            fitted.ask(self.damaged(), refute=True)
        with pytest.raises(ConfigError, match="give it references"):
            AnomalyDetector(LiteBackbone(device="cpu")).ask(self.damaged(), vlm=Eyes(), refute=True)
