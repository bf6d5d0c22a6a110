"""The describer: says what kind of defect a region shows without a VLM, by comparing it with words, and where and how large it is.

The detector's own backbone embeds the windows of the picture. A region is the mean of its windows, weighted by their heat; for each type of
defect its score is the cosine to the type's sentences, minus half the cosine of the picture's coldest windows to the same sentences, so
that what the whole picture shares with a sentence counts less. A softmax over the types gives the confidences; they rank, they are no
probabilities. Windows, not crops: on 240 procedural pictures the embedded model named the type by windows in 30 % of the cases, by enlarged
crops in 7 %, no more than by chance. Axes: W windows, T types, D joint embedding.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlad.images import preprocess
from vlad.vlm.answer import Box, Defect, Evidence, Place
from vlad.vlm.places import list_in_words, severity_of, size_in_words
from vlad.vlm.vocabulary import DefectVocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from vlad.backbones.base import Backbone
    from vlad.prediction import Prediction

UNKNOWN = "unknown"
_COLD_SHARE, _COLD_WEIGHT = 0.3, 0.5  # the coldest share of windows, and how much of their score is taken off
_TEMPERATURE = 0.1  # of the softmax; the likeliest on the same pictures
_CACHE = 32  # text vectors of so many class names are kept
_TOPICS = {  # what a question is about, by its words
    "where": r"\b(where|location|located|place|position|side)\b",
    "size": r"\b(size|large|larger|big|bigger|small|area|share|long|wide)\b",
    "severity": r"\b(bad|badly|severe|severity|serious|critical|harmless|grave)\b",
    "count": r"\b(how many|count|number of)\b",
    "what": r"\b(what|which|kind|type|describe|wrong|defects?|anomal\w*|damage\w*|broken|faulty|ok|okay|good|normal|fine|is there|see)\b",
}


class Describer:
    """Describes regions with a vocabulary of defect types.

    Args:
        backbone: joint encoder of pictures and text; None (a patch backbone alone knows no words) leaves every type unknown.
        vocabulary: the types.
        temperature: of the softmax over types.
    """

    def __init__(self, backbone: Backbone | None, vocabulary: DefectVocabulary, *, temperature: float = _TEMPERATURE) -> None:
        self.backbone = backbone
        self.vocabulary = vocabulary
        self.temperature = temperature
        self._vectors: OrderedDict[str, tuple[tuple[str, ...], Tensor]] = OrderedDict()

    def describe(self, prediction: Prediction, picture: np.ndarray, places: Sequence[Place]) -> tuple[Defect, ...]:
        """One defect for each place, in order.

        Args:
            prediction: with its map.
            picture: uint8 (H, W, 3) RGB, the one the prediction is of.
            places: of `find_places`.
        """
        heat = prediction.anomaly_map
        assert heat is not None  # without a map there are no places
        weights = [heat_inside(heat, place.box) for place in places]
        ranked = self.confidences(picture, heat, weights, prediction.class_name)
        return tuple(_defect(place, found, prediction.mask_threshold or 0.0) for place, found in zip(places, ranked, strict=True))

    def unnamed(self, class_name: str) -> tuple[str, ...]:
        """Types of the vocabulary that the model has no words for; it can never name them."""
        if self.backbone is None:
            return self.vocabulary.types_for(class_name)
        named = set(self._types(class_name)[0])
        return tuple(type_ for type_ in self.vocabulary.types_for(class_name) if type_ not in named)

    def confidences(self, picture: np.ndarray, heat: np.ndarray, regions: Sequence[np.ndarray], class_name: str) -> list[dict[str, float]]:
        """For each region a softmax over the types, best first; empty without a backbone that knows words.

        Args:
            picture: uint8 (H, W, 3) RGB.
            heat: anomaly map (H, W), which says where the picture is cold.
            regions: (H, W) each, weights >= 0 of the pixels that belong to it.
            class_name: noun.
        """
        import torch
        from torch.nn import functional as F

        if self.backbone is None or not regions:
            return [{} for _ in regions]
        types, vectors = self._types(class_name)
        scale, grid = min(self.backbone.scales, default=1), self.backbone.grid
        with torch.inference_mode():
            windows = self.backbone.encode_image(preprocess([picture], self.backbone.preprocessing), scales=(scale,)).windows[scale][0]
            cosines = F.normalize(windows.float(), dim=-1) @ vectors.T
            warmth = _on_windows(heat, grid, scale).to(cosines.device)
            cold = (warmth <= warmth.quantile(_COLD_SHARE)).float()
            scores = torch.stack([_mean(cosines, _on_windows(region, grid, scale).to(cosines.device)) for region in regions])
            shares = torch.softmax((scores - _COLD_WEIGHT * _mean(cosines, cold)) / self.temperature, dim=1).tolist()
        return [dict(sorted(zip(types, row, strict=True), key=lambda item: -item[1])) for row in shares]

    def _types(self, class_name: str) -> tuple[tuple[str, ...], Tensor]:
        """The types that the model has words for, and a unit vector (T, D) each: the mean over its sentences."""
        import torch
        from torch.nn import functional as F

        assert self.backbone is not None
        if class_name in self._vectors:
            self._vectors.move_to_end(class_name)
            return self._vectors[class_name]
        known = {
            type_: [phrase for phrase in self.vocabulary.types[type_] if self._knows(phrase)]
            for type_ in self.vocabulary.types_for(class_name)
        }
        if sum(bool(phrases) for phrases in known.values()) < 2:  # nothing to choose between: let it try them all
            known = {type_: list(self.vocabulary.types[type_]) for type_ in known}
        sentences = {type_: self.vocabulary.sentences(class_name, type_, phrases) for type_, phrases in known.items() if phrases}
        embeddings = F.normalize(self.backbone.encode_text([text for texts in sentences.values() for text in texts]).float(), dim=-1)
        means = [part.mean(0) for part in embeddings.split([len(texts) for texts in sentences.values()])]
        self._vectors[class_name] = tuple(sentences), F.normalize(torch.stack(means), dim=-1)
        if len(self._vectors) > _CACHE:
            self._vectors.popitem(last=False)
        return self._vectors[class_name]

    def _knows(self, phrase: str) -> bool:
        """False if the backbone says that it never learned a word of the phrase; a CLIP knows every word."""
        unknown_words = getattr(self.backbone, "unknown_words", None)
        return unknown_words is None or not unknown_words([phrase])

    def write(self, evidence: Evidence, defects: Sequence[Defect], question: str, unnamed: Sequence[str] = ()) -> str:
        """A short answer in words. It follows the question as far as it can, and says so where it cannot."""
        topics = [topic for topic, words in _TOPICS.items() if re.search(words, question, re.I)]
        if not topics:
            return (
                f"{_verdict(evidence)} The describer can say what, where, how large, how bad and how many, nothing else; for this "
                "question name a vision-language model (--vlm)."
            )
        lines = [_verdict(evidence)]
        if evidence.verdict == "normal":
            if evidence.places:
                lines.append(
                    f"The warmest place is at the {evidence.places[0].location}; the score of the whole picture stays below the threshold."
                )
        elif not defects:
            lines.append("No place stands out in the map.")
        else:
            if "count" in topics:
                count = len(defects) + evidence.places_left_out
                lines.append(f"{count} place{'s' if count != 1 else ''} stand{'s' if count == 1 else ''} out.")
            lines += [_sentence(defect, marked=place.marked) for defect, place in zip(defects, evidence.places, strict=True)]
            if evidence.places_left_out:
                lines.append(f"{evidence.places_left_out} further places are not described.")
            if unnamed:
                lines.append(f"This model has no words for {list_in_words(list(unnamed))}.")
        return " ".join(lines)


def heat_inside(heat: np.ndarray, box: Box) -> np.ndarray:
    """The map (H, W) inside a box, above four fifths of its peak there; zero elsewhere."""
    left, top, right, bottom = box
    inside = heat[top:bottom, left:right]
    weights = np.zeros(heat.shape, np.float32)
    weights[top:bottom, left:right] = np.where(inside >= 0.8 * inside.max(), np.maximum(inside, 1e-6), 0)
    return weights


def _on_windows(values: np.ndarray, grid: tuple[int, int], scale: int) -> Tensor:
    """Means (W,) of a map (H, W) over the windows of `scale` patches at stride 1, in row-major order."""
    import torch
    from torch.nn import functional as F

    patches = F.adaptive_avg_pool2d(torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None], grid)
    return F.avg_pool2d(patches, scale, stride=1).flatten()


def _mean(cosines: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean (T,) of (W, T)."""
    return (cosines * weights[:, None]).sum(0) / weights.sum().clamp_min(1e-12)


def _defect(place: Place, found: dict[str, float], mask_threshold: float) -> Defect:
    best, *rest = found.items() or [(UNKNOWN, 0.0)]
    return Defect(
        type=best[0],
        location=place.location,
        box=place.box,
        severity=severity_of(place.share, place.peak, mask_threshold),
        confidence=best[1],
        region=place.label,
        shape=place.shape,
        share=place.share,
        alternatives=tuple(rest[:2]),
    )


def _verdict(evidence: Evidence) -> str:
    if evidence.threshold is None:
        return f"Score {evidence.score:.2f}, no threshold."
    return f"{evidence.verdict.capitalize()}: score {evidence.score:.2f}, threshold {evidence.threshold:.2f} ({evidence.threshold_source})."


def _sentence(defect: Defect, *, marked: bool) -> str:
    """ "A: an elongated mark at the upper left, 1.2 % of the picture, medium; closest to 'scratch' (0.61), then 'crack' (0.22)." """
    article = "an" if defect.shape == "elongated" else "a"
    size = size_in_words(defect.share or 0.0)
    where = f"{defect.region}: {article} {defect.shape} mark at the {defect.location}, {size}, {defect.severity} severity"
    if not marked:
        where += " (nothing passed the pixel threshold; this is the hottest place)"
    if defect.type == UNKNOWN:
        return f"{where}; this model knows no words, so its type is unknown."
    then = "".join(f", then '{name}' ({value:.2f})" for name, value in defect.alternatives[:1])
    return f"{where}; closest to '{defect.type}' ({defect.confidence:.2f}){then}."
