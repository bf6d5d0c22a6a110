"""Masks as COCO writes them: lengths of runs, column by column, beginning with a run of what is outside."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlad.errors import ConfigError

_MOST_PIXELS = 100_000_000  # as of pictures


@dataclass(frozen=True)
class Rle:
    """A mask (H, W).

    Attributes:
        size: (H, W).
        counts: the runs, compressed as pycocotools does it.
    """

    size: tuple[int, int]
    counts: str

    @classmethod
    def of(cls, mask: np.ndarray) -> Rle:
        """That of a bool mask (H, W)."""
        found = _tool().encode(np.asfortranarray(mask.astype(np.uint8)))
        return cls((int(mask.shape[0]), int(mask.shape[1])), found["counts"].decode("ascii"))

    @classmethod
    def read(cls, value: Any) -> Rle:
        """That of a COCO segmentation, {"size": [H, W], "counts": [...] or a text}.

        Raises:
            ValueError: it is none.
        """
        try:
            height, width = (int(side) for side in value["size"])
            counts = value["counts"]
            if isinstance(counts, list):
                if height < 1 or width < 1 or sum(counts) != height * width or min(counts, default=0) < 0:
                    raise ValueError(f"its runs make {sum(counts)} pixels of {height} x {width}")
                counts = _tool().frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"].decode("ascii")
            found = cls((height, width), str(counts))
            found._check()
        except (KeyError, TypeError, IndexError, OverflowError) as error:
            raise ValueError(f"is no run-length mask ({error!r})") from error
        return found

    def draw(self) -> np.ndarray:
        """bool (H, W).

        Raises:
            ValueError: the runs do not fit the size.
        """
        self._check()
        with warnings.catch_warnings():  # of NumPy, on how it is called
            warnings.simplefilter("ignore")
            mask: np.ndarray = _tool().decode({"size": list(self.size), "counts": self.counts.encode("ascii")}).astype(bool)
        return mask

    def _check(self) -> None:
        height, width = self.size
        if height < 1 or width < 1 or height * width > _MOST_PIXELS:
            raise ValueError(f"has {height} x {width} pixels; at most {_MOST_PIXELS // 10**6} million are read")
        lengths = _lengths(self.counts)
        if sum(lengths) != height * width:
            raise ValueError(f"its runs make {sum(lengths)} pixels of {height} x {width}")


def _lengths(counts: str) -> list[int]:
    """The runs of a compressed text. pycocotools writes beyond the mask where they are too long, so they are added up before it decodes."""
    found: list[int] = []
    value = shift = 0
    for sign in counts.encode("ascii", "replace"):
        part = sign - 48
        if not 0 <= part < 64:
            raise ValueError("its runs hold a sign that none is written with")
        value |= (part & 0x1F) << shift
        shift += 5
        if not part & 0x20:
            if part & 0x10:
                value |= -1 << shift
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value = shift = 0
        if shift > 35 or (found and found[-1] < 0):
            raise ValueError("its runs are damaged")
    return found


def _tool() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ConfigError("masks of COCO need pycocotools; pip install 'vlad-anomaly[formats]'") from error
    return mask
