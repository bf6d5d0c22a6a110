"""Where marked places concentrate over a run: one map for all pictures of a stream, on one of its pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlad.disk import replace_bytes
from vlad.errors import VladError

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlad.prediction import Prediction

_SIDE = 256  # of the map's longer side
_STATE, _PICTURE = "marked.npz", "marked.png"
_FEWEST = 0.02  # share of the pictures that the end of the colour scale stands for, at least


class Density:
    """Counts, for each place, in how many pictures it was marked. Pictures of another shape are laid over the first one's, side to side.

    Memory and time of a picture do not grow with the run.

    Args:
        folder: where an earlier run left its counts, which go on; None begins anew.

    Attributes:
        pictures: so many were counted.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.pictures = 0
        self._marked: np.ndarray | None = None  # float64 (h, w): pictures in which a place was marked, a part of a cell counting as a part
        self._ground: np.ndarray | None = None  # uint8 (h, w, 3)
        if folder is not None and (folder / _STATE).is_file():
            self._read(folder / _STATE)

    @property
    def share(self) -> np.ndarray | None:
        """float64 (h, w) in [0, 1]: share of the pictures in which a place was marked; None before the first picture."""
        return None if self._marked is None else self._marked / max(1, self.pictures)

    def add(self, prediction: Prediction) -> None:
        """Count a picture's marked places; one without a map or a threshold of it counts nothing.

        Raises:
            ImageReadError: the first picture cannot be read again.
        """
        import cv2

        mask = prediction.pred_mask
        if mask is None:
            return
        if self._marked is None or self._ground is None:
            height, width = mask.shape
            scale = _SIDE / max(height, width)
            size = max(1, round(width * scale)), max(1, round(height * scale))
            self._ground = cv2.resize(prediction.image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            self._marked = np.zeros(self._ground.shape[:2])
        self.pictures += 1
        if mask.any():
            rows, columns = self._marked.shape
            self._marked += cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)

    def save(self, folder: Path) -> None:
        """Write marked.png and marked.npz, from which another run can go on; nothing before the first picture.

        Raises:
            OutputError: the folder cannot be written to.
        """
        if self._marked is None or self._ground is None:
            return
        state, picture = io.BytesIO(), io.BytesIO()
        np.savez(state, marked=self._marked, ground=self._ground, pictures=np.int64(self.pictures))
        self.draw().save(picture, format="PNG")
        replace_bytes(folder / _STATE, state.getvalue())
        replace_bytes(folder / _PICTURE, picture.getvalue())

    def draw(self) -> Image:
        """The first picture, warm where pictures were marked, above a scale in shares of the pictures.

        Raises:
            VladError: no picture was counted.
        """
        from vlad.visualization import draw_shares

        if self._ground is None or self.share is None:
            raise VladError("no picture with a map was counted, so there is nothing to draw")
        headline = f"Marked in up to {self.share.max():.1%} of {self.pictures:,} pictures"
        return draw_shares(self._ground, self.share, most=max(_FEWEST, float(self.share.max())), headline=headline)

    def _read(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as state:
                marked, ground, pictures = state["marked"], state["ground"], int(state["pictures"])
        except Exception:  # a damaged archive makes the reader throw exceptions of many kinds
            return  # what is not its own is not gone on with, and replaced
        is_map = marked.ndim == 2 and marked.dtype == np.float64 and max(marked.shape) == _SIDE
        if is_map and ground.shape == (*marked.shape, 3) and ground.dtype == np.uint8 and pictures > 0 and marked.min() >= 0:
            self._marked, self._ground, self.pictures = marked, ground, pictures
