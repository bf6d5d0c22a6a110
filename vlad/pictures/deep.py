"""Pictures of more than 8 bits that Pillow cuts short: colour PNG by OpenCV; TIFF by tifffile, or by OpenCV where that lacks the
compression. Of colours Pillow keeps the upper byte alone, which of 12 bits in 16 leaves sixteen levels; of grey with 32 it makes signs."""

from __future__ import annotations

import io
import logging
import threading
import zlib
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from vlad.errors import ImageReadError

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MISSING = "imagecodecs"
_INVERTED, _GREY, _RGB, _CMYK = 0, 1, 2, 5  # photometric interpretations
_ASSOCIATED = 1  # alpha that the colours have been multiplied with
_IN_OPENCV = ("LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "NONE")
_DEFLATED = (8, 32946)  # compressions
_ORIENTATION = 274  # the tag, also of EXIF
# What it says: is the stored picture to be transposed, then turned upside down, then mirrored.
_UPRIGHT = {2: (0, 0, 1), 3: (0, 1, 1), 4: (0, 1, 0), 5: (1, 0, 0), 6: (1, 0, 1), 7: (1, 1, 1), 8: (1, 1, 0)}
_log_level = threading.Lock()  # OpenCV has one for the process
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it finds odd is told by an error of ours, if it matters


def read_deep(file: IO[bytes], head: bytes, check_size: Callable[[int, int], None]) -> np.ndarray | None:
    """A picture of more than 8 bits as displayed: uint16 or float32 (H, W, 3), or (H, W, 4) with alpha that the colours have not been
    multiplied with, or (H, W) of grey with 32 bits. None if it is none, or of a kind that Pillow reads as well.

    Args:
        file: at any place; it is left at its beginning.
        head: the first 32 bytes.
        check_size: called with width and height before anything is decoded.
    """
    try:
        if head.startswith(_PNG) and head[24] == 16 and head[25] in (2, 4, 6):
            return _from_png(file, head, check_size)
        if head.startswith(_TIFFS):
            return _from_tiff(file, check_size)
        return None
    finally:
        file.seek(0)


def _from_png(file: IO[bytes], head: bytes, check_size: Callable[[int, int], None]) -> np.ndarray:
    from PIL.PngImagePlugin import PngImageFile

    check_size(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
    file.seek(0)
    data = file.read()
    with PngImageFile(io.BytesIO(data)) as image:
        check_size(*image.size)  # of the last header, if there are two
        image.load()  # it refuses what is cut off, OpenCV shows it half
        try:
            orientation = image.getexif().get(_ORIENTATION, 1)
        except Exception:  # a broken EXIF block tells nothing about the picture, which is then shown as stored, as viewers do
            orientation = 1
    return upright(_by_opencv(data), orientation)


def upright(pixels: np.ndarray, orientation: Any) -> np.ndarray:
    """A stored picture (H, W, ...) turned as its orientation (1 to 8, as in EXIF) says."""
    transpose, flip, mirror = _UPRIGHT.get(orientation, (0, 0, 0))
    pixels = pixels.swapaxes(0, 1) if transpose else pixels
    return np.ascontiguousarray(pixels[:: 1 - 2 * flip, :: 1 - 2 * mirror])


def _by_opencv(data: bytes) -> np.ndarray:
    import cv2

    with _log_level:
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is wrong is told below
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        finally:
            cv2.utils.logging.setLogLevel(level)
    if pixels is None:
        raise ImageReadError("is damaged or of a rare variant; copy or export it again")
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]  # from its order of colours


def _from_tiff(file: IO[bytes], check_size: Callable[[int, int], None]) -> np.ndarray | None:
    from tifffile import TiffFile, TiffFileError

    file.seek(0)
    try:
        with TiffFile(file) as tiff:
            page: Any = tiff.pages.first
            kinds = (_INVERTED, _GREY, _RGB, _CMYK)
            if page.bitspersample == 8 or page.photometric not in kinds or page.dtype is None:
                return None
            if page.samplesperpixel == 1 and page.dtype != np.uint32:
                return None
            if not all(isinstance(value, int) for value in (page.imagewidth, page.imagelength, page.samplesperpixel)):
                raise ImageReadError("is damaged (its size is not one number each); copy or export it again")
            check_size(page.imagewidth, page.imagelength)
            if page.is_tiled:  # a tile is unpacked as a whole, however little of it is shown
                check_size(max(page.imagewidth, page.tilewidth), max(page.imagelength, page.tilelength))
            colours = {_RGB: 3, _CMYK: 4}.get(int(page.photometric), 1)
            extra = page.samplesperpixel - colours
            if extra not in (0, 1) or page.imagedepth != 1:
                has = f"has {page.samplesperpixel} channels of {page.bitspersample} bits"
                raise ImageReadError(f"{has}, expected 1, 3 or 4; export three of them")
            if int(page.compression) in _DEFLATED:
                _check_segments(page, file)
            values = _decoded(page, file)
            tag = page.tags.get(_ORIENTATION)
            if page.samplesperpixel == 1:
                shown = _grey(values.reshape(page.imagelength, page.imagewidth), int(page.photometric))
            else:
                kind = int(page.extrasamples[0]) if extra else 0
                shown = _as_rgb(_scaled(values, page.bitspersample), int(page.photometric), colours, kind)
            return upright(shown, 1 if tag is None else tag.value)
    except (TiffFileError, IndexError) as error:
        raise ImageReadError(f"is damaged ({error}); copy or export it again") from error


def _check_segments(page: Any, file: IO[bytes]) -> None:
    """
    Raises:
        ImageReadError: a strip or tile would be unpacked to more than it shows.
    """
    height, width = page.chunks[:2] if page.is_tiled else (min(page.rowsperstrip, page.imagelength), page.imagewidth)
    most = int(height) * int(width) * page.samplesperpixel * page.dtype.itemsize
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset)
        if len(zlib.decompressobj().decompress(file.read(count), most + 1)) > most:
            raise ImageReadError("is damaged (a part of it holds more than it shows); copy or export it again")


def _decoded(page: Any, file: IO[bytes]) -> np.ndarray:
    """(H, W, C) of a page."""
    try:
        values: np.ndarray = page.asarray()
    except ValueError as error:
        if _MISSING not in str(error):
            raise
        is_plain = int(page.planarconfig or 1) == 1 and page.bitspersample == 16 and page.photometric == _RGB
        if is_plain and page.compression.name in _IN_OPENCV:
            file.seek(0)
            return _by_opencv(file.read())
        raise ImageReadError(
            f"is compressed with {page.compression.name}, for which imagecodecs is missing; pip install 'vlad-anomaly[formats]', or save "
            "it without compression"
        ) from error
    return np.moveaxis(values, 0, -1) if int(page.planarconfig or 1) == 2 else values


def _grey(values: np.ndarray, photometric: int) -> np.ndarray:
    """uint32 (H, W) as uint16 where that is enough, else as floats from 0 to the greatest value."""
    values = values.max() - values if photometric == _INVERTED else values
    return values.astype(np.uint16) if values.max() <= 65535 else values.astype(np.float64)


def _scaled(values: np.ndarray, bits: int) -> np.ndarray:
    """uint16 as it is, unless the file says that fewer bits count; that and others as float32, in [0, 1] as a rule."""
    if values.dtype == np.uint16:
        return values if bits == 16 else (values / np.float32(2**bits - 1)).astype(np.float32)
    if values.dtype.kind == "u" and values.dtype.itemsize == 4:
        return (values / np.float64(2**32 - 1)).astype(np.float32)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    raise ImageReadError(f"has values of type {values.dtype}, expected 8, 16 or 32 bits without sign, or floats; convert it")


def _as_rgb(values: np.ndarray, photometric: int, colours: int, alpha: int) -> np.ndarray:
    shown = values[..., :colours]
    white = np.float32(65535 if values.dtype == np.uint16 else 1)
    if photometric == _CMYK:
        ink = shown / white
        shown = ((1 - ink[..., :3]) * (1 - ink[..., 3:]) * white).astype(values.dtype)
    if photometric == _INVERTED:
        shown = values.dtype.type(white) - shown
    shown = np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown
    if values.shape[2] == colours or alpha not in (1, 2):  # what else may lie beside the colours is no transparency
        return shown
    covers = values[..., colours:]
    if alpha == _ASSOCIATED:
        share = np.maximum(covers / white, 1e-6)
        shown = np.minimum(shown / share, white).astype(values.dtype)
    return np.concatenate([shown, covers], axis=2)
