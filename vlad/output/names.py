"""Names of the files that belong to a picture."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_MOST = 210  # bytes of a name, of the 255 that file systems take; the rest is for what tells the files of a picture apart


def short_name(name: str, most: int = _MOST) -> str:
    """A name of at most so many bytes: of a longer one the beginning and eight digits of its hash."""
    data = os.fsencode(name)
    if len(data) <= most:
        return name
    kept = os.fsdecode(data[: most - 9])
    while len(os.fsencode(kept)) > most - 9 or not name.startswith(kept):
        kept = kept[:-1]
    return f"{kept}~{hashlib.blake2b(data, digest_size=4).hexdigest()}"


def unique_stems(paths: Sequence[Path]) -> dict[Path, str]:
    """For each picture the beginning of its output files: its place below the folder common to all, without suffix unless two
    pictures differ in it alone. Names that leave no room for an ending are shortened."""
    if not paths:
        return {}
    parents = [Path(os.path.abspath(path)).parent for path in paths]  # noqa: PTH100  resolve() would follow links, absolute() keep `..`
    try:
        root = Path(os.path.commonpath(parents))
    except ValueError:  # several drives
        return {path: f"{number:05d}_{path.stem}" for number, path in enumerate(paths)}
    places = [parent.relative_to(root) for parent in parents]
    stems = [(place / short_name(path.stem)).as_posix() for place, path in zip(places, paths, strict=True)]
    times = Counter(stem.casefold() for stem in stems)
    taken: set[str] = set()
    unique = {}
    for path, place, stem in zip(paths, places, stems, strict=True):
        wanted = stem if times[stem.casefold()] == 1 else (place / short_name(path.name)).as_posix()
        chosen, number = wanted, 1
        while chosen.casefold() in taken or (chosen != stem and chosen.casefold() in times):
            number += 1
            chosen = f"{wanted}~{number}"
        taken.add(chosen.casefold())
        unique[path] = chosen
    return unique
