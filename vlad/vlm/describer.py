"""The describer: says what kind of defect a region shows without a VLM, by comparing it with words, and where and how large it is.

The detector's own backbone embeds the windows of the picture. A region is the mean of its windows, weighted by their heat; for each type of
defect its score is the cosine to the type's sentences, minus half the cosine of the picture's coldest windows to the same sentences, so
that what the whole picture shares with a sentence counts less. A softmax over the types gives the confidences. On 500 procedural pictures
of kinds that the embedded model knows, its temperature has the highest likelihood, and the mean confidence is the share of right answers;
elsewhere they merely rank. Windows, not crops: enlarged crops name the type no better than chance. Axes: W windows, T types, D joint
embedding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from vlad.backbones.preprocessing import preprocess
from vlad.vlm.answer import Box, Defect, Evidence, Place
from vlad.vlm.places import severity_of
from vlad.vlm.vocabulary import DefectVocabulary
from vlad.vlm.wording import UNKNOWN, describe

if TYPE_CHECKING:
    from torch import Tensor

    from vlad.backbones.base import Backbone
    from vlad.prediction import Prediction

_COLD_SHARE, _COLD_WEIGHT = 0.3, 0.5  # the coldest share of windows, and how much of their score is taken off
_MEASURED = ("references", "labels")  # sources of thresholds that good pictures have set
_TEMPERATURE = 0.1  # of the softmax
_ALTERNATIVES = 4  # further types that a defect carries
_CACHE = 32  # text vectors of so many class names are kept for a backbone, as long as it lives
_Vectors: TypeAlias = "OrderedDict[tuple[tuple[str, tuple[str, ...]], ...], tuple[tuple[str, ...], Tensor]]"  # by types and their sentences
_KEPT: WeakKeyDictionary[Backbone, _Vectors] = WeakKeyDictionary()


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
        self._vectors: _Vectors = OrderedDict() if backbone is None else _KEPT.setdefault(backbone, OrderedDict())

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
        margin = None if self.backbone is None else self.backbone.advice.type_margin
        return tuple(_defect(place, found, prediction, margin) for place, found in zip(places, ranked, strict=True))

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
        if not types:
            return [{} for _ in regions]
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
        known = {
            type_: [phrase for phrase in self.vocabulary.types[type_] if self._knows(phrase)]
            for type_ in self.vocabulary.types_for(class_name)
        }
        if sum(bool(phrases) for phrases in known.values()) < 2:  # nothing to choose between
            known = {}
        sentences = {type_: self.vocabulary.sentences(class_name, type_, phrases) for type_, phrases in known.items() if phrases}
        if not sentences:
            return (), torch.empty(0)
        key = tuple((type_, tuple(texts)) for type_, texts in sentences.items())
        if key in self._vectors:
            self._vectors.move_to_end(key)
            return self._vectors[key]
        embeddings = F.normalize(self.backbone.encode_text([text for texts in sentences.values() for text in texts]).float(), dim=-1)
        means = [part.mean(0) for part in embeddings.split([len(texts) for texts in sentences.values()])]
        self._vectors[key] = tuple(sentences), F.normalize(torch.stack(means), dim=-1)
        if len(self._vectors) > _CACHE:
            self._vectors.popitem(last=False)
        return self._vectors[key]

    def _knows(self, phrase: str) -> bool:
        """False if the backbone says that it never learned a word of the phrase; a CLIP knows every word."""
        unknown_words = None if self.backbone is None else self.backbone.advice.unknown_words
        return unknown_words is None or not unknown_words([phrase])

    def write(self, evidence: Evidence, defects: Sequence[Defect], question: str, unnamed: Sequence[str] = ()) -> str:
        """A short answer in words to the question; see `vlad.vlm.wording.describe`."""
        return describe(
            evidence,
            defects,
            question,
            asked=self.vocabulary.asked_for(question),
            types=self.vocabulary.types_for(evidence.class_name),
            unnamed=unnamed,
            reliability="" if self.backbone is None else self.backbone.advice.type_reliability,
        )


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


def _defect(place: Place, found: dict[str, float], prediction: Prediction, margin: float | None) -> Defect:
    best, *rest = found.items() or [(UNKNOWN, 0.0)]
    if margin is None or best[1] < margin:
        best, rest = (UNKNOWN, 0.0), list(found.items())
    threshold = prediction.mask_threshold
    is_measured = threshold is not None and (prediction.threshold_source or "").startswith(_MEASURED)
    part = 1.0 if prediction.roi is None else float(prediction.roi.mask(prediction.image_size).mean())
    return Defect(
        type=best[0],
        location=place.location,
        box=place.box,
        severity=severity_of(place.share / max(part, 1e-6), place.peak, threshold or 0.0, is_measured=is_measured),
        confidence=best[1],
        region=place.label,
        shape=place.shape,
        share=place.share,
        alternatives=tuple(rest[:_ALTERNATIVES]),
    )
