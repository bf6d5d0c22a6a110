"""A threshold for a batch of pictures that nobody has labelled, from the batch's own scores.

The good pictures are taken to be the majority, and so the lower part of the scores to be theirs alone: centre = the 40 % quantile, spread =
the root mean square of the deviations of the scores below it, as logarithms of their ratios to it. Three scores of eight say little about a
spread, so it is shrunk: as if `PRIOR_COUNT` further deviations of `PRIOR_SPREAD` had been seen, which is about what the scores of good
pictures of one product spread. threshold = centre x exp(2 spreads). Chosen on product lines of procedural pictures with `lite`
(eval/results/mutual.md); without the prior, on linear scores, with two Gaussians, a break between two groups, or median and median
deviation it was worse.

No such rule can know how large a difference matters: where all pictures are good it still calls the most unusual ones anomalous now and
then, and where more than half are bad it takes these for normal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from vlad.errors import ConfigError

LOWER = 0.4  # quantile up to which scores are taken to be of good pictures, whatever the batch
SPREADS = 2.0
PRIOR_SPREAD, PRIOR_COUNT = 0.15, 8
_LEAST = 1e-6  # a score below it counts as this; pictures that are copies of each other have 0
FEWEST = 8  # scores below which the spread of the lower part, three of them, says too little


@dataclass(frozen=True)
class BatchThreshold:
    """Scores above `value` are anomalous.

    Attributes:
        centre: of the lower part of the scores, in their units.
        spread: of that part, as a logarithm of ratios to the centre.
        count: number of scores.
        expect_anomalous: the share of anomalous pictures that was expected, None without.
    """

    value: float
    centre: float
    spread: float
    count: int
    expect_anomalous: float | None = None

    def z(self, scores: ArrayLike) -> np.ndarray:
        """Spreads by which each score (N,) lies above the centre; 2 is the threshold where no share is expected."""
        z: np.ndarray = np.log(_positive(scores) / self.centre) / self.spread
        return z

    def at(self, z: float) -> float:
        """The score that lies `z` spreads above the centre."""
        return self.centre * float(np.exp(self.spread * z))

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
        scores: finite numbers >= 0, in any order.
        expect_anomalous: about this share, in [0, 1), is anomalous; then so many are called so, at least one, ties left aside.

    Raises:
        ConfigError: no scores, some are negative or not finite, or the expected share is out of range.
    """
    values = np.sort(np.asarray(scores, np.float64).ravel())
    fine = np.isfinite(values) & (values >= 0)
    if not len(values) or not fine.all():
        raise ConfigError(f"expected finite scores >= 0 of at least one picture, got {len(values)} of which {int(fine.sum())} are")
    if expect_anomalous is not None and not 0 <= expect_anomalous < 1:
        raise ConfigError(f"expect_anomalous must be a share from 0 up to but not including 1, got {expect_anomalous}")
    logs = np.log(_positive(values))
    centre = float(np.quantile(logs, LOWER))
    lower = logs[logs <= centre] - centre
    spread = float(np.sqrt((np.sum(lower**2) + PRIOR_COUNT * PRIOR_SPREAD**2) / (len(lower) + PRIOR_COUNT)))
    found = BatchThreshold(0.0, float(np.exp(centre)), spread, len(values), expect_anomalous)
    if expect_anomalous is None:
        return replace(found, value=found.at(SPREADS))
    wanted = max(1, round(expect_anomalous * len(values))) if expect_anomalous > 0 else 0
    return replace(found, value=_between(values, max(1, len(values) - wanted)))


def _positive(scores: ArrayLike) -> np.ndarray:
    return np.maximum(np.asarray(scores, np.float64), _LEAST)


def _between(ordered: np.ndarray, below: int) -> float:
    """Halfway between the `below` lowest scores and the rest."""
    if below == len(ordered):
        return float(ordered[-1])
    return float((ordered[below - 1] + ordered[below]) / 2)
