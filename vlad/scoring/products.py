"""Do pictures show one product or several? From whole-picture embeddings, without labels; products must not be judged by each other.

Axes: N pictures, E embedding.
"""

from __future__ import annotations

import numpy as np

_NEIGHBOUR = 3  # whose distance is a picture's scale, so a group has at least one picture more
_APART = 2.5  # scales: of 432 procedural batches of one product none falls apart, of 468 of two 88 % do; see eval/results/mutual.md
_BLOCK = 256  # rows of distances held at a time


def product_groups(embeddings: np.ndarray, *, near: float = 0.0) -> np.ndarray:
    """int (N,): the group that each picture belongs to, from 0 on, the largest first.

    Two pictures are linked if their distance (1 - cos) / 2 is at most `near`, or 2.5 times the larger of their scales, the distances to
    their third nearest pictures; groups are what links connect. A defective picture that nothing resembles has a large scale and stays
    linked. Pictures of groups of fewer than four join the group of the nearest picture outside of such.

    Args:
        embeddings: unit vectors (N, E), such as `vlad.backbones.encoder.View.embedding`.
        near: distance at which pictures show the same product for certain; without it nearly equal pictures fall apart by trifles.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    values = np.asarray(embeddings, np.float64)
    count = len(values)
    if count < 2 * (_NEIGHBOUR + 1):
        return np.zeros(count, np.int64)
    blocks = [np.arange(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
    scales = np.concatenate([np.partition(_distances(values[block], values), _NEIGHBOUR, axis=1)[:, _NEIGHBOUR] for block in blocks])
    labels = np.arange(count)
    for block in blocks:  # joined block by block: all links at once would be N x N
        rows, cols = np.nonzero(_distances(values[block], values) <= np.maximum(near, _APART * np.maximum(scales[block, None], scales)))
        ends = np.concatenate([block[rows], np.arange(count)]), np.concatenate([cols, count + labels])
        labels = connected_components(coo_array((np.ones(len(ends[0]), bool), ends), shape=(2 * count, 2 * count)), directed=False)[1]
        labels = labels[:count]
    sizes = np.bincount(labels)
    kept = [label for label in np.argsort(-sizes, kind="stable") if sizes[label] > _NEIGHBOUR]
    if not kept:
        return np.zeros(count, np.int64)
    numbers = np.full(len(sizes), -1)
    numbers[kept] = np.arange(len(kept))
    groups: np.ndarray = numbers[labels]
    (home,), (stray,) = np.nonzero(groups >= 0), np.nonzero(groups < 0)
    for index in stray:
        groups[index] = groups[home[_distances(values[[index]], values[home]).argmin()]]
    return groups


def unlikeness(embeddings: np.ndarray) -> float:
    """How far apart pictures of one group lie: the median over them of the distance (1 - cos) / 2 to the third nearest other, in [0, 1].
    Pictures that show the same have a few others close by, however many bad ones there are; those of a collection have none. Copies count
    once. Infinite for one picture alone.

    Args:
        embeddings: unit vectors (N, E); of fewer than four pictures the farthest other counts.
    """
    values = np.unique(np.asarray(embeddings, np.float64).round(6), axis=0)
    nearest = min(_NEIGHBOUR, len(values) - 1)
    if nearest < 1:
        return 0.0 if len(embeddings) > 1 else float("inf")
    blocks = (values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK))
    return float(np.median(np.concatenate([np.partition(_distances(block, values), nearest, axis=1)[:, nearest] for block in blocks])))


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    distances: np.ndarray = ((1 - one @ other.T) / 2).clip(0)
    return distances
