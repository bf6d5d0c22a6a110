"""Reading normal pictures, remembering them, calibrating on them; `AnomalyDetector.fit` and its like are thin over this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vlad.errors import ConfigError, ImageReadError, warn
from vlad.pictures.appearance import Appearance, mean_light, measure
from vlad.pictures.batches import is_one_picture
from vlad.pictures.folders import Roles, listed, normal_pictures
from vlad.pictures.reading import DEFAULT_READER, Reader, describe_source, find_images
from vlad.pictures.roi import read_where
from vlad.references.augment import mirrored, slight_changes
from vlad.references.calibration import FEW, Calibration
from vlad.references.memory import Reference, ReferenceMemory, fingerprint
from vlad.references.odd import Named, odd_note
from vlad.references.report import FitReport, odd_sizes

if TYPE_CHECKING:
    from vlad.backbones.encoder import Encoder
    from vlad.scoring.pictures import PictureScorer

Progress = Callable[[str, int, int], None]
_Item = TypeVar("_Item")
_KEPT_BYTES = 512 * 2**20  # decoded pictures are kept up to here while fitting; more are read again when they are needed


def fit_memory(
    memory: ReferenceMemory,
    encoder: Encoder,
    scorer: PictureScorer,
    sources: Any,
    *,
    on_error: str = "warn",
    read: Reader = DEFAULT_READER,
    on_progress: Progress | None = None,
) -> FitReport:
    """Add the pictures of `sources` to `memory` and calibrate it anew. The order of the pictures never matters.

    Args:
        memory: changed in place; after an error it is of no use.
        encoder: the backbones.
        scorer: scores pictures against `memory` under the conditions that its thresholds are for.
        sources: pictures, folders, or a mixture; see `read_image`.
        on_error: an unreadable picture is reported ("warn") or raises its ImageReadError ("raise").
        read: how pictures are read.
        on_progress: called with the phase ("read", "look", "compare") and how many of how many pictures are done; 0 where nobody knows.

    Raises:
        ImageReadError: no picture could be read, or one could not and `on_error` is "raise".
        ConfigError: no pictures.
    """
    if on_error not in ("warn", "raise"):
        raise ConfigError(f"on_error must be 'warn' or 'raise', got {on_error!r}")
    known = {reference.sha256 for reference in memory.references.values()}
    found: dict[str, Reference] = {}
    failed: list[ImageReadError] = []
    duplicates: list[str] = []
    given: dict[str, int] = {}
    ranks: dict[str, str] = {}
    seen = _Seen(scorer.white_level)
    told = on_progress or (lambda *_: None)
    looks: dict[str, Appearance] = {}
    for number, source in enumerate(each_picture(sources, failed, on_error, normal=True)):
        try:
            picture = read_where(source, scorer.roi, read)
        except ImageReadError as error:
            if on_error == "raise":
                raise
            failed.append(error)
            continue
        path = str(source) if isinstance(source, (str, Path)) else None
        reference = Reference(path, fingerprint(picture), (picture.shape[0], picture.shape[1]), partial(read, source))
        if reference.sha256 in known or reference.sha256 in found:
            duplicates.append(path or f"reference {number + 1}")
        else:
            found[reference.sha256] = reference
            given[reference.sha256] = number + 1
            ranks[reference.sha256] = reference.sha256 if scorer.roi is None else fingerprint(scorer.roi.cut(picture)[0])
            looks[reference.sha256] = measure(picture if scorer.roi is None else scorer.roi.cut(picture)[0])
            seen.keep(reference, picture)
        told("read", number + 1, 0)
    if not found and not duplicates:
        if failed:
            raise (
                failed[0] if len(failed) == 1 else ImageReadError(f"none of {len(failed)} references could be read; the first: {failed[0]}")
            )
        raise ConfigError("expected at least one normal picture as reference, got none")
    notes = list(odd_sizes([*memory.references.values(), *found.values()], encoder.size))
    if found:
        memory.settle(len(memory.references) + len(found))
        # Sorted, so that the order in which they were given never matters, to a coreset neither; and by what counts of them alone.
        ordered = [found[key] for key in sorted(found, key=lambda key: (ranks[key], key))]
        if memory.settings.adapt is not None and memory.light is None:
            memory.light = mean_light(list(looks.values()))
            scorer = replace(scorer, light=memory.light)
        memory.add(_counted(((one, seen.again(one)) for one in ordered), "look", len(ordered), told), encoder, scorer.parts)
        memory.appearances |= {number: looks[one.sha256] for number, one in memory.references.items() if one.sha256 in looks}
        if memory.settings.foreground and memory.foreground is None:
            notes.append("the part does not stand out from its background clearly enough; the whole picture is looked at")
    notes += calibrate(memory, scorer, seen=seen, on_progress=on_progress)
    notes += _odd(memory, given)
    return FitReport(tuple(failed), tuple(duplicates), tuple(notes))


def forget(memory: ReferenceMemory, scorer: PictureScorer, references: Any, *, read: Reader = DEFAULT_READER) -> FitReport:
    """Remove references, given as pictures or as `Reference`s, from `memory` in place, and calibrate it anew.

    Raises:
        ConfigError: one of them is not remembered, or none would be left.
    """
    count = len(memory.references)
    for item in [references] if isinstance(references, Reference) or is_one_picture(references) else list(references):
        if isinstance(item, int):
            raise ConfigError(
                f"expected pictures or entries of detector.references, got the number {item}; write detector.references[{item}]"
            )
        wanted = item.sha256 if isinstance(item, Reference) else fingerprint(read(item))
        numbers = [number for number, reference in memory.references.items() if reference.sha256 == wanted]
        if not numbers:
            raise ConfigError(f"{describe_source(item)} is not among the {count} references; see detector.references")
        memory.remove(numbers[0])
    if not memory.references:
        raise ConfigError("no reference would be left; fit() others instead")
    return FitReport(notes=(*calibrate(memory, scorer), *_odd(memory, {})))


def recalibrated(memory: ReferenceMemory, scorer: PictureScorer) -> ReferenceMemory:
    """A copy of `memory` that is calibrated under the scorer's conditions.

    Raises:
        ConfigError: a reference cannot be seen again, so that only a mixture of conditions could be had.
    """
    other = memory.copy()
    calibrate(other, replace(scorer, memory=other))
    return other


def calibrate(
    memory: ReferenceMemory, scorer: PictureScorer, *, seen: _Seen | None = None, on_progress: Progress | None = None
) -> list[str]:
    """Score every reference as if it were none; slightly changed and mirrored views if there is only one, and
    slightly changed ones beside them if there are few.

    Returns:
        A remark if a reference cannot be seen again; its old score stays.

    Raises:
        ConfigError: a reference cannot be seen again, and the conditions are others than those of its old score.
    """
    seen = seen or _Seen(scorer.white_level)
    kept: list[str] = []
    views: list[tuple[float, float]] = []
    mirrors: list[tuple[float, float]] = []
    is_only = len(memory.references) == 1

    def score(pictures: Iterable[np.ndarray], without: int | None) -> list[tuple[float, float]]:
        scored = (one for shown in pictures for one in scorer.score([shown], without=without))
        return [(one.score, float(one.map.max())) for one in scored if one.map is not None]

    told = on_progress or (lambda *_: None)
    for number, reference in _counted(memory.references.items(), "compare", len(memory.references), told):
        try:
            picture = seen.again(reference)
        except ImageReadError:
            kept.append(reference.path or f"reference {number + 1}")
            continue
        # An only reference has no others to be compared with: its views are compared with itself.
        without = None if is_only else number
        if not is_only:
            (memory.scores[number],) = score((picture,), without)
        if len(memory.references) <= FEW:
            views += score(slight_changes(picture), without)
        if is_only:
            mirrors += score(mirrored(picture), without)
    names = f"{kept[0]}{f' and {len(kept) - 1} more' if len(kept) > 1 else ''}" if kept else ""
    before = None if memory.calibration is None else memory.calibration.conditions
    if kept and before is not None and (changed := scorer.conditions.changed(before)):
        raise ConfigError(
            f"with {', '.join(changed)} the threshold has to be calibrated anew, and {names} cannot be seen again; "
            "leave the settings as they were, set threshold, or fit again"
        )
    is_held_out = not (is_only and views)
    images, pixels = _columns(list(memory.scores.values()) if is_held_out else views)
    image_views, pixel_views = _columns(views if is_held_out else [])
    if images:
        memory.calibration = Calibration(images, pixels, is_held_out, image_views, pixel_views, scorer.conditions, *_columns(mirrors))
    return [f"{names} cannot be seen again, so old scores stay in the calibration; fit() anew if that matters"] if kept else []


def _odd(memory: ReferenceMemory, given: Mapping[str, int]) -> list[str]:
    """A remark if references stand out from the others. One without a path is named by its number among those `given`, from 1, by hash."""
    names = {}
    for index, (number, reference) in enumerate(memory.references.items()):
        expression = f"detector.references[{index}]" if reference.path is None else repr(reference.path)
        place = given.get(reference.sha256)
        names[number] = Named(reference.path or (expression if place is None else f"reference {place}"), expression)
    note = odd_note({number: image for number, (image, _) in memory.scores.items()}, names)
    return [] if note is None else [note]


def _counted(items: Iterable[_Item], phase: str, count: int, told: Progress) -> Iterator[_Item]:
    """The items; `told` hears of each that is done with."""
    for done, item in enumerate(items, start=1):
        yield item
        told(phase, done, count)


class _Seen:
    """Decoded references, kept while there is room, so that each is decoded once."""

    def __init__(self, white_level: int | None) -> None:
        self._white_level = white_level
        self._pictures: dict[str, np.ndarray] = {}
        self._bytes = 0

    def keep(self, reference: Reference, picture: np.ndarray) -> None:
        """Hold a picture if there is room."""
        if self._bytes + picture.nbytes <= _KEPT_BYTES:
            self._pictures[reference.sha256] = picture
            self._bytes += picture.nbytes

    def again(self, reference: Reference) -> np.ndarray:
        """The picture of a reference.

        Raises:
            ImageReadError: it is gone or has changed.
        """
        if reference.sha256 in self._pictures:
            return self._pictures[reference.sha256]
        return reference.again(self._white_level)


def _columns(results: list[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Image and pixel scores, sorted each."""
    return tuple(sorted(image for image, _ in results)), tuple(sorted(pixel for _, pixel in results))


def each_picture(references: Any, failed: list[ImageReadError], on_error: str, *, normal: bool = False, tell: bool = True) -> Iterator[Any]:
    """Each picture; a folder is the pictures in it, or if they are to be `normal` and it is sorted, the normal ones; see
    `vlad.pictures.folders`. A folder without any is put into `failed`, or raises if `on_error` is "raise"."""
    for item in [references] if isinstance(references, Reference) or is_one_picture(references) else references:
        if not isinstance(item, (str, Path)) or not Path(item).is_dir():
            yield item
            continue
        if normal and (taken := normal_pictures(Path(item), Roles()))[0]:
            if tell:
                warn(f"{item} is sorted, only its normal pictures are taken: {'; '.join(listed(taken[1], Path(item)))}")
            yield from taken[0]
            continue
        try:
            yield from find_images([item])
        except ImageReadError as error:
            if on_error == "raise":
                raise
            failed.append(error)
