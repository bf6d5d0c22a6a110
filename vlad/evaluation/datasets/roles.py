"""What a folder is for, by its name as people give it, and the pictures of one product that follow from that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlad.evaluation.datasets.base import GOOD, Folder, Picture, is_picture, pictures_in, subfolders
from vlad.pictures.masks import MARKERS, find_masks, is_annotation, partner_of

_NORMAL = frozenset(
    [
        "good",
        "ok",
        "okay",
        "normal",
        "negative",
        "neg",
        "pass",
        "passed",
        "intact",
        "clean",
        "healthy",
        "fine",
        "accepted",
        "accept",
        "conforming",
        "faultless",
        "nondefective",
        "defectfree",
        "nodefect",
        "nodefects",
        "nondefect",
        "withoutdefect",
        "goodparts",
        "okparts",
    ]
)
_MASKS = frozenset(
    (*MARKERS, *(f"{marker}s" for marker in MARKERS), "segmentation", "segmentations", "groundtruths", "masked", "anno", "annos")
)
_REFERENCES = frozenset(["references", "reference", "train", "training"])
_TEST = frozenset(["test", "testing"])
_PICTURES = frozenset(["images", "image", "imgs", "img", "pictures", "rgb", "data"])


@dataclass(frozen=True)
class Roles:
    """Names of folders that somebody has said something about; what they leave open, the usual names decide.

    Attributes:
        normal: of normal pictures. Where it is given, no other folder is.
        anomalous: of anomalous pictures. Where it is given, folders that are neither are left out.
    """

    normal: tuple[str, ...] = ()
    anomalous: tuple[str, ...] = ()

    def of(self, name: str) -> str:
        """ "normal", "anomalous", "masks", "references", "test" or "left out"."""
        said, usual = name.casefold(), _plain(name)
        if said in map(str.casefold, self.normal):
            return "normal"
        if said in map(str.casefold, self.anomalous):
            return "anomalous"
        for role, names in (("masks", _MASKS), ("references", _REFERENCES), ("test", _TEST)):
            if usual in names:
                return role
        if usual in _NORMAL and not self.normal:
            return "normal"
        return "left out" if self.anomalous else "anomalous"


def _plain(name: str) -> str:
    """Small letters alone: Ground-Truth, ground_truth and GroundTruth are one name."""
    return re.sub(r"[\s._-]+", "", name).casefold()


def child(folder: Path, role: str, roles: Roles) -> Path | None:
    """The first subfolder with a role."""
    return next((inside for inside in subfolders(folder) if roles.of(inside.name) == role), None)


@dataclass(frozen=True)
class Found:
    """What lies in the folders of one product, or of its test set.

    Attributes:
        good, bad: the pictures; of the bad ones with their masks.
        folders: what each folder was taken for.
    """

    good: tuple[Picture, ...]
    bad: tuple[Picture, ...]
    folders: tuple[Folder, ...]


def read_folders(root: Path, roles: Roles, *, inside: str = "", masks: Sequence[Path] = (), strict: bool = False) -> Found:
    """The pictures of the folders in `root`, by what the folders' names say; references are for others to look after.

    Args:
        root: holds folders of normal pictures, one for each kind of defect, and perhaps masks.
        roles: see `Roles`.
        inside: pictures lie in this subfolder of each, as in MVTec 3D-AD.
        masks: further folders of masks, beside those in `root`.
        strict: every anomalous picture must have a mask where there are folders of masks, not only where others of its kind have one.
    """
    places = [*masks]
    good: list[Picture] = []
    kinds: list[tuple[Path, list[Path]]] = []
    folders: list[Folder] = []
    for folder in subfolders(root):
        role = roles.of(folder.name)
        if role in ("normal", "anomalous"):
            files, nested = pictures_of(folder, roles, inside)
            folders += [Folder(folder, role, len(files)), *(Folder(place, "masks") for place in nested if role == "anomalous")]
            if role == "normal":
                good += map(Picture, files)
            else:
                kinds.append((folder, files))
                places += nested
        elif role == "masks":
            places.append(folder)
            folders.append(Folder(folder, "masks"))
        elif role == "left out":
            folders.append(Folder(folder, role))
    bad = [picture for folder, files in kinds for picture in _marked(folder, files, places, strict)]
    return Found(tuple(good), tuple(bad), tuple(folders))


def pictures_of(folder: Path, roles: Roles, inside: str = "") -> tuple[list[Path], list[Path]]:
    """The pictures of a folder and the folders of masks in it: pictures directly inside, or if there are none those below; none that has
    the name of a mask and lies beside the picture that it belongs to."""
    masks = [path for path in subfolders(folder) if roles.of(path.name) == "masks"]
    files = _without_masks(pictures_in(folder / inside))
    if not files and not inside:
        below = [path for path in sorted(folder.rglob("*")) if is_picture(path) and not _is_hidden(path, folder)]
        parents = {parent for path in below for parent in path.parents if folder in parent.parents}
        masks = sorted(parent for parent in parents if roles.of(parent.name) == "masks")
        files = _without_masks([path for path in below if not any(place in path.parents for place in masks)])
    return files, masks


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _without_masks(files: list[Path]) -> list[Path]:
    there = {(path.parent, path.stem) for path in files}
    return [path for path in files if (path.parent, partner_of(path)) not in there]


def _marked(folder: Path, files: Sequence[Path], places: Sequence[Path], strict: bool) -> list[Picture]:
    """The pictures of a kind of defect with their masks."""
    stems = {path.stem for path in files}
    found = [(path, _masks_of(path, folder, places, stems - {path.stem})) for path in files]
    home = next((masks[0].parent for _, masks in found if masks), None)
    if home is None and strict and places:
        home = places[0] / folder.name
    defect = "anomalous" if folder.name == GOOD else folder.name  # somebody said so
    return [
        Picture(path, defect, masks, expected_mask=None if masks or home is None else home / f"{path.stem}_mask.png")
        for path, masks in found
    ]


def _masks_of(path: Path, folder: Path, places: Sequence[Path], others: set[str]) -> tuple[Path, ...]:
    """The masks of a picture below the folder of its kind: in the same place among the masks, or beside it."""
    below = Path(*(part for part in path.parent.relative_to(folder).parts if _plain(part) not in _PICTURES))
    for place in places:
        if folder in place.parents:  # it serves the pictures that lie where it lies
            if place.parent not in path.parents:
                continue
            inner = [path.parent.relative_to(place.parent), Path()]
        else:
            kind = Path(folder.name)
            inner = [kind / below, kind, Path(folder.parent.name) / kind, below, Path()]
        for one in dict.fromkeys(inner):
            if masks := find_masks(place / one, path.stem, others):
                return masks
    beside = tuple(one for one in find_masks(path.parent, path.stem, others) if partner_of(one) == path.stem)
    annotation = path.with_suffix(".json")
    return beside or ((annotation,) if is_annotation(annotation) else ())


def sorted_folder(root: Path, roles: Roles) -> tuple[Folder, ...]:
    """What the folders in `root` are for somebody who looks for references: those of normal pictures, in `train` if there is one, are
    "references". Empty if `root` holds pictures itself, or no folder has the name of normal ones."""
    if pictures_in(root):
        return ()
    places = [inside for inside in subfolders(root) if roles.of(inside.name) == "references"]
    places = [inside for inside in places if child(inside, "normal", roles)] or [root]
    found = []
    for place in places:
        for folder in subfolders(place):
            is_normal = roles.of(folder.name) == "normal"
            found.append(Folder(folder, "references" if is_normal else "left out", len(pictures_of(folder, roles)[0])))
    found += [Folder(folder, "left out") for folder in subfolders(root) if places != [root] and folder not in places]
    return tuple(found) if any(folder.role == "references" for folder in found) else ()


def listed(folders: Iterable[Folder], root: Path) -> list[str]:
    """A line for each folder that says what it was taken for."""
    lines = []
    for folder in folders:
        place = folder.path.relative_to(root).as_posix() if folder.path.is_relative_to(root) else str(folder.path)
        count = "" if folder.count is None else f", {folder.count} picture{'' if folder.count == 1 else 's'}"
        lines.append(f"{place}: {folder.role}{count}")
    return lines
