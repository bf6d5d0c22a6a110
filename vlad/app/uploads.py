"""What visitors send: pictures and archives, read within limits and named in messages by the name that the visitor knows."""

from __future__ import annotations

import atexit
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vlad.app.service import BusyError, aside
from vlad.errors import ConfigError, ImageReadError
from vlad.pictures.isolated import IsolatedReader
from vlad.pictures.reading import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import numpy as np

    from vlad.app.service import Limits

_CHUNK = 2**20
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, NotImplementedError, OSError, EOFError, ValueError)
_MOST_NAME = 80
_READER = IsolatedReader()  # one for all services of this process
atexit.register(_READER.close)


def read_upload(path: str | Path, limits: Limits, *, name: str | None = None) -> np.ndarray:
    """One uploaded picture from its original bytes, uint8 (H, W, 3) RGB. Another process decodes it, within limits of time and memory, and
    meanwhile others may have the model: who calls this in a turn steps aside.

    Raises:
        ImageReadError: it is too large or cannot be read; the message calls it by the visitor's name for it, never by its place here.
        BusyError: too many pictures are being read.
    """
    shown = short_name(name or Path(path).name)
    size = Path(path).stat().st_size
    if size > limits.file_bytes:
        raise ImageReadError(f"{shown}: has {size / 2**20:.0f} MB, the limit here is {limits.file_bytes / 2**20:.0f}; make it smaller")
    return read_bytes(Path(path).read_bytes(), limits, shown)


def read_bytes(data: bytes, limits: Limits, name: str) -> np.ndarray:
    """One picture from the bytes of its file; see `read_upload`."""
    try:
        with aside():
            return _READER.read(data, max_pixels=limits.pixels, seconds=limits.reading_seconds, wait=limits.seconds)
    except TimeoutError as error:
        raise BusyError("Too many pictures are being read just now; please try again in a minute.") from error
    except ImageReadError as error:
        raise ImageReadError(f"{name}: {error}") from error


def short_name(name: str) -> str:
    """A file name on one line and not too long, without control characters."""
    text = "".join(mark if mark.isprintable() else "?" for mark in PurePosixPath(name.replace("\\", "/")).name)
    return text if len(text) <= _MOST_NAME else f"{text[: _MOST_NAME // 2]}…{text[-_MOST_NAME // 2 + 1 :]}"


def pictures_of(paths: Sequence[str | Path], limits: Limits) -> Iterator[tuple[str, np.ndarray | ImageReadError]]:
    """Pictures of a batch by name, read as they are needed; an unreadable one comes as its error, and the others go on.

    An archive's entries are read in memory, one at a time: nothing is unpacked onto the disk, so a path inside it leads nowhere.

    Raises:
        ConfigError: more pictures than one batch may have, or none.
    """
    count = count_pictures(paths)
    if not count:
        raise ConfigError("There is no picture among these files; choose pictures, or a zip file of pictures.")
    if count > limits.pictures:
        raise ConfigError(f"These are {count} pictures, and at most {limits.pictures} can be inspected at once; choose fewer.")
    return _pictures_of(paths, limits)


def count_pictures(paths: Sequence[str | Path]) -> int:
    """Number of pictures in files and archives, by their names."""
    return sum(len(_entries(Path(path))) if is_archive(path) else 1 for path in paths)


def is_archive(path: str | Path) -> bool:
    """By its name; a picture with this name is then no archive and is said to be broken."""
    return str(path).lower().endswith(".zip")


def _pictures_of(paths: Sequence[str | Path], limits: Limits) -> Iterator[tuple[str, np.ndarray | ImageReadError]]:
    left = limits.unpacked_bytes
    for path in paths:
        if not is_archive(path):
            yield short_name(Path(path).name), _or_error(path, limits)
            continue
        name = short_name(Path(path).name)
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in _entries(Path(path)):
                    shown = f"{name}/{short_name(entry.filename)}"
                    try:
                        data = _unpacked(archive, entry, min(left, limits.file_bytes))
                        left -= len(data)
                        yield shown, read_bytes(data, limits, shown)
                    except ImageReadError as error:
                        yield shown, error
                    except _DAMAGED as error:
                        yield (
                            shown,
                            ImageReadError(f"{shown}: cannot be unpacked ({type(error).__name__}); pack it again, without a password"),
                        )
        except _DAMAGED as error:
            yield name, ImageReadError(f"{name}: is no zip file that can be read ({type(error).__name__}); pack it again")


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    """Entries of an archive that are pictures by name; one hollow entry for an archive that cannot be read, so that it is named."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [
                entry
                for entry in archive.infolist()
                if entry.filename.lower().endswith(IMAGE_SUFFIXES) and not PurePosixPath(entry.filename).name.startswith(".")
            ]
    except _DAMAGED:
        return [zipfile.ZipInfo(path.name)]


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """The bytes of an entry. What its header says of its size is not believed: reading ends at the limit."""
    data = bytearray()
    with archive.open(entry) as file:
        while chunk := file.read(_CHUNK):
            data += chunk
            if len(data) > limit:
                name = short_name(entry.filename)
                raise ImageReadError(f"{name}: is too large when unpacked, {limit / 2**20:.0f} MB are left; leave it out")
    return bytes(data)


def _or_error(path: str | Path, limits: Limits) -> np.ndarray | ImageReadError:
    try:
        return read_upload(path, limits)
    except ImageReadError as error:
        return error
