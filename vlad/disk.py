"""A folder that one run writes into and no other meanwhile, and files that whole lines are appended to."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from vlad.errors import ConfigError, OutputError, warn
from vlad.untrusted import printable

_LOCK, _HOLDER = ".lock", ".lock-holder"
_MAKE_ROOM, _FORBIDDEN = "make room or choose another place", "get the permission to write there, or choose another place"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a disk that takes no more
_ADVICE = {
    errno.ENAMETOOLONG: "choose a shorter name",
    **dict.fromkeys(FULL, _MAKE_ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _FORBIDDEN),
}


@contextmanager
def held(folder: str | Path, *, wait: float = 0, make: bool = True) -> Iterator[Path]:
    """A folder while no other run writes into it. The system lets go of the lock of a process that has died.

    Args:
        wait: seconds for another run to finish.
        make: whether the folder is made if missing.

    Raises:
        ConfigError: another run holds it, which the message names; or a file is in its place.
        OutputError: it cannot be made or written into.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    is_new = make and not folder.exists()
    if make:
        make_folder(folder)
    lock, holder = FileLock(folder / _LOCK, timeout=wait), folder / _HOLDER
    try:
        lock.acquire()
    except Timeout as error:
        waited = f", still after {wait:.0f} s" if wait else ""
        raise ConfigError(
            f"{folder} is in use by another process{_named(holder)}{waited}; wait until that has ended, or choose another folder"
        ) from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    except NotImplementedError:
        warn(f"{folder}: its file system has no locks; see to it that no other run writes there")
    try:
        with suppress(OSError):  # for people alone
            now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            words = " ".join(["vlad", *sys.argv[1:3]])
            holder.write_text(f"{words} (process {os.getpid()} on {socket.gethostname()}, since {now})", "utf-8", errors="replace")
        yield folder
    finally:
        with suppress(OSError):
            holder.unlink()
        with suppress(OSError):
            if is_new and [path.name for path in folder.iterdir()] == [_LOCK]:  # nothing came of it
                (folder / _LOCK).unlink()
                folder.rmdir()
        lock.release()


def _named(holder: Path) -> str:
    try:
        return f", {printable(holder.read_text(encoding='utf-8', errors='replace')[:200], one_line=True)}"
    except OSError:
        return ""


def make_folder(folder: Path, what: str = "expected") -> None:
    """Make a folder, with those above it, if it is missing; `what` begins the error if it cannot be one.

    Raises:
        ConfigError: something that is no folder is in its place.
        OutputError: it cannot be made.
    """
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{what} a folder, {folder} cannot be one: a file is in its place; choose another name") from error


@contextmanager
def writing(place: Path, what: str = "") -> Iterator[None]:
    """Turn what an operating system says of a full disk, a missing permission or a name that is too long into an OutputError.

    Args:
        place: the file or folder that is written.
        what: said before its name, e.g. "the detector in".
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise
    except OSError as error:
        raise cannot_write(f"{what} {place}".strip(), error) from error


def cannot_write(place: str | Path, error: OSError) -> OutputError:
    """The error that says so."""
    advice = _ADVICE.get(error.errno or 0, "see to it, or choose another place")
    return OutputError(f"{place}: could not be written ({error.strerror or error}); {advice}, then run it again")


def sha256_of(path: Path) -> str:
    """Of what a file holds, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_text(path: Path, text: str, *, errors: str = "surrogateescape") -> None:
    """`replace_bytes` of a text."""
    replace_bytes(path, text.encode("utf-8", errors))


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file in one instant: whoever reads it gets the old content or the new one, and a full disk leaves the old one.

    Raises:
        OutputError: it could not be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with writing(path):
            partial.write_bytes(content)
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


class LineFile:
    """A file that takes whole lines: after a full disk it ends with the last one that fitted.

    Args:
        path: made if missing; its folder must be there.
        append: go on behind the lines that are there, JSON objects; what a kill has left of another goes. Else the file is emptied.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self.path = path
        with writing(path):
            if append:
                end_with_a_line(path)
            else:
                path.write_bytes(b"")
            self._file = path.open("ab", buffering=0)
        self._identity = _identity(os.fstat(self._file.fileno()))

    def write(self, lines: bytes) -> None:
        """Append; they have left this process when it returns.

        Raises:
            OutputError: they could not be written, and nothing of them was; or the file was removed or replaced.
        """
        self.check()
        number = self._file.fileno()
        end = os.fstat(number).st_size
        try:
            left = memoryview(lines)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(number, end)
            raise cannot_write(self.path, error) from error

    def check(self) -> None:
        """
        Raises:
            OutputError: the file is not there any more under its name.
        """
        try:
            is_there = _identity(self.path.stat()) == self._identity
        except OSError:
            is_there = False
        if not is_there:
            raise OutputError(f"{self.path} was removed or replaced during the run, so what comes now would be lost; run it again")

    def close(self) -> None:
        self._file.close()


def end_with_a_line(path: Path) -> None:
    """Give a file of JSON lines its last line break, if it is there; a line that is not whole is cut off."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        place = end
        while place:
            start = max(0, place - 65536)
            file.seek(start)
            found = file.read(place - start).rfind(b"\n")
            if found >= 0:
                place = start + found + 1
                break
            place = start
        if place < end:
            file.seek(place)
            if _is_whole(file.read()):
                file.write(b"\n")
            else:
                file.truncate(place)


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
