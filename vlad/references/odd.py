"""Which references do not look like the others: a defective picture among them is the commonest reason for a detector that finds nothing.

A spoiled reference hides its defect twice: the defect is in the bank, and its leave-one-out score pulls the threshold up. The same scores
show it. The rule, chosen on procedural product lines alone (eval/odd_reference.py, eval/results/mutual.md), looks for a break in the sorted
scores: those above it, at most a quarter, are odd if each is more than `RATIO` times the median of all, and the break is, on a log scale,
more than `BREAK` times as wide as the middle four fifths of what lies below it. Ratios are blind to the scale of the scores, which differs
between models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

FEWEST = 4  # scores below which nothing can be told
RATIO = 2.2
BREAK = 2.0
_NARROWEST = 0.1  # spread below the break, as a log ratio: nearly equal scores say little about how far good ones spread
_NAMED = 3


def odd_ones(scores: ArrayLike) -> np.ndarray:
    """bool (K,): which of the leave-one-out scores (K,) in [0, 1] stand out from the others; never more than a quarter of them."""
    values = np.asarray(scores, np.float64)
    count = len(values)
    if count < FEWEST:
        return np.zeros(count, bool)
    ordered = np.log(np.maximum(np.sort(values), 1e-6))
    least = float(np.median(ordered)) + np.log(RATIO)
    for first in range(count - count // 4, count):
        low, high = np.quantile(ordered[:first], (0.1, 0.9))
        below = max(_NARROWEST, float(high - low))
        if ordered[first] > least and ordered[first] - ordered[first - 1] > BREAK * below:
            odd: np.ndarray = values >= np.sort(values)[first]
            return odd
    return np.zeros(count, bool)


class Named(NamedTuple):
    """A reference as a user knows it: its path or number, and the Python expression that stands for it."""

    name: str
    expression: str


def odd_note(scores: Mapping[int, float], names: Mapping[int, Named]) -> str | None:
    """Which references stand out, by how much, and what to do; None if none does.

    Args:
        scores: leave-one-out image scores in [0, 1] by number of the reference.
        names: of each of these references.
    """
    numbers = sorted(scores, key=lambda number: -scores[number])
    is_odd = odd_ones([scores[number] for number in numbers])
    odd, others = [[number for number, flag in zip(numbers, is_odd, strict=True) if flag == wanted] for wanted in (True, False)]
    if not odd:
        return None
    more = f" and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
    listed = ", ".join(f"{names[number].name} ({scores[number]:.3f})" for number in odd[:_NAMED])
    expressions = ", ".join(names[number].expression for number in odd[:_NAMED])
    differs, them, hides = ("differs", "it", "it hides") if len(odd) == 1 else ("differ", "them", "they hide")
    return (
        f"{listed}{more} {differs} from the other references, whose scores against each other are {scores[others[-1]]:.3f} to "
        f"{scores[others[0]]:.3f}; look at {them}: if defective, {hides} such defects, so leave {them} out "
        f"(detector.remove_references([{expressions}]), or fit again without {them}); if good, give more like {them}"
    )
