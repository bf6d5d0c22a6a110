"""Names of the files that belong to a picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def unique_stems(paths: Sequence[Path]) -> dict[Path, str]:
    """For each picture the beginning of its output files: its place below the folder common to all, without suffix unless two
    pictures differ in it alone."""
    if not paths:
        return {}
    parents = [Path(os.path.abspath(path)).parent for path in paths]  # noqa: PTH100  resolve() would follow links, absolute() keep `..`
    try:
        root = Path(os.path.commonpath(parents))
    except ValueError:  # several drives
        return {path: f"{number:05d}_{path.stem}" for number, path in enumerate(paths)}
    places = [parent.relative_to(root) for parent in parents]
    stems = [(place / path.stem).as_posix() for place, path in zip(places, paths, strict=True)]
    times = Counter(stem.casefold() for stem in stems)
    taken: set[str] = set()
    unique = {}
    for path, place, stem in zip(paths, places, stems, strict=True):
        wanted = stem if times[stem.casefold()] == 1 else (place / path.name).as_posix()
        chosen, number = wanted, 1
        while chosen.casefold() in taken or (chosen != stem and chosen.casefold() in times):
            number += 1
            chosen = f"{wanted}~{number}"
        taken.add(chosen.casefold())
        unique[path] = chosen
    return unique
