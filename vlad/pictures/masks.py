"""Masks that say where a picture is defective: found by name, read as they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vlad.errors import DatasetError
from vlad.pictures.reading import IMAGE_SUFFIXES


def read_mask(path: Path) -> np.ndarray:
    """A mask's values (H, W), above 0 is defective: grey levels, palette numbers, or the brightest colour channel. A JPEG, whose edges
    are blurred, counts from 128 on.

    Raises:
        DatasetError: the file cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            values = np.asarray(image if image.mode in ("1", "L", "P", "I;16", "I") else image.convert("RGB"))
            is_jpeg = image.format in ("JPEG", "MPO")
    except Exception as error:  # damaged files make decoders throw exceptions of any type
        raise DatasetError(f"{path}: the mask cannot be read ({error}); get it again") from error
    values = values.max(axis=2) if values.ndim == 3 else values
    return np.where(values < 128, 0, values) if is_jpeg else values.astype(np.int64)


def find_mask(folder: Path, stems: Iterable[str]) -> Path | None:
    """The first picture file in `folder` with one of the names, whatever its suffix."""
    for stem in stems:
        for suffix in (".png", ".bmp", *IMAGE_SUFFIXES):
            for written in (suffix, suffix.upper()):
                if (path := folder / f"{stem}{written}").is_file():
                    return path
    return None
