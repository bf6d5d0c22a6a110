"""Random pictures for training: one sample, a clean and defective pair, or a stream of them made by several processes."""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from vlad.synthetic.defects import DEFECT_PAINTERS
from vlad.synthetic.drawing import Rng
from vlad.synthetic.hard_normals import disguise
from vlad.synthetic.scene import Rig, Scene, compose, photograph
from vlad.synthetic.striking import strike
from vlad.synthetic.vocabulary import DEFECTS, FAMILIES, FAMILY_NOUNS, caption_defective, caption_good

LEAST_SIZE = 64


@dataclass(frozen=True)
class Sample:
    """One procedural picture and everything known about it."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) RGB
    mask: npt.NDArray[np.bool_]  # (H, W), True on defective pixels; all False on a good picture
    class_name: str  # an English noun of the family, such as "metal plate"
    family: str  # such as "plate"
    defect: str  # "good" or the defect type, such as "scratch"
    caption: str  # such as "a metal plate with a small scratch at the upper left"


def make_sample(
    seed: int | Sequence[int] | np.random.Generator,
    *,
    families: Sequence[str] = FAMILIES,
    defects: Sequence[str] = DEFECTS,
    size: int = 320,
    anomalous: bool | None = None,
    hard_normals: bool = False,
) -> Sample:
    """A random product, good or with one defect of `defects`; `anomalous` None means even odds. `size` is the side in pixels, at least 64.

    `hard_normals` adds innocent things that look like defects (`vlad.synthetic.hard_normals`), as training does.

    The label decides nothing but the defect: product, view, light, noise and compression come from streams that do not know it.
    Raises ValueError for unknown families or defects and for sizes that are too small.
    """
    _check(families, defects, size)
    coin, product, strike_rng, view, camera, words, around = np.random.default_rng(seed).spawn(7)
    is_bad = bool(coin.random() < 0.5) if anomalous is None else anomalous
    family = str(product.choice(list(families)))
    scene = compose(family, size, product, view)
    if hard_normals:
        scene = disguise(scene, around)
    return finish(scene, family, str(words.choice(FAMILY_NOUNS[family])), camera, words, strike_rng, defects if is_bad else ())


def make_pair(
    seed: int | Sequence[int],
    *,
    families: Sequence[str] = FAMILIES,
    defects: Sequence[str] = DEFECTS,
    size: int = 320,
) -> tuple[Sample, Sample]:
    """The same picture twice, good and defective, down to the camera's noise."""
    good, bad = (make_sample(seed, families=families, defects=defects, size=size, anomalous=flag) for flag in (False, True))
    return good, bad


@dataclass(frozen=True)
class ProductLine:
    """One fixed product as a production line makes it: equal design and set-up, varying pose, grain and light. `seed` picks the design."""

    family: str
    seed: int | Sequence[int]
    size: int = 320
    rig: Rig | None = None  # None draws the photographic set-up with the design

    def sample(self, number: int | Sequence[int], defect: str | None = None) -> Sample:
        """Picture `number` of the line, good or with `defect`. The product is the same for both."""
        _check((self.family,), (defect,) if defect else (), self.size)
        design = np.random.default_rng(self.seed)
        view, camera, words, strike_rng = np.random.default_rng(number).spawn(4)
        scene = compose(self.family, self.size, design, view, self.rig)
        return finish(scene, self.family, FAMILY_NOUNS[self.family][0], camera, words, strike_rng, (defect,) if defect else ())


def generate(
    n: int,
    *,
    seed: int,
    families: Sequence[str] = FAMILIES,
    defects: Sequence[str] = DEFECTS,
    size: int = 320,
    processes: int = 1,
) -> Iterator[Sample]:
    """`n` samples. Sample `i` depends on `(seed, i)` alone: the number of processes changes the speed and nothing else."""
    _check(families, defects, size)
    work = partial(_numbered, seed=seed, families=tuple(families), defects=tuple(defects), size=size)
    if processes <= 1:
        yield from map(work, range(n))
        return
    # Spawned, not forked: a fork of a process in which torch or OpenCV has threads can wait for them for ever.
    with multiprocessing.get_context("spawn").Pool(processes, initializer=start_worker) as pool:
        yield from pool.imap(work, range(n), chunksize=8)


def start_worker() -> None:
    """One thread per process, and memory that is kept for the next picture.

    glibc hands freed arrays above 128 kB back to the kernel; fetching and clearing the pages again takes a third of a picture's time.
    """
    cv2.setNumThreads(1)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 1 << 28)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 1 << 29)  # M_TRIM_THRESHOLD


def _numbered(number: int, *, seed: int, families: Sequence[str], defects: Sequence[str], size: int) -> Sample:
    return make_sample((seed, number), families=families, defects=defects, size=size)


def finish(scene: Scene, family: str, noun: str, camera: Rng, words: Rng, strike_rng: Rng, defects: Sequence[str]) -> Sample:
    """Damages the scene when `defects` is not empty, photographs and names it."""
    picture = scene.render()
    mask, defect = np.zeros((scene.size, scene.size), bool), "good"
    if defects:
        picture, mask, defect = strike(strike_rng, scene, picture, defects)
    caption = caption_defective(noun, defect, mask, words) if defects else caption_good(noun, words)
    return Sample(photograph(picture, scene.rig, camera), mask, noun, family, defect, caption)


def _check(families: Sequence[str], defects: Sequence[str], size: int) -> None:
    for what, given, known in (("family", families, FAMILY_NOUNS), ("defect", defects, DEFECT_PAINTERS)):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ValueError(f"expected every {what} to be one of {sorted(known)}, got {unknown}")
    if not families:
        raise ValueError("expected at least one family, got none")
    if size < LEAST_SIZE:
        raise ValueError(f"expected a size of at least {LEAST_SIZE} pixels, got {size}")
