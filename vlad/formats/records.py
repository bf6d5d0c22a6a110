"""What a run of `vlad detect --out` left, picture by picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vlad.errors import ConfigError
from vlad.output.names import unique_stems
from vlad.output.rows import read_rows
from vlad.pictures.masks import read_mask


@dataclass(frozen=True)
class Record:
    """One picture of a run.

    Attributes:
        row: its line of results.jsonl.
        mask_path: of its mask, None where none was written.
    """

    row: dict[str, Any]
    mask_path: Path | None

    @property
    def path(self) -> str:
        """The picture, as the run was told of it."""
        return str(self.row["image_path"])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.row["image_size"]
        return int(height), int(width)

    @cached_property
    def mask(self) -> np.ndarray | None:
        """bool (H, W), None where none was written.

        Raises:
            ConfigError: it is of another size than the picture.
        """
        if self.mask_path is None:
            return None
        mask = read_mask(self.mask_path) > 0
        if mask.shape != self.size:
            raise ConfigError(f"{self.mask_path}: is {mask.shape[1]} x {mask.shape[0]}, its picture {self.size[1]} x {self.size[0]}")
        return mask

    def parts(self) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
        """Each marked region of the row, and its own mask bool (H, W); None where no mask was written."""
        labels = None
        if self.mask is not None:
            import cv2

            _, labels = cv2.connectedComponents(self.mask.astype(np.uint8), connectivity=8)
        for region in self.row["regions"]:
            x, y = region["peak_at"]
            part = None if labels is None or not labels[y, x] else labels == labels[y, x]
            yield region, part


def _check(record: Record) -> None:
    """
    Raises:
        ValueError, TypeError, KeyError, IndexError: the row is not one that `vlad detect` wrote.
    """
    row, (height, width) = record.row, record.size
    scores = row.get("scores") or {}
    numbers = [row["pred_score"], *scores.values()]
    for region in row["regions"]:
        left, top, right, bottom = region["box"]
        x, y = region["peak_at"]
        numbers += [left, top, right, bottom, x, y, *(region[name] for name in ("area", "peak", "mean"))]
        if not (0 <= left <= x < right <= width and 0 <= top <= y < bottom <= height):
            raise ValueError(f"the place {region['box']} does not lie in {width} x {height} pixels")
    if height < 1 or width < 1 or not all(isinstance(one, (int, float)) and math.isfinite(one) for one in numbers):
        raise ValueError("a number is none")


def read_run(folder: Path) -> list[Record]:
    """All pictures that a run scored, in order; of one that has several rows the last.

    Raises:
        ConfigError: the folder holds no results, or a row is damaged.
    """
    place = folder / "results.jsonl"
    if not place.is_file():
        raise ConfigError(f"{folder}: holds no results.jsonl; expected a folder that `vlad detect --out` wrote")
    rows = list(read_rows(place))
    names = unique_stems([Path(path) for path in dict.fromkeys(row["image_path"] for row in rows)])  # of runs that did not write them down
    found: dict[str, Record] = {}
    for row in rows:
        if row.get("pred_score") is None:
            continue
        path = row["image_path"]
        mask = folder / f"{row.get('files') or names[Path(path)]}_mask.png"
        record = Record(row, mask if mask.is_file() else None)
        try:
            _check(record)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ConfigError(f"{place}: the row of {path} is damaged ({error!r}); run `vlad detect` again") from error
        found[path] = record
    return list(found.values())
