"""The `synthetic` benchmark: procedural pictures with exact masks, made on the spot, of kinds that the embedded model never learned."""

from __future__ import annotations

import json
import os
from pathlib import Path

from vlad.errors import DatasetError
from vlad.evaluation.datasets.base import Category, Counts, Layout, category_folders
from vlad.evaluation.datasets.mvtec import MVTEC
from vlad.pictures.folders import subfolders

_SEED, _N_TRAIN, _N_GOOD, _N_BAD, _SIZE = 0, 16, 20, 20, 320
_MARKER = "synthetic.json"  # written last, so that an interrupted making is made again
_CATEGORIES = ("ball_bearing", "brick_wall", "corrugated_sheet", "gear", "knitwear", "spanner", "valve_handle")


def default_root() -> Path:
    """Where the pictures are made when no DATA_ROOT is given: `$VLAD_CACHE/synthetic`, by default below the user's cache folder."""
    return cache_home() / "synthetic"


def cache_home() -> Path:
    """`$VLAD_CACHE`, else `$XDG_CACHE_HOME/vlad`, else `~/.cache/vlad`."""
    if own := os.environ.get("VLAD_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlad"


def _read(root: Path) -> list[Category]:
    if not category_folders(root, "test") or not (root / _MARKER).is_file():
        make(root)
    return MVTEC.read(root)


def make(root: Path) -> None:
    """Make the pictures in `root`: 22 MB, about a minute.

    Raises:
        DatasetError: the folder holds something else.
    """
    from vlad.synthetic import write_benchmark

    foreign = [folder.name for folder in subfolders(root) if folder.name not in _CATEGORIES]
    if foreign:
        raise DatasetError(f"{root}: expected an empty folder to make the synthetic pictures in, it holds {foreign[0]}; name a new folder")
    settings = {"seed": _SEED, "n_train": _N_TRAIN, "n_good": _N_GOOD, "n_bad": _N_BAD, "size": _SIZE}
    write_benchmark(root, seed=_SEED, n_train=_N_TRAIN, n_good=_N_GOOD, n_bad=_N_BAD, size=_SIZE)
    (root / _MARKER).write_text(json.dumps(settings) + "\n", encoding="utf-8")


SYNTHETIC = Layout(
    name="synthetic",
    title="Synthetic (procedural pictures)",
    url="",
    licence="Apache-2.0, as this project",
    expects="  a folder that is empty or was made by this layout; none at all takes one in the cache",
    read=_read,
    counts=dict.fromkeys(_CATEGORIES, Counts(_N_TRAIN, _N_GOOD, _N_BAD)),
    default_root=default_root,
)
