"""Datasets by layout. A new one is a file with a `Layout` and its place in `LAYOUTS`; everything else reads that."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from vlad.errors import DatasetError
from vlad.evaluation.datasets.annotated import COCO, LABEL_STUDIO, YOLO
from vlad.evaluation.datasets.base import GOOD, Category, Counts, Layout, Picture, Polygon, Truth, category_folders, read_mask, read_truth
from vlad.evaluation.datasets.loco import LOCO
from vlad.evaluation.datasets.mvtec import BTAD, MPDD, MVTEC, MVTEC_3D, MVTEC_AD2
from vlad.evaluation.datasets.own import FOLDER, LIST
from vlad.evaluation.datasets.realiad import REAL_IAD
from vlad.evaluation.datasets.surfaces import DAGM, KSDD, KSDD2, MAGNETIC_TILE
from vlad.evaluation.datasets.synthetic import SYNTHETIC
from vlad.evaluation.datasets.visa import VISA
from vlad.pictures.folders import Folder, Roles, listed

__all__ = [
    "GOOD",
    "LAYOUTS",
    "Category",
    "Counts",
    "Dataset",
    "Folder",
    "Layout",
    "Picture",
    "Polygon",
    "Truth",
    "listed",
    "load_dataset",
    "read_mask",
    "read_truth",
]

# In the order in which a DATA_ROOT without --dataset is tried: what is told by a file of its own first, plain folders last.
LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        LIST, LABEL_STUDIO, COCO, YOLO, LOCO, MVTEC_3D, MVTEC_AD2, VISA, BTAD, MPDD, REAL_IAD, DAGM, KSDD, KSDD2, MAGNETIC_TILE, MVTEC,
        FOLDER, SYNTHETIC,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Dataset:
    """Categories that were read from `root` in one layout."""

    layout: Layout
    root: Path
    categories: tuple[Category, ...]

    def relative(self, path: Path) -> str:
        """A picture's name in results: its place below the root, the same on every machine."""
        base = self.root if self.root.is_dir() else self.root.parent
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()

    @property
    def is_published(self) -> bool:
        """Whether this is the dataset that its layout is named after, and not another that lies on disk in the same way: every category has
        a published name and the published numbers of test pictures. True where none are published."""
        counted = [
            (one.name, sum(not picture.is_anomalous for picture in one.test), sum(picture.is_anomalous for picture in one.test))
            for one in self.categories
        ]
        return self.layout.are_published(counted)

    @property
    def title(self) -> str:
        """What people call it: the published name, or the folder's."""
        return self.layout.title if self.is_published else f"{self.root.resolve().name} (laid out as {self.layout.title})"

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the names, labels and sizes in bytes of all pictures, the names of their masks and their polygons."""
        digest = hashlib.sha256()
        for category in self.categories:
            for picture in (*category.references, *category.test):
                size = picture.path.stat().st_size if picture.path.is_file() else -1
                masks = [self.relative(mask) for mask in picture.masks]
                shapes = f"|{picture.polygons}" if picture.polygons else ""  # nothing without, so that fingerprints of old runs hold
                shapes += f"|{picture.runs}" if picture.runs else ""
                line = f"{category.name}|{self.relative(picture.path)}|{picture.defect}|{size}|{masks}{shapes}\n"
                digest.update(line.encode("utf-8", "replace"))
        return digest.hexdigest()[:16]


def load_dataset(
    root: str | Path | None = None,
    name: str | None = None,
    *,
    categories: Sequence[str] | None = None,
    normal: Sequence[str] = (),
    anomalous: Sequence[str] = (),
    white_is_good: bool = False,
) -> Dataset:
    """Read the file lists of a dataset; no picture is opened but the masks of layouts that label by them.

    Args:
        root: folder (or list file); may be left out for a layout with a `default_root`.
        name: a layout of `LAYOUTS`; None finds out.
        categories: names of those wanted; None takes all.
        normal, anomalous: names of folders of such pictures, where they are not the usual ones.
        white_is_good: masks are white where nothing is wrong.

    Raises:
        DatasetError: no such folder, layout or category, or the tree is not what the layout expects.
    """
    if name is not None and name not in LAYOUTS:
        close = get_close_matches(name, LAYOUTS, n=1)
        raise DatasetError(f"unknown dataset {name!r}{f', did you mean {close[0]!r}?' if close else ''}; known are {', '.join(LAYOUTS)}")
    makes = LAYOUTS[name].default_root if name else None
    if root is None:
        if makes is None:
            alone = ", ".join(f"`--dataset {layout.name}`" for layout in LAYOUTS.values() if layout.default_root)
            raise DatasetError(f"expected the folder of the dataset{f' {name}' if name else ''}; only {alone} needs none")
        root = makes()
    root = Path(root)
    if not root.exists() and makes is None:
        raise DatasetError(f"{root}: there is no such file or folder; check the path")
    roles = Roles(tuple(normal), tuple(anomalous))
    layout = LAYOUTS[name] if name else _recognise(root, roles)
    if roles == Roles():
        found = layout.read(root)
    elif layout.read_named is None:
        named = " and ".join(other.name for other in LAYOUTS.values() if other.read_named)
        raise DatasetError(f"the folders of {layout.name} have names of their own; --normal and --anomalous are for {named}")
    else:
        found = layout.read_named(root, roles)
        _check_names(found, root, roles)
    if categories is not None:
        known = [category.name for category in found]
        if unknown := [wanted for wanted in categories if wanted not in known]:
            raise DatasetError(f"{root}: no category {unknown[0]!r}; there are {', '.join(known)}")
        found = [category for category in found if category.name in categories]
    if white_is_good:
        found = [replace(category, white_is_good=True) for category in found]
    return Dataset(layout, root, tuple(found))


def _check_names(found: Sequence[Category], root: Path, roles: Roles) -> None:
    """
    Raises:
        DatasetError: there is no folder of a name that was given.
    """
    there = {folder.path.name.casefold(): folder.path.name for category in found for folder in category.folders}
    for option, names in (("normal", roles.normal), ("anomalous", roles.anomalous)):
        for name in names:
            if name.casefold() not in there:
                raise DatasetError(f"{root}: --{option} {name}: there is no such folder; there are {', '.join(sorted(there.values()))}")


def _recognise(root: Path, roles: Roles) -> Layout:
    if roles != Roles():
        return MVTEC if category_folders(root, "test") else FOLDER
    for layout in LAYOUTS.values():
        if layout.recognises is not None and layout.recognises(root):
            return layout
    raise DatasetError(
        f"{root}: no known layout; name one with --dataset ({', '.join(LAYOUTS)}), or arrange your pictures as\n{FOLDER.expects}"
    )
