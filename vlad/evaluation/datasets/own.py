"""Pictures of your own: a plain folder with `good` and anything else, or a list as CSV or JSONL."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from vlad.core.values import parse_json
from vlad.errors import DatasetError
from vlad.evaluation.datasets.base import GOOD, Category, Layout, Picture, find_mask, is_picture, need_categories, pictures_in, subfolders

_NORMAL = ("good", "normal", "ok")
_REFERENCES = ("references", "train")
_MASKS = ("masks", "ground_truth", "mask")
_FOLDER_TREE = """\
  [CATEGORY/]good/*.png                normal pictures
  [CATEGORY/]ANYTHING/*.png            anomalous ones; the folder's name is the defect
  [CATEGORY/]masks/ANYTHING/NAME.png   optional masks of the same name (also NAME_mask.png, also ground_truth/)
  [CATEGORY/]references/*.png          optional normal pictures to learn from; without it they are taken from good/"""


def _normal_folder(folder: Path) -> Path | None:
    return next((inside for inside in subfolders(folder) if inside.name.lower() in _NORMAL), None)


def _read_folder(root: Path) -> list[Category]:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected\n{_FOLDER_TREE}")
    folders = [root] if _normal_folder(root) else [folder for folder in subfolders(root) if _normal_folder(folder)]
    if not folders:
        raise DatasetError(
            f"{root}: no folder of normal pictures ({', '.join(_NORMAL)}) there, nor one level below; expected\n{_FOLDER_TREE}"
        )
    return [_folder_category(folder) for folder in folders]


def _folder_category(folder: Path) -> Category:
    normal = _normal_folder(folder)
    good = [Picture(path) for path in _below(normal)] if normal else []
    bad: list[Picture] = []
    references: list[Picture] = []
    for inside in subfolders(folder):
        if inside.name in _REFERENCES:
            references = [Picture(path) for path in _below(_normal_folder(inside) or inside)]
        elif inside != normal and inside.name not in _MASKS:
            bad += [_masked(path, inside, folder) for path in _below(inside)]
    name = folder.resolve().name
    test = tuple(sorted([*good, *bad], key=lambda picture: picture.path))
    return Category(name, name, tuple(references or good), test, shared=not references)


def _below(folder: Path) -> list[Path]:
    """Pictures directly inside, or if there are none those below."""
    return pictures_in(folder) or sorted(path for path in folder.rglob("*") if is_picture(path))


def _masked(path: Path, defect: Path, folder: Path) -> Picture:
    """A missing mask is a fault only where the other pictures of the defect have one."""
    for masks in _MASKS:
        for place in (folder / masks / defect.name, folder / masks):
            if mask := find_mask(place, (f"{path.stem}_mask", path.stem)):
                return Picture(path, defect.name, (mask,))
        if pictures_in(folder / masks / defect.name):
            return Picture(path, defect.name, expected_mask=folder / masks / defect.name / f"{path.stem}.png")
    return Picture(path, defect.name)


FOLDER = Layout(
    name="folder",
    title="A folder of your own",
    url="",
    licence="yours",
    expects=_FOLDER_TREE,
    read=_read_folder,
    recognises=lambda root: bool(_normal_folder(root) or any(_normal_folder(folder) for folder in subfolders(root))),
    split_note="without a folder `references` they are taken from good/, and those used are not tested",
)

_LIST_COLUMNS = ("image_path", "defect", "mask_path", "split", "category", "class_name")
_LIST_TREE = f"""\
  a CSV file with a header, or a JSONL file with one object a line, with
  image_path   relative to the file's folder; the only one that must be there besides defect
  defect       good, or any other word (also: label, 0 or 1)
  mask_path, split (test, or train for references), category, class_name: optional
  (known: {", ".join(_LIST_COLUMNS)})"""


def _read_list(root: Path) -> list[Category]:
    if not root.is_file():
        raise DatasetError(f"{root}: no such file; expected\n{_LIST_TREE}")
    references: dict[str, list[Picture]] = {}
    test: dict[str, list[Picture]] = {}
    nouns: dict[str, str] = {}
    for line, row in _rows(root):
        name = str(row.get("category") or root.stem)
        nouns.setdefault(name, str(row.get("class_name") or name))
        picture, split = _list_picture(row, root, line), str(row.get("split") or "test")
        if split not in ("train", "test"):
            raise DatasetError(f"{root}, line {line}: expected split train or test, got {split!r}; correct it")
        if split == "test" or not picture.is_anomalous:
            (references if split == "train" else test).setdefault(name, []).append(picture)
    found = []
    for name, pictures in sorted(test.items()):
        pictures.sort(key=lambda picture: picture.path)
        own = sorted(references.get(name, []), key=lambda picture: picture.path)
        normal = [picture for picture in pictures if not picture.is_anomalous]
        found.append(Category(name, nouns[name], tuple(own or normal), tuple(pictures), shared=not own))
    return need_categories(found, root, _LIST_TREE)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        if path.suffix.lower() != ".csv":
            for line, text in enumerate(file, start=1):
                if text.strip():
                    try:
                        row = parse_json(text)
                    except ValueError as error:
                        raise DatasetError(f"{path}, line {line}: expected a JSON object, got {error}; correct it") from error
                    if not isinstance(row, dict):
                        raise DatasetError(f"{path}, line {line}: expected a JSON object, got {text.strip()[:80]}; correct it")
                    yield line, row
            return
        rows = csv.DictReader(file)
        if "image_path" not in (rows.fieldnames or ()):
            raise DatasetError(f"{path}: expected a header with image_path, got {rows.fieldnames}; expected\n{_LIST_TREE}")
        for row in rows:
            yield rows.line_num, dict(row)


def _list_picture(row: dict[str, object], root: Path, line: int) -> Picture:
    label = row.get("defect")
    if label in (None, ""):
        label = {"0": GOOD, "1": "anomalous", "false": GOOD, "true": "anomalous"}.get(str(row.get("label", "")).lower(), row.get("label"))
    if label in (None, "") or not row.get("image_path"):
        raise DatasetError(f"{root}, line {line}: expected image_path and defect (or label), got {row}; correct it")
    path = root.parent / str(row["image_path"])
    defect = GOOD if str(label).lower() in _NORMAL else str(label)
    if defect == GOOD or not row.get("mask_path"):
        return Picture(path, defect)
    mask = root.parent / str(row["mask_path"])
    return Picture(path, defect, (mask,)) if mask.is_file() else Picture(path, defect, expected_mask=mask)


LIST = Layout(
    name="list",
    title="A list of your own",
    url="",
    licence="yours",
    expects=_LIST_TREE,
    read=_read_list,
    recognises=lambda root: root.is_file() and root.suffix.lower() in (".csv", ".jsonl", ".ndjson"),
    split_note="without rows of split train, references are taken from the normal test pictures, and those used are not tested",
)
