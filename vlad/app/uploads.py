"""What visitors send: pictures and archives, read within limits and named in messages by the name that the visitor knows."""

from __future__ import annotations

import atexit
import lzma
import time
import uuid
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from PIL import Image

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
SLOW = 0.5  # seconds for decoding; 12 megapixels of JPEG take 0.1
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
    try:
        data = _file_bytes(Path(path), limits)
    except ImageReadError as error:
        raise ImageReadError(f"{shown}: {error}") from None
    return read_bytes(data, limits, shown)


def read_bytes(data: bytes, limits: Limits, name: str) -> np.ndarray:
    """One picture from the bytes of its file; see `read_upload`."""
    try:
        with aside():
            return _READER.read(
                data, max_pixels=limits.pixels, seconds=limits.reading_seconds, wait=limits.seconds, white_level=limits.white_level
            )
    except TimeoutError as error:
        raise BusyError("Too many pictures are being read just now; please try again in a minute.") from error
    except ImageReadError as error:
        raise ImageReadError(f"{name}: {error}") from error


def _file_bytes(path: Path, limits: Limits) -> bytes:
    size = path.stat().st_size
    if size > limits.file_bytes:
        raise ImageReadError(f"has {size / 2**20:.0f} MB, the limit here is {limits.file_bytes / 2**20:.0f}; make it smaller")
    return path.read_bytes()


def short_name(name: str) -> str:
    """A file name on one line and not too long, without control characters."""
    text = "".join(mark if mark.isprintable() else "?" for mark in PurePosixPath(name.replace("\\", "/")).name)
    return text if len(text) <= _MOST_NAME else f"{text[: _MOST_NAME // 2]}…{text[-_MOST_NAME // 2 + 1 :]}"


@dataclass
class Upload:
    """A picture of a batch, a file or an archive's entry, as `read_image` takes an open file. Its bytes are read whenever they are asked
    for, an entry's in memory: nothing is unpacked onto the disk, so a path inside an archive leads nowhere.

    Attributes:
        name: as the visitor knows it.
        size: bytes of an entry, known when it was read once.
    """

    name: str
    path: Path = field(repr=False)
    entry: zipfile.ZipInfo | None = field(repr=False)
    limits: Limits = field(repr=False)
    all: list[Upload] = field(repr=False)
    size: int = 0

    def seekable(self) -> bool:
        """Never; every `read` begins anew."""
        return False

    def read(self, count: int = -1) -> bytes:
        """The bytes of the file; none if none are wanted.

        Raises:
            ImageReadError: it is too large, or the archive is broken.
        """
        if count == 0:
            return b""
        if not is_archive(self.path):
            return _file_bytes(self.path, self.limits)
        try:
            with zipfile.ZipFile(self.path) as archive:
                if self.entry is None:
                    raise zipfile.BadZipFile
                left = self.limits.unpacked_bytes - sum(other.size for other in self.all if other is not self)
                data = _unpacked(archive, self.entry, max(0, min(left, self.limits.file_bytes)))
        except ImageReadError:
            raise
        except _DAMAGED as error:
            what = "is no zip file that can be read" if self.entry is None else "cannot be unpacked"
            raise ImageReadError(f"{what} ({type(error).__name__}); pack it again, without a password") from error
        self.size = len(data)
        return data

    def as_source(self, folder: Path) -> Upload | Path:
        """What `read_image` may take within a turn at the model, after another process has decoded it within its limits: the upload
        itself, or where that took long a copy of its pixels in `folder`.

        Raises:
            ImageReadError, BusyError: as of `read_upload`.
        """
        try:
            data = self.read()
        except ImageReadError as error:
            raise ImageReadError(f"{self.name}: {error}") from None
        began = time.monotonic()
        picture = read_bytes(data, self.limits, self.name)
        if time.monotonic() - began <= SLOW:
            return self
        copy = folder / "batch" / f"{uuid.uuid4().hex}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(copy, compress_level=1)
        return copy


def uploads_of(paths: Sequence[str | Path], limits: Limits) -> list[Upload]:
    """Pictures of a batch, each file and each picture in an archive; one that cannot be read says so when it is read.

    Raises:
        ConfigError: more pictures than one batch may have, or none.
    """
    found: list[Upload] = []
    for path in map(Path, paths):
        name = short_name(path.name)
        if not is_archive(path):
            found.append(Upload(name, path, None, limits, found))
            continue
        entries = _entries(path)
        if entries is None:
            found.append(Upload(name, path, None, limits, found))
        else:
            found += [Upload(f"{name}/{_within(entry.filename)}", path, entry, limits, found) for entry in entries]
    if not found:
        raise ConfigError("There is no picture among these files; choose pictures, or a zip file of pictures.")
    if len(found) > limits.pictures:
        raise ConfigError(f"These are {len(found)} pictures, and at most {limits.pictures} can be inspected at once; choose fewer.")
    return found


def _within(name: str) -> str:
    """Name of an archive's entry with the last of its folders, which may tell good and bad apart."""
    folders = [part for part in PurePosixPath(name.replace("\\", "/")).parts[:-1] if part not in ("..", "/")]
    return "/".join(map(short_name, [*folders[-1:], name]))


def is_archive(path: str | Path) -> bool:
    """By its name; a picture with this name is then no archive and is said to be broken."""
    return str(path).lower().endswith(".zip")


def _entries(path: Path) -> list[zipfile.ZipInfo] | None:
    """Entries of an archive that are pictures by name; None for an archive that cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [
                entry
                for entry in archive.infolist()
                if entry.filename.lower().endswith(IMAGE_SUFFIXES) and not PurePosixPath(entry.filename).name.startswith(".")
            ]
    except _DAMAGED:
        return None


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """The bytes of an entry. What its header says of its size is not believed: reading ends at the limit."""
    data = bytearray()
    with archive.open(entry) as file:
        while chunk := file.read(_CHUNK):
            data += chunk
            if len(data) > limit:
                raise ImageReadError(f"is too large when unpacked, {limit / 2**20:.0f} MB are left; leave it out")
    return bytes(data)
