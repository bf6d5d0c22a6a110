"""The pictures of one product and their masks, by the names of the folders that they lie in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlad.evaluation.datasets.base import GOOD, Picture
from vlad.pictures.folders import PICTURES, Folder, Roles, pictures_of, plain, subfolders
from vlad.pictures.masks import find_masks, is_annotation, partner_of


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
    stems = {path.stem for _, files in kinds for path in files}
    bad = [picture for folder, files in kinds for picture in _marked(folder, files, places, strict, stems)]
    return Found(tuple(good), tuple(_each_its_own(bad)), tuple(folders))


def _each_its_own(pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures; where one mask would be that of several, it is nobody's, and is expected where it would be told whose it is."""
    uses = Counter(mask for picture in pictures for mask in picture.masks)
    shared = {mask for mask, count in uses.items() if count > 1}
    return [
        replace(one, masks=(), expected_mask=one.masks[0].parent / one.path.parent.name / f"{one.path.stem}_mask.png")
        if shared.intersection(one.masks)
        else one
        for one in pictures
    ]


def _marked(folder: Path, files: Sequence[Path], places: Sequence[Path], strict: bool, every: set[str]) -> list[Picture]:
    """The pictures of a kind of defect with their masks; `every` are the names of the anomalous pictures of all kinds."""
    stems = {path.stem for path in files}
    found = [(path, _masks_of(path, folder, places, stems - {path.stem}, every - {path.stem})) for path in files]
    home = next((masks[0].parent for _, masks in found if masks), None)
    if home is None and strict and places:
        home = places[0] / folder.name
    defect = "anomalous" if folder.name == GOOD else folder.name  # somebody said so
    return [
        Picture(path, defect, masks, expected_mask=None if masks or home is None else home / f"{path.stem}_mask.png")
        for path, masks in found
    ]


def _masks_of(path: Path, folder: Path, places: Sequence[Path], others: set[str], every: set[str]) -> tuple[Path, ...]:
    """The masks of a picture below the folder of its kind: in the same place among the masks, or beside it."""
    below = Path(*(part for part in path.parent.relative_to(folder).parts if plain(part) not in PICTURES))
    for place in places:
        if folder in place.parents:  # it serves the pictures that lie where it lies
            if place.parent not in path.parents:
                continue
            inner = [path.parent.relative_to(place.parent), Path()]
        else:
            kind = Path(folder.name)
            inner = [kind / below, kind, Path(folder.parent.name) / kind, below, Path()]
        for one in dict.fromkeys(inner):
            if masks := find_masks(place / one, path.stem, every if one in (below, Path()) else others):
                return masks
    beside = tuple(one for one in find_masks(path.parent, path.stem, others) if partner_of(one) == path.stem)
    annotation = path.with_suffix(".json")
    return beside or ((annotation,) if is_annotation(annotation) else ())
