"""Pictures of one product without a label and without references: the others stand for what is normal (see `vlad.scoring.mutual`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vlad.errors import ConfigError, ImageReadError
from vlad.pictures.batches import read_batches
from vlad.pictures.reading import DEFAULT_READER, ImageSource, Reader, describe_source
from vlad.pictures.roi import patches_inside
from vlad.references.augment import turned_parts, valid_patches
from vlad.references.beside import Opinion, join
from vlad.references.memory import fingerprint
from vlad.scoring.base import Comparison, mean_of_top
from vlad.scoring.batch_threshold import FEWEST, batch_threshold
from vlad.scoring.pictures import of_inside, upsampled
from vlad.scoring.products import product_groups, unlikeness

if TYPE_CHECKING:
    from torch import Tensor

    from vlad.backbones.encoder import Encoder, View
    from vlad.pictures.roi import Part, Roi
    from vlad.scoring.mutual import TokenStore
    from vlad.scoring.pictures import Scored

_ALONE = "one picture and no good ones to compare with; give references or a folder"
_FEW = "{} pictures are too few to be judged by each other; give " + str(FEWEST) + " or more of one product, or references"
_UNLIKE = "these {} pictures show no one kind of product, so none says what is normal for another; give references, or sort them by product"
_NEAR = 0.2  # of the distance up to which a group is of one kind: so near two pictures are of one kind, whatever the others do
TURNED_OTHERS = 12  # others where they are looked at from several angles, each of which costs as much as one more


def why_undecided(count: int) -> str:
    """Why so many pictures of one kind cannot be judged by each other, in words; empty if they can."""
    if count >= FEWEST:
        return ""
    return _ALONE if count == 1 else _FEW.format(count)


@dataclass(frozen=True, kw_only=True)
class MutualSettings:
    """How pictures are judged by each other.

    Attributes:
        share: of the others, the nearest ones whose distances count, above 0 and up to 1. Lower where a defect is rare and good parts
            differ, higher where a defect repeats. None lets the pictures decide.
        others: each picture is compared with at most so many others.
        turned: whether the others are looked at from several angles; None lets the pictures decide.
        expect_anomalous: share in [0, 1) of anomalous pictures that the threshold is to find; None lets the scores decide.
        beside: weight in [0, 1] of what references or words say beside the other pictures; None is 0.5 for references, and for words the
            detector's `text_weight` if one was set, else 0.
        rescore: draw image scores towards those of so many pictures that look alike, each itself among them (MuSc's RsCIN; the paper takes
            3); 1 leaves them alone, which was better with `lite`.
        seed: of the choice of others.

    Raises:
        ConfigError: a value is out of range.
    """

    share: float | None = None
    others: int = 32
    turned: bool | None = None
    expect_anomalous: float | None = None
    beside: float | None = None
    rescore: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share <= 1:
            raise ConfigError(f"share must be None or a share above 0 and up to 1, got {self.share!r}")
        if not isinstance(self.others, int) or self.others < 2:
            raise ConfigError(f"others must be a whole number >= 2, got {self.others!r}")
        if self.expect_anomalous is not None and not 0 <= self.expect_anomalous < 1:
            raise ConfigError(f"expect_anomalous must be None or a share from 0 to below 1, got {self.expect_anomalous!r}")
        if not isinstance(self.rescore, int) or self.rescore < 1:
            raise ConfigError(f"rescore must be a whole number >= 1, got {self.rescore!r}")
        if self.beside is not None and not 0 <= self.beside <= 1:
            raise ConfigError(f"beside must be None or a weight from 0 to 1, got {self.beside!r}")

    def where(self, *, rotations: int | None) -> MutualSettings:
        """These of a detector with so many rotations: where it turns nothing, nothing is turned here either, unless `turned` says so."""
        return replace(self, turned=False) if self.turned is None and rotations == 1 else self


@dataclass(frozen=True)
class Judged:
    """One picture among others of its kind.

    Attributes:
        source: as it was given.
        size: (H, W) as displayed.
        group: number of the product it belongs to, from 0, the largest group first.
        comparison: score and distances from the others; None if it is the only one of its group.
        embedding: (E,) of the whole picture.
        threshold, mask_threshold: from the scores of its group; None where that is too small to tell, or no group at all.
        scores: rank in [0, 1], robust z, size of the group, and whether its pictures were turned.
        undecided: why the group has no thresholds, in words; empty if it has.
        roi: the part of the picture that counts; None: all of it.
        notes: remarks on the picture.
    """

    source: ImageSource
    size: tuple[int, int]
    group: int
    comparison: Comparison | None
    embedding: np.ndarray
    threshold: float | None
    mask_threshold: float | None
    scores: dict[str, float]
    undecided: str
    roi: Roi | None = None
    notes: tuple[str, ...] = ()

    def heat(self) -> np.ndarray | None:
        """Map float32 (H, W) of the distances, 0 outside of what counts; None without a comparison."""
        found = self.comparison
        if found is None:
            return None
        if self.roi is None:
            return upsampled(found.distances[None], found.grid, found.shown, self.size)
        left, top, right, bottom = self.roi.box(self.size)
        return self.roi.whole(upsampled(found.distances[None], found.grid, found.shown, (bottom - top, right - left)), self.size)


@dataclass
class _Seen:
    """What is remembered of a picture between the passes."""

    source: ImageSource
    size: tuple[int, int]
    key: str
    embedding: np.ndarray
    grid: tuple[int, int]
    shown: tuple[float, float]
    inside: Tensor | None = None
    opinion: Opinion | None = None
    group: int = 0
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()


def judge(
    images: Iterable[ImageSource],
    encoder: Encoder,
    settings: MutualSettings,
    *,
    batch_size: int = 8,
    read: Reader = DEFAULT_READER,
    top_share: float = 0.01,
    on_error: str = "raise",
    on_progress: Callable[[str, int, int], None] | None = None,
    beside: Callable[[list[np.ndarray]], Sequence[Scored]] | None = None,
    beside_weight: float = 0.5,
    roi: Roi | None = None,
    keep: Callable[[TokenStore, list[str], float, bool], None] | None = None,
) -> list[Judged | ImageReadError]:
    """Judge pictures by each other, each kind of product for itself.

    Two passes: each picture is encoded once (or, where parts lie at any angle, once more for every further angle), then compared with
    others. What is kept is tokens in half precision, beyond a limit in a temporary file. The order of the pictures never matters.

    Args:
        images: pictures, see `read_image`; the list of sources is kept, the pictures are not.
        encoder: the backbones; those that give patch tokens are used.
        settings: see there.
        batch_size, read, on_error: as of `AnomalyDetector.predict`.
        top_share: share of the highest patch distances whose mean is the score.
        on_progress: called with the phase ("look", "turn" or "compare"), the number of pictures done and of all (0 while unknown).
        beside: scores and maps of pictures from references or words, to be joined with those from the other pictures; None leaves it at
            these.
        beside_weight: of `beside`, in [0, 1].
        roi: the part of each picture that counts; None: all of it.
        keep: called for each group of at least two, the largest first, with the tokens that its pictures were compared by, their keys, the
            share of the others that counted, and whether they were turned; the tokens are gone when it has returned.

    Returns:
        One entry for each picture in the order given, or with `on_error` "return" the error of an unreadable one.
    """
    from vlad.scoring.mutual import TokenStore, smooth

    tell = on_progress or (lambda *_: None)
    sources = list(images)
    outcome: list[_Seen | ImageReadError] = []
    with TokenStore() as straight:
        for batch in read_batches(sources, batch_size, on_error=on_error, read=read, roi=roi):
            readable = [picture for _, picture, _ in batch if isinstance(picture, np.ndarray)]
            cuts = [(picture, None) if roi is None else roi.cut(picture) for picture in readable]
            seen_cuts = encoder.see([picture for picture, _ in cuts], patches=True, text=False)
            views = (of_inside(view, inside) for view, (_, inside) in zip(seen_cuts, cuts, strict=True))
            others = None if beside is None else iter(beside(readable))
            parts = iter(cuts)
            for source, picture, notes in batch:
                if isinstance(picture, ImageReadError):
                    outcome.append(picture)
                    continue
                view, part = next(views), next(parts)
                assert view.patches is not None
                tokens = smooth(view.patches.tokens, view.patches.grid)
                straight.append([tokens if view.inside is None else tokens[view.inside]])
                outcome.append(_remember(source, picture, part, view, None if others is None else next(others), roi, notes))
            tell("look", len(outcome), len(sources))
        seen = [entry for entry in outcome if isinstance(entry, _Seen)]
        if not seen:
            return [entry for entry in outcome if isinstance(entry, ImageReadError)]
        kin = encoder.advice.kin
        groups = product_groups(np.stack([entry.embedding for entry in seen]), near=_NEAR * (kin or 0.0))
        for entry, number in zip(seen, groups.tolist(), strict=True):
            entry.group = number
        bounds = {}
        for group in sorted({entry.group for entry in seen}):
            indices = [index for index, entry in enumerate(seen) if entry.group == group]
            is_turned = _compare(seen, indices, straight, encoder, settings, read, top_share, tell, roi, keep)
            if settings.rescore > 1 and len(indices) > 1:
                _rescore([seen[index] for index in indices], settings.rescore)
            if beside is not None and len(indices) >= FEWEST:
                _join([seen[index] for index in indices], beside_weight)
            is_kin = kin is None or unlikeness(np.stack([seen[index].embedding for index in indices])) <= kin
            undecided = why_undecided(len(indices)) or ("" if is_kin else _UNLIKE.format(len(indices)))
            bounds[group] = _Bounds.of([seen[index].comparison for index in indices], is_turned, settings.expect_anomalous, undecided)
    return [entry if isinstance(entry, ImageReadError) else _judged(entry, bounds[entry.group], roi) for entry in outcome]


def kinds_of(judged: Iterable[Judged | ImageReadError]) -> str:
    """The kinds of product in words, with how many pictures each has and the first of them; empty for one kind."""
    groups: dict[int, list[Judged]] = {}
    for one in judged:
        if isinstance(one, Judged):
            groups.setdefault(one.group, []).append(one)
    if len(groups) < 2:
        return ""
    named = [f"{len(groups[number])} pictures such as {describe_source(groups[number][0].source)}" for number in sorted(groups)]
    return f"{len(groups)} kinds of product ({', '.join(named)})"


def _remember(
    source: ImageSource,
    picture: np.ndarray,
    part: Part,
    view: View,
    other: Scored | None,
    roi: Roi | None,
    notes: tuple[str, ...],
) -> _Seen:
    assert view.patches is not None
    grid, shown, size = view.patches.grid, view.patches.shown, (picture.shape[0], picture.shape[1])
    if other is not None and other.map is not None and roi is not None:
        left, top, right, bottom = roi.box(size)
        other = replace(other, map=other.map[top:bottom, left:right])
    opinion = None if other is None else Opinion.of(other, grid, shown)
    notes = tuple(dict.fromkeys((*notes, *(() if other is None else other.notes))))
    return _Seen(source, size, fingerprint(part[0]), view.embedding.cpu().numpy(), grid, shown, view.inside, opinion, notes=notes)


def _rescore(group: Sequence[_Seen], most: int) -> None:
    from vlad.scoring.mutual import rescored

    scores = np.array([entry.comparison.score for entry in group if entry.comparison is not None])
    for entry, score in zip(group, rescored(scores, np.stack([entry.embedding for entry in group]), most).tolist(), strict=True):
        assert entry.comparison is not None  # there are two of the group at least
        entry.comparison = replace(entry.comparison, score=score)


def _join(group: Sequence[_Seen], weight: float) -> None:
    known = [(entry, entry.comparison, entry.opinion) for entry in group if entry.comparison is not None and entry.opinion is not None]
    inside = [None if entry.inside is None else entry.inside.cpu().numpy() for entry, *_ in known]
    joined = join([found for _, found, _ in known], [opinion for *_, opinion in known], weight, inside)
    for (entry, *_), comparison in zip(known, joined, strict=True):
        entry.comparison = comparison


def _compare(
    seen: list[_Seen],
    indices: list[int],
    straight: TokenStore,
    encoder: Encoder,
    settings: MutualSettings,
    read: Reader,
    top_share: float,
    tell: Callable[[str, int, int], None],
    roi: Roi | None,
    keep: Callable[[TokenStore, list[str], float, bool], None] | None,
) -> bool:
    """Compare the pictures of one product with each other; True if they were turned."""
    from vlad.scoring.mutual import SAMPLE, SHARE, TokenStore, choose_plan, mutual_distances

    if len(indices) < 2:
        return False
    keys = {seen[index].key: index for index in indices}
    # Hashes are as good as random, and the same whatever the order of the pictures.
    sample = [keys[key] for key in sorted(keys)[:SAMPLE]]
    is_turned, share = settings.turned, settings.share
    if len(sample) > 1 and (is_turned is None or share is None):
        turn = None if is_turned is False else lambda number: _turned_tokens(seen[sample[number]], encoder, read, roi)
        plan = choose_plan([straight[index][0] for index in sample], turn)
        is_turned = plan.angles > 1 if is_turned is None else is_turned
        share = plan.share if share is None else share
    # Unturned pictures of one kind are there already; a second store would hold them twice.
    is_there = not is_turned and len(indices) == len(straight)
    with nullcontext(straight) if is_there else TokenStore() as store:
        for done, index in enumerate([] if is_there else indices, start=1):
            store.append([straight[index][0], *(_turned_tokens(seen[index], encoder, read, roi) if is_turned else [])])
            if is_turned:
                tell("turn", done, len(indices))
        found = mutual_distances(
            store,
            share=share or SHARE,
            others=min(settings.others, TURNED_OTHERS) if is_turned else settings.others,
            seed=settings.seed,
            keys=[seen[index].key for index in indices],
        )
        for done, (place, distances) in enumerate(found, start=1):
            entry = seen[indices[place]]
            score = mean_of_top(distances, top_share)
            if entry.inside is not None:
                whole = distances.new_zeros(len(entry.inside))
                whole[entry.inside.to(distances.device)] = distances
                distances = whole
            entry.comparison = Comparison(score, distances, entry.grid, entry.shown)
            tell("compare", done, len(indices))
        if keep is not None:
            keep(store, [seen[index].key for index in indices], share or SHARE, bool(is_turned))
    return bool(is_turned)


def _turned_tokens(entry: _Seen, encoder: Encoder, read: Reader, roi: Roi | None) -> list[Tensor]:
    """Tokens of a picture at the further angles, where its pixels are and count."""
    import torch

    from vlad.scoring.mutual import ANGLES, smooth

    picture = read(entry.source)
    part: Part = (picture, None) if roi is None else roi.cut(picture)
    found = []
    for turned, mask, inside in list(turned_parts(part, ANGLES))[1:]:
        (view,) = encoder.see([turned], patches=True, text=False)
        assert view.patches is not None
        valid = torch.from_numpy(valid_patches(mask, view.patches.grid, view.patches.shown))
        if inside is not None:
            valid &= torch.from_numpy(patches_inside(inside, view.patches.grid, view.patches.shown))
        found.append(smooth(view.patches.tokens, view.patches.grid)[valid.to(view.patches.tokens.device)])
    return found


@dataclass(frozen=True)
class _Bounds:
    """What the scores of a group say together."""

    scores: np.ndarray
    is_turned: bool
    threshold: float | None
    mask_threshold: float | None
    undecided: str

    @classmethod
    def of(cls, comparisons: Sequence[Comparison | None], is_turned: bool, expect_anomalous: float | None, undecided: str) -> _Bounds:
        known = [comparison for comparison in comparisons if comparison is not None]
        scores = np.array([comparison.score for comparison in known])
        if undecided:
            return cls(scores, is_turned, None, None, undecided)
        peaks = [float(comparison.distances.max()) for comparison in known]
        image, pixel = (batch_threshold(values, expect_anomalous=expect_anomalous).value for values in (scores, peaks))
        return cls(scores, is_turned, min(image, 1.0), min(pixel, 1.0), "")


def _judged(entry: _Seen, bounds: _Bounds, roi: Roi | None) -> Judged:
    parts = {
        "mutual_group": float(entry.group),
        "mutual_pictures": float(max(1, len(bounds.scores))),
        "mutual_turned": float(bounds.is_turned),
    }
    if entry.opinion is not None:
        parts |= entry.opinion.parts
    if entry.comparison is not None:
        score = entry.comparison.score
        middle = float(np.median(bounds.scores))
        spread = 1.4826 * float(np.median(np.abs(bounds.scores - middle)))
        parts |= {
            "mutual": score,
            "mutual_map_max": float(entry.comparison.distances.max()),
            "mutual_rank": float((bounds.scores < score).mean()),
            "mutual_z": (score - middle) / spread if spread > 0 else 0.0,
        }
    limits = (bounds.threshold, bounds.mask_threshold)
    return Judged(
        entry.source, entry.size, entry.group, entry.comparison, entry.embedding, *limits, parts, bounds.undecided, roi, entry.notes
    )
