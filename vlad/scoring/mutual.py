"""`mutual`: pictures of one product judged by each other, without references and without labels (MuSc, arXiv 2401.16753).

What most of the others show somewhere is normal. For picture i, patch p and another picture j let d be the distance (1 - cos) / 2 of p
to the nearest patch of j; p's distance is the mean of the lowest share of the d over the j, so that a defect which a few others have too
does not hide, and the picture's score is the mean of its highest patches (`vlad.scoring.base.mean_of_top`).

MuSc compares every picture with every other. Here each has at most `others` of them, its neighbours on a ring of random order, so the time
grows linearly, the memory does not grow, and each pair is computed once for both of its directions. Whether the others are looked at from
several angles, and how many of them count, a sample of the pictures decides (`choose_plan`).

Axes: N pictures, P patches, C channels, A angles, E embedding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.errors import ConfigError
from vlad.scoring.base import mean_of_top

SHARE = 0.3  # of the others, as MuSc
NEAREST = 1e-3  # a share that leaves the nearest other alone
OTHERS = 32
SMOOTH = 3  # patches a side; 1, 3 and 5 together (MuSc) take three times as long for hardly more
ANGLES = 8
SAMPLE, SAMPLE_TURNED = 16, 6  # pictures that decide, and those of them that are looked at from all angles
_ELSEWHERE, _GAIN = 0.5, 0.04  # lines that lie still: up to 0.0 and 0.0; at any angle: from 0.75 and 0.08; textures 0.8 and 0.02
_AGREEMENT = 0.8  # below it the nearest other alone ranks better; see eval/results/mutual.md
_TOP_SHARE = 0.01
_IN_MEMORY = 2**28  # bytes of tokens; what comes after goes to a temporary file


def smooth(tokens: Tensor, grid: tuple[int, int], side: int = SMOOTH) -> Tensor:
    """Patch tokens (P, C) averaged over `side` x `side` neighbours (fewer at the border), as unit vectors (P, C)."""
    maps = F.normalize(tokens, dim=-1).T.reshape(1, -1, *grid)
    return F.normalize(F.avg_pool2d(maps, side, stride=1, padding=side // 2, count_include_pad=False).flatten(2)[0].T, dim=-1)


class TokenStore:
    """Tokens of many pictures in half precision: in memory up to a limit, then in a temporary file that goes when the store is closed.

    An entry is a list of tensors (P, C) of unit vectors: the picture as it is, all patches, and then the same picture turned, without the
    patches that show nothing of it (`vlad.references.augment`).
    """

    def __init__(self, *, limit_bytes: int = _IN_MEMORY) -> None:
        self._free = limit_bytes
        self._entries: list[list[np.ndarray] | _Spilled] = []
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __enter__(self) -> TokenStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, angles: Sequence[Tensor]) -> None:
        """Take a picture's tokens (P, C), one tensor for each angle."""
        halves = [tokens.to("cpu", torch.float16).numpy() for tokens in angles]
        size = sum(values.nbytes for values in halves)
        if size <= self._free:
            self._free -= size
            self._entries.append(halves)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="vlad-tokens-")  # noqa: SIM115 - lives as long as the store
        start = self._file.seek(0, 2)
        for values in halves:
            self._file.write(values.tobytes())
        self._entries.append(_Spilled(start, [values.shape for values in halves]))

    def __getitem__(self, index: int) -> list[Tensor]:
        entry = self._entries[index]
        values = entry if isinstance(entry, list) else self._read(entry)
        return [F.normalize(torch.from_numpy(tokens.astype(np.float32)), dim=-1) for tokens in values]

    def close(self) -> None:
        """Forget everything; the file goes."""
        self._entries = []
        if self._file is not None:
            self._file.close()

    def _read(self, entry: _Spilled) -> list[np.ndarray]:
        assert self._file is not None  # it was written to
        self._file.seek(entry.start)
        return [np.frombuffer(self._file.read(2 * rows * cols), np.float16).reshape(rows, cols) for rows, cols in entry.shapes]


@dataclass(frozen=True)
class _Spilled:
    start: int
    shapes: list[tuple[int, ...]]


def ring_pairs(count: int, others: int) -> Iterator[tuple[int, int]]:
    """Every pair of places on a ring of `count` that lie at most `others` / 2 apart, once, sorted by the first; all pairs where there are
    no more than `others` others."""
    reach = min(others // 2, (count - 1) // 2)
    has_opposites = count % 2 == 0 and others >= count - 1
    for first in range(count):
        for step in range(1, reach + 1):
            yield first, (first + step) % count
        if has_opposites and first < count // 2:
            yield first, first + count // 2


def mutual_distances(
    store: TokenStore, *, share: float = SHARE, others: int = OTHERS, seed: int = 0, keys: Sequence[str] | None = None
) -> Iterator[tuple[int, Tensor]]:
    """The distances (P,) in [0, 1] of each picture's patches from the other pictures, as (place in the store, distances) in the order in
    which they are done.

    Args:
        store: the pictures' tokens. Where they have several angles, the others are looked at from all of them.
        share: of the others, the nearest ones whose distances are averaged; at least one.
        others: each picture is compared with so many others, or one fewer if odd, or all if there are no more.
        seed: of the random order on the ring.
        keys: one for each picture that does not depend on its place, such as a hash; then neither do the results.

    Raises:
        ConfigError: fewer than two pictures, or a number out of range.
    """
    count = len(store)
    if count < 2:
        raise ConfigError(f"pictures are judged by each other, so at least two are needed, got {count}")
    if not 0 < share <= 1 or others < 2:
        raise ConfigError(f"expected a share above 0 and up to 1 and at least 2 others, got share={share} and others={others}")
    ordered = range(count) if keys is None else sorted(range(count), key=keys.__getitem__)
    ring = [ordered[place] for place in np.random.default_rng(seed).permutation(count)]
    wanted = count - 1 if others >= count - 1 else others // 2 * 2
    lowest = max(1, int(share * wanted + 1e-9))
    tokens: dict[int, list[Tensor]] = {}
    found: dict[int, list[Tensor]] = {}
    for first, second in ring_pairs(count, others):
        for place in (first, second):
            if place not in tokens:
                tokens[place] = store[ring[place]]
        for place, nearest in zip((first, second), _nearest(tokens[first], tokens[second]), strict=True):
            found.setdefault(place, []).append(nearest)
            if len(found[place]) == wanted:
                del tokens[place]
                yield ring[place], torch.stack(found.pop(place)).topk(lowest, dim=0, largest=False).values.mean(0)
        for place in [place for place in tokens if place + others // 2 < first]:
            del tokens[place]  # those at the ring's beginning; they are read again when its end needs them


def _nearest(one: Sequence[Tensor], other: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Distances (P,) of each of two pictures' patches to the nearest of the other's, at whichever angle of the other."""
    cosines = one[0] @ other[0].T
    forwards, backwards = cosines.amax(1), cosines.amax(0)
    for turned in other[1:]:
        forwards = torch.maximum(forwards, (one[0] @ turned.T).amax(1))
    for turned in one[1:]:
        backwards = torch.maximum(backwards, (other[0] @ turned.T).amax(1))
    return (1 - forwards).div_(2).clamp_(0, 1), (1 - backwards).div_(2).clamp_(0, 1)


def rescored(scores: np.ndarray, embeddings: np.ndarray, most: int) -> np.ndarray:
    """Image scores (N,) drawn towards those of the pictures that look most alike (MuSc's RsCIN): the mean over k = 1 .. `most` of the mean
    score of the k pictures nearest to each one, itself among them, weighted by cosine.

    Args:
        scores: image scores (N,).
        embeddings: unit vectors (N, E) of the whole pictures.
        most: at least 1, which changes nothing; the paper takes 3 on MVTec AD.
    """
    values, vectors = np.asarray(scores, np.float64), np.asarray(embeddings, np.float64)
    most = min(most, len(values))
    found = np.empty_like(values)
    for index, vector in enumerate(vectors):
        cosines = vectors @ vector
        cosines[index] = np.inf  # itself first, before copies
        nearest = np.argsort(-cosines, kind="stable")[:most]
        cosines[index] = 1.0
        weights = cosines[nearest].clip(1e-6)
        found[index] = np.mean(np.cumsum(weights * values[nearest]) / np.cumsum(weights))
    return found


@dataclass(frozen=True)
class Plan:
    """How the pictures of one product are best judged by each other, as a sample of them shows it without labels.

    Attributes:
        angles: how many the others are looked at from; 1 is unturned.
        share: of the others that count, as `mutual_distances` takes it.
        elsewhere: share in [0, 1] of pairs of the sample whose second picture explains the first better when it is turned.
        gain: by how much the best angle lowers the mean distance of a pair, in [0, 1]; the median over pairs.
        agreement: score against the nearest other alone over that against `SHARE` of them, in [0, 1]; the median over pictures. Low where
            few others show the same view, so that the share would average over wrong ones.
    """

    angles: int
    share: float
    elsewhere: float
    gain: float
    agreement: float

    def describe(self) -> str:
        """In plain words."""
        angles = f"lie at any angle, so the others are seen at {self.angles} of them" if self.angles > 1 else "lie still"
        share = "the nearest other counts" if self.share == NEAREST else f"the nearest {self.share:.0%} of the others count"
        return f"the parts {angles}; {share}"


def choose_plan(sample: Sequence[Tensor], turn: Callable[[int], Sequence[Tensor]] | None = None) -> Plan:
    """Decide from a sample of the pictures.

    A part that lies still resembles the others most as it is. A part that lies anyhow resembles them most at any of the angles, and so does
    a texture without direction, but that gains nothing by it.

    Args:
        sample: tokens (P, C) of at least two pictures as they are, drawn at random; more than `SAMPLE` decide nothing better.
        turn: gives the same picture's tokens at the other `ANGLES` - 1 angles, called for the first `SAMPLE_TURNED` pictures, and for the
            rest if the parts lie at any angle; None never turns.
    """
    pictures = [[tokens] for tokens in sample]
    elsewhere = gain = 0.0
    turned = 0
    if turn is not None:
        turned = min(SAMPLE_TURNED, len(pictures))
        for number in range(turned):
            pictures[number] += turn(number)
        elsewhere, gain = _turning([angles[0] for angles in pictures], pictures[:turned])
    if turn is not None and elsewhere >= _ELSEWHERE and gain >= _GAIN:
        for number in range(turned, len(pictures)):
            pictures[number] += turn(number)
    else:
        pictures = [angles[:1] for angles in pictures]
    agreement = _agreement(pictures)
    return Plan(len(pictures[0]), NEAREST if agreement < _AGREEMENT else SHARE, elsewhere, gain, agreement)


def _turning(pictures: Sequence[Tensor], turned: Sequence[Sequence[Tensor]]) -> tuple[float, float]:
    """`Plan.elsewhere` and `Plan.gain`; `turned` are the first of `pictures` at all angles."""
    pairs = ((i, j) for i in range(len(pictures)) for j in range(len(turned)) if i != j)
    means = np.array([[float((1 - (pictures[i] @ tokens.T).amax(1)).mean() / 2) for tokens in turned[j]] for i, j in pairs])
    return float((means.argmin(1) != 0).mean()), float(np.median(1 - means.min(1) / means[:, 0].clip(1e-12)))


def _agreement(pictures: Sequence[Sequence[Tensor]]) -> float:
    scores = []
    for share in (NEAREST, SHARE):
        with TokenStore() as store:
            for angles in pictures:
                store.append(angles)
            scores.append([mean_of_top(distances, _TOP_SHARE) for _, distances in mutual_distances(store, share=share)])
    return float(np.median((np.array(scores[0]) + 1e-6) / (np.array(scores[1]) + 1e-6)))  # 1 for copies
