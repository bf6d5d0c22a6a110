"""Two opinions of the same unlabelled pictures joined: that of the other pictures (`vlad.scoring.mutual`), and that of references or words.

Their scores have different scales, so each is standardised over the pictures of one product: centre and spread of its lower part, as of
`batch_threshold`, which takes most pictures to be good. Axes: P patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vlad.scoring.base import Comparison
from vlad.scoring.batch_threshold import batch_threshold

if TYPE_CHECKING:
    from vlad.scoring.pictures import Scored


@dataclass(frozen=True)
class Opinion:
    """What references or words say of a picture.

    Attributes:
        score: in [0, 1].
        heat: float16 (rows, cols) in [0, 1] on the grid of the patches; 0 where that is padding.
        parts: the partial scores.
    """

    score: float
    heat: np.ndarray
    parts: dict[str, float]

    @classmethod
    def of(cls, scored: Scored, grid: tuple[int, int], shown: tuple[float, float]) -> Opinion:
        """An opinion reduced to a grid, so that those of many pictures can be kept."""
        assert scored.map is not None  # it was asked for
        rows, cols = (max(1, round(side * share)) for side, share in zip(grid, shown, strict=True))
        heat = np.zeros(grid, np.float16)
        heat[:rows, :cols] = cv2.resize(scored.map, (cols, rows), interpolation=cv2.INTER_AREA)
        return cls(scored.score, heat, scored.parts)


def join(
    found: Sequence[Comparison], opinions: Sequence[Opinion], weight: float, inside: Sequence[np.ndarray | None] | None = None
) -> list[Comparison]:
    """The comparisons of a product's pictures with the opinions mixed in, on the scale of the comparisons.

    Scores are joined as deviations from their centres in spreads. Maps are joined after the opinions' are stretched such that their usual
    coldest place (the median of the medians) and hottest place (the centre of the peaks) lie where those of the comparisons lie.

    Args:
        found: of the pictures with each other.
        opinions: of the same pictures.
        weight: of the opinions, in [0, 1].
        inside: bool (P,) of each picture, the patches that count; None: all. The others stay 0.
    """
    import torch

    given = [None] * len(found) if inside is None else inside
    counts = [np.ones(len(one.distances), bool) if some is None else some for one, some in zip(found, given, strict=True)]
    own, other = (batch_threshold([one.score for one in some]) for some in (found, opinions))
    heats = [one.heat.astype(np.float32).ravel() for one in opinions]
    maps = [one.distances.cpu().numpy() for one in found]
    (low, high), (other_low, other_high) = (_range([one[some] for one, some in zip(kind, counts, strict=True)]) for kind in (maps, heats))
    stretch = (high - low) / max(other_high - other_low, 1e-6)
    joined = []
    for one, opinion, values, heat, some in zip(found, opinions, maps, heats, counts, strict=True):
        z = (1 - weight) * own.z([one.score])[0] + weight * other.z([opinion.score])[0]
        mixed = np.where(some, (1 - weight) * values + weight * (low + (heat - other_low) * stretch), 0)
        score = min(1.0, own.at(z))
        joined.append(Comparison(score, torch.from_numpy(mixed.clip(0, 1).astype(np.float32)), one.grid, one.shown))
    return joined


def _range(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    return float(np.median([np.median(values) for values in maps])), batch_threshold([float(values.max()) for values in maps]).centre
