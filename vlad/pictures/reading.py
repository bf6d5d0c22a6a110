"""Reading and finding pictures.

Whatever the source, `read_image` gives 8-bit RGB as displayed. Brightness is absolute wherever the source defines it: the same value
gives the same pixel in every picture, because a reference and a query that were stretched differently cannot be compared.

| source                           | becomes                                                                                        |
|----------------------------------|------------------------------------------------------------------------------------------------|
| 16 bits, grey or colour          | value / `white_level`, or 65535, always; warns if the upper four bits are empty                 |
| 32 bits, colour TIFF             | value / the greatest                                                                            |
| DICOM, raw of cameras            | see `vlad.pictures.special`; they need `pip install 'vlad-anomaly[formats]'`                    |
| 12-bit TIFF, PGM with a maxval   | value / the maximum that the file states                                                        |
| 32-bit integers                  | as 16 bits if within [0, 65535] (Pillow keeps 16-bit PGM so), else stretched as below           |
| float                            | [0, 1] is black to white; any other range of a file is stretched to its own extremes, and warns |
| transparency, in any form        | composited on white                                                                             |
| palette, CMYK, YCbCr, LAB, 1 bit | converted by Pillow                                                                             |
| several frames or pages          | the first; of a PIL image the one it stands at                                                  |
| EXIF orientation                 | applied, also to a PIL image that still carries it                                              |
| ICC profile                      | left alone: the encoders were trained on pixels as stored                                       |
"""

from __future__ import annotations

import contextlib
import functools
import glob
import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image

from vlad.errors import ImageReadError, warn
from vlad.pictures import netpbm
from vlad.pictures.deep import read_deep, upright
from vlad.pictures.headers import MOST_SCANS, count_scans, first_frame_of_gif
from vlad.pictures.special import DICOM_SUFFIXES, RAW_SUFFIXES, read_special

if TYPE_CHECKING:
    import torch

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray | torch.Tensor"

# Pillow's name of a format: its plugin, and the suffixes looked for in folders; what a file is, its first bytes say, not its suffix.
# Pillow knows more formats; these are the ones that cameras and datasets use, and none of them starts another program.
_FORMATS = {
    "PNG": ("PngImagePlugin", (".png", ".apng")),
    "JPEG": ("JpegImagePlugin", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    "TIFF": ("TiffImagePlugin", (".tif", ".tiff")),
    "BMP": ("BmpImagePlugin", (".bmp",)),
    "WEBP": ("WebPImagePlugin", (".webp",)),
    "AVIF": ("AvifImagePlugin", (".avif",)),
    "GIF": ("GifImagePlugin", (".gif",)),
    "PPM": ("PpmImagePlugin", (".pbm", ".pgm", ".ppm", ".pnm", ".pfm")),
    "JPEG2000": ("Jpeg2KImagePlugin", (".jp2", ".j2k", ".jpx")),
}
IMAGE_SUFFIXES = (*(suffix for _, suffixes in _FORMATS.values() for suffix in suffixes), *DICOM_SUFFIXES)

_REASONS: dict[type[Exception], str] = {
    FileNotFoundError: "there is no such file; check the path",
    IsADirectoryError: "is a folder; list its pictures with find_images()",
    PermissionError: "may not be opened; give this user the permission to read it",
}


def read_image(source: ImageSource, *, max_pixels: int = 100_000_000, min_size: int = 16, white_level: int | None = None) -> np.ndarray:
    """Read one picture as displayed: uint8 (H, W, 3) RGB, a new array. The table above says how each kind is brought there.

    Args:
        source: a path; the bytes of a file, or a file open in binary mode; a PIL image; an array (H, W) or (H, W, C), or a torch
            tensor (C, H, W), with C = 1 (grey), 3 (RGB, not OpenCV's BGR) or 4 (RGBA), of uint8, uint16, bool, or float in [0, 1].
        max_pixels: larger pictures are refused from their header, before anything is decoded; replaces Pillow's process-wide limit.
            Reading takes up to 20 bytes a pixel, 2 GB at this limit, and up to 52 for colour of more than 8 bits and DICOM.
        min_size: smallest side in pixels.
        white_level: what is white in values of 16 bits that do not say so themselves, e.g. 4095 of a camera with 12 bits, from 255 to
            65535; None takes 65535.

    Raises:
        ImageReadError: names the source and says why it could not be read and what to do.
    """
    name = describe_source(source)
    with _explaining(name), contextlib.ExitStack() as files:
        check_size = functools.partial(_check_size, max_pixels=max_pixels, min_size=min_size)
        picture = _open(source, files, check_size)
        height, width = picture.shape[:2] if isinstance(picture, np.ndarray) else picture.size[::-1]
        check_size(width, height)
        if isinstance(picture, np.ndarray):
            is_file = isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read")
            return _array_to_rgb(picture, name, white_level, stretch=is_file)
        return _pil_to_rgb(picture, name, white_level)


@dataclass(frozen=True)
class Reader:
    """How the pictures of a detector are read; see `read_image`."""

    max_pixels: int = 100_000_000
    white_level: int | None = None

    def __call__(self, source: ImageSource) -> np.ndarray:
        return read_image(source, max_pixels=self.max_pixels, white_level=self.white_level)


DEFAULT_READER = Reader()
_WHITE_LEVELS = (1023, 4095, 16383, 65535)  # of cameras of 10, 12, 14 and 16 bits


def find_white_level(sources: Iterable[ImageSource], *, max_pixels: int = 100_000_000) -> int | None:
    """The white level of a camera, from pictures of 16 bits: the least of 10, 12, 14 and 16 bits that none of them goes beyond. None if
    there is no picture of 16 bits; what cannot be read is passed over."""
    highest = None
    for source in sources:
        with contextlib.suppress(Exception), contextlib.ExitStack() as files:
            check_size = functools.partial(_check_size, max_pixels=max_pixels, min_size=1)
            picture = _open(source, files, check_size)
            check_size(*(picture.shape[1::-1] if isinstance(picture, np.ndarray) else picture.size))
            if not isinstance(picture, np.ndarray) and (picture.format == "PPM" or not picture.mode.startswith("I")):
                continue  # netpbm states its own white
            values = np.asarray(picture)
            values = values[..., :3] if values.ndim == 3 else values  # what is opaque is not white
            if values.dtype.kind in "ui" and values.dtype.itemsize > 1:
                highest = max(highest or 0, int(values.max()))
    return None if highest is None else next((level for level in _WHITE_LEVELS if highest <= level), None)


def _check_size(width: int, height: int, *, max_pixels: int, min_size: int) -> None:
    size = f"has {width} x {height} = {width * height:,} pixels"
    if width * height > max_pixels:
        raise ImageReadError(f"{size}, the limit is {max_pixels:,}; make it smaller, or raise max_pixels if you trust its origin")
    if min(width, height) < min_size:
        raise ImageReadError(f"{size}, each side needs at least {min_size}; give a larger picture")


def find_images(inputs: Sequence[str | os.PathLike[str]], *, recursive: bool = False) -> list[Path]:
    """Expand files, folders and globs (also `**`) to the paths of pictures.

    A file is taken whatever its suffix. Of a folder, also one that a glob matches, the files with a picture's suffix are taken:
    those directly inside, and with `recursive` or if there are none directly inside (`test/good`, `test/broken`) those below. Hidden
    files and folders are left out unless named. Inputs keep their order, each one's pictures are in natural order (`2.png` before
    `10.png`), and a picture that is reached twice is listed once. An input without a picture raises an ImageReadError that names it.
    """
    found: dict[Path, Path] = {}
    for item in [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs:
        with _explaining(describe_source(item)):
            pictures = sorted(_expand(Path(item), str(item), recursive), key=_natural_key)
        for path in pictures:
            found.setdefault(path.parent.resolve() / path.name, path)
    return list(found.values())


def describe_source(source: Any) -> str:
    """A picture's source in a few words, for messages."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)[:300] or "'' (an empty path)"
    if isinstance(source, Image.Image):
        return f"PIL image of mode {source.mode}"
    if hasattr(source, "shape"):
        return f"{type(source).__name__} of shape {tuple(source.shape)}"
    if hasattr(source, "read"):
        return f"file {getattr(source, 'name', 'object')}"
    return "bytes" if isinstance(source, (bytes, bytearray, memoryview)) else f"{source!r:.100} of type {type(source).__name__}"


@contextlib.contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Give every error its name and advice; damaged data makes headers and decoders throw exceptions of any type."""
    try:
        yield
    except ImageReadError as error:
        raise ImageReadError(f"{name}: {error}") from error.__cause__
    except Exception as error:
        detail = str(error)[:200] or type(error).__name__
        reason = f"cannot be read ({detail}); if damaged, cut off or of a rare variant, copy or export it again"
        reason = next((known for kind, known in _REASONS.items() if isinstance(error, kind)), reason)
        if isinstance(error, FileNotFoundError) and re.match(r"[a-z][a-z0-9+.-]+:/|data:", name, re.IGNORECASE):
            reason = "is a URL, and only files are read; download the picture first and give its path"
        raise ImageReadError(f"{name}: {reason}") from error


def _open(source: Any, files: contextlib.ExitStack, check_size: Callable[[int, int], None]) -> Image.Image | np.ndarray:
    """A PIL image of which nothing but the header was read, or an array (H, W) or (H, W, C)."""
    if isinstance(source, (str, os.PathLike)):
        return _open_file(files.enter_context(Path(source).open("rb")), check_size, os.fsdecode(source))
    tensor: Any = getattr(sys.modules.get("torch"), "Tensor", ())  # who holds a tensor has imported torch, nobody else waits for it
    if isinstance(source, tensor):
        if source.ndim != 3 or source.shape[0] not in (1, 3, 4):
            raise ImageReadError("expected (C, H, W) with C = 1, 3 or 4; give one picture at a time, channels first")
        source = source.detach().cpu()
        return (source.float() if source.is_floating_point() else source).permute(1, 2, 0).numpy()
    if isinstance(source, np.ndarray) and (source.ndim not in (2, 3) or source.shape[2:] not in ((), (1,), (3,), (4,))):
        raise ImageReadError("expected (H, W) or (H, W, C) with C = 1, 3 or 4; give one picture at a time, channels last")
    if isinstance(source, (np.ndarray, Image.Image)):
        return source
    if hasattr(source, "read"):
        if not isinstance(source.read(0), bytes):
            raise ImageReadError("is open in text mode; open it with mode 'rb'")
        source.seek(0) if source.seekable() else None
        source = source.read()
    if not isinstance(source, (bytes, bytearray, memoryview)):
        raise ImageReadError("is no picture; give one path, bytes, binary file, PIL image, array or tensor")
    return _open_file(io.BytesIO(source), check_size)


def _open_file(file: IO[bytes], check_size: Callable[[int, int], None], name: str = "") -> Image.Image | np.ndarray:
    """`Image.open` would warn or raise above a limit that only process-wide settings change, so the plugins are asked directly."""
    head = file.read(132)
    if not head:
        raise ImageReadError("is empty (0 bytes); copy or export it again")
    if (special := read_special(file, head, name, check_size)) is not None:
        return special
    if (deep := read_deep(file, head, check_size)) is not None:
        return deep
    head = head[:32]
    for name, (plugin, _) in _FORMATS.items():
        importlib.import_module(f"PIL.{plugin}")
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(head)
        if isinstance(accepted, str):
            raise OSError(accepted)  # this Pillow was built without the format
        if accepted:
            file.seek(0)
            if name == "JPEG" and (scans := count_scans(file.read())) > MOST_SCANS:
                raise ImageReadError(f"has {scans:,} scans, at most {MOST_SCANS} are read; save it again as an ordinary JPEG or PNG")
            file.seek(0)
            return factory(first_frame_of_gif(file, check_size) if name == "GIF" else file, "")
    raise ImageReadError(f"is none of {' '.join(_FORMATS)}, it starts with {head[:24]!r}; convert a PDF or HEIC, fetch a Git LFS pointer")


def _pil_to_rgb(image: Image.Image, name: str, white_level: int | None) -> np.ndarray:
    if image.format == "TIFF" and getattr(image, "tile", None):  # it would ask Pillow's limit before it makes this canvas
        tags = image.tag_v2  # type: ignore[attr-defined]
        image.im = Image.new(image.mode, (tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]), None).im
    is_stated = image.format == "PPM"  # netpbm scales values by the maximum that the file states
    if is_stated and getattr(image, "tile", None):
        image = netpbm.decode(image)
    image.load()  # turns a TIFF upright, and then it has no orientation any more
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    pixels = (
        _array_to_rgb(_reduce_depth(image, name, 65535 if is_stated else white_level, is_stated), name)
        if deep
        else np.array(_flatten(image))
    )
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block tells nothing about the picture, which is then shown as stored, as viewers do
        orientation = 1
    return upright(pixels, orientation)


def _flatten(image: Image.Image) -> Image.Image:
    """RGB, transparent parts over white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rgba := image.convert("RGBA"), mask=rgba)
    return canvas


def _reduce_depth(image: Image.Image, name: str, white_level: int | None, is_stated: bool) -> np.ndarray:
    """uint8 (H, W) from modes I;16 (uint16), I (int32) and F (float32)."""
    values = stored = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if tags.get(ExifTags.Base.BitsPerSample) == (12,):
        values = stored / 4095
    elif stored.dtype.kind == "i":
        values = stored.astype(np.uint16 if stored.min() >= 0 and stored.max() <= 65535 else np.float64)
    grey = _to_uint8(values, name, stretch=True, white_level=white_level, is_stated=is_stated)
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is zero, which Pillow honours up to 8 bits only
        grey = 255 - grey
    transparent = image.info.get("transparency")
    return np.where(stored == transparent, np.uint8(255), grey) if isinstance(transparent, int) else grey


def _array_to_rgb(values: np.ndarray, name: str, white_level: int | None = None, *, stretch: bool = False) -> np.ndarray:
    if (values.dtype == np.uint16 or stretch) and values.ndim == 3 and values.shape[2] == 4:  # what is transparent has no white level
        alpha = _to_uint8(values[..., 3:] if values.dtype == np.uint16 else values[..., 3:].clip(0, 1), name, white_level=65535)
        values = np.concatenate([_to_uint8(values[..., :3], name, stretch=stretch, white_level=white_level), alpha], axis=2)
    pixels = _to_uint8(values, name, stretch=stretch, white_level=white_level)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return np.array(pixels if pixels.shape[2] == 3 else _flatten(Image.fromarray(pixels)), order="C")


def _to_uint8(
    values: np.ndarray, name: str, *, stretch: bool = False, white_level: int | None = None, is_stated: bool = False
) -> np.ndarray:
    """The nearest level, in the same shape; floats must lie in [0, 1] up to what still rounds to a level, or are stretched to it."""
    if values.dtype in (np.uint8, np.bool_):
        return values if values.dtype == np.uint8 else values * np.uint8(255)
    if values.dtype.str[1:] not in ("u2", "f2", "f4", "f8"):
        raise ImageReadError(f"has dtype {values.dtype}, expected uint8, uint16, bool or float in [0, 1]; convert it")
    low, high = values.min(), values.max()
    if values.dtype.kind == "u":
        if white_level is not None and white_level != 65535:
            if high > white_level:
                warn(f"{name}: brighter than white, its maximum is {high} and white is {white_level}; give the camera's white level")
            bright = np.minimum(values, white_level).astype(np.uint32) * 255
            return ((2 * bright + white_level) // (2 * white_level)).astype(np.uint8)
        if 0 < high < 16384 and not is_stated and white_level is None:
            level = next(level for level in _WHITE_LEVELS if high <= level)
            warn(
                f"{name}: {'nearly black' if high < 4096 else 'dark'}, its 16-bit maximum is {high}; if {level} is white there, set "
                f"white_level={level} (--white {level}), or --white auto beside references, to find it from them"
            )
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not np.isfinite([low, high]).all():
        raise ImageReadError("holds NaN or infinite values; replace them first")
    if low <= -0.5 / 255 or high >= 255.5 / 255:
        if not stretch:
            raise ImageReadError(f"has values from {low:g} to {high:g}, floats must lie in [0, 1]; divide by 255, or undo a normalisation")
        warn(f"{name}: stretched from [{low:g}, {high:g}]; to compare pictures, scale them all alike to [0, 1]")
        values = (values.astype(np.float64) - low) / max(float(high) - float(low), np.finfo(np.float64).tiny)
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)


def _expand(path: Path, text: str, recursive: bool) -> list[Path]:
    if text and path.is_dir():
        found = _pictures_in(path, recursive)
    elif text and path.exists():
        return [path]
    elif glob.has_magic(text):
        hits = [Path(hit) for hit in glob.glob(text, recursive=True)]  # noqa: PTH207  pathlib's finds hidden files, no absolute pattern
        found = [picture for hit in hits for picture in (_pictures_in(hit, recursive) if hit.is_dir() else [hit])]
        found = [picture for picture in found if picture.name.lower().endswith((*IMAGE_SUFFIXES, *RAW_SUFFIXES))]
    else:
        raise FileNotFoundError(text)
    if not found:
        raise ImageReadError(f"no picture there, nor in subfolders; name a folder or pattern with files in {' '.join(IMAGE_SUFFIXES)}")
    return found


def _pictures_in(folder: Path, recursive: bool) -> list[Path]:
    def fail(error: OSError) -> None:
        raise error  # os.walk passes over an unreadable folder in silence, and pictures would be missing without a word

    found: list[Path] = []
    raw: list[Path] = []  # a camera writes them beside its JPEGs, and each picture is to be taken once
    for root, subfolders, names in os.walk(folder, onerror=fail):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(root, name) for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")]
        raw += [Path(root, name) for name in names if name.lower().endswith(RAW_SUFFIXES) and not name.startswith(".")]
        if (found or raw) and not recursive and Path(root) == folder:
            break
    return found or raw


def _natural_key(path: Path) -> tuple[list[list[str | int]], str]:
    """Digits count as numbers, folder by folder; the split puts text at even places and numbers at odd ones, so they never meet."""
    parts = [enumerate(re.split(r"(\d+)", part.casefold())) for part in path.parts]
    return [[int(token) if place % 2 else token for place, token in part] for part in parts], str(path)
