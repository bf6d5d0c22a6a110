"""Frames of a video file, a camera or a stream.

A file gives every frame. A camera gives the newest: a thread of its own takes frames as they come, so that a detector that is slower than
the camera sees the present, and what it passes over is counted. A camera or connection that breaks off is opened again, after half a
second, then after twice as long each time, up to half a minute.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlad.errors import ImageReadError, StreamLostError
from vlad.streams.switch import Switch

if TYPE_CHECKING:
    import cv2

Frame = tuple[Path, np.ndarray]
_POLL_SECONDS = 0.05
_SILENCE = 2.0  # seconds without a frame after which a camera or stream is opened again
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds before it is tried again
_TIMEOUT = 10_000  # milliseconds in which a connection has to open, and a frame to come


def stem_of(source: str) -> str:
    """How the names of the frames of a video, camera or stream begin."""
    return f"camera_{source}" if source.isdigit() else Path(without_password(source).split("?")[0]).stem or "stream"


class Video:
    """The frames of a video file, each once, uint8 (H, W, 3) RGB, with names such as LINE_000012.

    Args:
        source: a file that OpenCV reads.
        skip: so many frames are passed over; they keep their numbers.
        switch: while it is off no frame is read.

    Attributes:
        rate: frames a second, 25 where the file does not say.

    Raises:
        ImageReadError: OpenCV cannot open it.
        StreamLostError: while iterating: it ends long before it says that it does.
    """

    def __init__(self, source: str, *, skip: int = 0, switch: Switch | None = None) -> None:
        import cv2

        self.source, self._skip, self._switch = source, skip, switch
        self._capture = _opened(source)
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS)) or 25.0

    def __iter__(self) -> Iterator[Frame]:
        stem, number = stem_of(self.source), 0
        try:
            while self._capture.grab():
                if number >= self._skip:
                    if self._switch is not None:
                        self._switch.hold()
                    is_there, frame = self._capture.retrieve()
                    if is_there:
                        yield Path(f"{stem}_{number:06d}"), _rgb(frame)
                number += 1
        finally:
            expected = int(self._capture.get(7))  # of frames, as the container says
            self._capture.release()
        if number < 0.95 * expected - 2 and expected < 10**7:
            raise StreamLostError(f"{self.source}: broke off after {number} of {expected} frames; copy it again, and start again to go on")


class Camera:
    """The newest frames of a camera (its number) or a stream (its URL), uint8 (H, W, 3) RGB, with names such as camera_0_000012; the
    numbers count all frames that came, also those that were passed over.

    Iterate once; a thread reads from the first `next` to the end of the iteration or to `close`.

    Args:
        source: the camera's number, or a URL that OpenCV opens: rtsp, http, ...
        first: number of the first frame.
        stop_after: seconds without a frame after which the iteration ends; None waits for ever.
        reconnect_for: seconds for which a camera that broke off is tried again; None tries for ever, 0 not at all.
        switch: while it is off frames pass by.
        on_news: called with one line, from the reading thread, when the camera breaks off and when it is back.

    Attributes:
        dropped: frames that came while the one before was still looked at.
        passed: frames that came while the switch was off.
        reconnections: how often the camera was opened again and gave a frame.

    Raises:
        ImageReadError: OpenCV cannot open the source.
        StreamLostError: while iterating: it broke off, and was not back within `reconnect_for`.
    """

    def __init__(
        self,
        source: str,
        *,
        first: int = 0,
        stop_after: float | None = None,
        reconnect_for: float | None = None,
        switch: Switch | None = None,
        on_news: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.source, self.stop_after, self.reconnect_for = source, stop_after, reconnect_for
        self.dropped = self.passed = self.reconnections = 0
        self._number = self._first = first
        self._switch, self._tell = switch, on_news
        self._newest: Frame | None = None
        self._failed: BaseException | None = None
        self._has_news = threading.Condition()
        self._closing = threading.Event()
        self._capture: Any = _opened(source)
        self._thread = threading.Thread(target=self._run, name="vlad-camera", daemon=True)

    def __iter__(self) -> Iterator[Frame]:
        self._thread.start()
        try:
            while (frame := self._next()) is not None:
                yield frame[0], _rgb(frame[1])
        finally:
            self.close()

    def close(self) -> None:
        """Stop reading and give the camera back."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)  # one that hangs in a driver must not hold the run; it dies with the process
        else:
            self._capture.release()

    def _next(self) -> Frame | None:
        """The newest frame that was not given yet; None at the end."""
        last = time.monotonic()
        with self._has_news:
            while self._newest is None:
                if self._failed is not None:
                    raise self._failed
                if self._switch is not None and self._switch.is_paused:
                    last = time.monotonic()
                if not self._thread.is_alive() or (self.stop_after is not None and time.monotonic() - last > self.stop_after):
                    return None
                self._has_news.wait(_POLL_SECONDS)
            newest, self._newest = self._newest, None
            return newest

    def _run(self) -> None:
        try:
            last = time.monotonic()
            while not self._closing.is_set():
                is_there, frame = self._capture.read()
                if is_there:
                    self._take(frame)
                    last = time.monotonic()
                elif time.monotonic() - last > _SILENCE:
                    self._open_again()
                    last = time.monotonic()
                else:
                    self._closing.wait(_POLL_SECONDS)
        except BaseException as error:  # raised where the frames are asked for
            self._failed = error
        finally:
            self._capture.release()
            with self._has_news:
                self._has_news.notify_all()

    def _take(self, frame: np.ndarray) -> None:
        with self._has_news:
            if self._switch is not None and self._switch.is_paused:
                self.passed += 1
            else:
                self.dropped += self._newest is not None
                self._newest = Path(f"{stem_of(self.source)}_{self._number:06d}"), frame
                self._has_news.notify_all()
            self._number += 1

    def _open_again(self) -> None:
        """Until it gives a frame.

        Raises:
            StreamLostError: it did not for `reconnect_for`.
        """
        came, name = self._number - self._first, without_password(self.source)
        start, wait = time.monotonic(), _FIRST_WAIT
        if self.reconnect_for != 0:
            self._tell(f"{name}: broke off after {came} frames; trying to open it again")
        while not self._closing.is_set():
            if self.reconnect_for is not None and time.monotonic() - start >= self.reconnect_for:
                raise StreamLostError(f"{name}: broke off after {came} frames; check the camera and start again to go on")
            self._capture.release()
            self._closing.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
            self._capture = _open(self.source)
            is_there, frame = self._capture.read() if self._capture.isOpened() else (False, None)
            if is_there and frame is not None:
                self.reconnections += 1
                self._tell(f"{name}: back after {time.monotonic() - start:.0f} s")
                self._take(frame)
                return


def _opened(source: str) -> cv2.VideoCapture:
    capture = _open(source)
    if not capture.isOpened():
        name = without_password(source)
        raise ImageReadError(f"{name}: is no folder, and OpenCV cannot open it as video, camera or stream; check name and permissions")
    return capture


def _open(source: str) -> cv2.VideoCapture:
    import cv2

    check_name(source)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is told in words of ours, once

    if "://" in source:  # else one that does not answer would hold the thread for ever
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT]
        return cv2.VideoCapture(source, cv2.CAP_FFMPEG, timeouts)
    return cv2.VideoCapture(int(source) if source.isdigit() else source)


def without_password(source: str) -> str:
    """A URL as it may be shown and written down: without user and password."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", source)


def check_name(name: str) -> None:
    """
    Raises:
        ImageReadError: OpenCV would crash at the name.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ImageReadError(f"{name!r}: OpenCV opens no file whose name is no UTF-8; rename it") from error


def _rgb(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame[..., ::-1])
