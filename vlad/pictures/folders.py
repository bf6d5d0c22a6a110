"""What a folder is for, by its name as people give it: which of the folders in it hold normal pictures, which hold masks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vlad.errors import ImageReadError
from vlad.pictures.masks import MARKERS, partner_of
from vlad.pictures.reading import IMAGE_SUFFIXES, RAW_SUFFIXES, find_images

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
PICTURES = frozenset(["images", "image", "imgs", "img", "pictures", "rgb", "data"])


@dataclass(frozen=True)
class Folder:
    """What a folder was taken for: "normal", "anomalous", "masks", "references" or "left out", and the number of pictures in it."""

    path: Path
    role: str
    count: int | None = None


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
        said, usual = name.casefold(), plain(name)
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


def plain(name: str) -> str:
    """Small letters alone: Ground-Truth, ground_truth and GroundTruth are one name."""
    return re.sub(r"[\s._-]+", "", name).casefold()


def is_picture(path: Path) -> bool:
    """Whether it is the file of a picture, by its name, and not hidden."""
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".") and path.is_file()


def pictures_in(folder: Path) -> list[Path]:
    """Pictures directly inside a folder, sorted by path as the few-shot protocol wants; hidden files are left out, a missing folder is
    empty."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_picture(path))


def subfolders(folder: Path) -> list[Path]:
    """Folders inside, sorted, hidden ones left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")) if folder.is_dir() else []


def child(folder: Path, role: str, roles: Roles) -> Path | None:
    """The first subfolder with a role."""
    return next((inside for inside in subfolders(folder) if roles.of(inside.name) == role), None)


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


def normal_pictures(root: Path, roles: Roles) -> tuple[list[Path], tuple[Folder, ...]]:
    """The pictures of `root` to learn from, and what its folders were taken for, if it is sorted; else none and ().

    Those for training go before others, and in them, or without them in `root`, the folders of normal ones; a test set is asked last. What
    lies in a folder for training that holds no folder of normal ones is normal as a whole. `root` is not sorted if it holds pictures
    itself, beside which others below are never taken, or if no folder in it has a name that tells something.
    """
    if _holds_pictures(root):
        return [], ()
    by_role: dict[str, list[Path]] = {}
    for folder in subfolders(root):
        by_role.setdefault(roles.of(folder.name), []).append(folder)
    for places, whole in ((by_role.get("references", []), True), ([root], False), (by_role.get("test", []), False)):
        files, found = _normal_in(places, roles, whole=whole)
        if files:
            break
    known = {folder.path for folder in found}
    found += [Folder(folder, "left out") for folder in subfolders(root) if not any(folder in (one, *one.parents) for one in known)]
    return (files, tuple(found)) if files else ([], ())


def _holds_pictures(folder: Path) -> bool:
    return any(
        path.name.lower().endswith((*IMAGE_SUFFIXES, *RAW_SUFFIXES)) and not path.name.startswith(".") and path.is_file()
        for path in folder.iterdir()
    )


def _normal_in(places: Iterable[Path], roles: Roles, *, whole: bool) -> tuple[list[Path], list[Folder]]:
    """The normal pictures of `places` and what the folders in them were taken for; one without a folder of such counts if `whole`."""
    files: list[Path] = []
    found: list[Folder] = []
    for place in places:
        inside = subfolders(place)
        normal = [folder for folder in inside if roles.of(folder.name) == "normal"]
        if not normal and whole:
            taken = _pictures(place, roles)
            files += taken
            found += [Folder(place, "references", len(taken))]
        for folder in inside if normal else ():
            taken = _pictures(folder, roles)
            found.append(Folder(folder, "references" if folder in normal else "left out", len(taken)))
            files += taken if folder in normal else []
    return files, found


def _pictures(folder: Path, roles: Roles) -> list[Path]:
    """As `pictures_of`; raw files of a camera where there is nothing else."""
    if files := pictures_of(folder, roles)[0]:
        return files
    try:
        return find_images([folder])
    except ImageReadError:
        return []


def listed(folders: Iterable[Folder], root: Path) -> list[str]:
    """A line for each folder that says what it was taken for."""
    lines = []
    for folder in folders:
        place = folder.path.relative_to(root).as_posix() if folder.path.is_relative_to(root) else str(folder.path)
        count = "" if folder.count is None else f", {folder.count} picture{'' if folder.count == 1 else 's'}"
        lines.append(f"{place}: {folder.role}{count}")
    return lines
