"""Where to look: the part of every picture that counts. What lies outside it has no influence at all, on references, scores, maps or
thresholds: a picture is cut to the box around the part, and what is left of the outside is painted over.

As a setting it is a text, so that it is saved with a detector: boxes and masks, separated by ";".

| text                | means                                                                                                     |
|---------------------|-----------------------------------------------------------------------------------------------------------|
| `40,25,300,200`     | a box of left, top, width and height in pixels of the picture as displayed; beyond its border it is cut   |
| `0.1,0.1,0.8,0.5`   | the same as shares of the picture's width and height; at least one number has a point                     |
| `mask:BASE64`       | a mask that is laid over the whole picture, whatever its size: a PNG, white where to look                 |
| anything else       | the file of such a mask, which becomes the text above                                                     |
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import numbers
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vlad.errors import ConfigError, ImageReadError
from vlad.pictures.reading import Reader, describe_source, read_image

_MASK = "mask:"
_WANTED = "a box 'x,y,w,h' (pixels, or shares such as 0.1,0.1,0.8,0.5), the file of a mask (white where it applies), or several with ';'"
_NUMBERS = re.compile(r"\s*-?[\d.]+(?:[eE]-?\d+)?\s*(?:,\s*-?[\d.]+(?:[eE]-?\d+)?\s*){3}")
_ASPECT = 1.02  # a mask that is laid over pictures of another shape than this is of other pictures
_INSIDE = 0.5  # a patch counts if as much of it lies inside


def as_text(name: str, value: Any) -> str | None:
    """The setting `name` in the form above: from a text, a path, four numbers, a mask bool or uint8 (H, W), or a list of these.

    Raises:
        ConfigError: it is none of these, or selects nothing.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        parts = [_part(name, part) for part in value.split(";") if part.strip()]
        return ";".join(parts) or None
    if hasattr(value, "shape") and getattr(value, "shape", None) == (4,):
        value = value.tolist()
    if isinstance(value, Path) or hasattr(value, "shape"):
        return _part(name, value)
    if isinstance(value, (tuple, list)) and len(value) == 4 and all(_is_number(one) for one in value):
        return _part(name, ",".join(map(str, value)))
    if isinstance(value, (tuple, list)) and value:
        return ";".join(found for one in value if (found := as_text(name, one)))
    raise ConfigError(f"{name} must be {_WANTED}, got {value!r}")


Part = tuple[np.ndarray, "np.ndarray | None"]  # what is looked at, uint8 (h, w, 3), and the bool (h, w) of it that counts; None: all


@dataclass(frozen=True)
class Roi:
    """A region of interest: inside one of the parts `look` (everywhere, if there are none) and outside all of `ignore`; texts of the form
    above."""

    look: str | None
    ignore: str | None

    def in_words(self) -> str:
        """Both parts, masks by their size."""
        look = "everywhere" if self.look is None else in_short(self.look)
        return look if self.ignore is None else f"{look} but not {in_short(self.ignore)}"

    @property
    def is_box(self) -> bool:
        """Whether all that counts is one box."""
        return self.ignore is None and self.look is not None and ";" not in self.look and not self.look.startswith(_MASK)

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """bool (H, W) of a picture of that size, True where it counts; read-only.

        Raises:
            ConfigError: nothing of such a picture counts, or a mask is of pictures of another shape.
        """
        return _mask(self, size)

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) around what counts of a picture (H, W)."""
        return _box(self, size)

    def whole(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """A map float32 of the box in its place in one of the whole picture (H, W); 0 outside of what counts."""
        left, top, right, bottom = _box(self, size)
        placed = np.zeros(size, np.float32)
        placed[top:bottom, left:right] = np.where(self.mask(size)[top:bottom, left:right], values, 0)
        return placed

    def cut(self, picture: np.ndarray) -> Part:
        """The box of a picture uint8 (H, W, 3), outside painted over in the mean colour of the inside.

        Raises:
            ConfigError: as of `mask`.
        """
        size = (picture.shape[0], picture.shape[1])
        mask, (left, top, right, bottom) = self.mask(size), _box(self, size)
        part, inside = picture[top:bottom, left:right], mask[top:bottom, left:right]
        if inside.all():
            return np.ascontiguousarray(part), None
        painted = part.copy()
        painted[~inside] = part[inside].mean(0).round().astype(np.uint8)
        return painted, inside


def read_where(source: Any, roi: Roi | None, read: Reader) -> np.ndarray:
    """As `read_image`, whole.

    Raises:
        ImageReadError: it cannot be read, nothing of it lies in the `roi`, or a mask is of pictures of another shape.
    """
    picture = read(source)
    if roi is not None:
        try:
            roi.mask((picture.shape[0], picture.shape[1]))
        except ConfigError as error:
            raise ImageReadError(f"{describe_source(source)}: {error}") from error
    return picture


def patches_inside(inside: np.ndarray, grid: tuple[int, int], shown: tuple[float, float]) -> np.ndarray:
    """bool (P,): patches of a grid of which half at least lies inside the mask bool (H, W); `shown` is the share of the grid that the
    picture fills. One patch at least: that which lies inside most."""
    height, width = inside.shape
    pad = ((0, round(height / shown[0]) - height), (0, round(width / shown[1]) - width))
    share = cv2.resize(np.pad(inside, pad).astype(np.float32), (grid[1], grid[0]), interpolation=cv2.INTER_AREA).ravel()
    found: np.ndarray = share >= min(_INSIDE, float(share.max()))
    return found


@lru_cache(maxsize=2)
def _mask(roi: Roi, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, bool) if roi.look else np.ones(size, bool)
    for part in _parts(roi.look):
        _fill(mask, "roi", part, True)
    for part in _parts(roi.ignore):
        _fill(mask, "ignore", part, False)
    if not mask.any():
        raise ConfigError(f"nothing of a picture of {size[1]} x {size[0]} pixels is inside the roi and not ignored; correct roi or ignore")
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=16)
def _box(roi: Roi, size: tuple[int, int]) -> tuple[int, int, int, int]:
    mask = _mask(roi, size)
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


def _fill(mask: np.ndarray, name: str, part: str, value: bool) -> None:
    height, width = mask.shape
    if part.startswith(_MASK):
        painted = _decoded(part)
        if not 1 / _ASPECT <= (painted.shape[1] / painted.shape[0]) / (width / height) <= _ASPECT:
            raise ConfigError(
                f"the mask of {name} has {painted.shape[1]} x {painted.shape[0]} pixels, and a picture has {width} x {height}, which is "
                "another shape; give a mask of such pictures"
            )
        mask[cv2.resize(painted.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0] = value
        return
    x, y, w, h = (float(number) for number in part.split(","))
    if _are_shares(part):
        x, y, w, h = x * width, y * height, w * width, h * height
    left, top = max(0, round(x)), max(0, round(y))
    mask[top : max(top, round(y + h)), left : max(left, round(x + w))] = value


def _part(name: str, value: Any) -> str:
    """One box or mask in its final form."""
    if isinstance(value, str) and value.startswith(_MASK):
        _decoded(value)
        return value
    if isinstance(value, str) and _NUMBERS.fullmatch(value):
        return _checked_box(name, value)
    if hasattr(value, "shape"):
        mask = np.asarray(value)
        if mask.ndim != 2 or mask.dtype not in (bool, np.uint8):
            raise ConfigError(f"a mask of {name} must be bool or uint8 (H, W), got {mask.dtype} {mask.shape}")
    elif isinstance(value, Path) or _is_file(value):
        try:
            mask = read_image(Path(value), min_size=1).mean(2) > 127
        except ImageReadError as error:
            raise ConfigError(f"{name}: {error}") from error
    else:
        raise ConfigError(f"{name} must be {_WANTED}, got {value!r}" + ("" if "," in value else ", and there is no such file"))
    if not mask.any():
        raise ConfigError(f"the mask of {name} selects nothing: no pixel of {'it' if hasattr(value, 'shape') else value} is white")
    return _encoded(mask > 0)


def _are_shares(numbers_or_text: Iterable[str]) -> bool:
    return any(mark in number for number in numbers_or_text for mark in ".eE")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a null character
        return False


def _checked_box(name: str, text: str) -> str:
    given = [number.strip() for number in text.split(",")]
    try:
        x, y, w, h = map(float, given)
    except ValueError:
        raise ConfigError(f"{name} must be {_WANTED}, got {text!r}") from None
    is_shares = _are_shares(given)
    if w <= 0 or h <= 0 or min(x, y) < 0 or not math.isfinite(x + y + w + h):
        raise ConfigError(f"the box of {name} must have x and y >= 0, and width and height > 0, got {text.strip()!r}")
    if is_shares and max(x + w, y + h) > 1 + 1e-6:
        raise ConfigError(
            f"the box of {name} is given in shares of the picture and reaches beyond it: {text.strip()!r}; leave out the points if these "
            "are pixels"
        )
    return ",".join(given)


def _parts(text: str | None) -> Iterator[str]:
    return iter(()) if text is None else iter(text.split(";"))


def _encoded(mask: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG", optimize=True)
    return _MASK + base64.b64encode(file.getvalue()).decode("ascii")


@lru_cache(maxsize=8)
def _decoded(text: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(text.removeprefix(_MASK), validate=True)), formats=("PNG",)) as image:
            return np.asarray(image.convert("1"))
    except (binascii.Error, OSError, ValueError) as error:
        raise ConfigError(f"a mask of a region of interest is damaged ({error}); give its file again") from error


def in_short(text: str | None) -> str:
    """The setting for people: masks by their size."""
    return "; ".join(map(_named, _parts(text))) or "none"


def _named(part: str) -> str:
    if not part.startswith(_MASK):
        return part
    height, width = _decoded(part).shape
    return f"a mask of {width} x {height} pixels"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
