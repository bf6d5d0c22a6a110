"""MVTec LOCO AD: logical and structural anomalies, one mask file per defect, saturations in defects_config.json."""

from __future__ import annotations

from pathlib import Path

from vlad.errors import DatasetError
from vlad.evaluation.datasets.base import GOOD, Category, Counts, Layout, Picture, Saturation, category_folders, need_categories
from vlad.pictures.folders import pictures_in, subfolders
from vlad.untrusted.values import parse_json

_CONFIG = "defects_config.json"
_TREE = f"""\
  CATEGORY/train/good/*.png
  CATEGORY/test/good/*.png
  CATEGORY/test/logical_anomalies/000.png          (and structural_anomalies)
  CATEGORY/ground_truth/logical_anomalies/000/000.png, 001.png, ...
  CATEGORY/{_CONFIG}"""


def _read(root: Path) -> list[Category]:
    found = []
    for folder in category_folders(root, "test"):
        pictures = []
        for defect in subfolders(folder / "test"):
            for path in pictures_in(defect):
                masks = tuple(pictures_in(folder / "ground_truth" / defect.name / path.stem))
                if defect.name == GOOD:
                    pictures.append(Picture(path))
                else:
                    missing = None if masks else folder / "ground_truth" / defect.name / path.stem / "000.png"
                    pictures.append(Picture(path, defect.name, masks, missing))
        references = tuple(Picture(path) for path in pictures_in(folder / "train" / GOOD))
        name = folder.resolve().name
        found.append(Category(name, name, references, tuple(pictures), _saturations(folder / _CONFIG)))
    return need_categories(found, root, _TREE)


def _saturations(path: Path) -> dict[int, Saturation]:
    try:
        entries = parse_json(path.read_text(encoding="utf-8"))
        return {
            int(entry["pixel_value"]): Saturation(float(entry["saturation_threshold"]), bool(entry["relative_saturation"]))
            for entry in entries
        }
    except FileNotFoundError:
        raise DatasetError(f"{path}: missing, and without it no sPRO; it comes with the dataset, get it again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: expected a list of {{pixel_value, saturation_threshold, relative_saturation}}, got {error}; get it again"
        ) from error


LOCO = Layout(
    name="loco",
    title="MVTec LOCO AD",
    url="https://www.mvtec.com/company/research/datasets/mvtec-loco",
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    expects=_TREE,
    read=_read,
    recognises=lambda root: any(
        (folder / _CONFIG).is_file() or (folder / "test" / "logical_anomalies").is_dir() for folder in category_folders(root, "test")
    ),
    fpr_limit=0.05,
    counts={  # as in the archive; Bergmann et al., IJCV 2022, table 1 has six training pictures fewer of splicing_connectors
        "breakfast_box": Counts(351, 102, 173),
        "juice_bottle": Counts(335, 94, 236),
        "pushpins": Counts(372, 138, 172),
        "screw_bag": Counts(360, 122, 219),
        "splicing_connectors": Counts(360, 119, 193),
    },
)
