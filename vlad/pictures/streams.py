"""Pictures as they come: new files of a folder, frames of a video or a camera."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vlad.errors import ImageReadError
from vlad.pictures.reading import IMAGE_SUFFIXES

_POLL_SECONDS = 0.25


def new_pictures(folder: Path, *, stop_after: float | None = None, poll: float = _POLL_SECONDS) -> Iterator[Path]:
    """The pictures of a folder, oldest first: those that are there, then each that comes. A file is taken when its size has not changed
    between two looks, so that none is read while it is being written; hidden files are left out.

    Args:
        stop_after: seconds without a new picture after which the iterator ends; None waits for ever.
        poll: seconds between two looks.

    Raises:
        ImageReadError: the folder has gone.
    """
    done: set[Path] = set()
    sizes: dict[Path, int] = {}
    last = time.monotonic()
    while True:
        settled = []
        for path, size, changed in _look(folder):
            if path not in done and size and sizes.get(path) == size:
                settled.append((changed, path))
            sizes[path] = size
        for _, path in sorted(settled):
            done.add(path)
            yield path
            last = time.monotonic()
        if stop_after is not None and time.monotonic() - last > max(stop_after, 2 * poll):
            return
        time.sleep(poll)


def _look(folder: Path) -> list[tuple[Path, int, int]]:
    """Path, size and time of change of each picture file."""
    found = []
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise ImageReadError(f"{folder}: cannot be watched any more ({error}); check the folder") from error
    for path in entries:
        if path.name.startswith(".") or not path.name.lower().endswith(IMAGE_SUFFIXES):
            continue
        try:
            status = path.stat()
        except OSError:  # gone again between the two calls
            continue
        found.append((path, status.st_size, status.st_mtime_ns))
    return found


def frames(source: str, *, stop_after: float | None = None) -> Iterator[tuple[Path, np.ndarray]]:
    """Frames uint8 (H, W, 3) RGB of a video file, a camera number or a stream's URL, each with a name such as VIDEO_000012.

    Args:
        stop_after: seconds without a frame after which a camera or stream ends; a file ends with its last frame.

    Raises:
        ImageReadError: OpenCV cannot open the source.
    """
    import cv2

    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    try:
        if not capture.isOpened():
            raise ImageReadError(
                f"{source}: is no folder, and OpenCV cannot open it as video, camera or stream; check name and permissions"
            )
        stem = f"camera_{source}" if source.isdigit() else Path(source).stem or "stream"
        is_file = Path(source).is_file()
        number, last = 0, time.monotonic()
        while True:
            is_there, frame = capture.read()
            if is_there:
                yield Path(f"{stem}_{number:06d}"), np.ascontiguousarray(frame[..., ::-1])
                number, last = number + 1, time.monotonic()
            elif is_file or (stop_after is not None and time.monotonic() - last > stop_after):
                return
            else:
                time.sleep(_POLL_SECONDS)
    finally:
        capture.release()
