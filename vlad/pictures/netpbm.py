"""PNM files that Pillow decodes value by value in Python: plain text, and binary ones with a maximum of their own. Values are Pillow's."""

from __future__ import annotations

import re
from typing import IO, Any

import numpy as np
from PIL import Image

_SPACE = b" \t\n\r\x0b\x0c"
_COMMENT = re.compile(rb"#[^\r\n]*[\r\n]?")
_FOREIGN = re.compile(rb"[^0-9 \t\n\r\x0b\x0c]")


def decode(image: Image.Image) -> Image.Image:
    """The picture of a PNM file of which the header was read, in the same mode; the same object where Pillow itself is fast.

    Raises:
        ValueError: there are too few values, one is no number, or one is above the maximum.
    """
    decoder, _, offset, options = image.tile[0]  # type: ignore[attr-defined]
    if decoder not in ("ppm", "ppm_plain"):
        return image
    file: IO[bytes] = image.fp  # type: ignore[attr-defined]
    file.seek(offset)
    count = image.width * image.height * len(image.getbands())
    if image.mode == "1":
        return Image.fromarray(_bits(file.read(), count).reshape(image.height, image.width))
    maximum: int = options[-1]
    stored = np.dtype("u1" if maximum < 256 else ">u2")
    if decoder == "ppm_plain":
        values = _numbers(file.read(), count, maximum)
    else:
        data = file.read(count * stored.itemsize)
        values = np.frombuffer(data, stored, len(data) // stored.itemsize)
    if len(values) < count:
        raise ValueError(f"has {len(values):,} of {count:,} values")
    out, kind = (65535, np.int32) if image.mode == "I" else (255, np.uint8)
    levels: Any = np.minimum(np.rint(np.arange(2 ** (8 * stored.itemsize)) / maximum * out), out).astype(kind)
    return Image.fromarray(levels[values].reshape(image.height, image.width, *([3] if image.mode == "RGB" else [])))


def _bits(text: bytes, count: int) -> np.ndarray:
    """bool (count,), true is white; digits need no space between them."""
    digits = np.frombuffer(_COMMENT.sub(b"", text).translate(None, _SPACE)[:count], np.uint8)
    if len(digits) < count or not np.isin(digits, (48, 49)).all():
        raise ValueError(f"expected {count:,} digits 0 or 1")
    return digits == 48


def _numbers(text: bytes, count: int, maximum: int) -> np.ndarray:
    """The first numbers of a text, at most `count`."""
    text = _COMMENT.sub(b"", text)
    if foreign := _FOREIGN.search(text):  # what stands behind the picture does not matter, but no number ends in a letter
        text = text[: max(text.rfind(space, 0, foreign.start()) for space in (_SPACE[i : i + 1] for i in range(len(_SPACE)))) + 1]
    values = np.array([], np.int64) if not text.strip() else np.fromstring(text.decode(), np.int64, sep=" ")[:count]
    if len(values) and values.max() > maximum:
        raise ValueError(f"has the value {values.max()}, above its maximum {maximum}")
    return values
