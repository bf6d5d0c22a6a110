"""What every dataset becomes: categories with normal references and labelled test pictures; and masks, read as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vlad.errors import DatasetError, warn
from vlad.pictures.folders import Folder, subfolders
from vlad.pictures.masks import read_mask
from vlad.pictures.polygons import Polygon, draw_polygon
from vlad.pictures.rle import Rle

GOOD = "good"
_SAME_SHAPE = 0.01  # relative difference of two ratios of height to width that rounding explains


@dataclass(frozen=True)
class Picture:
    """One picture with its truth.

    Attributes:
        path: the file.
        defect: defect type, `good` is normal.
        masks: files of its mask: one as a rule, several where each region has its own, none for a normal picture and where there is none.
        expected_mask: where a missing mask should be, None if none is missing.
        polygons: outlines of its defects, for layouts that list them instead of masks, or beside them; saturations know none.
        runs: masks of its defects as COCO writes them, likewise.
    """

    path: Path
    defect: str = GOOD
    masks: tuple[Path, ...] = ()
    expected_mask: Path | None = None
    polygons: tuple[Polygon, ...] = ()
    runs: tuple[Rle, ...] = ()

    @property
    def is_anomalous(self) -> bool:
        return self.defect != GOOD

    @property
    def is_marked(self) -> bool:
        """Whether it is said where its defects are."""
        return bool(self.masks or self.polygons or self.runs)


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
        folders: what each folder was taken for, where that was found out from its name.
        white_is_good: masks are white where nothing is wrong.
    """

    name: str
    class_name: str
    references: tuple[Picture, ...]
    test: tuple[Picture, ...]
    saturations: Mapping[int, Saturation] | None = None
    shared: bool = False
    folders: tuple[Folder, ...] = ()
    white_is_good: bool = False


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
        read_named: the same for a layout whose folders may have any name: of DATA_ROOT and what is known of the names.
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
    read_named: Callable[[Path, Any], list[Category]] | None = None

    def are_published(self, counted: Iterable[tuple[str, int, int]]) -> bool:
        """Whether categories, each with its numbers of good and anomalous test pictures, are those of the published dataset."""
        if not self.counts:
            return True
        return all(
            name in self.counts and self.counts[name].good in (None, good) and self.counts[name].anomalous in (None, anomalous)
            for name, good, anomalous in counted
        )


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
        DatasetError: a mask is missing that should be there, cannot be read, or has another shape. One of the same shape and another size
            is brought to the picture's, with a warning.
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
            mask = _resized(mask, size, path, picture, category)
        values.append(mask == 0 if category.white_is_good else mask)
    if category.saturations is None:
        drawn = [draw_polygon(polygon, size) for polygon in picture.polygons]
        for run in picture.runs:
            if run.size != size:
                made, shown = (f"{one[1]} x {one[0]}" for one in (run.size, size))
                raise DatasetError(f"{picture.path}: is {shown}, and its mask {made}; correct either")
            drawn.append(run.draw())
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


def _resized(mask: np.ndarray, size: tuple[int, int], path: Path, picture: Picture, category: Category) -> np.ndarray:
    """The mask in the picture's size, each pixel from the nearest."""
    import cv2

    height, width = mask.shape
    if category.saturations is not None or abs(height * size[1] - width * size[0]) > _SAME_SHAPE * height * size[1]:
        raise DatasetError(
            f"{path}: the mask is {width} x {height}, its picture {picture.path} is {size[1]} x {size[0]}; both must have one size"
            f"{'' if category.saturations is not None else ', or one shape'}"
        )
    both = f"masks of {width} x {height} are brought to the {size[1]} x {size[0]} of their pictures"
    warn(f"{category.name}: {both}, each pixel from the nearest")
    resized: np.ndarray = cv2.resize(mask.astype(np.int32), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return resized


def category_folders(root: Path, marker: str) -> list[Path]:
    """Folders that hold a folder `marker`, in large or small letters: those inside `root`, or `root` itself."""
    if called(root, marker):
        return [root]
    return [folder for folder in subfolders(root) if called(folder, marker)]


def called(folder: Path, name: str) -> Path | None:
    """The subfolder of that name; if there is none, the one whose name differs in large and small letters alone."""
    if (folder / name).is_dir():
        return folder / name
    return next((inside for inside in subfolders(folder) if inside.name.casefold() == name.casefold()), None)


def need_categories(found: list[Category], root: Path, expects: str) -> list[Category]:
    """The categories, or a DatasetError that says what was expected."""
    if not found:
        raise DatasetError(f"{root}: no category found; expected\n{expects}")
    return found
