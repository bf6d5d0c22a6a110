"""Scoring labelled pictures, for a threshold that follows from them; `AnomalyDetector.calibrate` is thin over this."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlad.errors import ConfigError, ImageReadError
from vlad.metrics.streaming import BINS, bin_of
from vlad.pictures.masks import find_mask, read_mask
from vlad.pictures.reading import DEFAULT_READER, Reader, describe_source
from vlad.pictures.roi import read_where
from vlad.references.fitting import each_picture
from vlad.references.labels import Labelled, Labels
from vlad.references.memory import Reference, ReferenceMemory, fingerprint
from vlad.references.rates import Rule

if TYPE_CHECKING:
    from vlad.pictures.roi import Roi
    from vlad.references.calibration import Calibration
    from vlad.scoring.pictures import PictureScorer, Scored


@dataclass(frozen=True)
class _Item:
    """A labelled picture before it has a score."""

    picture: Reference
    is_anomalous: bool
    mask: Any = None


def label(
    scorer: PictureScorer,
    memory: ReferenceMemory | None,
    good: Any,
    bad: Any,
    *,
    masks: Any = None,
    asked: Rule | None = None,
    fpr_limit: float = 0.05,
    start: float | None = None,
    calibration: Calibration | None = None,
    before: Labels | None = None,
    read: Reader = DEFAULT_READER,
    on_error: str = "warn",
) -> tuple[Labels, list[ImageReadError]]:
    """Score labelled pictures. A reference among the good ones is scored against the other references.

    Args:
        scorer: scores pictures under the conditions that the threshold is for.
        memory: the references, None without.
        good, bad: pictures, folders, or a mixture; see `read_image`. A picture that was labelled before gets its new label.
        masks: where the anomalous pictures are defective: a folder with `STEM_mask.*` or `STEM.*`, also in a subfolder of the picture's own
            folder's name; or a list of files or arrays, one or None for each picture of the list `bad`.
        asked: what the threshold is to do; None: as before, else nothing in particular.
        fpr_limit, start: see `Labels`.
        calibration: of the references, under the scorer's conditions; None without.
        before: labels to add these to.
        read, on_error: as of `fit_memory`.

    Returns:
        The labels, and why a picture could not be read, one error each.

    Raises:
        ImageReadError: a picture cannot be read and `on_error` is "raise".
        ConfigError: no picture is left, the rule needs pictures of a group of which there is none, or masks do not fit.
        DatasetError: a mask cannot be read.
    """
    if on_error not in ("warn", "raise"):
        raise ConfigError(f"on_error must be 'warn' or 'raise', got {on_error!r}")
    failed: list[ImageReadError] = []
    items: dict[str, _Item] = {}
    if before is not None:
        items = {one.picture.sha256: _Item(one.picture, one.is_anomalous, one.mask) for one in before.pictures}
    known = {} if before is None else {one.picture.sha256: one for one in before.pictures}
    only = next(iter(memory.references.values())).sha256 if memory is not None and len(memory.references) == 1 else None
    fresh: dict[str, _Item] = {}
    for is_anomalous, given in ((False, good), (True, bad)):
        for item in _items(given, masks if is_anomalous else None, is_anomalous, failed, on_error, read, scorer.roi):
            if not is_anomalous and only is not None and item.picture.sha256 == only:
                continue  # it has no others to be compared with, and lies at no distance from itself
            if is_anomalous and memory is not None and any(one.sha256 == item.picture.sha256 for one in memory.references.values()):
                raise ConfigError(
                    f"{describe_source(item.picture.path or 'a picture')} is given as bad and is a reference, which counts as good; remove "
                    "it from the references first (remove_references, vlad references MODEL remove FILE)"
                )
            other = fresh.setdefault(item.picture.sha256, item)
            if other.is_anomalous != is_anomalous:
                raise ConfigError(f"{item.picture.path or 'a picture'} is given as good and as bad; leave one out")
    items |= fresh
    if masks is not None and not any(one.mask is not None for one in fresh.values()):
        raise ConfigError("none of the bad pictures has a mask; expected STEM_mask.* or STEM.* in the folder of masks, or leave masks out")
    if not fresh:
        raise failed[0] if failed else ConfigError("expected good or bad pictures to calibrate on, got none")
    # Pixels are counted anew over all, so all are looked at again where there are masks; else those that have a score keep it.
    same = before is not None and before.conditions == scorer.conditions and masks is None
    kept = {key: one for key, one in known.items() if same and key not in fresh}
    scored, pixels = _scored(scorer, memory, [item for key, item in items.items() if key not in kept])
    pictures = (*kept.values(), *scored)
    found = Labels(
        pictures=tuple(sorted(pictures, key=lambda one: one.picture.sha256)),
        asked=asked or (Rule() if before is None else before.asked),
        fpr_limit=fpr_limit,
        own=own_scores(memory, calibration, pictures),
        conditions=scorer.conditions,
        start=start,
        pixel=pixels.threshold if masks is not None else None if before is None else before.pixel,
        pixel_f1=pixels.f1 if masks is not None else None if before is None else before.pixel_f1,
    )
    _ = found.threshold  # a rule that lacks a group is refused here
    return found, failed


def relabelled(
    labels: Labels,
    scorer: PictureScorer,
    memory: ReferenceMemory | None,
    *,
    calibration: Calibration | None,
    start: float | None,
    strict: bool,
) -> tuple[Labels, list[str]]:
    """Labels whose scores are made anew, because the conditions or the references are others.

    Args:
        calibration: of the references, under the scorer's conditions; None without.
        start: see `Labels`.
        strict: a picture that cannot be seen again raises; else it keeps its old score.

    Returns:
        The labels, and a remark if a picture kept its old score.

    Raises:
        ConfigError: see `strict`.
    """
    found, gone = [], []
    for one in labels.pictures:
        try:
            again, _ = _scored(scorer, memory, [_Item(one.picture, one.is_anomalous)])
            found.append(replace(again[0], mask=one.mask))
        except ImageReadError:
            found.append(one)
            gone.append(one.picture.path or "a labelled picture")
    names = f"{gone[0]}{f' and {len(gone) - 1} more' if len(gone) > 1 else ''}" if gone else ""
    if gone and strict:
        changed = ", ".join(scorer.conditions.changed(labels.conditions)) or "other references"
        raise ConfigError(
            f"with {changed} the threshold from labels has to be made anew, and {names} cannot be seen again; leave the settings as they "
            "were, set threshold, or calibrate again"
        )
    remarks = [f"{names} cannot be seen again, so old scores stay behind the threshold from labels; calibrate again if that matters"]
    return replace(
        labels, pictures=tuple(found), own=own_scores(memory, calibration, found), conditions=scorer.conditions, start=start
    ), remarks if gone else []


def own_scores(memory: ReferenceMemory | None, calibration: Calibration | None, labelled: Iterable[Labelled]) -> tuple[float, ...]:
    """Scores of the references, each against the others, without those that are labelled themselves; none of an only one."""
    if memory is None or calibration is None or not calibration.is_held_out:
        return ()
    known = {reference.sha256 for reference in memory.references.values()}
    left = list(calibration.image_scores)
    for one in labelled:
        if one.picture.sha256 in known and one.score in left:
            left.remove(one.score)
    return tuple(left)


def _items(
    given: Any, masks: Any, is_anomalous: bool, failed: list[ImageReadError], on_error: str, read: Reader, roi: Roi | None
) -> Iterator[_Item]:
    """Pictures as they are read, each with its mask, which a list of masks gives by place."""
    by_place = None if masks is None or isinstance(masks, (str, Path)) else list(masks)
    if masks is not None and by_place is None and not Path(masks).is_dir():
        raise ConfigError(f"masks must be a folder of masks, or a list of one or None for each bad picture; {masks} is no folder")
    if by_place is not None and (not isinstance(given, Sequence) or isinstance(given, (str, bytes)) or len(given) != len(by_place)):
        count = len(given) if isinstance(given, Sequence) and not isinstance(given, (str, bytes)) else 1
        raise ConfigError(
            f"expected a mask or None for each of the bad pictures, {count} of them, got {len(by_place)}; or name a folder of masks"
        )
    for number, source in enumerate(each_picture(given, failed, on_error, normal=not is_anomalous)):
        try:
            picture = read_where(source, roi, read)
        except ImageReadError as error:
            if on_error == "raise":
                raise
            failed.append(error)
            continue
        path = str(source) if isinstance(source, (str, Path)) else None
        reference = Reference(path, fingerprint(picture), (picture.shape[0], picture.shape[1]), partial(read, source))
        mask = None
        if by_place is not None:
            mask = by_place[number]
        elif masks is not None and path is not None:
            mask = _mask_of(Path(path), Path(masks))
        yield _Item(reference, is_anomalous, mask)


def _mask_of(picture: Path, folder: Path) -> str | None:
    names = (f"{picture.stem}_mask", picture.stem)
    found = find_mask(folder / picture.parent.name, names) or find_mask(folder, names)
    return None if found is None else str(found)


def _scored(scorer: PictureScorer, memory: ReferenceMemory | None, items: Iterable[_Item]) -> tuple[list[Labelled], _Pixels]:
    """Each picture with its score, and the pixels of those whose truth is known: of good ones, and of others with a mask.

    Raises:
        ImageReadError: a picture cannot be seen again.
        ConfigError: a mask does not fit its picture.
    """
    numbers = {} if memory is None else {reference.sha256: number for number, reference in memory.references.items()}
    found, pixels = [], _Pixels()
    for item in items:
        number = None if item.is_anomalous else numbers.get(item.picture.sha256)
        (scored,) = scorer.score([item.picture.again(scorer.white_level)], without=number)
        if not item.is_anomalous or item.mask is not None:
            pixels.count(scored, _truth(item), describe_source(item.picture.path or "a picture"))
        found.append(Labelled(item.picture, item.is_anomalous, scored.score, item.mask if isinstance(item.mask, str) else _path(item.mask)))
    return found, pixels


def _path(mask: Any) -> str | None:
    return str(mask) if isinstance(mask, Path) else None


def _truth(item: _Item) -> np.ndarray | None:
    if item.mask is None:
        return None
    mask = read_mask(Path(item.mask)) if isinstance(item.mask, (str, Path)) else np.asarray(item.mask)
    return mask > 0


class _Pixels:
    """Pixels by score, those that are defective and the others."""

    def __init__(self) -> None:
        self._normal, self._defective = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)

    def count(self, scored: Scored, truth: np.ndarray | None, name: str) -> None:
        """Take a map float32 (H, W), and what is defective of it; None: nothing."""
        if scored.map is None:
            return
        if truth is None:
            truth = np.zeros(scored.map.shape, bool)
        if truth.shape != scored.map.shape:
            raise ConfigError(
                f"the mask of {name} has {truth.shape[-1]} x {truth.shape[0]} pixels, the picture {scored.map.shape[1]} x "
                f"{scored.map.shape[0]}; give the mask of this picture"
            )
        bins = bin_of(scored.map)
        self._defective += np.bincount(bins[truth], minlength=BINS)
        self._normal += np.bincount(bins[~truth], minlength=BINS)

    def _curve(self) -> np.ndarray:
        """F1 where all from a bin on are called defective, (BINS,)."""
        hits, alarms = (np.cumsum(values[::-1])[::-1].astype(np.float64) for values in (self._defective, self._normal))
        found: np.ndarray = 2 * hits / np.maximum(hits + alarms + self._defective.sum(), 1)
        return found

    @property
    def f1(self) -> float | None:
        """The highest one; None if nothing is defective."""
        return float(self._curve().max()) if self._defective.any() else None

    @property
    def threshold(self) -> float | None:
        """The score in [0, 1] above which pixels count for it, exact to the width of a bin; None if nothing is defective."""
        if not self._defective.any():
            return None
        best = int(self._curve().argmax())
        low, high = 0.0, 1.0  # the lower end of the bin, by halving: a higher score never has a lower bin
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if int(bin_of(np.array([middle]))[0]) >= best else (middle, high)
        return low
