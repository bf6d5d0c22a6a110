"""The training data as the head sees it: pictures made once, kept as features of the frozen trunk."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vlad.backbones.lite.head import GRID, LENGTH, TRAIN_SIZE, features, flatten
from vlad.backbones.lite.trunk import Trunk
from vlad.errors import ConfigError
from vlad.synthetic.photographs import find, make_photograph
from vlad.synthetic.sampling import Sample, make_sample, start_worker
from vlad.synthetic.vocabulary import DEFECTS, FAMILIES

FINE = 80  # side of the masks kept for measuring
KINDS = ("plain", "hard", "photograph")


@dataclass(frozen=True)
class Recipe:
    """What a set of pictures is made of. Picture `i` depends on the recipe's seed and `i` alone.

    `hard` is the share of procedural pictures with hard normals, `photographs` the share of pictures that are photographs.
    """

    count: int
    seed: int
    families: Sequence[str] = FAMILIES
    defects: Sequence[str] = DEFECTS
    hard: float = 0.5
    photographs: float = 0.0
    size: int = TRAIN_SIZE


@dataclass(frozen=True)
class Pictures:
    """N pictures as the head sees them: `features` (N, LENGTH), `cover` (N, 20, 20) the defective share of places, `mask` (N, 80, 80)."""

    features: npt.NDArray[np.float16]
    cover: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    family: npt.NDArray[np.str_]
    noun: npt.NDArray[np.str_]
    defect: npt.NDArray[np.str_]
    kind: npt.NDArray[np.str_]  # of KINDS

    def __len__(self) -> int:
        return len(self.family)

    @property
    def anomalous(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.defect != "good")

    def read(self, rows: npt.NDArray[np.intp]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.features[rows]))

    def select(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Pictures:
        """The pictures that `keep` marks or lists; features stay on disk."""
        rows = np.flatnonzero(keep) if keep.dtype == bool else keep
        columns = (self.cover, self.mask, self.family, self.noun, self.defect, self.kind)
        return Pictures(_Rows(self.features, rows), *(column[rows] for column in columns))  # type: ignore[arg-type]


class _Rows:
    """Some rows of an array on disk, read only when asked for."""

    def __init__(self, array: npt.NDArray[np.float16], rows: npt.NDArray[np.intp]) -> None:
        self.array, self.rows = array, rows

    def __getitem__(self, index: npt.NDArray[np.intp]) -> npt.NDArray[np.float16]:
        return self.array[self.rows[index]]


_ARRAYS: tuple[tuple[str, Any, tuple[int, ...]], ...] = (
    ("features", np.float16, (LENGTH,)),
    ("cover", np.uint8, (GRID, GRID)),
    ("mask", np.uint8, (FINE * FINE // 8,)),
)


def make_pictures(folder: Path, recipe: Recipe, *, photographs: Path | None = None, processes: int = 2) -> Pictures:
    """Make the pictures of `recipe` and keep their features in `folder` (0.26 MB each); goes on where an earlier call stopped.

    Raises:
        ConfigError: the folder holds pictures of another recipe; the recipe wants photographs and `photographs` holds none.
    """
    if recipe.photographs and photographs is None:
        raise ConfigError(
            f"expected a folder of photographs for a share of {recipe.photographs}, got none; "
            "fetch them: python -m vlad.synthetic.photographs DIR, or take a share of 0"
        )
    files = find(photographs) if photographs is not None and recipe.photographs else []
    folder.mkdir(parents=True, exist_ok=True)
    asked = json.loads(json.dumps({**asdict(recipe), "length": LENGTH, "files": _digest(files)}))
    meta, facts = folder / "meta.json", folder / "facts.jsonl"
    if meta.exists() and json.loads(meta.read_text()) != asked:
        raise ConfigError(f"expected {folder} to hold pictures made with {asked}, got {meta.read_text()}; choose another folder")
    done = len(facts.read_text().splitlines()) if facts.exists() else 0
    if done < recipe.count:
        mode = "r+" if meta.exists() else "w+"
        arrays = [np.lib.format.open_memmap(folder / f"{name}.npy", mode, dtype, (recipe.count, *shape)) for name, dtype, shape in _ARRAYS]
        meta.write_text(json.dumps(asked))
        work = partial(_picture, recipe=recipe, files=files)
        with multiprocessing.get_context("spawn").Pool(processes, initializer=_start) as pool, facts.open("a") as log:
            for index, (values, fact) in enumerate(pool.imap(work, range(done, recipe.count), chunksize=4), start=done):
                for array, value in zip(arrays, values, strict=True):
                    array[index] = value
                log.write(json.dumps(fact) + "\n")
    return read_pictures(folder)


def read_pictures(folder: Path) -> Pictures:
    """The pictures finished so far in `folder`."""
    facts = [json.loads(line) for line in (folder / "facts.jsonl").read_text().splitlines()]
    flat, cover, mask = (np.load(folder / f"{name}.npy", mmap_mode="r")[: len(facts)] for name, _, _ in _ARRAYS)
    columns = (np.array([fact[key] for fact in facts]) for key in ("family", "noun", "defect", "kind"))
    fine = np.unpackbits(mask, axis=1).reshape(-1, FINE, FINE).astype(bool)
    return Pictures(flat, cover.astype(np.float32) / 255, fine, *columns)


def draw(number: int, recipe: Recipe, files: Sequence[Path]) -> tuple[Sample, str]:
    """Picture `number` of the recipe and its kind."""
    seed = (recipe.seed, number)
    kind, hard = np.random.default_rng((*seed, 1)).random(2)
    if kind < recipe.photographs:
        return make_photograph(seed, files, defects=recipe.defects, size=recipe.size), "photograph"
    sample = make_sample(seed, families=recipe.families, defects=recipe.defects, size=recipe.size, hard_normals=hard < recipe.hard)
    return sample, "hard" if hard < recipe.hard else "plain"


_trunk: list[Trunk] = []  # of a worker process, so that it is loaded once


def _start() -> None:
    torch.set_num_threads(1)
    start_worker()
    _trunk.append(Trunk())


@torch.inference_mode()
def _picture(number: int, *, recipe: Recipe, files: Sequence[Path]) -> tuple[tuple[npt.NDArray[Any], ...], dict[str, str]]:
    sample, kind = draw(number, recipe, files)
    pixels = torch.from_numpy(sample.image).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1
    flat = flatten(features(_trunk[0](pixels)))[0].half().numpy()
    cover = np.ceil(_shares(sample.mask, GRID) * 255).astype(np.uint8)  # rounded up: the smallest defect leaves its mark
    fine = np.packbits(_shares(sample.mask, FINE) > 0.4)
    return (flat, cover, fine), {"family": sample.family, "noun": sample.class_name, "defect": sample.defect, "kind": kind}


def _shares(mask: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.float64]:
    cell = mask.shape[0] // side
    shares: npt.NDArray[np.float64] = mask.reshape(side, cell, side, cell).mean((1, 3))
    return shares


def _digest(files: Sequence[Path]) -> str:
    """Tells one set of photographs from another by what is in the files."""
    total = hashlib.sha256()
    for path in files:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]
