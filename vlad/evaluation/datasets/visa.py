"""VisA: the original layout with its split csv, and the one in MVTec AD's manner that others made of it."""

from __future__ import annotations

import csv
from pathlib import Path

from vlad.errors import DatasetError
from vlad.evaluation.datasets.base import Category, Counts, Layout, Picture, category_folders, need_categories
from vlad.evaluation.datasets.mvtec import read_mvtec_like
from vlad.pictures.folders import subfolders

_SPLIT = "split_csv/1cls.csv"
_COLUMNS = ("object", "split", "label", "image", "mask")
_TREE = f"""\
  {_SPLIT} with the columns {", ".join(_COLUMNS)}
  CATEGORY/Data/Images/Normal/*.JPG, CATEGORY/Data/Images/Anomaly/*.JPG
  CATEGORY/Data/Masks/Anomaly/*.png
or
  CATEGORY/train/good, CATEGORY/test/good, CATEGORY/test/bad, CATEGORY/ground_truth/bad"""


def _read(root: Path) -> list[Category]:
    if category_folders(root, "test"):
        return read_mvtec_like(root, _TREE)
    path = root / _SPLIT
    if not path.is_file():
        raise DatasetError(f"{path}: the split file is missing; it comes with the dataset. Expected\n{_TREE}")
    references: dict[str, list[Picture]] = {}
    test: dict[str, list[Picture]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if missing := [column for column in _COLUMNS if column not in (rows.fieldnames or ())]:
            raise DatasetError(f"{path}: expected the columns {', '.join(_COLUMNS)}, without {', '.join(missing)}; get the file again")
        for row in rows:
            if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly") or not row["image"]:
                raise DatasetError(
                    f"{path}, line {rows.line_num}: expected split train or test, label normal or anomaly, and an image, got {dict(row)}; "
                    "get the file again"
                )
            references.setdefault(row["object"], [])
            pictures = references if row["split"] == "train" else test
            pictures.setdefault(row["object"], []).append(_picture(root, row))
    found = [
        Category(name, name, _sorted(p for p in pictures if not p.is_anomalous), _sorted(test.get(name, [])))
        for name, pictures in sorted(references.items())
        if (root / name).is_dir()  # a part of the dataset may have been copied
    ]
    return need_categories(found, root, _TREE)


def _picture(root: Path, row: dict[str, str]) -> Picture:
    path = root / row["image"]
    if row["label"] == "normal":
        return Picture(path)
    mask = root / row["mask"] if row["mask"] else root / row["object"] / "Data" / "Masks" / "Anomaly" / f"{path.stem}.png"
    return Picture(path, "bad", (mask,)) if mask.is_file() else Picture(path, "bad", expected_mask=mask)


def _sorted(pictures: object) -> tuple[Picture, ...]:
    return tuple(sorted(pictures, key=lambda picture: picture.path))  # type: ignore[call-overload]


_COUNTS = {  # Zou et al., ECCV 2022, one-class split 1cls.csv
    "candle": Counts(900, 100, 100),
    "capsules": Counts(542, 60, 100),
    "cashew": Counts(450, 50, 100),
    "chewinggum": Counts(453, 50, 100),
    "fryum": Counts(450, 50, 100),
    "macaroni1": Counts(900, 100, 100),
    "macaroni2": Counts(900, 100, 100),
    "pcb1": Counts(904, 100, 100),
    "pcb2": Counts(901, 100, 100),
    "pcb3": Counts(905, 101, 100),
    "pcb4": Counts(904, 101, 100),
    "pipe_fryum": Counts(450, 50, 100),
}


def _recognises(root: Path) -> bool:
    original = (root / "split_csv").is_dir() or any((folder / "Data" / "Images").is_dir() for folder in subfolders(root))
    return original or any(folder.resolve().name in _COUNTS for folder in category_folders(root, "test"))


VISA = Layout(
    name="visa",
    title="VisA",
    url="https://github.com/amazon-science/spot-diff",
    licence="CC BY 4.0",
    expects=_TREE,
    read=_read,
    recognises=_recognises,
    counts=_COUNTS,
)
