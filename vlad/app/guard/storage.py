"""Where uploads and files for download lie: how much there may be of them all, and folders that a killed server left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

_LEAST = 2**16  # bytes that a file counts for, so that many small ones do not fill the disk's index
_ABANDONED = 900  # seconds after which a half-written upload is deleted
_STALE = 60.0  # seconds after which is counted again


class Storage:
    """The room for all uploads and results together."""

    def __init__(self, folders: Sequence[str | Path], limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`folders`: the first one is Gradio's, where a file that is still being written lies at the top; `limit`: bytes."""
        self.folders, self.limit, self._clock = [Path(folder) for folder in folders], limit, clock
        self._counted, self._since, self._when = 0, 0, float("-inf")
        self._lock = asyncio.Lock()

    async def take(self, size: int, files: int) -> bool:
        """Whether there is room for so many bytes and files more. What came since the last count is added up, and counted again when that
        is too much, for files are also deleted."""
        self._since += size + files * _LEAST
        if self._is_enough() and self._clock() - self._when < _STALE:
            return True
        async with self._lock:
            if not self._is_enough() or self._clock() - self._when >= _STALE:
                self._since, self._when = size + files * _LEAST, self._clock()
                self._counted = await anyio.to_thread.run_sync(self.count)
        return self._is_enough()

    def _is_enough(self) -> bool:
        return self._counted + self._since <= self.limit

    def count(self) -> int:
        """Bytes of all files; uploads that broke off long ago are deleted."""
        total = 0
        for folder in self.folders:
            for root, _, names in os.walk(folder):
                for name in names:
                    path = Path(root, name)
                    with contextlib.suppress(OSError):
                        status = path.stat(follow_symlinks=False)
                        is_half = path.parent == self.folders[0] and name.startswith("tmp") and time.time() - status.st_mtime > _ABANDONED
                        if is_half:
                            path.unlink()
                        else:
                            total += max(status.st_size, _LEAST)
        return total


class OwnFolder:
    """A folder for temporary files that nobody else has, deleted at `close`, or else when this process ends. Who makes one deletes those
    of the same prefix whose process was killed: as long as it lives, each holds a lock on its folder, and the system lets go of it."""

    def __init__(self, prefix: str) -> None:
        delete_leftovers(prefix)
        young = Path(tempfile.mkdtemp(prefix=f".new-{prefix}"))
        lock = _hold(young)
        self.path = young.rename(young.with_name(young.name.removeprefix(".new-")))  # under its name it is never seen without the lock
        self._finish = weakref.finalize(self, _remove, self.path, lock)

    def close(self) -> None:
        """Delete it and what is in it."""
        self._finish()


def _remove(folder: Path, lock: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _hold(folder: Path) -> int | None:
    """A lock on a folder; None where the system has no such locks, and nobody deletes anything."""
    try:
        import fcntl
    except ImportError:
        return None
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def delete_leftovers(prefix: str) -> None:
    """Delete this user's folders in the folder for temporary files whose process has ended without doing so, killed or with the power."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # in use, or gone meanwhile
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and (lock := _hold(folder)) is not None:
                _remove(folder, lock)
