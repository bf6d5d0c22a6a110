"""The good pictures of a part, small."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vlad.app import show
from vlad.app.uploads import read_upload
from vlad.errors import ImageReadError

if TYPE_CHECKING:
    from vlad.app.service import Service
    from vlad.app.visit import Visit

_SIDE = 240
_GONE = np.full((60, 80, 3), 128, np.uint8)


def thumbnails_of(service: Service, visit: Visit) -> list[tuple[str, str]]:
    """File and name of each good picture of the part on the bench, in their order; each file is made once, and called by the beginning of
    the picture's hash."""
    part, folder = visit.bench.part, visit.folder / "thumbnails"
    if part is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for one in part.good:
        thumbnail = folder / f"{one.sha256[:24]}.webp"
        if not thumbnail.is_file():
            Image.fromarray(_small(one.path, service)).save(thumbnail, quality=85)
        found.append((str(thumbnail), one.name))
    return found


def _small(path: Path | None, service: Service) -> np.ndarray:
    """A grey one where the file has been moved or changed since: the detector needs it no more."""
    try:
        return _GONE if path is None else show.shrink(read_upload(path, service.limits), _SIDE)
    except ImageReadError:
        return _GONE
