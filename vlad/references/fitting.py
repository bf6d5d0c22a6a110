"""`fit`, `add_references`, `remove_references`: reading normal pictures, remembering them, calibrating on them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.pictures.reading import describe_source, find_images, read_image
from vlad.references.augment import slight_changes
from vlad.references.calibration import FEW, Calibration, references_needed
from vlad.references.memory import Reference, ReferenceMemory, fingerprint
from vlad.scoring.pictures import tile_grid, tiles

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector

_ASPECT_TOLERANCE = 1.15
_ENLARGED = 0.5  # a reference smaller than this share of the model's input has little to show


def fit_memory(detector: AnomalyDetector, memory: ReferenceMemory, references: Any, on_error: str) -> ReferenceMemory:
    """`memory` with the references added and calibrated; see `AnomalyDetector.fit`."""
    if on_error not in ("warn", "raise"):
        raise ConfigError(f"on_error must be 'warn' or 'raise', got {on_error!r}")
    read = partial(read_image, max_pixels=detector.config.max_pixels)
    known = {reference.sha256 for reference in memory.references.values()}
    found: dict[str, Reference] = {}
    failed: list[ImageReadError] = []
    duplicates: list[str] = []
    sources = list(_sources(references, failed, on_error))
    for number, source in enumerate(sources):
        try:
            picture = read(source)
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
    if not found and not duplicates:  # said once, in the error, and not in warnings as well
        if failed:
            raise (
                failed[0] if len(failed) == 1 else ImageReadError(f"none of {len(failed)} references could be read; the first: {failed[0]}")
            )
        raise ConfigError("expected at least one normal picture as reference, got none")
    _report(detector, [*memory.references.values(), *found.values()], failed, duplicates)
    if found:
        memory.settle(len(memory.references) + len(found))
        # Sorted, so that the order in which they were given never matters, to a coreset neither. Read again rather than held: 1,000
        # decoded pictures fill a memory that their tokens do not.
        ordered = [found[key] for key in sorted(found)]
        memory.add(((reference, _seen_again(reference)) for reference in ordered), detector.encoder, partial(_crops, detector))
        if memory.settings.foreground and memory.foreground is None:
            warnings.warn("the part does not stand out from its background clearly enough; the whole picture is looked at", VladWarning, 4)
    _calibrate(detector, memory)
    return memory


def forget(detector: AnomalyDetector, references: Any) -> ReferenceMemory:
    """A copy of the detector's memory without these references, calibrated anew; see `AnomalyDetector.remove_references`."""
    if detector.memory is None:
        raise ConfigError("there are no references to remove; fit() some first")
    memory = detector.memory.copy()
    given = [references] if _is_one(references) else list(references)
    for item in given:
        if isinstance(item, int):
            raise ConfigError(
                f"expected pictures or entries of detector.references, got the number {item}; write detector.references[{item}]"
            )
        wanted = item.sha256 if isinstance(item, Reference) else fingerprint(read_image(item, max_pixels=detector.config.max_pixels))
        numbers = [number for number, reference in memory.references.items() if reference.sha256 == wanted]
        if not numbers:
            raise ConfigError(f"{describe_source(item)} is not among the {len(detector.references)} references; see detector.references")
        memory.remove(numbers[0])
    if not memory.references:
        raise ConfigError("no reference would be left; fit() others instead")
    _calibrate(detector, memory)
    return memory


def _calibrate(detector: AnomalyDetector, memory: ReferenceMemory) -> None:
    """Score every reference as if it were none; slightly changed views if there is only one, and beside them if there are few."""
    config = detector.config
    scorer = detector.picture_scorer(class_name=None, config=config, maps=True, batch_size=8, memory=memory)
    kept: list[str] = []
    views: list[tuple[float, float]] = []
    is_only = len(memory.references) == 1

    def score(pictures: Iterable[np.ndarray], without: int | None) -> list[tuple[float, float]]:
        scored = (one for shown in pictures for one in scorer.score([shown], without=without))
        return [(one.score, float(one.map.max())) for one in scored if one.map is not None]

    for number, reference in memory.references.items():
        try:
            picture = _seen_again(reference)
        except ImageReadError:
            kept.append(reference.path or f"reference {number + 1}")
            continue
        # An only reference has no others to be compared with: its views are compared with itself.
        without = None if is_only else number
        if not is_only:
            (memory.scores[number],) = score((picture,), without)
        if len(memory.references) <= FEW:
            views += score(slight_changes(picture), without)
    if kept:
        names = f"{kept[0]}{f' and {len(kept) - 1} more' if len(kept) > 1 else ''}"
        warnings.warn(f"{names} cannot be seen again, so old scores stay in the calibration; fit() anew if that matters", VladWarning, 5)
    is_held_out = not (is_only and views)
    memory.noun = detector.prompts.noun(config.class_name)
    images, pixels = _columns(list(memory.scores.values()) if is_held_out else views)
    image_views, pixel_views = _columns(views if is_held_out else [])
    if images:
        memory.calibration = Calibration(images, pixels, is_held_out, image_views, pixel_views)
    if len(memory.references) <= FEW and config.threshold is None:
        count = len(memory.references)
        warnings.warn(
            f"the threshold from {count} reference{'s' if count > 1 else ''} is a guess and can be far off; give more normal pictures "
            f"({references_needed(config.fpr_limit)} promise {config.fpr_limit:.1%}), or set threshold",
            VladWarning,
            5,
        )


def _columns(results: list[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Image and pixel scores, sorted each."""
    return tuple(sorted(image for image, _ in results)), tuple(sorted(pixel for _, pixel in results))


def _seen_again(reference: Reference) -> np.ndarray:
    """The picture of a reference.

    Raises:
        ImageReadError: it is gone or has changed.
    """
    if reference.read is not None:
        picture = reference.read()
    elif reference.path is not None:
        picture = read_image(reference.path, max_pixels=reference.size[0] * reference.size[1])
    else:
        raise ImageReadError("a reference that came as data is not kept")
    if fingerprint(picture) != reference.sha256:
        raise ImageReadError(f"{reference.path}: has changed since it was remembered")
    return picture


def _crops(detector: AnomalyDetector, picture: np.ndarray) -> Iterator[np.ndarray]:
    """The tiles in which a picture of this size is looked at; none if it fits in one."""
    tile = detector.config.tile
    if tile is None or max(picture.shape[:2]) <= tile:
        return iter(())
    return tiles(picture, tile_grid(picture, detector.config, detector.encoder.size))


def _sources(references: Any, failed: list[ImageReadError], on_error: str) -> Iterator[Any]:
    """Each picture; a folder is the pictures in it."""
    for item in [references] if _is_one(references) else references:
        if not isinstance(item, (str, Path)) or not Path(item).is_dir():
            yield item
            continue
        try:
            yield from find_images([item])
        except ImageReadError as error:
            if on_error == "raise":
                raise
            failed.append(error)


def _is_one(references: Any) -> bool:
    if hasattr(references, "shape"):
        return len(references.shape) != 4
    if isinstance(references, (str, bytes, bytearray, memoryview, Path, Reference)) or hasattr(references, "read"):
        return True
    return not isinstance(references, Iterable)


def _report(detector: AnomalyDetector, references: list[Reference], failed: list[ImageReadError], duplicates: list[str]) -> None:
    """Say what was left out and what is odd."""

    def note(text: str) -> None:
        warnings.warn(text, VladWarning, stacklevel=5)

    for error in failed:
        note(f"left out of the references: {error}")
    if duplicates:
        more = f" and {len(duplicates) - 1} more" if len(duplicates) > 1 else ""
        note(f"{duplicates[0]}{more}: the same picture is a reference already, left out")
    if not references:
        return
    least = _ENLARGED * detector.encoder.size
    small = sorted((reference for reference in references if min(reference.size) < least), key=lambda reference: min(reference.size))
    if small:
        note(
            f"{small[0].path or 'a reference'}: {small[0].size[1]} x {small[0].size[0]} pixels are enlarged to {detector.encoder.size}, "
            f"they show little ({len(small)} of {len(references)} references are below {least:.0f} pixels)"
        )
    aspects = [width / height for height, width in (reference.size for reference in references)]
    if max(aspects) > _ASPECT_TOLERANCE * min(aspects):
        note(
            f"the references have different shapes, width to height from {min(aspects):.2f} to {max(aspects):.2f}; compare pictures of the "
            "same framing"
        )
