"""Results in the forms of other tools, and pictures that were annotated there: what goes out comes back the same."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad.errors import ConfigError, DatasetError
from vlad.evaluation.datasets import load_dataset, read_truth
from vlad.formats.coco import outlines, to_coco
from vlad.formats.fiftyone import to_fiftyone
from vlad.formats.label_studio import to_label_studio
from vlad.formats.records import read_run
from vlad.formats.tables import boxes, to_pandas
from vlad.output.rows import details_of
from vlad.pictures.polygons import draw_polygon
from vlad.pictures.rle import Rle
from vlad.prediction import Prediction

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from command import vlad

SIZE = (40, 60)


def shape(number: int) -> np.ndarray:
    """Two parts, one with a hole, at another place in each picture."""
    mask = np.zeros(SIZE, bool)
    mask[5 : 15 + number, 8:20] = True
    mask[8:11, 12:15] = False
    mask[25:30, 40 + number : 50] = True
    return mask


def prediction(path: Path, mask: np.ndarray | None, score: float = 0.8) -> Prediction:
    heat = np.zeros(SIZE, np.float32) if mask is None else np.where(mask, np.float32(0.75), np.float32(0.1))
    return Prediction(
        image_path=str(path), image_size=SIZE, class_name="part", pred_score=score, threshold=0.5, threshold_source="references",
        mask_threshold=0.5, anomaly_map=heat, scores={"reference": score}, model="a model", prompts="none", seconds=0.1,
        _read=lambda: np.zeros((*SIZE, 3), np.uint8),
    )  # fmt: skip


@pytest.fixture
def run(tmp_path) -> Path:
    """Results of three pictures, the last normal, and of one that could not be read."""
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    rows = []
    for number in range(3):
        path = pictures / f"{number}.png"
        Image.fromarray(np.full((*SIZE, 3), 90 + number, np.uint8)).save(path)
        one = prediction(path, shape(number) if number < 2 else None, 0.8 if number < 2 else 0.2)
        one.save(out, stem=f"{number}")
        rows.append(details_of(one, str(path)) | {"files": f"{number}"})
    rows.insert(1, {"image_path": str(pictures / "gone.png"), "error": "gone.png: no such file", "model": "a model"})
    (out / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return out


class TestRle:
    def test_by_hand(self):
        mask = np.array([[0, 1], [1, 1]], bool)  # columns: 0 1, 1 1
        assert Rle.read({"size": [2, 2], "counts": [1, 3]}).draw().tolist() == mask.tolist()
        assert Rle.of(mask) == Rle.read({"size": [2, 2], "counts": [1, 3]})

    def test_there_and_back(self):
        rng = np.random.default_rng(0)
        for size in ((1, 1), (7, 300), (64, 64)):
            mask = rng.random(size) < 0.4
            assert (Rle.read({"size": list(size), "counts": Rle.of(mask).counts}).draw() == mask).all()

    @pytest.mark.parametrize(
        "value",
        [
            {"size": [2, 2], "counts": [1, 4]},
            {"size": [2, 2], "counts": "zzzzzzzzzz"},
            {"size": [2, 2], "counts": "05"},
            {"size": [2], "counts": "1"},
            {"counts": [4]},
            {"size": [2, 2], "counts": [-1, 5]},
            [1, 2],
            {"size": [2, 2], "counts": "\x7f"},
            {"size": [0, 2], "counts": ""},
            {"size": [-1, -1], "counts": [1]},
            {"size": [46340, 46340], "counts": [46340 * 46340]},
            {"size": [float("inf"), 2], "counts": [2]},
        ],
    )
    def test_damage_is_told_before_it_is_decoded(self, value):
        with pytest.raises(ValueError, match=r"."):
            Rle.read(value)


def test_outlines_hold_their_pixels():
    mask = shape(1)
    filled = mask | (draw_polygon(((8, 5), (20, 5), (20, 16), (8, 16)), SIZE))  # an outline knows no hole
    drawn = np.any([draw_polygon(tuple(map(tuple, one.tolist())), SIZE) for one in outlines(mask)], axis=0)
    assert (drawn == filled).all()


class TestRun:
    def test_pictures_with_their_masks(self, run):
        records = read_run(run)
        assert [Path(one.path).name for one in records] == ["0.png", "1.png", "2.png"]
        assert (records[1].mask == shape(1)).all() and not records[2].mask.any()
        parts = [part for _, part in records[0].parts()]
        assert len(parts) == 2 and (parts[0] ^ parts[1] == shape(0)).all()

    def test_what_is_none(self, run, tmp_path):
        with pytest.raises(ConfigError, match=r"holds no results\.jsonl"):
            read_run(tmp_path)
        row = json.loads((run / "results.jsonl").read_text().splitlines()[0])
        (run / "results.jsonl").write_text(json.dumps(row | {"regions": [{"box": [1, 2, 3, 4]}]}) + "\n")
        with pytest.raises(ConfigError, match=r"the row of .*0\.png is damaged"):
            read_run(run)
        (run / "results.jsonl").write_text(json.dumps(row) + "\n")
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(run / "0_mask.png")
        with pytest.raises(ConfigError, match="is 9 x 9, its picture 60 x 40"):
            to_coco(read_run(run))

    @pytest.mark.parametrize(
        "changes",
        [
            {"image_size": [0, 0]}, {"pred_score": "high"}, {"scores": [1]}, {"regions": [{"box": ["a", 1, 2, 3], "peak_at": [1, 1]}]},
            {"regions": [{"box": [0, 0, 99, 9], "peak_at": [1, 1], "area": 3, "peak": 0.9, "mean": 0.8}]},
            {"regions": [{"box": [0, 0, 9, 9], "peak_at": [1, 1], "area": 3, "peak": 0.9}]},
        ],
    )  # fmt: skip
    def test_a_damaged_row(self, run, changes):
        row = json.loads((run / "results.jsonl").read_text().splitlines()[0])
        (run / "results.jsonl").write_text(json.dumps(row | changes) + "\n")
        with pytest.raises(ConfigError, match=r"the row of .*0\.png is damaged"):
            read_run(run)

    def test_odd_names_come_through(self, run, tmp_path):
        row = json.loads((run / "results.jsonl").read_text().splitlines()[0])
        (run / "results.jsonl").write_text(json.dumps(row | {"image_path": "a b#c%20\udcff.png"}) + "\n")
        (task,) = to_label_studio(read_run(run))
        assert task["data"]["image"] == "/data/local-files/?d=a%20b%23c%2520%FF.png"
        done = vlad("convert", run, "--to", "parquet", "--out", tmp_path / "x.parquet")
        assert done.returncode == 0, done.stderr

    def test_without_masks_there_are_boxes(self, run):
        for path in run.glob("*_mask.png"):
            path.unlink()
        records = read_run(run)
        assert all("segmentation" not in one for one in to_coco(records)["annotations"])
        kinds = [one["type"] for one in to_label_studio(records)[0]["predictions"][0]["result"]]
        assert kinds == ["choices", "rectanglelabels", "rectanglelabels"]


class TestRoundTrip:
    def test_coco(self, run, tmp_path):
        assert vlad("convert", run, "--to", "coco", "--out", tmp_path / "marked.json").returncode == 0
        dataset = load_dataset(tmp_path / "marked.json")
        (category,) = dataset.categories
        assert dataset.layout.name == "coco" and [one.defect for one in category.test] == ["anomaly", "anomaly", "good"]
        for number, one in enumerate(category.test):
            truth = read_truth(one, category, SIZE)
            assert (truth.area == (shape(number) if number < 2 else np.zeros(SIZE, bool))).all()

    def test_pycocotools_reads_it(self, run, tmp_path):
        from pycocotools.coco import COCO

        vlad("convert", run, "--to", "coco", "--out", tmp_path / "marked.json")
        coco = COCO(str(tmp_path / "marked.json"))
        found = coco.loadAnns(coco.getAnnIds(imgIds=[2]))
        assert len(found) == 2 and (np.any([coco.annToMask(one) for one in found], axis=0) == shape(1)).all()
        assert {one["score"] for one in found} == {0.75} and coco.loadImgs([2])[0]["pred_score"] == 0.8

    def test_label_studio(self, run, tmp_path):
        assert vlad("convert", run, "--to", "label-studio", "--out", tmp_path / "tasks.json").returncode == 0
        tasks = json.loads((tmp_path / "tasks.json").read_text())
        for task in tasks:  # somebody accepts the predictions, as its interface does
            (proposal,) = task.pop("predictions")
            task["annotations"] = [{"result": proposal["result"], "was_cancelled": False}]
        tasks.append({"data": {"image": "/data/local-files/?d=unseen.png"}, "annotations": []})
        (tmp_path / "export.json").write_text(json.dumps(tasks))
        dataset = load_dataset(tmp_path / "export.json")
        (category,) = dataset.categories
        assert dataset.layout.name == "label_studio" and len(category.test) == 3 and category.test[2].defect == "good"
        hole = np.zeros(SIZE, bool)
        hole[8:11, 12:15] = True
        for number in range(2):  # an outline has no hole
            assert (read_truth(category.test[number], category, SIZE).area == (shape(number) | hole)).all()

    def test_boxes_and_parquet(self, run, tmp_path):
        assert vlad("convert", run, "--to", "boxes", "--out", tmp_path / "boxes.csv").returncode == 0
        rows = list(csv.DictReader((tmp_path / "boxes.csv").open()))
        assert [Path(row["image_path"]).name for row in rows] == ["0.png", "0.png", "1.png", "1.png", "2.png"]
        assert (rows[0]["left"], rows[0]["bottom"], rows[0]["peak"]) == ("8", "15", "0.75") and rows[4]["left"] == ""
        assert boxes(read_run(run))[4]["pred_label"] is False
        import pandas

        assert vlad("convert", run, "--to", "parquet", "--out", tmp_path / "results.parquet").returncode == 0
        table = pandas.read_parquet(tmp_path / "results.parquet")
        assert table["pred_score"].tolist() == [0.8, 0.8, 0.2] and table["scores.reference"].tolist() == [0.8, 0.8, 0.2]
        assert len(json.loads(table["regions"][0])) == 2

    def test_nothing_to_convert(self, tmp_path):
        run = vlad("convert", tmp_path, "--to", "coco", "--out", tmp_path / "x.json")
        assert run.returncode == 2 and "holds no results.jsonl" in run.stderr and not (tmp_path / "x.json").exists()


def test_fiftyone_reads_each_sample(run):
    fiftyone = pytest.importorskip("fiftyone", reason="FiftyOne is not installed (it wants MongoDB for data sets; samples need none)")
    data = to_fiftyone(read_run(run), "marked")
    samples = [fiftyone.Sample.from_dict(one) for one in data["samples"]]
    found = samples[1].anomalies.detections
    assert samples[1].verdict.label == "anomalous" and samples[2].verdict.label == "normal" and len(found) == 2
    assert (found[0].mask == shape(1)[5:16, 8:20]).all() and found[0].confidence == 0.75
    assert found[0].bounding_box == pytest.approx([8 / 60, 5 / 40, 12 / 60, 11 / 40])


def test_fiftyone_by_hand(run):
    data = to_fiftyone(read_run(run), "marked")
    assert data["name"] == "marked" and set(data["samples"][0]) == set(data["sample_fields"])
    assert data["samples"][2]["anomalies"]["detections"] == []


class TestFrames:
    def test_supervision(self, tmp_path):
        supervision = pytest.importorskip("supervision")
        found = prediction(tmp_path / "a.png", shape(0)).to_supervision()
        assert len(found) == 2 and found.xyxy.tolist() == [[8, 5, 20, 15], [40, 25, 50, 30]] and (found.mask.any(0) == shape(0)).all()
        drawn = supervision.MaskAnnotator().annotate(np.zeros((*SIZE, 3), np.uint8), found)
        assert drawn.any() and len(prediction(tmp_path / "a.png", None, 0.2).to_supervision()) == 0

    def test_pandas(self, tmp_path):
        table = to_pandas([prediction(tmp_path / "a.png", shape(0)), prediction(tmp_path / "b.png", None, 0.2)])
        assert table["pred_label"].tolist() == [True, False] and table["image_width"].tolist() == [60, 60]


class TestYolo:
    def make(self, root: Path) -> Path:
        for split, count in (("train", 2), ("val", 3)):
            for part in ("images", "labels"):
                (root / part / split).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / "images" / split / f"{number}.png")
        (root / "labels/val/0.txt").write_text("1 0.5 0.5 0.75 0.5 0.75 0.75 0.5 0.75\n")
        (root / "labels/val/1.txt").write_text("0 0.5 0.5 0.5 0.5\n\n")
        (root / "labels/train/1.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        (root / "data.yaml").write_text("names: [scratch, dent]\n")
        return root

    def test_outlines_and_boxes(self, tmp_path):
        dataset = load_dataset(self.make(tmp_path / "parts"))
        (category,) = dataset.categories
        assert dataset.layout.name == "yolo" and [one.defect for one in category.test] == ["dent", "scratch", "good"]
        assert [one.path.name for one in category.references] == ["0.png"] and not category.shared
        assert read_truth(category.test[0], category, SIZE).area.sum() == 15 * 10
        assert np.argwhere(read_truth(category.test[1], category, SIZE).area).min(0).tolist() == [10, 15]

    @pytest.mark.parametrize("line", ["1 0.5", "x 1 1 1 1", "0 nan 0 1 1", "0 0.1 0.1 0.2 0.2 0.3", "0 0.1 0.1 0.2 0.2 inf 1"])
    def test_damage(self, tmp_path, line):
        root = self.make(tmp_path / "parts")
        (root / "labels/val/0.txt").write_text(f"1 0.5 0.5 0.5 0.5\n{line}\n")
        with pytest.raises(DatasetError, match=r"0\.txt, line 2"):
            load_dataset(root)

    def test_a_bomb_of_aliases_is_refused(self, tmp_path):
        root = self.make(tmp_path / "parts")
        bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(9))
        (root / "data.yaml").write_text(f"{bomb}names: {{0: *a8}}\n")
        with pytest.raises(DatasetError, match=r"data\.yaml: names no classes .*aliases"):
            load_dataset(root)

    def test_a_picture_that_cannot_be_read_is_told_of_later(self, tmp_path):
        root = self.make(tmp_path / "parts")
        (root / "images/val/0.png").write_bytes(b"no picture")
        (category,) = load_dataset(root).categories
        assert category.test[0].defect == "dent" and not category.test[0].is_marked and len(category.test) == 3


class TestCoco:
    def write(self, place: Path, **changes) -> Path:
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(place.parent / "a.png")
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(place.parent / "b.png")
        square = [[10, 10, 20, 10, 20, 20, 10, 20]]
        data = {
            "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "deep/b.png"}],
            "categories": [{"id": 1, "name": "hole"}, {"id": 2, "name": "good"}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "segmentation": square}, {"id": 2, "image_id": 8, "category_id": 2}],
        }
        place.write_text(json.dumps(data | changes))
        return place

    def test_polygons_and_good_ones(self, tmp_path):
        (category,) = load_dataset(self.write(tmp_path / "parts.json")).categories
        assert [(one.path.name, one.defect) for one in category.test] == [("a.png", "hole"), ("b.png", "good")]
        assert read_truth(category.test[0], category, SIZE).area.sum() == 100

    def test_splits(self, tmp_path):
        for split in ("train", "valid"):
            (tmp_path / "set" / split).mkdir(parents=True)
            self.write(tmp_path / "set" / split / "_annotations.coco.json")
        (category,) = load_dataset(tmp_path / "set").categories
        assert [one.path.parent.name for one in category.references] == ["train"]
        assert {one.path.parent.name for one in category.test} == {"valid"}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"annotations": [{"image_id": 9}]}, "of picture 9, which is not there"),
            ({"annotations": [{"image_id": 7, "category_id": 1, "segmentation": [[1, 2, 3]]}]}, "the shape of annotation 0 of a.png"),
            (
                {"annotations": [{"image_id": 7, "category_id": 1, "segmentation": {"size": [4, 4], "counts": [1]}}]},
                "its runs make 1 pixels",
            ),
            ({"images": 5}, "is no COCO file"),
            ({"images": [{"id": 7, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}]}, "two pictures have the id 7"),
            ({"annotations": [{"image_id": 7, "bbox": [1, 2, 3]}]}, "is no box; expected left, top, width and height"),
            ({"annotations": [{"image_id": 7, "bbox": [1, 2, -3, 4]}]}, "is a box of negative size"),
            ({"annotations": [{"image_id": 7, "bbox": [10**400, 2, 3, 4]}]}, "the shape of annotation 0"),
            ({"annotations": [{"image_id": 7, "segmentation": {"size": [-1, -1], "counts": [1]}}]}, "the shape of annotation 0"),
            (
                {"images": [{"id": 7, "file_name": "a.png", "width": 600, "height": 400}, {"id": 8, "file_name": "b.png"}]},
                "says that a.png is 600 x 400, and it is 60 x 40",
            ),
            ({"images": [{"id": 1}]}, "is no COCO file"),
        ],
    )
    def test_damage(self, tmp_path, changes, message):
        with pytest.raises(DatasetError, match=message):
            load_dataset(self.write(tmp_path / "parts.json", **changes), "coco")

    def test_however_it_is_written(self, tmp_path):
        place = self.write(tmp_path / "parts.json")
        data = json.loads(place.read_text())
        filler = [{"id": 100 + n, "image_id": 7, "category_id": 2, "note": "x" * 900} for n in range(200)]
        place.write_bytes(b"\xef\xbb\xbf" + json.dumps(data | {"annotations": data["annotations"] + filler}, sort_keys=True).encode())
        dataset = load_dataset(tmp_path / "parts.json")
        assert dataset.layout.name == "coco" and dataset.categories[0].test[0].defect == "hole"
        assert load_dataset(tmp_path).layout.name == "coco"

    def test_a_mask_of_another_size(self, tmp_path):
        run = {"size": [20, 20], "counts": [0, 400]}
        shapes = [{"image_id": 7, "category_id": 1, "segmentation": run}]
        (category,) = load_dataset(self.write(tmp_path / "parts.json", annotations=shapes)).categories
        with pytest.raises(DatasetError, match="is 60 x 40, and its mask 20 x 20"):
            read_truth(category.test[0], category, SIZE)


class TestLabelStudio:
    def task(self, *results: dict) -> list[dict]:
        common = {"original_width": 60, "original_height": 40}
        return [{"data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [{"result": [common | one for one in results]}]}]

    def load(self, tmp_path: Path, tasks: object):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "a.png")
        (tmp_path / "export.json").write_text(json.dumps(tasks))
        return load_dataset(tmp_path / "export.json", "label_studio").categories[0]

    def test_a_turned_box(self, tmp_path):
        value = {"x": 50, "y": 25, "width": 20, "height": 10, "rotation": 90, "rectanglelabels": ["dent"]}
        category = self.load(tmp_path, self.task({"type": "rectanglelabels", "value": value}))
        found = np.argwhere(read_truth(category.test[0], category, SIZE).area)
        assert category.test[0].path.name == "a.png" and category.test[0].defect == "dent"
        assert found.min(0).tolist() == [10, 26] and found.max(0).tolist() == [21, 29]  # 12 wide and 4 high, turned about (30, 10)

    def test_an_ellipse(self, tmp_path):
        value = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 90, "ellipselabels": ["scratch"]}
        category = self.load(tmp_path, self.task({"type": "ellipselabels", "value": value}))
        area = read_truth(category.test[0], category, SIZE).area
        found = np.argwhere(area)  # 24 wide and 8 high, turned upright about (30, 20)
        assert abs(area.sum() - np.pi * 12 * 4) < 6 and found.min(0).tolist() == [8, 26] and found.max(0).tolist() == [31, 33]

    def test_relations_mark_nothing_and_keypoints_are_refused(self, tmp_path):
        box = {"type": "rectanglelabels", "value": {"x": 0, "y": 0, "width": 20, "height": 10, "rectanglelabels": ["dent"]}}
        relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
        assert self.load(tmp_path, self.task(box, relation)).test[0].defect == "dent"
        with pytest.raises(DatasetError, match="a mark of type 'keypointlabels', which says of no pixels"):
            self.load(tmp_path, self.task({"type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["dent"]}}))

    def test_a_choice_decides(self, tmp_path):
        box = {"x": 0, "y": 0, "width": 20, "height": 10, "rectanglelabels": ["dent"]}
        results = ({"type": "rectanglelabels", "value": box}, {"type": "choices", "value": {"choices": ["Good"]}})
        assert self.load(tmp_path, self.task(*results)).test[0].defect == "good"

    @pytest.mark.parametrize("task", [{"data": {}}, {"data": {"image": "a.png"}}, 5, {"data": {"image": "a.png"}, "annotations": 3}])
    def test_damage(self, tmp_path, task):
        with pytest.raises(DatasetError, match="task 0 cannot be read"):
            self.load(tmp_path, [task])
