"""Pictures of a folder as they come."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from vlad.errors import StreamLostError
from vlad.pictures.reading import IMAGE_SUFFIXES, RAW_SUFFIXES
from vlad.streams.switch import Switch

_POLL_SECONDS = 0.25
_RESTLESS = 8  # looks after which a file is taken although it is written again and again


@dataclass(frozen=True)
class FileState:
    """What tells one picture under a name from the next: times in nanoseconds and the size in bytes. `changed` is the system's own time of
    any change, which no program can set."""

    modified: int
    changed: int
    size: int

    @classmethod
    def of(cls, path: Path) -> Self:
        status = path.stat()
        return cls(status.st_mtime_ns, status.st_ctime_ns, status.st_size)


class SeenFiles:
    """Which files have been looked at in which state, also in earlier runs.

    Args:
        earlier: entries as `add` returned them; others are left out.
    """

    def __init__(self, earlier: Iterable[Any] = ()) -> None:
        self._known: dict[str, dict[tuple[int, int], tuple[int, str]]] = {}
        self._times: Counter[tuple[str, int, int]] = Counter()
        for entry in earlier:
            if isinstance(entry, Mapping) and isinstance(entry.get("path"), str):
                numbers: list[Any] = [entry.get(key) for key in ("modified_ns", "bytes", "changed_ns")]
                if all(isinstance(number, int) for number in numbers):
                    self._remember(entry["path"], numbers, str(entry.get("sha256")))
                    self._times[entry["path"], numbers[0], numbers[1]] += 1

    def knows(self, path: Path, state: FileState) -> bool:
        """Whether the picture that is there now has been looked at. Where name, time of modification and size are those of an earlier one,
        but the file has been changed since, its content decides."""
        name = _absolute(path)
        changed, sha256 = self._known.get(name, {}).get((state.modified, state.size), (None, ""))
        if changed is None or changed == state.changed:
            return changed is not None
        try:
            if sha256 != hashlib.sha256(path.read_bytes()).hexdigest():
                return False
        except OSError:
            return False
        self._remember(name, [state.modified, state.size, state.changed], sha256)  # not to be read at every look
        return True

    def add(self, path: Path, state: FileState, content: bytes | None) -> dict[str, Any]:
        """Remember a picture that was looked at, and return what it is known by, as plain JSON values."""
        sha256 = "" if content is None else hashlib.sha256(content).hexdigest()
        self._remember(_absolute(path), [state.modified, state.size, state.changed], sha256)
        return {
            "path": _absolute(path),
            "modified": datetime.fromtimestamp(state.modified / 1e9, UTC).isoformat(timespec="milliseconds"),
            "modified_ns": state.modified,
            "changed_ns": state.changed,
            "bytes": state.size,
            "sha256": sha256,
        }

    def count(self, path: Path, state: FileState) -> int:
        """How many earlier entries tell of this very state of a file; of a video there is one for each frame."""
        return self._times.get((_absolute(path), state.modified, state.size), 0)

    def _remember(self, name: str, numbers: list[Any], sha256: str) -> None:
        modified, size, changed = numbers
        self._known.setdefault(name, {})[modified, size] = changed, sha256


def _absolute(path: Path) -> str:
    return str(path.parent.resolve() / path.name)


@dataclass(frozen=True)
class Arrival:
    """A picture that has come.

    Attributes:
        path: its file.
        picture: all bytes of the file, so that what is shown later is what was looked at; the path if it may not be read.
        file: what it is known by; see `SeenFiles.add`.
    """

    path: Path
    picture: bytes | Path
    file: dict[str, Any]


def new_pictures(
    folder: Path,
    *,
    seen: SeenFiles | None = None,
    stop_after: float | None = None,
    switch: Switch | None = None,
    poll: float = _POLL_SECONDS,
) -> Iterator[Arrival]:
    """The pictures of a folder, oldest first: those that are there, then each that comes, also under a name that was there before. A file
    is taken when it has not changed between two looks, so that none is read while it is being written; hidden files are left out.

    Args:
        seen: what was looked at before, and does not come again; what comes is added.
        stop_after: seconds without a new picture after which the iterator ends; None waits for ever.
        switch: while it is off, no picture is taken, and those that come wait.
        poll: seconds between two looks.

    Raises:
        StreamLostError: the folder has gone.
    """
    seen = SeenFiles() if seen is None else seen
    before: dict[Path, FileState] = {}
    restless: dict[Path, int] = {}
    last = time.monotonic()
    while True:
        if switch is not None and switch.hold():
            last = time.monotonic()
        now = _look(folder)
        settled = []
        for path, state in now.items():
            old = before.get(path)
            if not state.size or old is None or old.size != state.size:
                continue
            restless[path] = 0 if old == state else restless.get(path, 0) + 1
            if (old == state or restless[path] >= _RESTLESS) and not seen.knows(path, state):
                settled.append((state.modified, path))
        before = now
        for _, path in sorted(settled):
            if switch is not None:
                switch.hold()
            picture = _read(path, now[path], at_once=restless.pop(path, 0) >= _RESTLESS)
            if picture is not None:
                yield Arrival(path, picture, seen.add(path, now[path], None if isinstance(picture, Path) else picture))
                last = time.monotonic()
        if stop_after is not None and time.monotonic() - last > max(stop_after, 2 * poll):
            return
        time.sleep(poll)


def _read(path: Path, state: FileState, *, at_once: bool) -> bytes | Path | None:
    """The file's content, or None if it is not the one any more that was seen, unless it is to be read at once; its path if it may not be
    read."""
    try:
        content = path.read_bytes()
        return content if at_once or FileState.of(path) == state else None
    except FileNotFoundError:
        return None  # it was taken away again
    except OSError:
        return path


def _look(folder: Path) -> dict[Path, FileState]:
    """The state of each picture file."""
    found = {}
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise StreamLostError(f"{folder}: cannot be watched any more ({error}); check the folder") from error
    shown = [path for path in entries if not path.name.startswith(".")]
    pictures = [path for path in shown if path.name.lower().endswith(IMAGE_SUFFIXES)]
    for path in pictures or [path for path in shown if path.name.lower().endswith(RAW_SUFFIXES)]:
        try:
            found[path] = FileState.of(path)
        except OSError:  # gone again between the two calls
            continue
    return found
