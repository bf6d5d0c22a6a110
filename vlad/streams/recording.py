"""A video of a run: every picture with its heat, its marked places and its verdict."""

from __future__ import annotations

import time
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vlad.disk import make_folder
from vlad.errors import ConfigError, OutputError
from vlad.streams.frames import check_name

if TYPE_CHECKING:
    from vlad.prediction import Prediction

CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
_SIDE = 960  # of a frame's longer side
_LIVE_RATE, _FASTEST = 10.0, 240.0
_LONGEST = 5.0  # seconds that a frame of a camera is shown at most
_ORANGE = (234, 88, 12)


class Recorder:
    """Writes a video with one drawing for each picture.

    Args:
        path: ends in .mp4, .mkv, .avi or .webm; a name that is taken gets a number behind it. A kill leaves an .mp4 unreadable, the
            others readable up to it.
        rate: frames a second, one for each picture; None is for a camera: ten a second, and each picture is shown until the next came.

    Attributes:
        path: of the file that is written.
        pictures: so many were drawn.

    Raises:
        ConfigError: `path` ends otherwise.
        ImageReadError: OpenCV knows no such name.
        OutputError: the folder cannot be made.
    """

    def __init__(self, path: Path, *, rate: float | None) -> None:
        if path.suffix.lower() not in CODECS:
            raise ConfigError(f"{path}: the name of a video must end in {', '.join(CODECS)}")
        check_name(str(path))
        names = chain((path,), (path.with_name(f"{path.stem}~{number}{path.suffix}") for number in count(2)))
        self.path = next(name for name in names if not name.exists())
        make_folder(path.parent)
        self._rate = None if rate is None else min(rate, _FASTEST)
        self._writer: Any = None
        self._size = (0, 0)
        self._last: tuple[float, np.ndarray] | None = None
        self.pictures = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._last is not None:
            self._writer.write(self._last[1])
        if self._writer is not None:
            self._writer.release()

    def add(self, prediction: Prediction, *, is_outlier: bool = False) -> None:
        """Draw a picture; an outlier gets a frame around it.

        Raises:
            VladError: the prediction has no map.
            OutputError: OpenCV cannot write the file.
        """
        frame = self._fitted(np.asarray(prediction.overlay(max_side=_SIDE)), is_outlier)
        self.pictures += 1
        if self._rate is not None:
            self._writer.write(frame)
            return
        now = time.monotonic()
        if self._last is not None:
            shown = min(_LONGEST, now - self._last[0])
            for _ in range(max(1, round(shown * _LIVE_RATE))):
                self._writer.write(self._last[1])
        self._last = now, frame

    def _fitted(self, picture: np.ndarray, is_outlier: bool) -> np.ndarray:
        """In OpenCV's order of colours and the size of the first, which begins the file."""
        import cv2

        if self._writer is None:
            height, width = (side + side % 2 for side in picture.shape[:2])  # codecs want even sides
            self._size = (width, height)
            code = cv2.VideoWriter_fourcc(*CODECS[self.path.suffix.lower()])  # type: ignore[attr-defined]
            self._writer = cv2.VideoWriter(str(self.path), code, self._rate or _LIVE_RATE, self._size)
            if not self._writer.isOpened():
                raise OutputError(f"{self.path}: OpenCV cannot write this video here; check the folder, or choose .avi")
        width, height = self._size
        scale = min(width / picture.shape[1], height / picture.shape[0], 1.0)
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        if size != (picture.shape[1], picture.shape[0]):
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        frame = np.full((height, width, 3), 255, np.uint8)
        top, left = (height - size[1]) // 2, (width - size[0]) // 2
        frame[top : top + size[1], left : left + size[0]] = picture
        if is_outlier:
            thickness = max(6, width // 80)
            edge = thickness // 2
            cv2.rectangle(frame, (edge, edge), (width - 1 - edge, height - 1 - edge), _ORANGE, thickness)
        return np.ascontiguousarray(frame[..., ::-1])
