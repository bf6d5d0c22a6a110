"""Pictures that were annotated in another tool: COCO, Label Studio, YOLO."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from vlad.errors import DatasetError
from vlad.evaluation.datasets.base import Category, Layout, Picture, need_categories
from vlad.pictures.folders import Roles
from vlad.pictures.polygons import Polygon
from vlad.pictures.reading import IMAGE_SUFFIXES
from vlad.pictures.rle import Rle
from vlad.untrusted.values import parse_json

_TRAIN = re.compile(r"train", re.IGNORECASE)
_SPLITS = re.compile(r"(?:^|[_.\-])(train|val|valid|validation|test)(?:[0-9]*)(?:$|[_.\-])", re.IGNORECASE)


@dataclass
class _Marked:
    """A picture while its annotations are gathered."""

    path: Path
    defects: list[str]
    polygons: list[Polygon]
    runs: list[Rle]
    is_good: bool = False  # said to be, and not only left without a mark

    def picture(self) -> Picture:
        if not self.defects:
            return Picture(self.path)
        most = max(dict.fromkeys(self.defects), key=self.defects.count)
        return Picture(self.path, most, polygons=tuple(self.polygons), runs=tuple(self.runs))


def _json(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({error}); write it again") from error


def _category(name: str, train: list[_Marked], test: list[_Marked]) -> Category:
    """Normal pictures of the training part are references; without one they are taken from the normal test pictures."""
    shown = sorted((one.picture() for one in test), key=lambda picture: picture.path)
    references = sorted((one.picture() for one in train if not one.defects), key=lambda picture: picture.path)
    normal = [picture for picture in shown if not picture.is_anomalous]
    return Category(name, name, tuple(references or normal), tuple(shown), shared=not references)


def _found(name: str, folders: list[Path]) -> Path:
    """A picture by the name that a file gives it: below one of the folders, or with the last parts of its path."""
    parts = [part for part in Path(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    for start in range(len(parts)):
        for folder in folders:
            path = folder.joinpath(*parts[start:])
            if _is_there(path):
                return path
    if Path(name).is_absolute() and _is_there(Path(name)):
        return Path(name)
    return folders[0].joinpath(*parts[-1:])


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds what no name may
        return False


def _corners(values: list[Any], width: float = 1, height: float = 1) -> Polygon:
    """x, y, x, y, ... times the size.

    Raises:
        ValueError: an odd number of them, fewer than three corners, or no finite numbers.
    """
    numbers = [float(value) for value in values]
    if len(numbers) < 6 or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected three or more corners, got {len(numbers)} numbers")
    return tuple((x * width, y * height) for x, y in zip(numbers[::2], numbers[1::2], strict=True))


def _shown_size(path: Path) -> tuple[int, int] | None:
    """(H, W) of a picture as displayed, from its header; None where that cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = picture.size[::-1] if turned else picture.size
    except Exception:  # a damaged header makes the decoder throw exceptions of any type
        return None
    return height, width


def _box(left: float, top: float, width: float, height: float) -> Polygon:
    left, top, width, height = (float(value) for value in (left, top, width, height))
    if not all(map(math.isfinite, (left, top, width, height))) or width < 0 or height < 0:
        raise ValueError("is a box of negative size, or of what is no number")
    return ((left, top), (left + width, top), (left + width, top + height), (left, top + height))


# COCO

_COCO_TREE = """\
  NAME.json                            images, annotations (polygons, run lengths or boxes) and categories; pictures beside it or in images/
  or annotations/*train*.json, *val*.json, *test*.json, with pictures in the folder, in images/ or in a folder of the split's name
  or SPLIT/_annotations.coco.json      with the split's pictures beside it
  A picture without an annotation is good, and so is one whose annotations are all of a category called good, normal, ok and the like."""


def _coco_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    places = [root, root / "annotations", *(folder for folder in sorted(root.iterdir()) if folder.is_dir())]
    files = {path: None for place in places if place.is_dir() for path in sorted(place.glob("*.json"))}
    return [path for path in files if _looks_like_coco(path)]


def _looks_like_coco(path: Path) -> bool:
    """Whether it is an object that holds "images", wherever in the file; read piece by piece, because such files are large."""
    wanted, before = b'"images"', b""
    try:
        with path.open("rb") as file:
            while piece := file.read(2**22):
                if not before and piece.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
                    return False
                if wanted in before + piece:
                    return True
                before = piece[-len(wanted) :]
    except OSError:
        pass
    return False


def _read_coco(root: Path) -> list[Category]:
    files = _coco_files(root)
    if not files:
        raise DatasetError(f"{root}: no COCO file is there; expected\n{_COCO_TREE}")
    train: list[_Marked] = []
    test: list[_Marked] = []
    for path in files:
        split = _SPLITS.search(path.stem) or _SPLITS.search(path.parent.name)
        (train if split and _TRAIN.match(split.group(1)) else test).extend(_coco_pictures(path, split.group(1) if split else ""))
    if not test:
        train, test = [], train
    name = root.resolve().stem if root.is_file() else root.resolve().name
    return need_categories([_category(name, train, test)] if test else [], root, _COCO_TREE)


def _coco_pictures(path: Path, split: str) -> list[_Marked]:
    data = _json(path)
    folders = [path.parent, path.parent / "images", path.parent.parent, path.parent.parent / "images"]
    folders += [folder / split for folder in list(folders) if split]
    try:
        names = {one["id"]: str(one["name"]) for one in data.get("categories", [])}
        found = {}
        sizes = {}
        for one in data["images"]:
            if one["id"] in found:
                raise DatasetError(f"{path}: two pictures have the id {one['id']!r}; write it again")
            found[one["id"]] = _Marked(_found(str(one["file_name"]), folders), [], [], [])
            sizes[one["id"]] = (one.get("height"), one.get("width"))
        for place, one in enumerate(data.get("annotations") or []):
            marked = found.get(one["image_id"])
            if marked is None:
                raise DatasetError(f"{path}: annotation {place} is of picture {one['image_id']!r}, which is not there; write it again")
            defect = names.get(one.get("category_id"), "anomaly")
            if Roles().of(defect) == "normal":
                continue
            marked.defects.append(defect)
            try:
                _coco_shape(marked, one)
            except (ValueError, TypeError, OverflowError) as error:
                raise DatasetError(f"{path}: the shape of annotation {place} of {marked.path.name} {error}; correct it") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: is no COCO file ({error!r}); expected\n{_COCO_TREE}") from error
    for number, marked in found.items():
        said, shown = sizes[number], _shown_size(marked.path) if marked.polygons or marked.runs else None
        if shown is not None and None not in said and said != shown:
            told = f"says that {marked.path.name} is {said[1]} x {said[0]}, and it is {shown[1]} x {shown[0]}"
            raise DatasetError(f"{path}: {told}; its shapes are of another picture, so take those that were annotated")
    return list(found.values())


def _coco_shape(marked: _Marked, one: dict[str, Any]) -> None:
    shape = one.get("segmentation")
    if isinstance(shape, dict):
        marked.runs.append(Rle.read(shape))
    elif shape:
        marked.polygons += [_corners(part) for part in shape]
    elif (box := one.get("bbox")) is not None:
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError("is no box; expected left, top, width and height")
        marked.polygons.append(_box(*box))


COCO = Layout(
    name="coco",
    title="COCO annotations of your own",
    url="",
    licence="yours",
    expects=_COCO_TREE,
    read=_read_coco,
    recognises=lambda root: bool(_coco_files(root)),
    split_note="without a training file, references are taken from the good test pictures, and those used are not tested",
)


# Label Studio

_STUDIO_TREE = """\
  NAME.json      an export of Label Studio (JSON): outlines, boxes, ellipses, brushes; pictures beside it, below it, or at their path
  A picture is good where nothing is marked, or where a choice says so (good, normal, ok, ...); one that nobody annotated is left out."""
_SHAPES = ("polygonlabels", "rectanglelabels", "ellipselabels", "brushlabels", "polygon", "rectangle", "ellipse", "brush")
_NO_SHAPES = ("choices", "labels", "textarea", "rating", "taxonomy", "number", "datetime", "pairwise", "ranker", "relation")


def _is_studio(root: Path) -> bool:
    if not root.is_file() or root.suffix.lower() != ".json":
        return False
    with root.open("rb") as file:
        head = file.read(2**16)
    return head.lstrip()[:1] == b"[" and (b'"annotations"' in head or b'"completions"' in head or b'"image"' in head)


def _read_studio(root: Path) -> list[Category]:
    if not root.is_file():
        raise DatasetError(f"{root}: expected the file of an export; expected\n{_STUDIO_TREE}")
    tasks = _json(root)
    if not isinstance(tasks, list):
        raise DatasetError(f"{root}: expected a list of tasks; expected\n{_STUDIO_TREE}")
    folders = [root.parent, root.parent / "images"]
    test = []
    for place, task in enumerate(tasks):
        try:
            marked = _studio_task(task, folders)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise DatasetError(f"{root}: task {place} cannot be read ({error!r}); export again as JSON") from error
        if marked is not None:
            test.append(marked)
    name = root.resolve().stem
    return need_categories([_category(name, [], test)] if test else [], root, _STUDIO_TREE)


def _studio_task(task: dict[str, Any], folders: list[Path]) -> _Marked | None:
    data = task.get("data", task)
    named = data.get("image", next((value for value in data.values() if str(value).lower().endswith(IMAGE_SUFFIXES)), None))
    if named is None:
        raise ValueError("names no picture")
    address = str(named)
    local = unquote(address.partition("?d=")[2] or address.partition("://")[2] or address)
    path = _found(local, folders)
    if not _is_there(path) and (match := re.match(r"[0-9a-f]{8}-(.+)", path.name)):  # uploads get a prefix
        path = _found(match.group(1), folders)
    marked = _Marked(path, [], [], [])
    answers = task.get("annotations", task.get("completions"))
    if answers is None:
        raise ValueError("has no annotations; export as JSON, not JSON-MIN")
    answers = [one for one in answers if not one.get("was_cancelled")]
    if not answers:
        return None
    for one in answers[-1]["result"]:
        kind = one["type"]
        if kind not in _SHAPES and kind not in _NO_SHAPES:
            raise ValueError(f"a mark of type {kind!r}, which says of no pixels")
        if kind in _NO_SHAPES and kind != "choices":
            continue
        value = one["value"]
        if kind == "choices":
            marked.is_good |= any(Roles().of(str(choice)) == "normal" for choice in value["choices"])
            if not marked.is_good:
                marked.defects += [str(choice) for choice in value["choices"]]
            continue
        defect = str((value.get(kind) or ["anomaly"])[0])
        if Roles().of(defect) != "normal":
            marked.defects.append(defect)
            _studio_shape(marked, value, float(one["original_width"]), float(one["original_height"]))
    if marked.is_good:
        return _Marked(path, [], [], [])
    return marked


def _studio_shape(marked: _Marked, value: dict[str, Any], width: float, height: float) -> None:
    if "points" in value:
        marked.polygons.append(_corners([number for point in value["points"] for number in point], width / 100, height / 100))
    elif "radiusX" in value:
        x, y, across, down = (float(value[name]) for name in ("x", "y", "radiusX", "radiusY"))
        turn = [2 * math.pi * step / 64 for step in range(64)]
        left, top, wide, high = x * width / 100, y * height / 100, across * width / 100, down * height / 100
        around = [(left + wide * math.cos(angle), top + high * math.sin(angle)) for angle in turn]
        marked.polygons.append(_turned(((left, top), *around), float(value.get("rotation") or 0))[1:])
    elif "rle" in value:
        import numpy as np

        try:
            from label_studio_sdk.converter.brush import decode_rle
        except ImportError as error:
            raise DatasetError("brushes of Label Studio need its SDK; pip install label-studio-sdk") from error
        mask = np.reshape(decode_rle(value["rle"]), (int(height), int(width), 4))[..., 3] > 127
        marked.runs.append(Rle.of(mask))
    else:
        box = _box(value["x"] * width / 100, value["y"] * height / 100, value["width"] * width / 100, value["height"] * height / 100)
        marked.polygons.append(_turned(box, float(value.get("rotation") or 0)))


def _turned(box: Polygon, degrees: float) -> Polygon:
    """Clockwise around its first corner, as Label Studio turns boxes."""
    if not degrees:
        return box
    (x0, y0), sine, cosine = box[0], math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return tuple((x0 + (x - x0) * cosine - (y - y0) * sine, y0 + (x - x0) * sine + (y - y0) * cosine) for x, y in box)


LABEL_STUDIO = Layout(
    name="label_studio",
    title="A Label Studio export of your own",
    url="",
    licence="yours",
    expects=_STUDIO_TREE,
    read=_read_studio,
    recognises=_is_studio,
    split_note="references are taken from the good pictures, and those used are not tested",
)


# YOLO

_YOLO_TREE = """\
  images/[SPLIT/]*.png, labels/[SPLIT/]*.txt      or SPLIT/images, SPLIT/labels; SPLIT is train, val or test
  data.yaml                                       optional: names of the classes
  A line of a label is `class x y x y ...` (an outline) or `class x y width height` (a box), in shares of the picture. A picture whose label
  is missing or empty is good."""


def _yolo_pairs(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """Split, folder of pictures and folder of labels."""
    if (root / "labels").is_dir() and (root / "images").is_dir():
        splits = [folder.name for folder in sorted((root / "images").iterdir()) if folder.is_dir()]
        yield from ((split, root / "images" / split, root / "labels" / split) for split in splits or [""])
        return
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if (folder / "images").is_dir() and (folder / "labels").is_dir():
            yield folder.name, folder / "images", folder / "labels"


def _read_yolo(root: Path) -> list[Category]:
    train: list[_Marked] = []
    test: list[_Marked] = []
    names = _yolo_names(root)
    for split, pictures, labels in _yolo_pairs(root):
        group = train if _TRAIN.match(split) else test
        for path in sorted(pictures.iterdir()):
            if path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith("."):
                group.append(_yolo_picture(path, labels / f"{path.stem}.txt", names))
    if not test:
        train, test = [], train
    return need_categories([_category(root.resolve().name, train, test)] if test else [], root, _YOLO_TREE)


def _yolo_names(root: Path) -> dict[int, str]:
    place = next((root / name for name in ("data.yaml", "data.yml", "dataset.yaml") if (root / name).is_file()), None)
    if place is None:
        return {}
    import yaml

    try:
        text = place.read_text(encoding="utf-8-sig")
        if len(text) > 10**6 or any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise ValueError("it is too large, or repeats itself by aliases")
        names: Any = yaml.safe_load(text)["names"]
        pairs = [(int(key), value) for key, value in (names.items() if isinstance(names, dict) else enumerate(names))]
        if not all(isinstance(name, (str, int)) for _, name in pairs):
            raise ValueError("a name is no text")
        return {key: str(name) for key, name in pairs}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DatasetError(f"{place}: names no classes ({error!r}); expected\n{_YOLO_TREE}") from error


def _yolo_picture(path: Path, label: Path, names: dict[int, str]) -> _Marked:
    marked = _Marked(path, [], [], [])
    if not label.is_file():
        return marked
    lines = [line.split() for line in label.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if not lines:
        return marked
    size = _shown_size(path)
    height, width = size or (1, 1)
    for number, words in enumerate(lines, start=1):
        try:
            defect = names.get(int(words[0]), f"class {int(words[0])}")
            if Roles().of(defect) == "normal":
                continue
            if len(words) == 5:
                x, y, wide, high = (float(word) for word in words[1:])
                shape = _box((x - wide / 2) * width, (y - high / 2) * height, wide * width, high * height)
            else:
                shape = _corners(words[1:], width, height)
        except (ValueError, IndexError, OverflowError) as error:
            raise DatasetError(f"{label}, line {number}: {error}; expected\n{_YOLO_TREE}") from error
        marked.defects.append(defect)
        marked.polygons += [] if size is None else [shape]  # one that cannot be read is told of where it is looked at
    return marked


YOLO = Layout(
    name="yolo",
    title="YOLO labels of your own",
    url="",
    licence="yours",
    expects=_YOLO_TREE,
    read=_read_yolo,
    recognises=lambda root: any(any(labels.glob("*.txt")) for _, _, labels in _yolo_pairs(root)),
    split_note="without a training part, references are taken from the good test pictures, and those used are not tested",
)
