"""Where the pictures of a large run are: folders, globs, lists, and whatever fsspec knows by a URL."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from vlad.errors import ConfigError, ImageReadError
from vlad.pictures.reading import IMAGE_SUFFIXES, find_images

_COLUMNS = ("image_path", "path", "file", "url", "uri")


class Paths:
    """The pictures' paths or URLs, in an order that is the same each time; lists are read anew at each pass and not held.

    Args:
        inputs: folders, files and globs; lists (.txt with one path or URL a line, .parquet with a column image_path, path, file, url or
            uri); URLs of files, folders or Parquet lists that fsspec reads, such as s3://bucket/folder.
        recursive: take folders with all their subfolders.

    Raises:
        ImageReadError: an input holds no picture.
        ConfigError: a list or URL cannot be read.
    """

    def __init__(self, inputs: Sequence[str], *, recursive: bool = False) -> None:
        self._parts: list[list[str] | str] = []
        taken: set[str] = set()
        for item in inputs:
            if item.lower().endswith((".txt", ".parquet")) and not Path(item).is_dir():
                self._parts.append(item)
                continue
            if "://" in item:
                named = _listed(item)
            elif item.lower().endswith(".parquet"):  # a folder of them, as Spark writes it
                self._parts += [str(path) for path in sorted(Path(item).glob("*.parquet"))]
                continue
            else:
                named = [os.path.abspath(path) for path in find_images([item], recursive=recursive)]  # noqa: PTH100  workers are elsewhere
            fresh = [name for name in dict.fromkeys(named) if name not in taken]
            taken.update(fresh)
            self._parts.append(fresh)
        digest, self.count = hashlib.sha256(), 0
        for path in self:
            digest.update(path.encode("utf-8", "surrogateescape") + b"\0")
            self.count += 1
        self.sha256 = digest.hexdigest()
        if not self.count:
            raise ImageReadError(f"{', '.join(inputs)}: no picture is named there")

    def __iter__(self) -> Iterator[str]:
        for part in self._parts:
            if isinstance(part, list):
                yield from part
            else:
                yield from _lines(part)

    def blocks(self, size: int) -> Iterator[tuple[int, list[str]]]:
        """Numbered lists of `size` paths; the last may be shorter."""
        paths, number = iter(self), 0
        while block := list(islice(paths, size)):
            yield number, block
            number += 1

    def spread(self, most: int) -> list[str]:
        """At most so many of them, evenly spread."""
        return list(islice(self, 0, None, -(-self.count // most)))


def source_of(path: str) -> Path | bytes:
    """What the reader takes: the path of a file of this machine, or all bytes of another.

    Raises:
        ImageReadError: a URL cannot be read.
    """
    if path.startswith("file://"):
        return Path(path.removeprefix("file://"))
    if "://" not in path:
        return Path(path)
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return file.read()
    except Exception as error:  # each of the many file systems has errors of its own
        raise ImageReadError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error


def _whole(path: str) -> str:
    """A local path from the root, because workers stand in other folders."""
    return path if "://" in path else os.path.abspath(path)  # noqa: PTH100  resolve() would follow links


def _listed(url: str) -> list[str]:
    """The pictures of a URL's file or folder, sorted."""
    import fsspec

    try:
        system, place = fsspec.core.url_to_fs(url)
        found = sorted(system.glob(place)) if "*" in place else [place] if system.isfile(place) else sorted(system.find(place))
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ConfigError(f"{url}: cannot be listed ({reason}); check the URL, and that fsspec knows it") from error
    pictures = [name for name in found if name.lower().endswith(IMAGE_SUFFIXES)]
    if not pictures:
        raise ImageReadError(f"{url}: no picture is there")
    return [system.unstrip_protocol(name) for name in pictures]


def _lines(place: str) -> Iterator[str]:
    """The paths that a list names."""
    import fsspec

    try:
        if place.lower().endswith(".txt"):
            with fsspec.open(place, "rb") as file:
                is_wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
            encoding = "utf-16" if is_wide else "utf-8-sig"  # what PowerShell writes, and what everybody else does
            with fsspec.open(place, "r", encoding=encoding, errors="surrogateescape") as lines:
                for line in lines:
                    if line.strip():
                        yield _whole(line.rstrip("\r\n"))
            return
        import pyarrow.parquet as parquet

        with fsspec.open(place, "rb") as file:
            table = parquet.ParquetFile(file)
            column = next((name for name in _COLUMNS if name in table.schema_arrow.names), None)
            if column is None:
                raise ConfigError(f"{place}: has no column {', '.join(_COLUMNS)}, but {', '.join(table.schema_arrow.names)}")
            for batch in table.iter_batches(columns=[column]):
                values: list[Any] = batch.column(0).to_pylist()
                if not all(isinstance(value, str) and value for value in values):
                    raise ConfigError(f"{place}: its column {column} holds what is no text, or nothing")
                yield from map(_whole, values)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{place}: cannot be read as a list of pictures ({str(error) or type(error).__name__})") from error
