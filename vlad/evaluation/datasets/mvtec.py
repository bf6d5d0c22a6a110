"""Datasets in the layout of MVTec AD: one folder per category, `train`, `test/DEFECT`, `ground_truth/DEFECT`."""

from __future__ import annotations

from pathlib import Path

from vlad.evaluation.datasets.base import GOOD, Category, Counts, Layout, Picture, called, category_folders, need_categories
from vlad.evaluation.datasets.roles import read_folders
from vlad.pictures.folders import Folder, Roles, pictures_in, pictures_of, subfolders

_NON_COMMERCIAL = "CC BY-NC-SA 4.0 (no commercial use)"


def read_mvtec_like(root: Path, expects: str, roles: Roles = Roles(), *, test: str = "test", inside: str = "") -> list[Category]:
    """Categories with `train/GOOD[/INSIDE]`, `TEST/DEFECT[/INSIDE]` and masks `ground_truth/DEFECT/STEM_mask.*` or `STEM.*`, or where else
    people put them; GOOD is any of the usual names.

    Raises:
        DatasetError: there is no category.
    """
    found = []
    for folder in category_folders(root, test):
        masks = [inner for inner in subfolders(folder) if roles.of(inner.name) == "masks"]
        there = read_folders(called(folder, test) or folder, roles, inside=inside, masks=masks, strict=True)
        references, used = _references(folder, roles, inside)
        test_pictures = sorted([*there.good, *there.bad], key=lambda picture: picture.path)
        name = folder.resolve().name
        folders = (*used, *there.folders, *(Folder(place, "masks") for place in masks))
        found.append(Category(name, name, references, tuple(test_pictures), folders=folders))
    return need_categories(found, root, expects)


def _references(folder: Path, roles: Roles, inside: str) -> tuple[tuple[Picture, ...], list[Folder]]:
    """Normal training pictures: in a folder with the name of one, or directly in `train`."""
    train = called(folder, "train")
    if train is None:
        return (), []
    normal = [inner for inner in subfolders(train) if roles.of(inner.name) == "normal"] or ([train] if pictures_in(train) else [])
    files = [path for place in normal for path in (pictures_in(place / inside) if inside else pictures_of(place, roles)[0])]
    others = [Folder(inner, "left out") for inner in subfolders(train) if inner not in normal and roles.of(inner.name) != "masks"]
    used = [Folder(place, "references", sum(place in path.parents for path in files)) for place in normal]
    return tuple(map(Picture, files)), [*used, *others]


def _holds(root: Path, names: set[str], marker: str = "test") -> bool:
    """Whether any category has one of the names."""
    return any(folder.resolve().name in names for folder in category_folders(root, marker))


_MVTEC_TREE = """\
  CATEGORY/train/good/*.png
  CATEGORY/test/good/*.png
  CATEGORY/test/DEFECT/000.png
  CATEGORY/ground_truth/DEFECT/000_mask.png"""

MVTEC = Layout(
    name="mvtec",
    title="MVTec AD",
    url="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    licence=_NON_COMMERCIAL,
    expects=_MVTEC_TREE,
    read=lambda root: read_mvtec_like(root, _MVTEC_TREE),
    read_named=lambda root, roles: read_mvtec_like(root, _MVTEC_TREE, roles),
    recognises=lambda root: bool(category_folders(root, "test")),
    counts={  # Bergmann et al., IJCV 2021, table 2
        "bottle": Counts(209, 20, 63),
        "cable": Counts(224, 58, 92),
        "capsule": Counts(219, 23, 109),
        "carpet": Counts(280, 28, 89),
        "grid": Counts(264, 21, 57),
        "hazelnut": Counts(391, 40, 70),
        "leather": Counts(245, 32, 92),
        "metal_nut": Counts(220, 22, 93),
        "pill": Counts(267, 26, 141),
        "screw": Counts(320, 41, 119),
        "tile": Counts(230, 33, 84),
        "toothbrush": Counts(60, 12, 30),
        "transistor": Counts(213, 60, 40),
        "wood": Counts(247, 19, 60),
        "zipper": Counts(240, 32, 119),
    },
)

_AD2_TREE = """\
  CATEGORY/train/good/*.png
  CATEGORY/test_public/good/*.png
  CATEGORY/test_public/bad/000_regular.png
  CATEGORY/test_public/ground_truth/bad/000_regular_mask.png"""

MVTEC_AD2 = Layout(
    name="mvtec_ad2",
    title="MVTec AD 2 (public test set; the private ones have no published masks)",
    url="https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
    licence=_NON_COMMERCIAL,
    expects=_AD2_TREE,
    read=lambda root: read_mvtec_like(root, _AD2_TREE, test="test_public"),
    recognises=lambda root: bool(category_folders(root, "test_public")),
    fpr_limit=0.05,
    counts={  # Heckler-Kram et al., arXiv 2503.21622
        "can": Counts(412, 72, 90),
        "fabric": Counts(387, 66, 90),
        "fruit_jelly": Counts(263, 20, 60),
        "rice": Counts(313, 42, 90),
        "sheet_metal": Counts(137, 24, 90),
        "vial": Counts(291, 35, 105),
        "wallplugs": Counts(293, 60, 90),
        "walnuts": Counts(432, 60, 90),
    },
)

_3D_TREE = """\
  CATEGORY/train/good/rgb/*.png
  CATEGORY/test/good/rgb/*.png
  CATEGORY/test/DEFECT/rgb/000.png
  CATEGORY/test/DEFECT/gt/000.png"""

MVTEC_3D = Layout(
    name="mvtec3d",
    title="MVTec 3D-AD (colour pictures only)",
    url="https://www.mvtec.com/company/research/datasets/mvtec-3d-ad",
    licence=_NON_COMMERCIAL,
    expects=_3D_TREE,
    read=lambda root: read_mvtec_like(root, _3D_TREE, inside="rgb"),
    recognises=lambda root: any((folder / "train" / GOOD / "rgb").is_dir() for folder in category_folders(root, "test")),
    counts={  # Bergmann et al., VISAPP 2022, table 2
        "bagel": Counts(244, 22, 88),
        "cable_gland": Counts(223, 21, 87),
        "carrot": Counts(286, 27, 132),
        "cookie": Counts(210, 28, 103),
        "dowel": Counts(288, 26, 104),
        "foam": Counts(236, 20, 80),
        "peach": Counts(361, 26, 106),
        "potato": Counts(300, 22, 92),
        "rope": Counts(298, 32, 69),
        "tire": Counts(210, 25, 87),
    },
)

_BTAD_TREE = """\
  01/train/ok/*.bmp
  01/test/ok/*.bmp
  01/test/ko/0000.bmp
  01/ground_truth/ko/0000.png"""

_BTAD_COUNTS = {"01": Counts(400, 21, 49), "02": Counts(399, 30, 200), "03": Counts(1000, 400, 41)}  # Mishra et al., ISIE 2021

BTAD = Layout(
    name="btad",
    title="BTAD (beanTech)",
    url="https://github.com/pankajmishra000/VT-ADL",
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    expects=_BTAD_TREE,
    read=lambda root: read_mvtec_like(root, _BTAD_TREE),
    recognises=lambda root: (
        _holds(root, set(_BTAD_COUNTS)) and any((one / "train" / "ok").is_dir() for one in category_folders(root, "test"))
    ),
    counts=_BTAD_COUNTS,
)

_MPDD_COUNTS = {  # Jezek et al., ICUMT 2021
    "bracket_black": Counts(289, 32, 47),
    "bracket_brown": Counts(185, 26, 51),
    "bracket_white": Counts(110, 30, 30),
    "connector": Counts(128, 30, 14),
    "metal_plate": Counts(54, 26, 71),
    "tubes": Counts(122, 32, 69),
}

MPDD = Layout(
    name="mpdd",
    title="MPDD (painted metal parts)",
    url="https://github.com/stepanje/MPDD",
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    expects=_MVTEC_TREE,
    read=lambda root: read_mvtec_like(root, _MVTEC_TREE),
    recognises=lambda root: _holds(root, set(_MPDD_COUNTS)),
    counts=_MPDD_COUNTS,
)
