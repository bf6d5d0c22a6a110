"""Is this frame unlike those before it? A flag for each frame, beside the verdict on the part and the drift of the stream.

What is compared is the picture as a whole: the distance of its embedding to the mean of the last ordinary ones. The flag is one-sided (the
most typical frame is no outlier) and has two limits, of which the larger holds: a percentile of the last distances, so that at most that
share of an unchanging stream is flagged, and what a log-normal distribution of their median and spread would pass once in a thousand
frames, which a short window's percentile cannot tell. An outlier stays out of the mean and of the log-normal, and counts in
the percentile as a distance at the limit: left out altogether, each would lower the percentile, for the next to be flagged sooner.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from vlad.errors import ConfigError

WINDOW, PERCENTILE = 200, 0.99
_SIGMAS = 3.1  # of the log-normal: once in a thousand
_FEWEST = 4


@dataclass(frozen=True)
class Outlier:
    """What is said of one frame.

    Attributes:
        is_outlier: True if the frame is unlike those before it; None while warming up.
        distance: (1 - cos) / 2 in [0, 1] from its embedding to the mean of the window's.
        limit: a distance above it is an outlier; None while warming up.
        has_changed: True where so many outliers came in a row that the stream is another now: from the next frame on they are what frames
            are compared with.
    """

    is_outlier: bool | None
    distance: float
    limit: float | None
    has_changed: bool = False


class OutlierFlag:
    """Flags frames one by one; time and memory of a frame do not grow with the stream.

    Args:
        warm_up: first frames that are taken as they are, at least 4; also so many outliers in a row make a change of the stream.
        window: last ordinary frames that a frame is compared with, at least `warm_up`.
        percentile: share in [0.5, 1) of the window's distances that lies below the limit.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, *, warm_up: int = 20, window: int = WINDOW, percentile: float = PERCENTILE) -> None:
        if isinstance(warm_up, bool) or not isinstance(warm_up, int) or warm_up < _FEWEST:
            raise ConfigError(f"warm_up must be a whole number >= {_FEWEST}, got {warm_up!r}")
        if isinstance(window, bool) or not isinstance(window, int) or window < warm_up:
            raise ConfigError(f"window must be a whole number >= warm_up ({warm_up}), got {window!r}")
        if not 0.5 <= percentile < 1:
            raise ConfigError(f"percentile must be a number from 0.5 to below 1, got {percentile!r}")
        self.warm_up, self.window, self.percentile = warm_up, window, percentile
        self._embeddings: deque[np.ndarray] = deque(maxlen=window)
        self._distances: deque[tuple[float, bool]] = deque(maxlen=window)  # and whether it is that of an ordinary frame
        self._row: list[np.ndarray] = []  # of the outliers that came last without another frame between them

    @property
    def is_warming_up(self) -> bool:
        """True until the first `warm_up` frames have been seen."""
        return len(self._embeddings) < self.warm_up

    def update(self, embedding: np.ndarray) -> Outlier:
        """Look at the next frame's embedding, float (E,) of any length but zero."""
        one = np.asarray(embedding, np.float64).ravel()
        one = one / max(float(np.linalg.norm(one)), 1e-12)
        if self.is_warming_up:
            distance = _distance(one, np.sum(self._embeddings, axis=0)) if self._embeddings else 0.0
            self._embeddings.append(one)
            if len(self._embeddings) == self.warm_up:
                self._settle()
            return Outlier(None, distance, None)
        distance, limit = _distance(one, np.sum(self._embeddings, axis=0)), self._limit()
        if distance <= limit:
            self._row.clear()
            self._embeddings.append(one)
            self._distances.append((distance, True))
            return Outlier(False, distance, limit)
        self._distances.append((limit, False))
        self._row.append(one)
        has_changed = len(self._row) == self.warm_up
        if has_changed:
            self._embeddings.clear()
            self._embeddings.extend(self._row)
            self._row.clear()
            self._settle()
        return Outlier(True, distance, limit, has_changed)

    def _settle(self) -> None:
        """The distances of the first frames, each to the mean of the others."""
        total = np.sum(self._embeddings, axis=0)
        self._distances.clear()
        self._distances.extend((_distance(one, total - one), True) for one in self._embeddings)

    def _limit(self) -> float:
        distances = [distance for distance, _ in self._distances]
        logs = np.log(np.maximum([distance for distance, is_ordinary in self._distances if is_ordinary], 1e-12))
        middle = float(np.median(logs))
        spread = 1.4826 * float(np.median(np.abs(logs - middle)))
        return max(float(np.quantile(distances, self.percentile)), math.exp(middle + _SIGMAS * spread))


def _distance(one: np.ndarray, total: np.ndarray) -> float:
    """(1 - cos) / 2 of a unit vector to another of any length."""
    return float(np.clip((1 - one @ total / max(float(np.linalg.norm(total)), 1e-12)) / 2, 0, 1))
