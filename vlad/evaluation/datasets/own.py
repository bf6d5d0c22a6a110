"""Pictures of your own: a plain folder with `good` and anything else, or a list as CSV or JSONL."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from vlad.errors import DatasetError
from vlad.evaluation.datasets.base import GOOD, Category, Layout, Picture, need_categories
from vlad.evaluation.datasets.roles import read_folders
from vlad.pictures.folders import Folder, Roles, child, pictures_of, subfolders
from vlad.untrusted.values import parse_json

_FOLDER_TREE = """\
  [CATEGORY/]good/*.png                normal pictures (also ok, normal, negative, pass, ...; --normal NAME for any other)
  [CATEGORY/]ANYTHING/*.png            anomalous ones; the folder's name is the defect
  [CATEGORY/]masks/ANYTHING/NAME.png   optional masks of the same name (also NAME_mask.png, .npy, labelme's .json; ground_truth/, gt/, ...)
  [CATEGORY/]references/*.png          optional normal pictures to learn from; without it they are taken from good/"""


def _normal_folder(folder: Path, roles: Roles) -> Path | None:
    return child(folder, "normal", roles)


def _read_folder(root: Path, roles: Roles = Roles()) -> list[Category]:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected\n{_FOLDER_TREE}")
    folders = [root] if _normal_folder(root, roles) else [folder for folder in subfolders(root) if _normal_folder(folder, roles)]
    if not folders:
        names = ", ".join(folder.name for folder in subfolders(root)) or "no folder"
        raise DatasetError(
            f"{root}: no folder of normal pictures, of those called good, normal, ok, negative, pass and the like, there, nor one level "
            f"below; there is {names}; say which it is with --normal NAME, or arrange them as\n{_FOLDER_TREE}"
        )
    return [_folder_category(folder, roles) for folder in folders]


def _folder_category(folder: Path, roles: Roles) -> Category:
    there = read_folders(folder, roles)
    references: list[Picture] = []
    folders = list(there.folders)
    for inside in subfolders(folder):
        if roles.of(inside.name) == "references":
            files, _ = pictures_of(_normal_folder(inside, roles) or inside, roles)
            references += map(Picture, files)
            folders.append(Folder(inside, "references", len(files)))
    name = folder.resolve().name
    test = tuple(sorted([*there.good, *there.bad], key=lambda picture: picture.path))
    return Category(name, name, tuple(references or there.good), test, shared=not references, folders=tuple(folders))


FOLDER = Layout(
    name="folder",
    title="A folder of your own",
    url="",
    licence="yours",
    expects=_FOLDER_TREE,
    read=_read_folder,
    read_named=_read_folder,
    recognises=lambda root: any(_normal_folder(folder, Roles()) for folder in (root, *subfolders(root))),
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
    try:
        yield from _plain_rows(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: expected a table in UTF-8, got {error}; save it as UTF-8 again") from error


def _plain_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
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
    defect = GOOD if Roles().of(str(label)) == "normal" else str(label)
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
