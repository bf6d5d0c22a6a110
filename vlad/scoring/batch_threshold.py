"""A threshold for a batch of pictures that nobody has labelled, from the batch's own scores.

The good pictures are taken to be the majority, and so the lower part of the scores to be theirs alone: centre = the 40 % quantile, spread =
the root mean square deviation of the scores below it from it, threshold = centre + 2.5 spreads. Chosen on product lines of procedural
pictures with `lite` (eval/results/mutual.md); a break between two groups, two Gaussians, or median and median deviation were no better,
on linear or on log scores.

No such rule can know how large a difference matters: where all pictures are good it still calls the most unusual ones anomalous now and
then, and where more than half are bad it takes these for normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vlad.errors import ConfigError

LOWER = 0.4  # quantile up to which scores are taken to be of good pictures, whatever the batch
SPREADS = 2.5
FEWEST = 8  # scores below which the spread of the lower part, three of them, says too little


@dataclass(frozen=True)
class BatchThreshold:
    """Scores above `value` are anomalous.

    Attributes:
        centre, spread: of the lower part of the scores, in their units.
        count: number of scores.
        expect_anomalous: the share of anomalous pictures that was expected, None without.
    """

    value: float
    centre: float
    spread: float
    count: int
    expect_anomalous: float | None = None

    def z(self, scores: ArrayLike) -> np.ndarray:
        """Spreads by which each score (N,) lies above the centre; 2.5 is the threshold where no share is expected."""
        return (np.asarray(scores, np.float64) - self.centre) / max(self.spread, 1e-12)

    def promise(self) -> str:
        """What the threshold rests on and cannot know, in plain words."""
        if self.expect_anomalous is not None:
            return (
                f"the threshold calls about {self.expect_anomalous:.0%} of these {self.count} pictures anomalous, as you expect; it cannot "
                "know whether they are"
            )
        few = f"; {self.count} pictures are few, so it is a guess" if self.count < FEWEST else ""
        return (
            f"the threshold comes from the {self.count} pictures themselves: most of them are taken to be good, and what stands out from "
            f"those is called anomalous. It cannot know whether that is a defect, nor see defects that most of them share{few}"
        )


def batch_threshold(scores: ArrayLike, *, expect_anomalous: float | None = None) -> BatchThreshold:
    """The threshold of a batch's scores (N,), in their units. Of the peaks of the pictures' anomaly maps instead, it is one for pixels.

    Args:
        scores: finite numbers, in any order.
        expect_anomalous: about this share, in [0, 1), is anomalous; then so many are called so, ties left aside.

    Raises:
        ConfigError: no scores, some are not finite, or the expected share is out of range.
    """
    values = np.sort(np.asarray(scores, np.float64).ravel())
    if not len(values) or not np.isfinite(values).all():
        raise ConfigError(
            f"expected finite scores of at least one picture, got {len(values)} of which {int(np.isfinite(values).sum())} are"
        )
    if expect_anomalous is not None and not 0 <= expect_anomalous < 1:
        raise ConfigError(f"expect_anomalous must be a share from 0 up to but not including 1, got {expect_anomalous}")
    centre = float(np.quantile(values, LOWER))
    spread = float(np.sqrt(np.mean((values[values <= centre] - centre) ** 2)))
    value = centre + SPREADS * spread
    if expect_anomalous is not None:
        value = _between(values, max(1, len(values) - round(expect_anomalous * len(values))))
    return BatchThreshold(value, centre, spread, len(values), expect_anomalous)


def _between(ordered: np.ndarray, below: int) -> float:
    """Halfway between the `below` lowest scores and the rest."""
    if below == len(ordered):
        return float(ordered[-1])
    return float((ordered[below - 1] + ordered[below]) / 2)
