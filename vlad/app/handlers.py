"""What the page does, as plain functions of the service and one visitor; none of them knows Gradio."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vlad.app.bench.learning import looking
from vlad.app.names import checked_class_name, own_name
from vlad.app.notes import noted, quietly
from vlad.app.show import shrink
from vlad.app.uploads import SLOW, read_upload, short_name
from vlad.errors import ConfigError, ImageReadError
from vlad.prediction import tiff
from vlad.vlm.answer import Place
from vlad.vlm.places import find_places

if TYPE_CHECKING:
    from vlad.app.examples import Example
    from vlad.app.service import Service
    from vlad.app.visit import Visit
    from vlad.detector import AnomalyDetector
    from vlad.prediction import Prediction

MOST_PLACES = 8
_SAME = 5.1e-5  # half of the last digit that a slider shows
_THUMBNAIL = 320


@dataclass(frozen=True)
class References:
    """Good pictures after some were given: all their names, those that were left out and why, and what vlad notes about them."""

    names: tuple[str, ...]
    refused: tuple[str, ...]
    notes: tuple[str, ...]


def inspect(service: Service, visit: Visit, path: str | Path | None, class_name: str = "", *, name: str | None = None) -> Prediction:
    """Inspect an uploaded picture with the visitor's references; it becomes the visitor's current picture.

    Raises:
        ConfigError: there is no picture, or the class name is too long.
        ImageReadError: it cannot be read.
        BusyError: the model is busy.
    """
    if path is None:
        raise ConfigError("There is no picture yet; drop one, or choose an example.")
    picture = read_upload(path, service.limits, name=name)
    return inspect_array(service, visit, picture, class_name, name=short_name(name or Path(path).name))


def inspect_array(service: Service, visit: Visit, picture: np.ndarray, class_name: str = "", *, name: str = "picture") -> Prediction:
    """As `inspect`, for a picture uint8 (H, W, 3) RGB."""
    noun = checked_class_name(class_name)
    with service.turn(), quietly():
        prediction = visit.detector.predict(picture, class_name=noun or None)
    visit.name, visit.picture, visit.class_name, visit.conversation = Path(name).stem or "picture", picture, noun, None
    visit.example = None
    visit.prediction = replace(prediction, image_path=name)
    return visit.prediction


def inspect_example(service: Service, visit: Visit, example: Example, *, with_references: bool = False) -> Prediction:
    """Inspect an example, on request beside good pictures of the same product, which replace the visitor's."""
    if with_references or service.detector.encoder.joint is None:
        visit.detector = service.detector.copy()  # labels, and where to look, were of other pictures
        service.fit_example(visit.detector, example)
        visit.references, visit.borrowed = tuple(path.name for path in example.references), True
        visit.thumbnails = tuple(shrink(read_upload(path, service.limits), _THUMBNAIL) for path in example.references)
    else:
        clear_references(service, visit)
    return inspect(service, visit, example.path, example.class_name)


def add_references(service: Service, visit: Visit, paths: Sequence[str | Path], class_name: str = "") -> References:
    """Remember uploaded good pictures beside those given before. An unreadable one is named and left out; the bytes of the others are
    kept in the visitor's folder, because a later calibration looks at them again.

    Raises:
        ConfigError: there would be too many, or none is given.
        ImageReadError: none can be read.
    """
    noun = checked_class_name(class_name)
    if not paths:
        raise ConfigError("There are no good pictures yet; choose one to sixteen pictures of good parts.")
    if visit.borrowed:  # an example's, not the visitor's
        clear_references(service, visit)
    if len(visit.references) + len(paths) > service.limits.references:
        raise ConfigError(
            f"At most {service.limits.references} good pictures can be compared with here, and these would be "
            f"{len(visit.references) + len(paths)}; choose fewer, or fit a detector on the command line."
        )
    kept, thumbnails, refused = keep_uploads(service, visit.folder / "references", paths)
    detector = visit.detector.copy()
    with service.turn(), noted() as notes:
        if noun and not visit.references:
            detector.fit(list(kept), class_name=noun)
        else:
            detector.add_references(list(kept))
    visit.detector = detector
    visit.references = (*visit.references, *kept.values())
    visit.thumbnails = (*visit.thumbnails, *thumbnails)
    visit.conversation = None
    return References(visit.references, tuple(refused), tuple(notes))


def keep_uploads(service: Service, folder: Path, paths: Sequence[str | Path]) -> tuple[dict[Path, str], list[np.ndarray], list[str]]:
    """Copies of uploaded pictures in a visitor's folder, with their names as uploaded, which a later calibration looks at again; the same
    as thumbnails; and why others cannot be read.

    Raises:
        ImageReadError: none can be read.
    """
    kept: dict[Path, str] = {}
    thumbnails: list[np.ndarray] = []
    refused: list[str] = []
    for path in paths:
        try:
            began = time.monotonic()
            picture = read_upload(path, service.limits)
            is_slow = time.monotonic() - began > SLOW
        except ImageReadError as error:
            refused.append(str(error))
            continue
        copy = folder / own_name(Path(path).name, uuid.uuid4().hex)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if is_slow:  # it is decoded again in a turn at the model, for which others wait
            copy = copy.with_suffix(".png")
            Image.fromarray(picture).save(copy, compress_level=1)
        else:
            shutil.copyfile(path, copy)
        thumbnails.append(shrink(picture, _THUMBNAIL))
        kept[copy] = short_name(Path(path).name)
    if not kept:
        raise ImageReadError("; ".join(refused[:3]))
    return kept, thumbnails, refused


def mark(service: Service, visit: Visit, *, is_good: bool) -> tuple[str, ...]:
    """Correct the verdict on the current picture: a good one is remembered beside the references, a bad one is labelled; then it is looked
    at again.

    Returns:
        What vlad notes about it.

    Raises:
        ConfigError: there is no current picture; or a bad one, and no good ones to tell it from.
        BusyError: the model is busy.
    """
    if visit.picture is None or visit.prediction is None:
        raise ConfigError("There is no picture yet; drop one, or choose an example.")
    if is_good and len(visit.references) >= service.limits.references:
        raise ConfigError(f"At most {service.limits.references} good pictures can be compared with here; on the command line more.")
    copy = visit.folder / ("references" if is_good else "labels") / f"{uuid.uuid4().hex}.png"
    copy.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(visit.picture).save(copy, compress_level=1)
    detector = visit.detector.copy()
    with service.turn(), noted() as notes:
        if is_good:
            detector.add_references([copy])
        else:
            detector.calibrate(bad=[copy], add=True)
        prediction = detector.predict(visit.picture, class_name=visit.class_name or None)
    visit.detector = detector
    if is_good:
        visit.references = (*visit.references, visit.name)
        visit.thumbnails = (*visit.thumbnails, shrink(visit.picture, _THUMBNAIL))
        visit.borrowed = False
    visit.prediction, visit.conversation = replace(prediction, image_path=visit.prediction.image_path), None
    return tuple(notes)


def look_at(service: Service, visit: Visit, painted: np.ndarray | None, *, ignore: bool) -> None:
    """Look only where is painted, or anywhere but there, from now on; the good pictures are remembered anew.

    Args:
        painted: bool (H, W) over pictures of this shape; None looks everywhere.

    Raises:
        ConfigError: nothing is painted, or nothing would be left.
        BusyError: the model is busy.
    """
    with service.turn(), quietly():
        fresh = looking(service.detector, visit.detector, painted, ignore=ignore)
    visit.detector, visit.conversation = fresh, None


def look_again(service: Service, visit: Visit) -> None:
    """Inspect the current picture again, under what has changed."""
    if visit.picture is None or visit.prediction is None:
        return
    with service.turn(), quietly():
        prediction = visit.detector.predict(visit.picture, class_name=visit.class_name or None)
    visit.prediction = replace(prediction, image_path=visit.prediction.image_path)


def clear_references(service: Service, visit: Visit) -> None:
    """Forget the visitor's good pictures; a detector that came with some has them back."""
    visit.detector = service.detector.copy()
    shutil.rmtree(visit.folder / "references", ignore_errors=True)
    visit.references, visit.thumbnails, visit.conversation, visit.borrowed = (), (), None, False


def fitted_copy(service: Service, example: Example | None = None) -> AnomalyDetector:
    """A detector for one request: the shared one's copy, beside an example's good pictures if one is given."""
    detector = service.detector.copy()
    if example is not None:
        service.fit_example(detector, example)
    return detector


def adjust(visit: Visit, threshold: float | None, mask_threshold: float) -> Prediction:
    """Another threshold for score (None leaves it as it is) and map of the current picture, from the map at hand: the model does not run. A
    value that is the present one but for the four digits that a slider shows changes nothing.

    Raises:
        ConfigError: there is no current picture.
    """
    if visit.prediction is None:
        raise ConfigError("There is no picture yet; drop one, or choose an example.")
    old = visit.prediction
    if threshold is None or (old.threshold is not None and abs(threshold - old.threshold) < _SAME):
        threshold = old.threshold
    if old.mask_threshold is not None and abs(mask_threshold - old.mask_threshold) < _SAME:
        mask_threshold = old.mask_threshold
    source = old.threshold_source if threshold == old.threshold else "user"
    if threshold != old.threshold:
        visit.conversation = None  # its verdict would be another one
    undecided = old.undecided if threshold is None else ""
    visit.prediction = replace(old, threshold=threshold, threshold_source=source, mask_threshold=mask_threshold, undecided=undecided)
    return visit.prediction


def places_of(prediction: Prediction) -> tuple[tuple[Place, ...], int]:
    """The marked places with letters, and how many more there are."""
    return find_places(prediction, most=MOST_PLACES)


def write_files(visit: Visit) -> dict[str, Path]:
    """The current result for download: "overlay" (PNG), "json", and "map" (TIFF, raw float32), in the visitor's folder.

    Raises:
        ConfigError: there is no current picture.
    """
    if visit.prediction is None:
        raise ConfigError("There is no result yet; inspect a picture first.")
    prediction, folder = visit.prediction, visit.folder / "results"
    folder.mkdir(parents=True, exist_ok=True)
    stem = "".join(mark if mark.isalnum() or mark in "-_" else "_" for mark in visit.name)[:60] or "picture"
    files = {kind: folder / f"{stem}_{name}" for kind, name in (("overlay", "overlay.png"), ("map", "map.tiff"), ("json", "result.json"))}
    prediction.overlay().save(files["overlay"], compress_level=1)
    if prediction.anomaly_map is not None:
        files["map"].write_bytes(tiff(prediction.anomaly_map))
    files["json"].write_text(json.dumps(prediction.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return files
