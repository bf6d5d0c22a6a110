"""Masks that say where a picture is defective: found by name, read whatever they were saved as.

| file                            | defective is                                                                                         |
|---------------------------------|------------------------------------------------------------------------------------------------------|
| grey of any depth, 1 bit, float | what is above 0; of a JPEG, whose edges are blurred, from half of white on                            |
| colour, palette                 | what is not black, or where nothing is, what differs from most of the edge; where all colours of a     |
|                                 | palette are one, its numbers above 0                                                                 |
| with alpha                      | what is not transparent and, where colours tell the opaque part apart, not black                     |
| .npy                            | what is above 0, of (H, W), (1, H, W) or (H, W, 1)                                                   |
| .json of labelme                | inside its polygons, rectangles and circles                                                          |
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vlad.errors import ConfigError, DatasetError, warn
from vlad.pictures.reading import IMAGE_SUFFIXES
from vlad.untrusted.values import Values, number, parse_json, whole

MARKERS = ("mask", "gt", "label", "seg", "groundtruth", "annotation")
_SUFFIXES = (".png", ".bmp", *(suffix for suffix in IMAGE_SUFFIXES if suffix not in (".png", ".bmp")), ".npy", ".json")
_MARKED = re.compile(rf"(?P<stem>.+?)[ ._-]?(?:{'|'.join(MARKERS)})s?", re.IGNORECASE)
_MARKED_BEFORE = re.compile(rf"(?:{'|'.join(MARKERS)})s?[ ._-](?P<stem>.+)", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<stem>.+?)[ ._-]\d{1,3}")
_MARKED_NUMBERED = re.compile(rf"(?P<stem>.+?)[ ._-](?:{'|'.join(MARKERS)})s?[ ._-]?\d{{1,3}}", re.IGNORECASE)
_MARKED_BEHIND = re.compile(rf"(?P<stem>.+?)[ ._-]\d{{1,3}}[ ._-]?(?:{'|'.join(MARKERS)})s?", re.IGNORECASE)
_WITHOUT_AREA = ("point", "points", "line", "linestrip")  # kinds of shapes
_FAR = 1e6  # coordinates beyond it are none
_MOST_PIXELS = 100_000_000  # of an annotation
_NEAR_BLACK = 32  # a JPEG blurs it
_CIRCLE = 90  # corners of a circle


def read_mask(path: Path) -> np.ndarray:
    """A mask's values int64 (H, W), above 0 is defective; of grey files those stored.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        if path.suffix.lower() == ".npy":
            return _from_array(np.load(path, allow_pickle=False))
        if path.suffix.lower() == ".json":
            return _from_labelme(parse_json(path.read_text(encoding="utf-8-sig")))
        return _from_picture(path)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    except Exception as error:  # damaged files make decoders throw exceptions of any type
        raise DatasetError(f"{path}: the mask cannot be read ({error}); get it again") from error


def _from_array(values: np.ndarray) -> np.ndarray:
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "buif":
        raise DatasetError(f"expected an array of numbers (H, W), got {values.dtype} {values.shape}; save it as one")
    if values.dtype.kind == "f":
        return (values > 0).astype(np.int64)  # NaN is not
    return values.astype(np.int64)


def _from_picture(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        if image.has_transparency_data or image.mode == "PA":
            return _from_alpha(np.asarray(image.convert("RGBA"), dtype=np.int64))
        if image.mode in ("1", "L", "I;16", "I;16B", "I;16L", "I", "F"):
            values = np.asarray(image)
        elif image.mode == "P":
            values = _from_palette(np.asarray(image), np.asarray(image.convert("RGB")))
        else:
            values = _from_colours(np.asarray(image.convert("RGB")))
        is_jpeg = image.format in ("JPEG", "MPO")
    if values.dtype.kind == "f":
        return _from_array(values)
    return np.where(values < 128, 0, values).astype(np.int64) if is_jpeg else values.astype(np.int64)


def _from_palette(numbers: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The colours, which are what a person sees, unless they tell nothing apart."""
    return numbers if (colours == colours[0, 0]).all() else _from_colours(colours)


def _from_colours(colours: np.ndarray) -> np.ndarray:
    """How far (H, W) each pixel of (H, W, 3) is from black; where no pixel is near black, from the colour that most of the edge has."""
    level = colours.max(axis=2).astype(np.int64)
    if level.min() >= _NEAR_BLACK and (colours != colours[0, 0]).any():
        edge = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
        found, counts = np.unique(edge, axis=0, return_counts=True)
        level = np.abs(colours.astype(np.int64) - found[counts.argmax()]).max(axis=2)
    return level


def _from_alpha(pixels: np.ndarray) -> np.ndarray:
    colour, opaque = pixels[..., :3].max(axis=2), pixels[..., 3] > 0
    inside = colour[opaque]
    if inside.size and (opaque.all() or (inside.min() == 0 < inside.max())):  # colours tell, or there is nothing else that could
        return np.where(opaque, colour, 0)
    return opaque.astype(np.int64)


def _from_labelme(content: Any) -> np.ndarray:
    """int64 (H, W) of an annotation: 0 and 1."""
    from vlad.pictures.polygons import draw_polygon

    try:
        values = Values(content, "the annotation")
        height, width = (_side(values, name) for name in ("imageHeight", "imageWidth"))
        if height * width > _MOST_PIXELS:
            raise ConfigError(f"imageWidth x imageHeight are {width} x {height}, the limit is {_MOST_PIXELS:,} pixels")
        mask = np.zeros((height, width), dtype=bool)
        for shape in values.objects("shapes"):
            if (kind := shape.text("shape_type", default="polygon")) in _WITHOUT_AREA:
                warn(f"{shape.name} is a {kind}, which has no area; it is passed over")
            else:
                mask |= draw_polygon(_corners(shape), (mask.shape[0], mask.shape[1]))
    except ConfigError as error:
        raise DatasetError(f"expected an annotation of labelme: {error}") from error
    return mask.astype(np.int64)


def _side(values: Values, name: str) -> int:
    """Pixels; some programs write 40 as 40.0."""
    found = values.get(name)
    return whole(int(found) if isinstance(found, float) and found.is_integer() else found, f"{values.name}.{name}", 1, 100_000)


def _corners(shape: Values) -> tuple[tuple[float, float], ...]:
    kind, points = shape.text("shape_type", default="polygon"), shape.get("points")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise ConfigError(f"{shape.name}.points must be a list of pairs")
    corners = tuple((number(x, f"{shape.name}.points", -_FAR, _FAR), number(y, f"{shape.name}.points", -_FAR, _FAR)) for x, y in points)
    if kind == "polygon" and len(corners) >= 3:
        return corners
    if len(corners) == 2 and kind == "rectangle":
        (x0, y0), (x1, y1) = corners
        return (x0, y0), (x1, y0), (x1, y1), (x0, y1)
    if len(corners) == 2 and kind == "circle":
        (x, y), (edge_x, edge_y) = corners
        radius = math.hypot(edge_x - x, edge_y - y)
        angles = [2 * math.pi * corner / _CIRCLE for corner in range(_CIRCLE)]
        return tuple((x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles)
    raise ConfigError(f"{shape.name} is a {kind} of {len(corners)} points, which has no area; expected polygons, rectangles or circles")


def find_mask(folder: Path, stems: Iterable[str]) -> Path | None:
    """The first mask file in `folder` with one of the names, whatever its suffix."""
    for stem in stems:
        for suffix in _SUFFIXES:
            for written in (suffix, suffix.upper()):
                if (path := folder / f"{stem}{written}").is_file():
                    return path
    return None


def find_masks(folder: Path, stem: str, others: Container[str] = ()) -> tuple[Path, ...]:
    """The masks in `folder` of a picture called `stem`: STEM_mask.*, STEM.*, or several that are numbered, as STEM_mask_0.*, STEM_0.*, or
    in a folder STEM.

    Args:
        others: stems of other pictures; what bears the name of one of them belongs to it.
    """
    files = _listed(folder, _stamp(folder))
    for way in ("marked", "plain", "numbered"):
        found = files[way].get(stem.casefold(), ())
        if way != "plain":
            found = tuple(path for path in found if path.stem not in others and (partner_of(path) or stem).casefold() == stem.casefold())
        if found:
            return found
    return _every_mask(folder / stem)


def is_annotation(path: Path) -> bool:
    """Whether a file is there and looks like one of labelme, not like other notes on a picture."""
    try:
        with path.open("rb") as file:
            return b'"shapes"' in file.read(2**20)
    except OSError:
        return False


def partner_of(path: Path) -> str | None:
    """Of a file whose name says that it is a mask, as x_mask.png, the name of its picture, without suffix."""
    matches = (pattern.fullmatch(path.stem) for pattern in (_MARKED, _MARKED_BEFORE, _MARKED_NUMBERED, _MARKED_BEHIND))
    return next((match["stem"] for match in matches if match), None)


def _every_mask(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in _files(folder) if path.suffix.lower() in _SUFFIXES) if folder.is_dir() else ()


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError:
        return []


def _stamp(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=64)
def _listed(folder: Path, stamp: int) -> Mapping[str, Mapping[str, tuple[Path, ...]]]:
    """The masks of a folder by the stem of their picture, for each way of naming them; of equal names the better format alone."""
    best: dict[str, Path] = {}
    for path in _files(folder):
        suffix = path.suffix.lower()
        if suffix in _SUFFIXES:
            before = best.get(path.stem)
            if before is None or _SUFFIXES.index(suffix) < _SUFFIXES.index(before.suffix.lower()):
                best[path.stem] = path
    ways: dict[str, dict[str, list[Path]]] = {name: defaultdict(list) for name in ("marked", "plain", "numbered")}
    for stem, path in best.items():
        ways["plain"][stem.casefold()].append(path)
        for way, pattern in (
            ("marked", _MARKED), ("marked", _MARKED_BEFORE), ("numbered", _NUMBERED), ("numbered", _MARKED_NUMBERED),
            ("numbered", _MARKED_BEHIND),
        ):  # fmt: skip
            if (match := pattern.fullmatch(stem)) and path not in ways[way][match["stem"].casefold()]:
                ways[way][match["stem"].casefold()].append(path)
    return {way: {stem: tuple(paths) for stem, paths in found.items()} for way, found in ways.items()}
