"""Procedural pictures on disk: the `synthetic` benchmark in MVTec AD's layout, the demo's examples, and contact sheets to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vlad.synthetic.sampling import ProductLine, Sample
from vlad.synthetic.scene import CLEAN_RIG
from vlad.synthetic.vocabulary import HELD_OUT_DEFECTS

BENCHMARK_CATEGORIES = {
    "gear": "gear",
    "valve_handle": "handle",
    "spanner": "spanner",
    "ball_bearing": "bearing",
    "brick_wall": "brick",
    "corrugated_sheet": "corrugated sheet",
    "knitwear": "knitwear",
}
"""Folder name -> family. Every family and every defect of the benchmark is held out from training."""

TRAIN, GOOD, BAD = range(3)  # keep the random streams of the three splits apart


def write_benchmark(
    root: str | Path,
    *,
    seed: int = 0,
    categories: Sequence[str] = tuple(BENCHMARK_CATEGORIES),
    n_train: int = 16,
    n_good: int = 20,
    n_bad: int = 20,
    size: int = 320,
) -> None:
    """Writes `root/CATEGORY/{train/good, test/good, test/DEFECT, ground_truth/DEFECT}` as PNG; a mask is `NAME_mask.png` for `NAME.png`.

    A category is one product line: its training pictures show good pieces of the very product under test. The `n_bad` pictures of a
    category are spread evenly over the held-out defects. Raises ValueError for unknown categories.
    """
    unknown = [name for name in categories if name not in BENCHMARK_CATEGORIES]
    if unknown:
        raise ValueError(f"expected categories among {list(BENCHMARK_CATEGORIES)}, got {unknown}")
    for category in categories:
        index = list(BENCHMARK_CATEGORIES).index(category)
        line = ProductLine(BENCHMARK_CATEGORIES[category], (seed, index), size)
        folder = Path(root) / category
        for number in range(n_train):
            write_picture(folder / "train" / "good" / f"{number:03d}.png", line.sample((seed, index, TRAIN, number)).image)
        for number in range(n_good):
            write_picture(folder / "test" / "good" / f"{number:03d}.png", line.sample((seed, index, GOOD, number)).image)
        for number in range(n_bad):
            defect = HELD_OUT_DEFECTS[number % len(HELD_OUT_DEFECTS)]
            sample = line.sample((seed, index, BAD, number), defect)
            name = f"{number // len(HELD_OUT_DEFECTS):03d}"
            write_picture(folder / "test" / defect / f"{name}.png", sample.image)
            write_picture(folder / "ground_truth" / defect / f"{name}_mask.png", sample.mask.astype(np.uint8) * 255)


def write_picture(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Writes an RGB (H, W, 3) or grey (H, W) picture, making its folder. Raises OSError when that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = image[..., ::-1] if image.ndim == 3 else image
    parameters = [cv2.IMWRITE_PNG_COMPRESSION, 9] if path.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 92]
    written, stream = cv2.imencode(path.suffix, bgr, parameters)
    if not written:
        raise OSError(f"could not encode a picture of shape {image.shape} as {path.suffix}")
    path.write_bytes(stream.tobytes())


# Examples -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Product:
    """A product of the examples: its family, the seed of its design, its pictures as (name suffix, picture number, defect or None)."""

    family: str
    design: int
    pictures: tuple[tuple[str, int, str | None], ...]


EXAMPLE_PRODUCTS = {
    "washer": _Product("washer", 15, (("good", 100, None), ("scratch", 5, "scratch"))),
    "capsule": _Product("capsule", 4, (("good", 101, None), ("crack", 9, "crack"))),
    "leather": _Product("leather", 4, (("good", 102, None), ("cut", 3, "cut"))),
    "circuit_board": _Product("circuit", 14, (("debris", 7, "extra object"),)),
    "screw": _Product("screw", 8, (("bent", 4, "bent"),)),
}
EXAMPLE_SIZE = 512
REFERENCES_EACH = 4
FOLDER, FOLDER_SIZE = "gears", 384
"""Of the examples' folder of one product, as it comes from a line: unsorted, with two bad ones among the good."""
_BAD_GEARS = {4: ("missing_part", "missing part"), 9: ("scratch", "scratch")}  # number in the folder -> name suffix, defect


def write_examples(folder: str | Path) -> None:
    """Writes eight 512 px pictures into `folder`, masks into `folder/masks`, four good pieces each into `folder/references/PRODUCT`, and
    twelve 384 px pictures of one product into `folder/gears`."""
    folder = Path(folder)
    for product, recipe in EXAMPLE_PRODUCTS.items():
        for suffix, number, defect in recipe.pictures:
            sample = _fine_sample(recipe, number, defect)
            write_picture(folder / f"{product}_{suffix}.png", sample.image)
            write_picture(folder / "masks" / f"{product}_{suffix}_mask.png", sample.mask.astype(np.uint8) * 255)
        for number in range(REFERENCES_EACH):
            sample = _fine_sample(recipe, 1000 + number, None)
            write_picture(folder / "references" / product / f"{number + 1}.png", sample.image)
    gears = _Product("gear", 3, ())
    for number in range(1, 13):
        suffix, defect = _BAD_GEARS.get(number, ("good", None))
        sample = _fine_sample(gears, 1500 + number, defect, FOLDER_SIZE)
        write_picture(folder / FOLDER / f"{number:02d}_{suffix}.png", sample.image)
        if defect is not None:
            write_picture(folder / "masks" / FOLDER / f"{number:02d}_{suffix}_mask.png", sample.mask.astype(np.uint8) * 255)
    (folder / "README.md").write_text(EXAMPLES_README, encoding="utf-8")


def _fine_sample(recipe: _Product, number: int, defect: str | None, side: int = EXAMPLE_SIZE) -> Sample:
    """Rendered at twice the size and reduced, which smooths edges."""
    sample = ProductLine(recipe.family, recipe.design, 2 * side, CLEAN_RIG).sample(number, defect)
    small = (side, side)
    image = cv2.resize(sample.image, small, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(sample.mask.astype(np.uint8) * 255, small, interpolation=cv2.INTER_AREA) > 127
    return Sample(image.astype(np.uint8), mask, sample.class_name, sample.family, sample.defect, sample.caption)


EXAMPLES_README = """\
# Example pictures

Procedural pictures of made-up products; the file name says what is in each. Nothing was photographed: shapes, materials, light and
defects are computed, so the masks are exact and the pictures are free to use under the licence of this project. The embedded model learned
from pictures of the same generator, so they show how vlad works, not how well.

| folder | content |
|---|---|
| `gears/` | twelve gears from one line, two of them bad: a folder to be judged by itself |
| `*.png` | single pictures of five products, at least three of them good |
| `references/PRODUCT/` | four good pieces of the same product, for few-shot detection |
| `masks/` | where a picture is defective (white), all black for a good one; none for good gears |

```
vlad detect demos/examples/gears                                                                     # judged by each other
vlad detect demos/examples/capsule_crack.png --references demos/examples/references/capsule          # beside good ones
python -m vlad.synthetic examples demos/examples                                                     # makes them again
```
"""


# Looking --------------------------------------------------------------------------------------------------------------


def contact_sheet(samples: Iterable[Sample], *, columns: int = 8, side: int = 240) -> npt.NDArray[np.uint8]:
    """All samples in one RGB picture, `columns` wide, each `side` pixels, with names and the outlines of the masks."""
    cells: list[npt.NDArray[Any]] = []
    for sample in samples:
        cell: npt.NDArray[Any] = sample.image.copy()
        outlines, _ = cv2.findContours(sample.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(cell, outlines, -1, (255, 0, 0), 1)
        cell = cv2.resize(cell, (side, side), interpolation=cv2.INTER_AREA)
        for shade, width in ((0, 3), (255, 1)):
            cv2.putText(cell, f"{sample.family}: {sample.defect}", (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (shade,) * 3, width, cv2.LINE_AA)
        cells.append(cell)
    cells += [np.zeros((side, side, 3), np.uint8)] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]).astype(np.uint8)
