"""What every dataset becomes: categories with normal references and labelled test pictures; and masks, read as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vlad.errors import DatasetError
from vlad.pictures.masks import find_mask, read_mask
from vlad.pictures.reading import IMAGE_SUFFIXES

GOOD = "good"
Polygon = tuple[tuple[float, float], ...]  # its corners (x, y) in pixels; (0, 0) is the outer corner of the upper left pixel


@dataclass(frozen=True)
class Picture:
    """One picture with its truth.

    Attributes:
        path: the file.
        defect: defect type, `good` is normal.
        masks: files of its mask: one as a rule, several where each region has its own, none for a normal picture and where there is none.
        expected_mask: where a missing mask should be, None if none is missing.
        polygons: outlines of its defects, for layouts that list them instead of masks, or beside them; saturations know none.
    """

    path: Path
    defect: str = GOOD
    masks: tuple[Path, ...] = ()
    expected_mask: Path | None = None
    polygons: tuple[Polygon, ...] = ()

    @property
    def is_anomalous(self) -> bool:
        return self.defect != GOOD

    @property
    def is_marked(self) -> bool:
        """Whether it is said where its defects are."""
        return bool(self.masks or self.polygons)


@dataclass(frozen=True)
class Saturation:
    """When a defect of MVTec LOCO counts as found in full: `threshold` pixels, or with `relative` that share of its area."""

    threshold: float
    relative: bool

    def pixels(self, area: int) -> float:
        return self.threshold * area if self.relative else self.threshold


@dataclass(frozen=True)
class Category:
    """One product or surface.

    Attributes:
        name: the dataset's own name, as a rule the folder.
        class_name: noun for the prompts.
        references: normal pictures to learn from, sorted by path.
        test: labelled pictures, sorted by path.
        saturations: by mask value, for MVTec LOCO; None scores connected regions.
        shared: references are test pictures too (a plain folder has no split); those used as references are then left out of the test.
    """

    name: str
    class_name: str
    references: tuple[Picture, ...]
    test: tuple[Picture, ...]
    saturations: Mapping[int, Saturation] | None = None
    shared: bool = False


@dataclass(frozen=True)
class Counts:
    """Published numbers of pictures of a category; None where not published."""

    references: int | None = None
    good: int | None = None
    anomalous: int | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a dataset lies on disk, and how to get it.

    Attributes:
        name: as in `vlad eval --dataset NAME`.
        title, url, licence: for people; the licence decides what may be done with the data, vlad ships none of it.
        expects: the tree of files, for error messages and `vlad eval --check`.
        read: DATA_ROOT to categories; raises DatasetError when the tree is another.
        recognises: whether DATA_ROOT looks like this layout; None for layouts that are only taken when named.
        counts: published numbers by category, where known.
        fpr_limit: of AUPRO or sPRO as the dataset's authors use it.
        split_note: what is ours and not the authors' about the split, if anything.
        default_root: where `read` makes the data if no DATA_ROOT is given; None for data that must be there.
    """

    name: str
    title: str
    url: str
    licence: str
    expects: str
    read: Callable[[Path], list[Category]]
    recognises: Callable[[Path], bool] | None = None
    counts: Mapping[str, Counts] = field(default_factory=dict)
    fpr_limit: float = 0.3
    split_note: str = ""
    default_root: Callable[[], Path] | None = None


@dataclass(frozen=True)
class Truth:
    """Ground truth of a picture: a mask bool (H, W), or regions bool (H, W) each with their saturations in pixels."""

    mask: np.ndarray | None
    regions: tuple[np.ndarray, ...] = ()
    saturations: tuple[float, ...] = ()

    @property
    def area(self) -> np.ndarray:
        """bool (H, W), where anything is wrong."""
        return np.any(self.regions, axis=0) if self.mask is None else self.mask


def read_truth(picture: Picture, category: Category, size: tuple[int, int]) -> Truth | None:
    """The ground truth of a picture of `size` (H, W); None for an anomalous picture of a dataset without masks.

    Raises:
        DatasetError: a mask is missing that should be there, cannot be read, or has another size.
    """
    if not picture.is_anomalous:
        return Truth(np.zeros(size, dtype=bool))
    if picture.expected_mask is not None:
        raise DatasetError(f"{picture.path}: its mask is missing, expected {picture.expected_mask}; get it, or mark the picture as good")
    if not picture.is_marked:
        return None
    values = []
    for path in picture.masks:
        mask = read_mask(path)
        if mask.shape != size:
            raise DatasetError(
                f"{path}: the mask is {mask.shape[1]} x {mask.shape[0]}, its picture {picture.path} is {size[1]} x {size[0]}; "
                "both must have one size"
            )
        values.append(mask)
    if category.saturations is None:
        drawn = [draw_polygon(polygon, size) for polygon in picture.polygons]
        return Truth(np.any([*(mask > 0 for mask in values), *drawn], axis=0))
    regions, saturations = [], []
    for path, mask in zip(picture.masks, values, strict=True):
        for value in np.unique(mask[mask > 0]):
            rule = category.saturations.get(int(value))
            if rule is None:
                raise DatasetError(f"{path}: the mask holds the value {value}, which defects_config.json does not list; get both again")
            region = mask == value
            regions.append(region)
            saturations.append(max(rule.pixels(int(region.sum())), 1.0))
    return Truth(None, tuple(regions), tuple(saturations)) if regions else Truth(np.zeros(size, dtype=bool))


def draw_polygon(polygon: Polygon, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W) of `size`: the pixels whose centre is inside by the even-odd rule, or on an upper or left side, so that polygons which
    touch share no pixel. What lies outside the picture is cut off."""
    height, width = size
    crossed = np.zeros((height, width + 1), dtype=bool)  # where a line of sight from the left comes over the outline
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], *polygon[:1]), strict=True):
        rows = np.arange(max(math.ceil(min(y0, y1) - 0.5), 0), min(math.ceil(max(y0, y1) - 0.5), height))
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            crossed[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(crossed, axis=1)[:, :width]


def pictures_in(folder: Path) -> list[Path]:
    """Pictures directly inside a folder, sorted by path as the few-shot protocol wants; hidden files are left out, a missing folder is
    empty."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_picture(path))


def is_picture(path: Path) -> bool:
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".") and path.is_file()


def subfolders(folder: Path) -> list[Path]:
    """Folders inside, sorted, hidden ones left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")) if folder.is_dir() else []


def category_folders(root: Path, marker: str) -> list[Path]:
    """Folders that hold `marker`: those inside `root`, or `root` itself."""
    if (root / marker).is_dir():
        return [root]
    return [folder for folder in subfolders(root) if (folder / marker).is_dir()]


def need_categories(found: list[Category], root: Path, expects: str) -> list[Category]:
    """The categories, or a DatasetError that says what was expected."""
    if not found:
        raise DatasetError(f"{root}: no category found; expected\n{expects}")
    return found


def with_mask(path: Path, defect: str, folder: Path, stems: Iterable[str]) -> Picture:
    """An anomalous picture with its mask, or with the place where it should be."""
    names = list(stems)
    mask = find_mask(folder, names)
    return Picture(path, defect, (mask,)) if mask else Picture(path, defect, expected_mask=folder / f"{names[0]}.png")
