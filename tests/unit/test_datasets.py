"""Every layout as a miniature that is read right, and broken ones that give the named error."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad.errors import DatasetError
from vlad.evaluation import datasets
from vlad.evaluation.datasets import LAYOUTS, Category, Layout, Picture, load_dataset, read_mask, read_truth
from vlad.evaluation.datasets.base import draw_polygon
from vlad.evaluation.datasets.check import check_dataset, dataset_size

SIZE = (24, 32)  # height, width


class Maker:
    """Writes pictures that all differ, and masks with one defect of 4 x 5 pixels."""

    def __init__(self, root: Path) -> None:
        self.root, self.number = root, 0

    def picture(self, *places: str) -> None:
        for place in places:
            self.number += 1
            path = self.root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(self.number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path, format="PNG")

    def mask(self, *places: str, value: int = 255, empty: bool = False, size: tuple[int, int] = SIZE) -> None:
        for place in places:
            path = self.root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.zeros(size, np.uint8)
            pixels[3:7, 10:15] = 0 if empty else value
            Image.fromarray(pixels).save(path, format="PNG")

    def text(self, place: str, content: str) -> None:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def mvtec(make: Maker) -> None:
    make.picture("bottle/train/good/000.png", "bottle/train/good/001.png", "bottle/test/good/000.png", "bottle/test/crack/000.png")
    make.mask("bottle/ground_truth/crack/000_mask.png")


def mvtec_ad2(make: Maker) -> None:
    make.picture("can/train/good/000_regular.png", "can/train/good/001_regular.png", "can/validation/good/000_regular.png")
    make.picture("can/test_public/good/000_regular.png", "can/test_public/bad/000_overexposed.png", "can/test_private/000_regular.png")
    make.mask("can/test_public/ground_truth/bad/000_overexposed_mask.png")


def loco(make: Maker) -> None:
    make.picture("pushpins/train/good/000.png", "pushpins/train/good/001.png", "pushpins/test/good/000.png")
    make.picture("pushpins/test/logical_anomalies/000.png")
    make.mask("pushpins/ground_truth/logical_anomalies/000/000.png", value=254)
    rules = [
        {"defect_name": "missing", "pixel_value": 254, "saturation_threshold": 6, "relative_saturation": False},
        {"defect_name": "broken", "pixel_value": 253, "saturation_threshold": 0.5, "relative_saturation": True},
    ]
    make.text("pushpins/defects_config.json", json.dumps(rules))


def mvtec3d(make: Maker) -> None:
    for place in ("train/good/rgb/000.png", "train/good/rgb/001.png", "test/good/rgb/000.png", "test/hole/rgb/000.png"):
        make.picture(f"bagel/{place}")
    make.mask("bagel/test/hole/gt/000.png")
    make.mask("bagel/test/good/gt/000.png", empty=True)
    make.text("bagel/test/hole/xyz/000.tiff", "depth is not read")


def visa(make: Maker) -> None:
    rows = [["object", "split", "label", "image", "mask"]]
    for name, split in (("0000", "train"), ("0001", "train"), ("0002", "test")):
        place = f"candle/Data/Images/Normal/{name}.JPG"
        make.picture(place)
        rows.append(["candle", split, "normal", place, ""])
    make.picture("candle/Data/Images/Anomaly/000.JPG")
    make.mask("candle/Data/Masks/Anomaly/000.png", value=3)
    rows.append(["candle", "test", "anomaly", "candle/Data/Images/Anomaly/000.JPG", "candle/Data/Masks/Anomaly/000.png"])
    rows.append(["pcb1", "test", "normal", "pcb1/Data/Images/Normal/0000.JPG", ""])  # not copied
    make.text("split_csv/1cls.csv", "\n".join(map(",".join, rows)))


def visa_like_mvtec(make: Maker) -> None:
    make.picture("candle/train/good/0000.JPG", "candle/train/good/0001.JPG", "candle/test/good/0002.JPG", "candle/test/bad/000.JPG")
    make.mask("candle/ground_truth/bad/000.png")


def btad(make: Maker) -> None:
    make.picture("01/train/ok/0000.bmp", "01/train/ok/0001.bmp", "01/test/ok/0002.bmp", "01/test/ko/0000.bmp")
    make.mask("01/ground_truth/ko/0000.png")


def mpdd(make: Maker) -> None:
    make.picture("tubes/train/good/000.png", "tubes/train/good/001.png", "tubes/test/good/000.png", "tubes/test/anomalous/000.png")
    make.mask("tubes/ground_truth/anomalous/000_mask.png")


def ksdd(make: Maker) -> None:
    for folder in ("kos01", "kos02"):
        for part in ("Part0", "Part1"):
            make.picture(f"{folder}/{part}.jpg")
            make.mask(f"{folder}/{part}_label.bmp", empty=(folder, part) != ("kos02", "Part1"))


def ksdd2(make: Maker) -> None:
    for place, empty in (("train/1", True), ("train/2", True), ("train/3", False), ("test/4", True), ("test/5", False)):
        make.picture(f"{place}.png")
        make.mask(f"{place}_GT.png", empty=empty)


def dagm(make: Maker) -> None:
    make.picture("Class1/Train/0001.PNG", "Class1/Train/0002.PNG", "Class1/Train/0003.PNG", "Class1/Test/0001.PNG", "Class1/Test/0002.PNG")
    make.mask("Class1/Train/Label/0003_label.PNG", "Class1/Test/Label/0002_label.PNG")
    make.text("Class1/Test/Label/Labels.txt", "1")


def realiad(make: Maker) -> None:
    make.picture("realiad_256/usb/OK/S0001/a.jpg", "realiad_256/usb/OK/S0002/b.jpg", "realiad_256/usb/OK/S0003/c.jpg")
    make.picture("realiad_256/usb/NG/HS/S0001/d.jpg")
    make.mask("realiad_256/usb/NG/HS/S0001/d.png")
    entries = {
        "meta": {"prefix": "usb/", "normal_class": "OK", "pre_transform": False},
        "train": [
            {"category": "usb", "anomaly_class": "OK", "image_path": f"OK/{name}.jpg", "mask_path": None} for name in ("S0002/b", "S0001/a")
        ],
        "test": [
            {"category": "usb", "anomaly_class": "OK", "image_path": "OK/S0003/c.jpg", "mask_path": None},
            {"category": "usb", "anomaly_class": "HS", "image_path": "NG/HS/S0001/d.jpg", "mask_path": "NG/HS/S0001/d.png"},
        ],
    }
    make.text("realiad_jsons/realiad_jsons/usb.json", json.dumps(entries))


def mtd(make: Maker) -> None:
    make.picture("MT_Free/Imgs/a.jpg", "MT_Free/Imgs/b.jpg", "MT_Free/Imgs/c.jpg", "MT_Crack/Imgs/d.jpg")
    make.mask("MT_Crack/Imgs/d.png")
    make.mask("MT_Free/Imgs/a.png", empty=True)


def folder(make: Maker) -> None:
    make.picture("nut/good/1.png", "nut/good/2.png", "nut/good/3.png", "nut/scratch/1.png")
    make.mask("nut/masks/scratch/1.png")


def listed(make: Maker) -> None:
    make.picture("a.png", "b.png", "c.png", "d.png")
    make.mask("d_mask.png")
    header = "image_path,defect,mask_path,split,category,class_name\n"
    make.text(
        "list.csv",
        f"{header}a.png,good,,train,nut,metal nut\nb.png,ok,,train,nut,\nc.png,good,,test,nut,\nd.png,dent,d_mask.png,test,nut,\n",
    )


MINIATURES: dict[str, tuple[Callable[[Maker], None], str, str, int, str]] = {
    # builder, layout, category, references, defect
    "mvtec": (mvtec, "mvtec", "bottle", 2, "crack"),
    "mvtec_ad2": (mvtec_ad2, "mvtec_ad2", "can", 2, "bad"),
    "loco": (loco, "loco", "pushpins", 2, "logical_anomalies"),
    "mvtec3d": (mvtec3d, "mvtec3d", "bagel", 2, "hole"),
    "visa": (visa, "visa", "candle", 2, "bad"),
    "visa in MVTec's manner": (visa_like_mvtec, "visa", "candle", 2, "bad"),
    "btad": (btad, "btad", "01", 2, "ko"),
    "mpdd": (mpdd, "mpdd", "tubes", 2, "anomalous"),
    "ksdd": (ksdd, "ksdd", "kolektorsdd", 2, "defect"),
    "ksdd2": (ksdd2, "ksdd2", "kolektorsdd2", 2, "defect"),
    "dagm": (dagm, "dagm", "Class1", 2, "defect"),
    "realiad": (realiad, "realiad", "usb", 2, "HS"),
    "mtd": (mtd, "mtd", "magnetic_tile", 2, "crack"),
    "folder": (folder, "folder", "nut", 3, "scratch"),
    "list": (listed, "list", "nut", 2, "dent"),
}


def miniature(tmp_path: Path, name: str) -> Path:
    MINIATURES[name][0](Maker(tmp_path))
    return tmp_path / "list.csv" if name == "list" else tmp_path


def test_every_layout_has_a_miniature_here():
    elsewhere = {"synthetic", "coco", "label_studio", "yolo"}  # the annotated ones are in test_formats.py
    assert {layout for _, layout, *_ in MINIATURES.values()} | elsewhere == set(LAYOUTS)


@pytest.mark.parametrize("name", MINIATURES)
class TestMiniatures:
    @pytest.mark.parametrize("how", ["named", "found out"])
    def test_is_read_right(self, tmp_path, name, how):
        _, layout, category_name, n_references, defect = MINIATURES[name]
        root = miniature(tmp_path, name)
        dataset = load_dataset(root, layout if how == "named" else None)
        assert dataset.layout.name == layout
        (category,) = dataset.categories
        assert category.name == category_name
        assert len(category.references) == n_references and not any(p.is_anomalous for p in category.references)
        anomalous = [picture for picture in category.test if picture.is_anomalous]
        assert [picture.defect for picture in anomalous] == [defect]
        n_good = len(category.test) - 1
        assert n_good == {"folder": 3}.get(name, 1)
        truth = read_truth(anomalous[0], category, SIZE)
        assert truth.area.sum() == 20 and truth.area[3:7, 10:15].all()
        good = next(picture for picture in category.test if not picture.is_anomalous)
        assert not read_truth(good, category, SIZE).area.any()
        if not category.shared:
            assert not {picture.path for picture in category.references} & {picture.path for picture in category.test}

    def test_has_nothing_wrong_but_its_size(self, tmp_path, name):
        dataset = load_dataset(miniature(tmp_path, name))
        findings = check_dataset(dataset)
        assert {finding.kind for finding in findings} <= {"count", "missing-category"}, [str(finding) for finding in findings]

    def test_names_and_fingerprint_do_not_depend_on_the_place(self, tmp_path, name):
        places = []
        for number in (1, 2):
            root = tmp_path / str(number)
            root.mkdir()
            dataset = load_dataset(miniature(root, name))
            names = [dataset.relative(picture.path) for picture in dataset.categories[0].test]
            assert not any(Path(text).is_absolute() for text in names)
            places.append((names, dataset.fingerprint))
        assert places[0] == places[1]

    def test_says_how_to_get_it(self, tmp_path, name):
        layout = LAYOUTS[MINIATURES[name][1]]
        assert layout.title and layout.licence and layout.expects.strip()
        assert layout.url.startswith("https://") or layout.name in ("folder", "list")


class TestSaturation:
    def test_loco_regions_carry_their_saturation(self, tmp_path):
        make = Maker(tmp_path)
        loco(make)
        make.mask("pushpins/ground_truth/logical_anomalies/000/001.png", value=253)
        (category,) = load_dataset(tmp_path).categories
        truth = read_truth(next(p for p in category.test if p.is_anomalous), category, SIZE)
        assert truth.saturations == (6.0, 10.0) and len(truth.regions) == 2 and truth.mask is None

    def test_an_unlisted_value_is_named(self, tmp_path):
        make = Maker(tmp_path)
        loco(make)
        make.mask("pushpins/ground_truth/logical_anomalies/000/000.png", value=77)
        (category,) = load_dataset(tmp_path).categories
        with pytest.raises(DatasetError, match="value 77"):
            read_truth(next(p for p in category.test if p.is_anomalous), category, SIZE)


def kinds(root: Path) -> dict[str, str]:
    return {finding.kind: str(finding) for finding in check_dataset(load_dataset(root))}


class TestBroken:
    @pytest.mark.parametrize("name", sorted(set(MINIATURES) - {"ksdd", "ksdd2", "dagm"}))
    def test_a_missing_mask_is_named(self, tmp_path, name):
        root = miniature(tmp_path, name)
        (category,) = load_dataset(root).categories
        picture = next(p for p in category.test if p.is_anomalous)
        picture.masks[0].unlink()
        if name == "folder":  # another picture of the defect has one
            make = Maker(root)
            make.number = 50
            make.picture("nut/scratch/2.png")
            make.mask("nut/masks/scratch/2.png")
        found = kinds(root)
        assert found["missing-mask"].startswith("error: missing-mask") and picture.path.name in found["missing-mask"]
        (category,) = load_dataset(root).categories
        with pytest.raises(DatasetError, match="mask is missing, expected"):
            read_truth(next(p for p in category.test if p.path == picture.path), category, SIZE)

    @pytest.mark.parametrize("name", ["ksdd", "ksdd2"])
    def test_a_missing_label_file_is_named(self, tmp_path, name):
        root = miniature(tmp_path, name)
        (category,) = load_dataset(root).categories
        next(p for p in category.test if p.is_anomalous).masks[0].unlink()
        assert "error: missing-mask" in kinds(root)["missing-mask"]

    @pytest.mark.parametrize("name", MINIATURES)
    def test_an_unreadable_picture_is_named(self, tmp_path, name):
        root = miniature(tmp_path, name)
        (category,) = load_dataset(root).categories
        category.test[0].path.write_bytes(b"no picture")
        found = kinds(root)
        assert str(category.test[0].path) in found["unreadable-picture"]

    def test_a_mask_of_another_size_is_named(self, tmp_path):
        make = Maker(tmp_path)
        mvtec(make)
        make.mask("bottle/ground_truth/crack/000_mask.png", size=(24, 33))
        assert "33 x 24, its picture" in kinds(tmp_path)["bad-mask"]

    def test_a_damaged_mask_is_named(self, tmp_path):
        mvtec(Maker(tmp_path))
        (tmp_path / "bottle/ground_truth/crack/000_mask.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
        assert "the mask cannot be read" in kinds(tmp_path)["bad-mask"]

    def test_no_good_pictures(self, tmp_path):
        mvtec(Maker(tmp_path))
        (tmp_path / "bottle/test/good/000.png").unlink()
        assert "no normal test picture" in kinds(tmp_path)["no-good-pictures"]

    def test_no_references(self, tmp_path):
        mvtec(Maker(tmp_path))
        for path in (tmp_path / "bottle/train/good").iterdir():
            path.unlink()
        assert kinds(tmp_path)["no-references"].startswith("warning")

    def test_no_anomalous_pictures(self, tmp_path):
        mvtec(Maker(tmp_path))
        (tmp_path / "bottle/test/crack/000.png").unlink()
        assert "no-anomalous-pictures" in kinds(tmp_path)

    def test_the_same_pixels_in_training_and_test(self, tmp_path):
        mvtec(Maker(tmp_path))
        with Image.open(tmp_path / "bottle/train/good/001.png") as image:
            image.save(tmp_path / "bottle/test/good/007.bmp")
        found = kinds(tmp_path)["duplicate"]
        assert found.startswith("error") and "001.png" in found and "007.bmp" in found

    def test_an_empty_mask_of_an_anomalous_picture(self, tmp_path):
        make = Maker(tmp_path)
        mvtec(make)
        make.mask("bottle/ground_truth/crack/000_mask.png", empty=True)
        assert "marks nothing" in kinds(tmp_path)["empty-mask"]

    def test_counts_beside_the_published_ones(self, tmp_path):
        mvtec(Maker(tmp_path))
        messages = [finding.message for finding in check_dataset(load_dataset(tmp_path)) if finding.kind == "count"]
        assert len(messages) == 3 and messages[0].startswith("2 references pictures, published are 209")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("object,split,label,image\ncandle,train,normal,x.png", "without mask"),
            ("object,split,label,image,mask\ncandle,training,normal,x.png,", "line 2: expected split train or test"),
            ("object,split,label,image,mask\ncandle,test,broken,x.png,", "label normal or anomaly"),
        ],
    )
    def test_a_wrong_split_file_of_visa(self, tmp_path, content, message):
        make = Maker(tmp_path)
        visa(make)
        make.text("split_csv/1cls.csv", content)
        with pytest.raises(DatasetError, match=message):
            load_dataset(tmp_path)

    def test_a_missing_split_file_of_visa(self, tmp_path):
        visa(Maker(tmp_path))
        (tmp_path / "split_csv/1cls.csv").unlink()
        with pytest.raises(DatasetError, match="split file is missing"):
            load_dataset(tmp_path)

    @pytest.mark.parametrize("content", ["no json", "[]", '{"meta": {"prefix": "usb/"}}'])
    def test_a_wrong_split_file_of_real_iad(self, tmp_path, content):
        make = Maker(tmp_path)
        realiad(make)
        make.text("realiad_jsons/realiad_jsons/usb.json", content)
        with pytest.raises(DatasetError, match=r"usb\.json: expected meta, train and test"):
            load_dataset(tmp_path)

    @pytest.mark.parametrize(("content", "message"), [(None, "missing"), ("{}", ""), ('[{"pixel_value": 1}]', "got")])
    def test_a_wrong_config_of_loco(self, tmp_path, content, message):
        make = Maker(tmp_path)
        loco(make)
        path = tmp_path / "pushpins/defects_config.json"
        path.unlink() if content is None else path.write_text(content)
        if content == "{}":
            assert load_dataset(tmp_path, "loco").categories[0].saturations == {}
            return
        with pytest.raises(DatasetError, match=message):
            load_dataset(tmp_path, "loco")

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("list.csv", "path,defect\na.png,good", "header with image_path"),
            ("list.csv", "image_path,defect\na.png,", "line 2: expected image_path and defect"),
            ("list.csv", "image_path,defect,split\na.png,good,valid", "expected split train or test, got 'valid'"),
            ("list.jsonl", "[1, 2]", "line 1: expected a JSON object"),
            ("list.jsonl", '{"image_path": "a.png", "label": 0}\n{broken', "line 2: expected a JSON object"),
        ],
    )
    def test_a_wrong_list(self, tmp_path, name, content, message):
        make = Maker(tmp_path)
        make.picture("a.png")
        make.text(name, content)
        with pytest.raises(DatasetError, match=message):
            load_dataset(tmp_path / name)


class TestLists:
    def test_jsonl_with_labels_and_without_split(self, tmp_path):
        make = Maker(tmp_path)
        make.picture("a.png", "b.png", "c.png")
        rows = [{"image_path": "a.png", "label": 0}, {"image_path": "b.png", "label": 1}, {"image_path": "c.png", "label": "dent"}]
        make.text("parts.jsonl", "\n".join(map(json.dumps, rows)))
        (category,) = load_dataset(tmp_path / "parts.jsonl").categories
        assert category.name == "parts" and category.shared
        assert [picture.defect for picture in category.test] == ["good", "anomalous", "dent"]

    def test_class_name_and_category_come_from_the_rows(self, tmp_path):
        (category,) = load_dataset(miniature(tmp_path, "list")).categories
        assert category.class_name == "metal nut"


class TestFolder:
    def test_without_masks_there_is_a_note(self, tmp_path):
        make = Maker(tmp_path)
        make.picture("good/1.png", "good/2.png", "scratch/1.png")
        dataset = load_dataset(tmp_path)
        assert [finding.kind for finding in check_dataset(dataset)] == ["no-masks"]
        assert read_truth(dataset.categories[0].test[-1], dataset.categories[0], SIZE) is None

    def test_references_of_its_own(self, tmp_path):
        make = Maker(tmp_path)
        make.picture("good/1.png", "references/1.png", "references/2.png", "bent/1.png")
        (category,) = load_dataset(tmp_path).categories
        assert len(category.references) == 2 and not category.shared and len(category.test) == 2


def test_a_new_reader_is_known_everywhere_once_it_is_registered(tmp_path, monkeypatch, capsys):
    from vlad.cli.eval import layouts

    Maker(tmp_path).picture("marker/a.png", "marker/b.png")
    pictures = sorted((tmp_path / "marker").iterdir())
    category = Category("part", "part", (Picture(pictures[0]),), (Picture(pictures[1], "dent"),))
    mine = Layout(
        name="mine",
        title="Mine",
        url="",
        licence="yours",
        expects="  marker/*.png",
        read=lambda _: [category],
        recognises=lambda root: (root / "marker").is_dir(),
        default_root=lambda: tmp_path,
    )
    monkeypatch.setattr(datasets, "LAYOUTS", {"mine": mine} | LAYOUTS)
    for found in (load_dataset(tmp_path), load_dataset(tmp_path, "mine"), load_dataset(None, "mine")):
        assert found.layout is mine and found.categories == (category,)
    with pytest.raises(DatasetError, match="did you mean 'mine'"):
        load_dataset(tmp_path, "mien")
    with pytest.raises(DatasetError, match="only `--dataset mine`, `--dataset synthetic` needs none"):
        load_dataset(None, "visa")
    layouts()
    assert capsys.readouterr().out.startswith("mine: Mine\n  yours\n      marker/*.png\n")


class TestPolygons:
    @pytest.mark.parametrize(
        ("polygon", "rows"),
        [
            (((1, 1), (4, 1), (4, 3), (1, 3)), ("......", ".###..", ".###..", "......")),
            (((1, 3), (4, 3), (4, 1), (1, 1)), ("......", ".###..", ".###..", "......")),  # the other way round
            (((0.6, 0), (2.5, 0), (2.5, 1), (0.6, 1)), (".#....", "......", "......", "......")),  # of 2.5 the centre is no more inside
            (((0, 0), (4.4, 4), (0, 4)), ("#.....", "##....", "###...", "####..")),
            (((0, 0), (4, 4), (0, 4)), ("......", "#.....", "##....", "###...")),  # centres on its right side are out
            (((0, 0), (4, 4), (4, 0)), ("####..", ".###..", "..##..", "...#..")),  # on its left side they are in
            (((-5, -5), (2, -5), (2, 9), (-5, 9)), ("##....", "##....", "##....", "##....")),  # cut off at the edge
            (((3, -9), (99, -9), (99, 1), (3, 1)), ("...###", "......", "......", "......")),
            (((0, 0), (6, 0), (6, 4), (0, 4), (0, 0), (1, 1), (5, 1), (5, 3), (1, 3), (1, 1)), ("######", "#....#", "#....#", "######")),
            (((7, 1), (9, 1), (9, 3)), ("......",) * 4),
            ((), ("......",) * 4),
        ],
    )
    def test_pixels_whose_centre_is_inside(self, polygon, rows):
        assert ["".join(".#"[int(value)] for value in row) for row in draw_polygon(polygon, (4, 6))] == list(rows)

    def test_a_reader_of_coco_is_a_function_and_a_place_in_the_registry(self, tmp_path, monkeypatch):
        """Polygons of one JSON file; two of one picture are united, a picture without any is good."""

        def read(root: Path) -> list[Category]:
            data = json.loads((root / "coco.json").read_text())
            shapes: dict[int, list] = {entry["id"]: [] for entry in data["images"]}
            for entry in data["annotations"]:
                shapes[entry["image_id"]] += [tuple(zip(flat[::2], flat[1::2], strict=True)) for flat in entry["segmentation"]]
            test = [
                Picture(root / entry["file_name"], "dent" if shapes[entry["id"]] else "good", polygons=tuple(shapes[entry["id"]]))
                for entry in data["images"]
            ]
            return [Category("part", "part", (), tuple(test))]

        coco = Layout(name="coco", title="COCO", url="", licence="", expects="  coco.json", read=read)
        monkeypatch.setattr(datasets, "LAYOUTS", LAYOUTS | {"coco": coco})
        Maker(tmp_path).picture("a.png", "b.png")
        content = {
            "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
            "annotations": [
                {"image_id": 2, "segmentation": [[10, 3, 15, 3, 15, 7, 10, 7]]},
                {"image_id": 2, "segmentation": [[0, 0, 2, 0, 2, 1]]},
            ],
        }
        (tmp_path / "coco.json").write_text(json.dumps(content))
        found = load_dataset(tmp_path, "coco")
        (category,) = found.categories
        good, bad = category.test
        assert [good.is_anomalous, bad.is_anomalous] == [False, True]
        truth = read_truth(bad, category, SIZE)
        expected = np.zeros(SIZE, bool)
        expected[3:7, 10:15] = expected[0, 1] = True
        assert np.array_equal(truth.area, expected) and not read_truth(good, category, SIZE).area.any()
        assert [finding.kind for finding in check_dataset(found)] == ["no-references"]
        content["annotations"][0]["segmentation"][0][0] = 90
        (tmp_path / "coco.json").write_text(json.dumps(content))
        assert load_dataset(tmp_path, "coco").fingerprint != found.fingerprint
        content["annotations"] = [{"image_id": 2, "segmentation": [[90, 3, 95, 3, 95, 7]]}]
        (tmp_path / "coco.json").write_text(json.dumps(content))
        findings = check_dataset(load_dataset(tmp_path, "coco"))
        assert "but the polygon listed for it marks nothing" in {finding.kind: finding.message for finding in findings}["empty-mask"]


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("nowhere",), "no such file or folder"),
            ((None,), "expected the folder of the dataset"),
            ((".", "mvtek"), "did you mean 'mvtec'"),
            ((".",), "no known layout"),
            ((".", "mvtec"), "no category found"),
            ((".", "loco"), "no category found"),
            ((".", "visa"), "split file is missing"),
            ((".", "ksdd"), "no folder kos01"),
            ((".", "ksdd2"), "no pictures in test"),
            ((".", "dagm"), "no category found"),
            ((".", "realiad"), "no folder realiad_1024"),
            ((".", "mtd"), "no folder MT_Free"),
            ((".", "folder"), "no folder of normal pictures"),
            ((".", "list"), "no such file"),
        ],
    )
    def test_name_the_place_and_what_was_expected(self, tmp_path, monkeypatch, arguments, message):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DatasetError, match=message):
            load_dataset(*arguments)

    def test_unknown_category(self, tmp_path):
        with pytest.raises(DatasetError, match="no category 'cable'; there are bottle"):
            load_dataset(miniature(tmp_path, "mvtec"), categories=["cable"])


class TestMasks:
    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
    def test_any_mode(self, tmp_path, mode):
        pixels = np.zeros(SIZE, np.uint16 if mode == "I;16" else np.uint8)
        pixels[2:4, 2:4] = 1 if mode in ("P", "L", "I;16") else 255
        image = Image.fromarray(pixels).convert(mode) if mode in ("1", "RGB") else Image.fromarray(pixels)
        if mode == "P":
            image = image.convert("P")
            image.putpalette([0, 0, 0, 0, 0, 0, *([255] * 762)])  # number 1 is black as well: the number counts, not the colour
        image.save(tmp_path / "mask.png")
        assert (read_mask(tmp_path / "mask.png") > 0).sum() == 4

    def test_a_jpeg_has_no_blurred_edge(self, tmp_path):
        pixels = np.zeros((64, 64), np.uint8)
        pixels[16:32, 16:32] = 255
        Image.fromarray(pixels).save(tmp_path / "mask.jpg", quality=40)
        assert ((read_mask(tmp_path / "mask.jpg") > 0) == (pixels > 0)).all()


class TestSynthetic:
    def test_is_made_where_it_is_wanted_and_only_there(self, tmp_path, monkeypatch):
        from vlad.evaluation.datasets import synthetic

        monkeypatch.setattr(synthetic, "_N_TRAIN", 1)
        monkeypatch.setattr(synthetic, "_N_GOOD", 1)
        monkeypatch.setattr(synthetic, "_N_BAD", 1)
        monkeypatch.setattr(synthetic, "_SIZE", 64)
        monkeypatch.setenv("VLAD_CACHE", str(tmp_path / "cache"))
        dataset = load_dataset(None, "synthetic")
        assert dataset.root == tmp_path / "cache" / "synthetic" and len(dataset.categories) == 7
        stamp = (dataset.root / "gear/test/good/000.png").stat().st_mtime_ns
        load_dataset(None, "synthetic")
        assert (dataset.root / "gear/test/good/000.png").stat().st_mtime_ns == stamp
        (tmp_path / "cache" / "synthetic" / "synthetic.json").unlink()  # interrupted: made again
        assert load_dataset(None, "synthetic").fingerprint == dataset.fingerprint

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path):
        (tmp_path / "holiday").mkdir()
        with pytest.raises(DatasetError, match="it holds holiday"):
            load_dataset(tmp_path, "synthetic")


def test_check_opens_every_picture_once(tmp_path):
    dataset = load_dataset(miniature(tmp_path, "folder"))
    calls: list[int] = []
    check_dataset(dataset, progress=lambda: calls.append(1))
    assert len(calls) == dataset_size(dataset) == 4


def test_published_counts_add_up():
    """Totals that the papers give."""
    totals = {name: [sum(getattr(c, key) for c in LAYOUTS[name].counts.values()) for key in ("references", "good", "anomalous")]
              for name in ("mvtec", "visa", "loco", "mvtec_ad2", "mvtec3d", "btad", "mpdd")}  # fmt: skip
    assert totals == {
        "mvtec": [3629, 467, 1258],
        "visa": [8659, 962, 1200],
        "loco": [1778, 575, 993],
        "mvtec_ad2": [2528, 379, 705],
        "mvtec3d": [2656, 249, 948],
        "btad": [1799, 451, 290],
        "mpdd": [888, 176, 282],
    }


def test_category_is_plain_data(tmp_path):
    (category,) = load_dataset(miniature(tmp_path, "mvtec")).categories
    assert isinstance(category, Category) and category == load_dataset(tmp_path).categories[0]


def test_list_is_csv_as_spreadsheets_write_it(tmp_path):
    make = Maker(tmp_path)
    make.picture("a.png", "b.png")
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["image_path", "label"], ["a.png", "0"], ["b.png", "1"]])
    assert [p.defect for p in load_dataset(tmp_path / "list.csv").categories[0].test] == ["good", "anomalous"]
