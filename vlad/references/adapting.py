"""A threshold from references that follows the run: four good pictures say little about how far good scores spread, and what comes by says
much, whoever labels it (see `vlad.scoring.batch_threshold`)."""

from __future__ import annotations

import math
from collections import deque

from vlad.errors import ConfigError
from vlad.scoring.batch_threshold import FEWEST, batch_threshold

LIMIT = 3.0  # factor, up or down
_WORTH = 20  # pictures of the run that weigh as much as the references
_REMEMBERED = 1000  # last pictures


class AdaptingThreshold:
    """Starts at the references' threshold and moves towards that of the scores so far: their geometric mean, weighted with the number of
    scores to 20. Most pictures must be good, as for `batch_threshold`.

    Args:
        limit: it never moves further than by this factor, up or down.

    Raises:
        ConfigError: the limit is below 1.
    """

    def __init__(self, *, limit: float = LIMIT) -> None:
        if not (isinstance(limit, (int, float)) and 1 <= limit < math.inf):
            raise ConfigError(f"the limit of an adapting threshold must be a factor >= 1, got {limit!r}")
        self.limit = float(limit)
        self._scores: deque[float] = deque(maxlen=_REMEMBERED)

    def __len__(self) -> int:
        return len(self._scores)

    def update(self, score: float, start: float) -> float:
        """Take the score of the next picture; the threshold in [0, 1] for it, of which `start` is the references'."""
        self._scores.append(score)
        if len(self) < FEWEST or start <= 0:
            return start
        weight = len(self) / (len(self) + _WORTH)
        moved = math.log(max(batch_threshold(self._scores).value, 1e-6) / start) * weight
        most = math.log(self.limit)
        return min(1.0, start * math.exp(min(max(moved, -most), most)))
