"""Pictures read as they are needed, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vlad.errors import ConfigError, ImageReadError, noting, warn
from vlad.pictures.reading import ImageSource, Reader
from vlad.pictures.roi import Roi, read_where

Read = tuple[ImageSource, np.ndarray | ImageReadError, tuple[str, ...]]
_BATCH_PIXELS = 50_000_000  # a batch of large pictures is full at 150 MB


def is_one_picture(images: Any) -> bool:
    """A list, tuple, iterator, or an array or tensor with a batch axis is many pictures; everything else is one."""
    if hasattr(images, "shape"):
        return len(images.shape) != 4
    if isinstance(images, (str, bytes, bytearray, memoryview, Path)) or hasattr(images, "read"):
        return True
    return not isinstance(images, Iterable)


def check_reading(batch_size: int, on_error: str) -> None:
    """
    Raises:
        ConfigError: one of them is out of range.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"batch_size must be a whole number >= 1, got {batch_size!r}")
    if on_error not in ("raise", "return"):
        raise ConfigError(f"on_error must be 'raise' or 'return', got {on_error!r}")


def read_batches(
    images: Iterable[ImageSource], batch_size: int, *, on_error: str, read: Reader, roi: Roi | None = None
) -> Iterator[list[Read]]:
    """Each picture, or with `on_error` "return" why it could not be read, beside its source and what was noted about it, `batch_size` at a
    time; large pictures fill a batch sooner. A picture of which nothing lies in the `roi` cannot be read either."""
    batch: list[Read] = []
    pixels = 0
    coming = iter(images)
    while True:
        try:
            source = next(coming)
            with noting() as notes:
                picture = _read(source, on_error, read, roi)
        except StopIteration:
            break
        except Exception:  # whatever came before it is not lost
            if batch:
                yield batch
            raise
        batch.append((source, picture, tuple(notes)))
        pixels += picture.size // 3 if isinstance(picture, np.ndarray) else 0
        if len(batch) == batch_size or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def one_ahead(batches: Iterator[list[Read]]) -> Iterator[list[Read]]:
    """The same batches, of which the next is read by another thread while the last one is looked at."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, thread_name_prefix="vlad-reading") as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _read(source: ImageSource, on_error: str, read: Reader, roi: Roi | None) -> np.ndarray | ImageReadError:
    try:
        picture = read_where(source, roi, read)
    except ImageReadError as error:
        if on_error == "raise":
            raise
        return error
    if (picture[::16, ::16] == picture[0, 0]).all() and (picture == picture[0, 0]).all():
        shown = source if isinstance(source, (str, Path)) else "a picture"
        warn(f"{shown}: every pixel has the same value, so there is nothing to see; check the camera")
    return picture
