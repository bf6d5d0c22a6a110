"""What `ask` gives back: words, the detector's verdict, the defects, and the evidence they rest on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Verdict = Literal["anomalous", "normal", "undecided"]
Severity = Literal["low", "medium", "high", "unknown"]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One thing that is wrong.

    Attributes:
        type: such as "scratch"; "unknown" where the model has no word for it, or its names were not right often enough where that was
            measured (`Advice.type_margin`); what was nearest then stands in `alternatives`.
        location: place in words on a 3 x 3 grid, such as "upper left".
        box: (left, top, right, bottom) in pixels of the picture, right and bottom exclusive; None if whoever named the defect gave no
            place that the detector marked.
        severity: "low", "medium" or "high", by its share of the part and how far it lies beyond what good pictures show; "unknown" where
            no good pictures say that, because one picture alone does not tell; see `vlad.vlm.places.severity_of`.
        confidence: in [0, 1]. The describer's softmax over the types of its vocabulary, or what the VLM said; neither is calibrated.
        region: letter of the marked region it belongs to, None if there is none.
        shape: "elongated", "compact" or "spread out"; empty if unknown.
        share: area over the picture's area, in [0, 1]; None if unknown.
        alternatives: the next best types with their confidence, best first.
        source: "describer" or the name of the VLM that said it.
    """

    type: str
    location: str
    box: Box | None
    severity: Severity
    confidence: float
    region: str | None = None
    shape: str = ""
    share: float | None = None
    alternatives: tuple[tuple[str, float], ...] = ()
    source: str = "describer"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "type": self.type,
            "location": self.location,
            "box": None if self.box is None else list(self.box),
            "severity": self.severity,
            "confidence": round(self.confidence, 4),
            "region": self.region,
            "shape": self.shape,
            "share": self.share,
            "alternatives": [[name, round(value, 4)] for name, value in self.alternatives],
            "source": self.source,
        }


@dataclass(frozen=True, kw_only=True)
class Place:
    """One region of the detector, named and measured.

    Attributes:
        label: letter by which picture and text call it: "A" is the hottest.
        box: as of `Defect`.
        location: place in words on a 3 x 3 grid.
        shape: "elongated", "compact" or "spread out".
        share: area over the picture's area, in [0, 1].
        peak: largest value of the anomaly map inside, in [0, 1].
        marked: False if nothing passed the pixel threshold and this is merely the hottest place.
    """

    label: str
    box: Box
    location: str
    shape: str
    share: float
    peak: float
    marked: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "label": self.label,
            "box": list(self.box),
            "location": self.location,
            "shape": self.shape,
            "share": self.share,
            "peak": self.peak,
            "marked": self.marked,
        }


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One picture of the evidence: uint8 (H, W, 3) RGB, and what it shows in words."""

    caption: str
    image: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the detector found, as the describer and the VLM get it.

    Attributes:
        image_path: file of the picture, None if it came as data.
        image_size: (H, W).
        class_name: noun.
        score, threshold, threshold_source: as of `Prediction`.
        places: regions, hottest first.
        places_left_out: further regions that were too many to show.
        reference: the normal picture shown beside, as a path or "a picture"; None if there was none.
        knowledge: text about what is normal and what is not, as given; empty if none.
        exhibits: pictures for a VLM, the whole picture first; empty for the describer.
        detector: model that made score and places.
        undecided: why there is no verdict, as of `Prediction`.
        is_anomalous: `Prediction.pred_label`; None leaves it to score and threshold.
    """

    image_path: str | None
    image_size: tuple[int, int]
    class_name: str
    score: float
    threshold: float | None
    threshold_source: str | None
    places: tuple[Place, ...]
    places_left_out: int = 0
    reference: str | None = None
    knowledge: str = ""
    exhibits: tuple[Exhibit, ...] = ()
    detector: str = ""
    undecided: str = ""
    is_anomalous: bool | None = None

    @property
    def verdict(self) -> Verdict:
        """The detector's."""
        if self.threshold is None:
            return "undecided"
        is_anomalous = self.score > self.threshold if self.is_anomalous is None else self.is_anomalous
        return "anomalous" if is_anomalous else "normal"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the pictures' pixels."""
        return {
            "image_path": self.image_path,
            "image_size": list(self.image_size),
            "class_name": self.class_name,
            "score": self.score,
            "threshold": self.threshold,
            "threshold_source": self.threshold_source,
            "places": [place.to_dict() for place in self.places],
            "places_left_out": self.places_left_out,
            "reference": self.reference,
            "knowledge": self.knowledge,
            "exhibits": [exhibit.caption for exhibit in self.exhibits],
            "detector": self.detector,
            "undecided": self.undecided,
        }


@dataclass(frozen=True, kw_only=True)
class PlaceCheck:
    """What a VLM made of one marked place.

    Attributes:
        label: of the place.
        differs: probability in [0, 1] that it differs from the same place of a good part, or 1 or 0 from its words; None if it did not say,
            said both, or the time was up.
        why: where `differs` is None.
    """

    label: str
    differs: float | None
    why: str = ""

    @property
    def is_refuted(self) -> bool:
        """Whether the VLM sees no difference there."""
        return self.differs is not None and self.differs < 0.5

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"label": self.label, "differs": None if self.differs is None else round(self.differs, 4), "why": self.why}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer about one picture.

    Attributes:
        text: the answer in words, plain text. What a VLM wrote is untrusted: escape it where you show it as HTML or Markdown.
        verdict: "anomalous", "normal" or "undecided" (no threshold); always the detector's.
        defects: hottest region first; empty if the verdict is normal and no VLM named any.
        evidence: what the answer rests on.
        agrees: whether the VLM's own judgement is the detector's; None if there is no VLM or it gave none.
        model: who wrote the text, and the detector behind it.
        question: what was asked.
        problems: what went wrong on the way, e.g. a server that did not answer; the answer is then the describer's.
        parse_failures: answers of the VLM that could not be read as what was asked for.
        seconds: time taken, the detector's included.
        checks: of each marked place, whether the VLM sees a difference from a good part there, where that was asked for; see
            `vlad.vlm.refute`.
    """

    text: str
    verdict: Verdict
    defects: tuple[Defect, ...]
    evidence: Evidence
    agrees: bool | None
    model: str
    question: str
    problems: tuple[str, ...] = ()
    parse_failures: int = 0
    seconds: float = 0.0
    checks: tuple[PlaceCheck, ...] = ()

    @property
    def is_anomalous(self) -> bool | None:
        """The verdict as a truth value, None if undecided."""
        return None if self.verdict == "undecided" else self.verdict == "anomalous"

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "question": self.question,
            "text": self.text,
            "verdict": self.verdict,
            "defects": [defect.to_dict() for defect in self.defects],
            "agrees": self.agrees,
            "model": self.model,
            "problems": list(self.problems),
            "parse_failures": self.parse_failures,
            "seconds": round(self.seconds, 6),
            "checks": [check.to_dict() for check in self.checks],
            "evidence": self.evidence.to_dict(),
        }
