"""Surface inspection sets that were made for supervised learning: KolektorSDD, KolektorSDD2, DAGM 2007, magnetic tiles.

Each file has its mask beside it. They come without a one-class split, or with training pictures that hold defects: references are always
normal pictures, and what is left out of the test for that is said in the layout.
"""

from __future__ import annotations

from pathlib import Path

from vlad.errors import DatasetError
from vlad.evaluation.datasets.base import GOOD, Category, Counts, Layout, Picture, need_categories, read_mask
from vlad.pictures.folders import pictures_in, subfolders
from vlad.pictures.masks import find_mask


def _beside(path: Path, marker: str, defect: str) -> Picture:
    """A picture whose mask STEM + MARKER lies beside it: normal if the mask is empty."""
    mask = find_mask(path.parent, (f"{path.stem}{marker}",))
    if mask is None:
        return Picture(path, defect, expected_mask=path.with_name(f"{path.stem}{marker}.png"))
    return Picture(path, defect, (mask,)) if read_mask(mask).any() else Picture(path)


_KSDD_TREE = "  kos01/Part0.jpg\n  kos01/Part0_label.bmp\n  ... kos50"


def _read_ksdd(root: Path) -> list[Category]:
    items = [folder for folder in subfolders(root) if folder.name.lower().startswith("kos")]
    if not items:
        raise DatasetError(f"{root}: no folder kos01 ... kos50; expected\n{_KSDD_TREE}")
    references: list[Picture] = []
    test: list[Picture] = []
    for number, folder in enumerate(items):
        for path in pictures_in(folder):
            if not path.stem.endswith("_label"):
                picture = _beside(path, "_label", "defect")
                (references if number < len(items) // 2 and not picture.is_anomalous else test).append(picture)
    return [Category("kolektorsdd", "kolektorsdd", tuple(references), tuple(test))]


KSDD = Layout(
    name="ksdd",
    title="KolektorSDD",
    url="https://www.vicos.si/resources/kolektorsdd/",
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    expects=_KSDD_TREE,
    read=_read_ksdd,
    recognises=lambda root: any(folder.name.lower().startswith("kos") for folder in subfolders(root)),
    counts={"kolektorsdd": Counts(anomalous=52)},  # Tabernik et al., JIM 2020: 399 pictures
    split_note="the authors' split is for supervised learning; references here are the normal pictures of the first half of the folders",
)

_KSDD2_TREE = "  train/10000.png\n  train/10000_GT.png\n  test/20000.png\n  test/20000_GT.png"


def _read_ksdd2(root: Path) -> list[Category]:
    train, test = (
        [_beside(path, "_GT", "defect") for path in pictures_in(root / split) if not path.stem.endswith("_GT")]
        for split in ("train", "test")
    )
    if not test:
        raise DatasetError(f"{root}: no pictures in test; expected\n{_KSDD2_TREE}")
    return [Category("kolektorsdd2", "kolektorsdd2", tuple(p for p in train if not p.is_anomalous), tuple(test))]


KSDD2 = Layout(
    name="ksdd2",
    title="KolektorSDD2",
    url="https://www.vicos.si/resources/kolektorsdd2/",
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    expects=_KSDD2_TREE,
    read=_read_ksdd2,
    recognises=lambda root: any(path.stem.endswith("_GT") for path in pictures_in(root / "test")),
    counts={"kolektorsdd2": Counts(2085, 894, 110)},  # Bozic et al., Computers in Industry 2021
    split_note="defective training pictures are not used",
)

_DAGM_TREE = "  Class1/Train/0001.PNG\n  Class1/Test/0001.PNG\n  Class1/Test/Label/0576_label.PNG\n  ... Class10"


def _read_dagm(root: Path) -> list[Category]:
    folders = [root] if (root / "Test").is_dir() else [folder for folder in subfolders(root) if (folder / "Test").is_dir()]
    found = []
    for folder in folders:
        train, test = ([_dagm_picture(path) for path in pictures_in(folder / split)] for split in ("Train", "Test"))
        references = tuple(picture for picture in train if not picture.is_anomalous)
        name = folder.resolve().name
        found.append(Category(name, name, references, tuple(test)))
    return need_categories(sorted(found, key=lambda category: (len(category.name), category.name)), root, _DAGM_TREE)


def _dagm_picture(path: Path) -> Picture:
    mask = find_mask(path.parent / "Label", (f"{path.stem}_label",))
    return Picture(path, "defect", (mask,)) if mask else Picture(path)


DAGM = Layout(
    name="dagm",
    title="DAGM 2007",
    url="https://hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-optical-inspection",
    licence="free for research, see the page",
    expects=_DAGM_TREE,
    read=_read_dagm,
    recognises=lambda root: any((folder / "Test" / "Label").is_dir() for folder in (root, *subfolders(root))),
    split_note="defective training pictures are not used; a picture without a label file is normal, and masks are ellipses",
)

_TILE_TREE = (
    "  MT_Free/Imgs/*.jpg\n  MT_Blowhole/Imgs/exp1_num_1.jpg\n  MT_Blowhole/Imgs/exp1_num_1.png     (and Break, Crack, Fray, Uneven)"
)
_EVERY = 5  # one normal tile in five is tested


def _read_tiles(root: Path) -> list[Category]:
    references: list[Picture] = []
    test: list[Picture] = []
    for folder in subfolders(root):
        if not folder.name.startswith("MT_"):
            continue
        defect = folder.name.removeprefix("MT_").lower()
        files = [path for path in pictures_in(folder / "Imgs") if path.suffix.lower() != ".png"]
        if defect == "free":
            references += [Picture(path) for number, path in enumerate(files) if number % _EVERY]
            test += [Picture(path) for path in files[::_EVERY]]
        else:
            for path in files:
                mask = path.with_suffix(".png")
                test.append(Picture(path, defect, (mask,)) if mask.is_file() else Picture(path, defect, expected_mask=mask))
    if not test:
        raise DatasetError(f"{root}: no folder MT_Free, MT_Blowhole, ...; expected\n{_TILE_TREE}")
    test.sort(key=lambda picture: (picture.defect != GOOD, picture.path))
    return [Category("magnetic_tile", "magnetic tile", tuple(references), tuple(test))]


MAGNETIC_TILE = Layout(
    name="mtd",
    title="Magnetic tile defects",
    url="https://github.com/abin24/Magnetic-tile-defect-datasets.",
    licence="none stated; ask the authors",
    expects=_TILE_TREE,
    read=_read_tiles,
    recognises=lambda root: any(folder.name.startswith("MT_") for folder in subfolders(root)),
    counts={"magnetic_tile": Counts(761, 191, 392)},  # Huang et al., The Visual Computer 2020: 952 free tiles, 392 with a defect
    split_note="the authors give no split; every fifth normal tile by name is tested, the others are references",
)
