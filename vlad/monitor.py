"""Drift watch: has a stream of pictures moved away from the references, or from its own beginning?"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vlad.errors import ConfigError, ImageReadError
from vlad.streams.outliers import WINDOW, Outlier, OutlierFlag

if TYPE_CHECKING:
    from vlad.pictures.reading import ImageSource
    from vlad.prediction import Prediction
    from vlad.references.memory import ReferenceMemory

_FEWEST = 4  # values on a side below which ranks show nothing


class Detector(Protocol):
    """What a monitor needs of an `AnomalyDetector`."""

    @property
    def memory(self) -> ReferenceMemory | None:
        """The references, None without."""
        ...

    def predict(
        self, images: ImageSource, *, class_name: str | None = ..., maps: bool = ..., threshold: float | None = ..., tile: int | None = ...
    ) -> Prediction:
        """One picture's prediction."""
        ...


@dataclass(frozen=True)
class Watched:
    """One picture of a stream.

    Attributes:
        prediction: what the detector says of the picture; its `scores` also hold the numbers below.
        distance: (1 - cos) / 2 in [0, 1] from the picture's embedding to the nearest reference's, or to the mean of the warm-up.
        distance_percentile: share in [0, 1] of the warm-up's distances below it (ties count half); None while warming up.
        score_percentile: the same of the score.
        shifts: for "references", "distance" and "score", as far as they are known, how far the last pictures lie from what they are
            compared with, in standard errors of their mean rank; beyond the monitor's limit counts as drift.
        reasons: what has drifted, in words; empty if nothing has.
        outlier: whether this very picture is unlike those before it.
    """

    prediction: Prediction
    distance: float
    distance_percentile: float | None
    score_percentile: float | None
    shifts: dict[str, float]
    reasons: tuple[str, ...]
    outlier: Outlier

    @property
    def drifted(self) -> bool:
        """True if the stream has moved away."""
        return bool(self.reasons)


class DriftMonitor:
    """Scores pictures as they come and compares the last `window` of them with the references and with the first `warm_up`.

    The test is the rank sum of Mann and Whitney, which asks for no distribution: without drift the mean rank of the last n values among m
    earlier ones is 0.5 with a standard error of sqrt((n + m + 1) / (12 n m)). Three comparisons are made:

    - "references": the warm-up's distances to the references against the references' distances to each other (needs four references);
      the stream was other than the references from its beginning.
    - "distance": the last distances against the warm-up's; the scene, the light or the camera has moved away.
    - "score": the last scores against the warm-up's, in both directions; parts have become more, or suspiciously less, anomalous.

    Memory and time per picture do not grow with the stream. Nothing in the detector changes.

    Args:
        detector: with or without references.
        warm_up: first pictures that stand for the stream as it should be, at least 4.
        window: last pictures that are compared with them, at least 4.
        limit: standard errors that count as drift; 3 is passed by chance by 1 of 700 independent windows.
        outliers: flags single pictures; None takes an `OutlierFlag` with this `warm_up`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self, detector: Detector, *, warm_up: int = 20, window: int = 20, limit: float = 3.0, outliers: OutlierFlag | None = None
    ) -> None:
        for name, value in (("warm_up", warm_up), ("window", window)):
            if not isinstance(value, int) or value < _FEWEST:
                raise ConfigError(f"{name} must be a whole number >= {_FEWEST}, got {value!r}")
        if not 0 < limit < math.inf:
            raise ConfigError(f"limit must be a number > 0, got {limit!r}")
        self.detector, self.warm_up, self.limit = detector, warm_up, limit
        self._outliers = OutlierFlag(warm_up=warm_up, window=max(WINDOW, warm_up)) if outliers is None else outliers
        self._first: list[tuple[float, float]] = []  # (distance, score) of the warm-up
        self._last: deque[tuple[float, float]] = deque(maxlen=window)
        self._warm_embeddings: list[np.ndarray] = []
        memory = detector.memory
        self._anchors = None if memory is None else np.stack([value.cpu().numpy() for value in memory.embeddings.values()])
        self._own_distances = () if self._anchors is None else _distances_among(self._anchors)

    @property
    def is_warming_up(self) -> bool:
        """True until the first `warm_up` pictures have been seen."""
        return len(self._first) < self.warm_up

    def update(
        self,
        image: ImageSource,
        *,
        class_name: str | None = None,
        maps: bool = True,
        threshold: float | None = None,
        tile: int | None = None,
    ) -> Watched:
        """Score the next picture of the stream; the arguments are those of `AnomalyDetector.predict`. A picture that cannot be read raises
        its ImageReadError and leaves the monitor as it was."""
        prediction = self.detector.predict(image, class_name=class_name, maps=maps, threshold=threshold, tile=tile)
        assert prediction.embedding is not None
        distance = self._distance(prediction.embedding)
        value = (distance, prediction.pred_score)
        percentiles: tuple[float, float] | None = None
        if self.is_warming_up:
            self._first.append(value)
            if self._anchors is None:
                self._warm_embeddings.append(prediction.embedding)
                if len(self._first) == self.warm_up:
                    self._settle()
        else:
            self._last.append(value)
            percentiles = _rank([distance], (one for one, _ in self._first)), _rank([value[1]], (one for _, one in self._first))
        shifts = self._shifts()
        reasons = tuple(
            self._words(name, shift) for name, shift in shifts.items() if abs(shift) > self.limit and (name == "score" or shift > 0)
        )
        outlier = self._outliers.update(prediction.embedding)
        flags = {} if outlier.limit is None else {"outlier": float(bool(outlier.is_outlier)), "outlier_limit": outlier.limit}
        flags |= {"outlier_distance": outlier.distance, "drift": float(bool(reasons))}
        numbers = {"drift_distance": distance} | {f"drift_{name}_shift": shift for name, shift in shifts.items()}
        return Watched(
            prediction=replace(prediction, scores=prediction.scores | numbers | flags),
            distance=distance,
            distance_percentile=None if percentiles is None else percentiles[0],
            score_percentile=None if percentiles is None else percentiles[1],
            shifts=shifts,
            reasons=reasons,
            outlier=outlier,
        )

    def watch(
        self,
        images: Iterable[ImageSource],
        *,
        class_name: str | None = None,
        maps: bool = True,
        threshold: float | None = None,
        tile: int | None = None,
    ) -> Iterator[Watched | ImageReadError]:
        """`update` for each picture; an unreadable one gives its error in its place, so that a stream goes on."""
        for image in images:
            try:
                yield self.update(image, class_name=class_name, maps=maps, threshold=threshold, tile=tile)
            except ImageReadError as error:
                yield error

    def _distance(self, embedding: np.ndarray) -> float:
        anchors = self._anchors
        if anchors is None:
            anchors = np.stack([*self._warm_embeddings, embedding]).mean(0, keepdims=True)
        return float(_distances(embedding, anchors).min())

    def _settle(self) -> None:
        """Without references the warm-up's mean stands for them; each warm-up picture is compared with the mean of the others."""
        embeddings = np.stack(self._warm_embeddings)
        total = embeddings.sum(0)
        own = [float(_distances(one, (total - one)[None])[0]) for one in embeddings]
        self._first = [(distance, score) for distance, (_, score) in zip(own, self._first, strict=True)]
        self._anchors = total[None]

    def _shifts(self) -> dict[str, float]:
        """Mean ranks as standard errors from 0.5."""
        shifts: dict[str, float] = {}
        if self.is_warming_up:
            return shifts
        if len(self._own_distances) >= _FEWEST:
            shifts["references"] = _shift([distance for distance, _ in self._first], self._own_distances)
        if len(self._last) >= _FEWEST:
            for side, name in enumerate(("distance", "score")):
                shifts[name] = _shift([value[side] for value in self._last], [value[side] for value in self._first])
        return shifts

    def _words(self, name: str, shift: float) -> str:
        if name == "references":
            return f"the stream looks unlike the references from its beginning ({shift:.1f} standard errors)"
        what = (
            "pictures have moved away from what they were"
            if name == "distance"
            else "scores have risen"
            if shift > 0
            else "scores have fallen"
        )
        return f"{what} ({abs(shift):.1f} standard errors, last {len(self._last)} against the first {self.warm_up})"


def _distances(embedding: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(1 - cos) / 2 of a vector (E,) to each anchor (K, E)."""
    cosines = anchors @ embedding / np.maximum(np.linalg.norm(anchors, axis=1) * np.linalg.norm(embedding), 1e-12)
    return np.clip((1 - cosines) / 2, 0, 1)


def _distances_among(anchors: np.ndarray) -> tuple[float, ...]:
    """Of each anchor to the nearest other one."""
    if len(anchors) < 2:
        return ()
    return tuple(float(np.delete(_distances(anchor, anchors), number).min()) for number, anchor in enumerate(anchors))


def _rank(values: Iterable[float], earlier: Iterable[float]) -> float:
    """Mean share in [0, 1] of the earlier values below each value; ties count half."""
    now, before = np.asarray(list(values))[:, None], np.asarray(list(earlier))[None]
    return float(((now > before) + 0.5 * (now == before)).mean())


def _shift(values: list[float], earlier: list[float] | tuple[float, ...]) -> float:
    n, m = len(values), len(earlier)
    return (_rank(values, earlier) - 0.5) / math.sqrt((n + m + 1) / (12 * n * m))
