"""Pictures of many requests through the model together, in the order of coming, with a queue that does not grow without end."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlad.errors import VladError

_IDLE = 0.2  # seconds after which the worker looks whether it is to end


class FullError(VladError):
    """So many pictures wait already that another would wait too long."""


class ClosedError(VladError):
    """The service is ending and takes nothing more."""


@dataclass(frozen=True)
class Job:
    """One picture of one request."""

    model: str
    picture: np.ndarray
    options: tuple[tuple[str, Any], ...]
    future: Future[Any] = field(default_factory=Future)


class Batcher:
    """One worker that takes whatever waits for a model, up to a batch, and scores it together.

    Args:
        score: predictions of pictures by a model, in order; an error in the place of a picture that it concerns.
        most: pictures in a batch.
        waiting: pictures that may wait.
    """

    def __init__(self, score: Callable[[str, list[np.ndarray], dict[str, Any]], list[Any]], *, most: int = 8, waiting: int = 64) -> None:
        self._score, self._most = score, most
        self._queue: queue.Queue[Job] = queue.Queue(waiting)
        self._ending = threading.Event()
        self._left_over: list[Job] = []
        self._thread = threading.Thread(target=self._work, name="vlad-serve", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pictures that wait."""
        return self._queue.qsize() + len(self._left_over)

    def submit(self, model: str, picture: np.ndarray, **options: Any) -> Future[Any]:
        """Take a picture uint8 (H, W, 3); its future holds the prediction, or raises what went wrong.

        Raises:
            FullError: too many wait.
            ClosedError: the service is ending.
        """
        if self._ending.is_set():
            raise ClosedError("the service is ending; ask again when it is back")
        job = Job(model, picture, tuple(sorted(options.items())))
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise FullError(f"{self._queue.maxsize} pictures wait already; ask again") from None
        return job.future

    def close(self) -> None:
        """Finish what was accepted, and end."""
        self._ending.set()
        self._thread.join()
        while not self._queue.empty():  # came between the last look and the end
            self._queue.get().future.set_exception(ClosedError("the service is ending; ask again when it is back"))

    def _work(self) -> None:
        while batch := self._next():
            try:
                results = self._score(batch[0].model, [job.picture for job in batch], dict(batch[0].options))
            except BaseException as error:  # told to whoever asked; the worker lives on for the others
                results = [error] * len(batch)
            for job, result in zip(batch, results, strict=True):
                if job.future.cancelled():
                    continue
                if isinstance(result, BaseException):
                    job.future.set_exception(result)
                else:
                    job.future.set_result(result)

    def _next(self) -> list[Job]:
        """The oldest job and those that can go with it; empty at the end."""
        while not self._left_over:
            try:
                self._left_over.append(self._queue.get(timeout=_IDLE))
            except queue.Empty:
                if self._ending.is_set():
                    return []
        while len(self._left_over) < 4 * self._most:
            try:
                self._left_over.append(self._queue.get_nowait())
            except queue.Empty:
                break
        groups: dict[Any, list[Job]] = defaultdict(list)
        for job in self._left_over:
            groups[job.model, job.options].append(job)
        first = self._left_over[0]
        batch = groups[first.model, first.options][: self._most]
        taken = set(map(id, batch))
        self._left_over = [job for job in self._left_over if id(job) not in taken]
        return [job for job in batch if job.future.set_running_or_notify_cancel()] or self._next()
