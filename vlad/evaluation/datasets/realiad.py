"""Real-IAD: 30 categories from five views, splits and masks listed in one JSON file per category."""

from __future__ import annotations

from pathlib import Path

from vlad.errors import DatasetError
from vlad.evaluation.datasets.base import Category, Layout, Picture, need_categories
from vlad.untrusted.values import parse_json

_SIZES = ("realiad_1024", "realiad_512", "realiad_256")
_TREE = """\
  realiad_jsons/realiad_jsons/CATEGORY.json
  realiad_1024/CATEGORY/OK/S0001/*.jpg               (or realiad_512, realiad_256)
  realiad_1024/CATEGORY/NG/DEFECT/S0001/*.jpg, *.png"""


def _read(root: Path) -> list[Category]:
    pictures = next((root / size for size in _SIZES if (root / size).is_dir()), None)
    if pictures is None:
        raise DatasetError(f"{root}: no folder {' or '.join(_SIZES)}; expected\n{_TREE}")
    return need_categories([_category(path, pictures) for path in _split_files(root)], root, _TREE)


def _split_files(root: Path) -> list[Path]:
    for folder in ("realiad_jsons/realiad_jsons", "realiad_jsons"):
        if files := sorted((root / folder).glob("*.json")):
            return files
    return []


def _category(path: Path, pictures: Path) -> Category:
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
        meta = data["meta"]
        folder, normal = pictures / meta["prefix"], meta["normal_class"]
        train, test = ([_picture(entry, folder, normal) for entry in data[split]] for split in ("train", "test"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: expected meta, train and test as in Real-IAD's split files, got {error!r}; get it again") from error
    references = sorted((picture for picture in train if not picture.is_anomalous), key=lambda picture: picture.path)
    return Category(path.stem, path.stem, tuple(references), tuple(sorted(test, key=lambda picture: picture.path)))


def _picture(entry: dict[str, str | None], folder: Path, normal: str) -> Picture:
    path, defect, mask = folder / str(entry["image_path"]), str(entry["anomaly_class"]), entry.get("mask_path")
    if defect == normal:
        return Picture(path)
    place = folder / mask if mask else path.with_suffix(".png")
    return Picture(path, defect, (place,)) if place.is_file() else Picture(path, defect, expected_mask=place)


REAL_IAD = Layout(
    name="realiad",
    title="Real-IAD",
    url="https://realiad4ad.github.io/Real-IAD/",
    licence="CC BY-NC-SA 4.0 (no commercial use), on request from the authors",
    expects=_TREE,
    read=_read,
    recognises=lambda root: (root / "realiad_jsons").is_dir(),
)
