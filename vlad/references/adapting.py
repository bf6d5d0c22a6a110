"""A threshold from references that follows the run: four good pictures say little about how far good scores spread, and what comes by says
much, whoever labels it (see `vlad.scoring.batch_threshold`). Constants chosen on procedural lines, at about 10 % false alarms:
eval/results/adapting.md."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import numpy as np

from vlad.errors import ConfigError
from vlad.scoring.batch_threshold import FEWEST, batch_threshold

LIMIT = 2.0  # factor, up or down
MEMORY = 1000  # last pictures of the run
ENOUGH = 20  # pictures of a run from which on it is worth following without being asked
_WORTH = 10  # pictures of the run that weigh as much as the references
_SPREADS = 1.85  # of the lower part of the scores, from their centre to the threshold
_MOST_ABOVE = 0.6  # where a larger share lies above the references' threshold, most are probably bad, and it is not raised


class AdaptingThreshold:
    """Starts at the references' threshold and moves towards that of the scores so far: their geometric mean, weighted with the number of
    scores to 10. It takes up to half of the pictures to be bad; where more than three of five lie above the references' threshold it is
    not raised, because then most may be.

    Args:
        limit: it never moves further than by this factor, up or down.
        memory: so many last scores count.
        fewest: scores before which it does not move.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, *, limit: float = LIMIT, memory: int = MEMORY, fewest: int = FEWEST) -> None:
        if not (isinstance(limit, (int, float)) and 1 <= limit < math.inf):
            raise ConfigError(f"the limit of an adapting threshold must be a factor >= 1, got {limit!r}")
        for name, count in (("memory", memory), ("fewest", fewest)):
            if not isinstance(count, int) or count < FEWEST:
                raise ConfigError(f"the {name} of an adapting threshold must be a whole number of scores >= {FEWEST}, got {count!r}")
        self.limit, self.fewest = float(limit), fewest
        self._scores: deque[float] = deque(maxlen=memory)

    def __len__(self) -> int:
        return len(self._scores)

    @property
    def moves(self) -> bool:
        """Whether there are scores enough."""
        return len(self) >= self.fewest

    def see(self, scores: Iterable[float]) -> None:
        """Take the scores of further pictures of the run."""
        self._scores.extend(scores)

    def at(self, start: float) -> float:
        """The threshold in [0, 1] after the scores so far, of which `start` is the references'."""
        if not self.moves or start <= 0:
            return start
        scores = np.array(self._scores)
        weight = len(scores) / (len(scores) + _WORTH)
        moved = math.log(max(batch_threshold(scores).at(_SPREADS), 1e-6) / start) * weight
        if moved > 0 and float((scores > start).mean()) > _MOST_ABOVE:
            return start
        most = math.log(self.limit)
        return min(1.0, start * math.exp(min(max(moved, -most), most)))
