"""Predictions: labels, masks, plain JSON, files, and overlays on an absolute scale."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad import AnomalyDetector, Prediction, read_image
from vlad.errors import VladError
from vlad.scoring.pictures import PictureScorer
from vlad.visualization import absolute_scale, colourise, draw_overlay


def make(picture: np.ndarray, anomaly_map: np.ndarray | None, **changes) -> Prediction:
    values = {
        "image_path": None, "image_size": picture.shape[:2], "class_name": "part", "pred_score": 0.8, "threshold": 0.5,
        "threshold_source": "text", "mask_threshold": 0.5, "anomaly_map": anomaly_map, "scores": {"text_image": 0.8}, "model": "test model",
        "prompts": "winclip", "seconds": 0.1, "_read": lambda: picture,
    }  # fmt: skip
    return Prediction(**values | changes)


@pytest.fixture
def picture() -> np.ndarray:
    return np.full((80, 120, 3), 90, np.uint8)


@pytest.fixture
def spot() -> np.ndarray:
    anomaly_map = np.full((80, 120), 0.1, np.float32)
    anomaly_map[20:30, 40:60] = 0.9
    return anomaly_map


class TestLabel:
    @pytest.mark.parametrize(
        ("score", "threshold", "label"), [(0.51, 0.5, True), (0.5, 0.5, False), (0.49, 0.5, False), (0.9, None, None)], ids=str
    )
    def test_above_the_threshold(self, picture, score, threshold, label):
        assert make(picture, None, pred_score=score, threshold=threshold).pred_label is label

    @pytest.mark.parametrize(
        ("score", "threshold", "expected"),
        [
            (0.83, 0.5, "anomalous: score 0.83, threshold 0.50 (text)"),
            (0.31, 0.5, "normal: score 0.31, threshold 0.50 (text)"),
            (0.5, 0.5, "normal: score 0.50, threshold 0.50 (text)"),
            (0.50004, 0.5, "anomalous: score 0.50004, threshold 0.50000 (text)"),
            (0.4996, 0.5, "normal: score 0.4996, threshold 0.5000 (text)"),
            (0.3, None, "undecided: score 0.30, no threshold"),
        ],
    )
    def test_verdict_never_shows_equal_numbers_for_different_ones(self, picture, score, threshold, expected):
        assert make(picture, None, pred_score=score, threshold=threshold).verdict == expected


class TestContract:
    def test_fields(self, detector, golden):
        result = detector.predict(golden.pictures()[0], class_name="metal_nut")
        assert isinstance(result.pred_score, float) and 0 <= result.pred_score <= 1
        assert result.pred_label is (result.pred_score > 0.5)
        assert (result.threshold, result.threshold_source) == (0.5, "text")
        assert result.anomaly_map.dtype == np.float32 and result.anomaly_map.shape == (96, 96)
        assert result.pred_mask.dtype == bool and np.array_equal(result.pred_mask, result.anomaly_map > 0.5)
        assert result.class_name == "metal nut" and result.model == "tiny deterministic CLIP"
        assert sum(r.area for r in result.regions) == result.pred_mask.sum()

    def test_the_users_threshold(self, detector, golden):
        low, high = (detector.predict(golden.pictures()[0], threshold=t) for t in (0.0, 1.0))
        assert low.pred_label is True and high.pred_label is False and low.threshold_source == high.threshold_source == "user"
        assert low.pred_mask.all() and not high.pred_mask.any()
        both = detector.predict(golden.pictures()[0], threshold=0.0, mask_threshold=1.0)
        assert both.pred_label is True and not both.pred_mask.any()

    def test_map_has_the_size_of_the_picture_as_displayed(self, detector, tmp_path):
        path = tmp_path / "turned.jpg"
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 70, 3), np.uint8)).save(path, exif=exif)
        result = detector.predict(path)
        assert result.image_size == (70, 40) and result.anomaly_map.shape == (70, 40) and result.image.shape == (70, 40, 3)

    def test_to_dict_is_plain_json(self, picture, spot):
        result = make(picture, spot)
        values = result.to_dict()
        assert json.loads(json.dumps(values, allow_nan=False)) == values
        assert (values["anomaly_score"], values["anomaly_threshold"], values["is_anomalous"]) == (0.8, 0.5, True)
        assert (values["pred_score"], values["threshold"], values["pred_label"], values["model"]) == (0.8, 0.5, True, "test model")
        assert values["regions"][0]["box"] == [40, 20, 60, 30] and values["regions"][0]["area"] == 200

    def test_travels_between_processes(self, detector, picture_folder):
        result = detector.predict(picture_folder / "part_0.png")
        again = pickle.loads(pickle.dumps(result))
        assert again.pred_score == result.pred_score and np.array_equal(again.image, result.image)


class TestSave:
    def test_files_hold_the_values(self, picture, spot, tmp_path):
        files = make(picture, spot, image_path="some/where/part 1.final.png").save(tmp_path / "new" / "folder")
        assert sorted(path.name for path in files.values()) == [
            "part 1.final.json", "part 1.final_map.tiff", "part 1.final_mask.png", "part 1.final_overlay.png",
        ]  # fmt: skip
        assert np.array_equal(np.asarray(Image.open(files["map"])), spot)
        assert np.array_equal(np.asarray(Image.open(files["mask"])), np.where(spot > 0.5, 255, 0))
        assert json.loads(files["json"].read_text())["pred_score"] == 0.8
        assert Image.open(files["overlay"]).size[0] == 320

    def test_without_a_map(self, picture, tmp_path):
        assert list(make(picture, None).save(tmp_path)) == ["json"]
        with pytest.raises(VladError, match="maps=True"):
            make(picture, None).overlay()


class TestOverlay:
    def test_the_threshold_is_always_the_same_colour(self):
        for threshold in (0.2, 0.5, 0.9):
            assert absolute_scale(np.array([0.0, threshold, 1.0]), threshold).tolist() == pytest.approx([0, 0.5, 1])
            assert np.array_equal(colourise(np.array([[threshold]]), threshold), colourise(np.array([[0.5]]), 0.5))

    def test_order_is_kept(self):
        assert (np.diff(absolute_scale(np.linspace(0, 1, 50), 0.3)) > 0).all()

    @pytest.mark.parametrize("shape", [(400, 400), (300, 900), (900, 300)])
    def test_a_normal_picture_stays_cold(self, shape):
        """Also where its map varies: nothing is stretched to the map's own range."""
        picture = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
        anomaly_map = np.linspace(0.02, 0.29, shape[1], dtype=np.float32)[None].repeat(shape[0], 0)
        drawn = draw_overlay(picture, anomaly_map, threshold=0.5, mask=anomaly_map > 0.5)
        assert np.array_equal(np.asarray(drawn)[: shape[0]], picture)

    def test_heat_is_where_the_map_is(self):
        picture = np.full((400, 600, 3), 90, np.uint8)
        anomaly_map = np.zeros((400, 600), np.float32)
        anomaly_map[100:200, 300:400] = 0.95
        plain = np.asarray(draw_overlay(picture, anomaly_map, threshold=0.5)).astype(int)
        changed = (plain[:400] != 90).any(-1)
        assert np.array_equal(changed, anomaly_map > 0)
        assert plain[150, 350, 0] > 150 > plain[150, 350, 2]
        outlined = np.asarray(draw_overlay(picture, anomaly_map, threshold=0.5, mask=anomaly_map > 0.5)).astype(int)
        edge = (outlined[:400] != plain[:400]).any(-1)
        assert edge[100, 350] and edge[150, 300] and not edge[150, 350] and not edge[50, 50]

    def test_a_defect_of_one_pixel_survives_reduction(self):
        picture, anomaly_map = np.full((3000, 4000, 3), 90, np.uint8), np.zeros((3000, 4000), np.float32)
        anomaly_map[1500, 2000] = 1
        drawn = np.asarray(draw_overlay(picture, anomaly_map, threshold=0.5, mask=anomaly_map > 0.5, max_side=1000))
        assert drawn.shape[1] == 1000 and (drawn[740:760, 490:510] != 90).any()

    def test_outlines_mark_what_was_called_anomalous(self, picture, spot):
        """A score below the threshold is a verdict on the whole; outlines beneath it would say the opposite."""

        def has_outline(result: Prediction) -> bool:
            return bool((np.asarray(result.overlay()) == (64, 240, 255)).all(-1).any())

        assert has_outline(make(picture, spot)) and has_outline(make(picture, spot, threshold=None))
        normal = make(picture, spot, pred_score=0.3)
        assert not has_outline(normal) and normal.regions == () and not normal.pred_mask.any()

    @pytest.mark.parametrize("shape", [(3000, 16), (16, 3000), (16, 16)], ids=str)
    def test_any_shape(self, shape):
        drawn = make(np.zeros((*shape, 3), np.uint8), np.ones(shape, np.float32)).overlay()
        assert drawn.width >= 240 and max(shape) <= 3000

    def test_max_side(self):
        picture = np.zeros((400, 800, 3), np.uint8)
        assert draw_overlay(picture, np.zeros((400, 800), np.float32), threshold=0.5, max_side=300).width == 300
        with pytest.raises(ValueError, match="max_side must be None or at least 64"):
            draw_overlay(picture, np.zeros((400, 800), np.float32), threshold=0.5, max_side=10)

    def test_legend_is_below_and_fits(self, picture, spot):
        drawn = make(picture, spot, class_name="a very long class name " * 10, model="Модель é").overlay()
        assert drawn.width == 320 and 213 < drawn.height < 400

    def test_sizes_must_agree(self, picture):
        with pytest.raises(ValueError, match=r"anomaly_map must have the picture's size \(80, 120\), got \(10, 10\)"):
            draw_overlay(picture, np.zeros((10, 10), np.float32), threshold=0.5)


class TestPredict:
    """One in, one out; list in, list out, same order; predict changes nothing."""

    def test_batch_of_one_equals_batch_of_many(self, detector, golden):
        pictures = [*golden.pictures("query"), *golden.pictures("reference")]
        together = detector.predict(pictures, batch_size=4)
        for picture, result in zip(pictures, together, strict=True):
            alone = detector.predict(picture)
            assert alone.pred_score == result.pred_score and np.array_equal(alone.anomaly_map, result.anomaly_map)
            assert alone.scores == result.scores

    def test_order_is_kept(self, detector, golden):
        pictures = golden.pictures()
        forward, backward = ([r.pred_score for r in detector.predict(p, batch_size=2)] for p in (pictures, pictures[::-1]))
        assert forward == backward[::-1] and len(set(forward)) == 3

    def test_same_input_same_result(self, detector, golden):
        first, second = (detector.predict(golden.pictures()[0]) for _ in range(2))
        assert first.pred_score == second.pred_score and np.array_equal(first.anomaly_map, second.anomaly_map)

    def test_predict_changes_nothing(self, detector, golden):
        before = {name: tensor.clone() for name, tensor in detector.backbone.model.state_dict().items()}
        config, picture = detector.config, golden.pictures()[0].copy()
        detector.predict(picture, threshold=0.1, class_name="nut", tile=96)
        assert detector.config == config and np.array_equal(picture, golden.pictures()[0])
        assert all((before[name] == tensor).all() for name, tensor in detector.backbone.model.state_dict().items())

    def test_every_kind_of_source_agrees(self, detector, picture_folder):
        import torch

        path = picture_folder / "part_0.png"
        array = read_image(path)
        tensor = torch.from_numpy(array).permute(2, 0, 1)
        sources = [path, str(path), path.read_bytes(), Image.open(path), array, tensor, array.astype(np.float32) / 255]
        singles = [detector.predict(source).pred_score for source in sources]
        assert singles == pytest.approx([singles[0]] * len(sources), abs=0)
        assert [r.pred_score for r in detector.predict(sources)] == singles

    def test_a_batch_array_is_many_pictures(self, detector, golden):
        results = detector.predict(np.stack(golden.pictures()))
        assert [r.pred_score for r in results] == [detector.predict(p).pred_score for p in golden.pictures()]

    def test_list_in_list_out(self, detector, golden):
        assert detector.predict([]) == []
        assert isinstance(detector.predict(golden.pictures()[:1]), list)
        assert isinstance(detector.predict(golden.pictures()[0]), Prediction)

    def test_nothing_done_is_lost(self, detector, picture_folder):
        (picture_folder / "broken.png").write_bytes(b"not a picture")
        paths = [picture_folder / name for name in ("part_0.png", "broken.png", "part_1.png")]
        with pytest.raises(VladError, match=r"broken\.png"):
            detector.predict(paths)
        good, error, also_good = detector.predict(paths, on_error="return")
        assert "broken.png" in str(error)
        assert [good.pred_score, also_good.pred_score] == [detector.predict(p).pred_score for p in (paths[0], paths[2])]

    def test_reads_no_further_than_it_is_asked(self, detector, picture_folder):
        read = []

        def sources():
            for path in sorted(picture_folder.iterdir()):
                read.append(path)
                yield path

        results = detector.predict_iter(sources(), batch_size=1)
        next(results)
        assert len(read) == 1

    def test_reads_a_list_one_batch_ahead_and_no_further(self, detector, golden):
        paths = [f"part_{number}.png" for number in range(9)]
        started = [threading.Event() for _ in paths]

        def read(path):
            started[paths.index(path)].set()
            return golden.pictures()[0]

        detector = detector.copy()
        type(detector).reader, before = property(lambda self: read), type(detector).reader
        try:
            results = detector.predict_iter(paths, batch_size=2)
            next(results)
            assert started[3].wait(30), "the next two are read while the first are looked at"
            assert not started[4].is_set()
            results.close()
        finally:
            type(detector).reader = before

    def test_pictures_before_a_fault_come_first(self, detector, picture_folder):
        paths = [picture_folder / name for name in ("part_0.png", "part_1.png", "broken.png")]

        def breaks_off():
            yield from paths[:2]
            raise KeyError("the camera is gone")

        for images, error in ((paths, VladError), (iter(paths), VladError), (breaks_off(), KeyError)):
            results = detector.predict_iter(images, batch_size=8)
            assert [next(results).image_path for _ in range(2)] == list(map(str, paths[:2]))
            with pytest.raises(error):
                next(results)

    def test_an_unreadable_picture_stands_in_its_place_when_read_ahead(self, detector, picture_folder):
        paths = [picture_folder / name for name in ("part_0.png", "broken.png", "part_1.png")]
        results = detector.predict_iter(paths, batch_size=1)
        assert next(results).image_path == str(paths[0])
        with pytest.raises(VladError, match=r"broken\.png"):
            next(results)
        found = list(detector.predict_iter(paths, batch_size=1, on_error="return"))
        assert [type(one).__name__ for one in found] == ["Prediction", "ImageReadError", "Prediction"]

    def test_a_picture_that_is_kept_is_not_read_again(self, detector, picture_folder, tmp_path):
        path = shutil.copy(picture_folder / "part_0.png", tmp_path / "part.png")
        (kept,) = detector.predict_iter([path], keep_images=True)
        (other,) = detector.predict_iter([path])
        picture = read_image(path)
        Path(path).unlink()
        assert (kept.image == picture).all() and kept.overlay().size
        kept.image[:] = 0
        assert (kept.image == picture).all(), "whoever changes it changes a copy"
        with pytest.raises(VladError, match=r"part\.png"):
            other.image  # noqa: B018

    @pytest.mark.parametrize("batch_size", [0, -1, 2.5])
    def test_batch_size(self, detector, golden, batch_size):
        with pytest.raises(VladError, match="batch_size"):
            detector.predict(golden.pictures(), batch_size=batch_size)

    def test_large_pictures_fill_a_batch_sooner(self, detector, golden, monkeypatch):
        monkeypatch.setattr("vlad.pictures.batches._BATCH_PIXELS", 2 * 96 * 96)
        sizes = []
        original = PictureScorer.score
        monkeypatch.setattr(PictureScorer, "score", lambda self, pictures: sizes.append(len(pictures)) or original(self, pictures))
        results = detector.predict([*golden.pictures(), *golden.pictures("reference")], batch_size=4)
        assert sizes == [2, 2, 1] and len(results) == 5

    def test_a_picture_of_one_value_is_no_quiet_pass(self, detector):
        with pytest.warns(UserWarning, match="every pixel has the same value"):
            detector.predict(np.full((96, 96, 3), 17, np.uint8))

    @pytest.mark.parametrize("options", [{"on_error": "ignore"}, {"threshold": "0.5"}, {"tile": "64"}, {"mask_threshold": 2}], ids=str)
    def test_options_out_of_range(self, detector, golden, options):
        with pytest.raises(VladError, match=next(iter(options))):
            detector.predict(golden.pictures(), **options)

    def test_predict_iter_takes_many(self, detector):
        with pytest.raises(VladError, match="put it into a list"):
            next(detector.predict_iter("part.png"))

    def test_scales_of_none_at_all(self, backbone, prompts, golden):
        result = AnomalyDetector(backbone, prompts=prompts, scales=()).predict(golden.pictures()[0])
        assert result.anomaly_map is None and 0 < result.pred_score < 1


def test_printed_it_is_one_line(picture, spot):
    shown = repr(make(picture, spot, image_path="parts/a.png"))
    assert (
        shown
        == "<Prediction of parts/a.png, 120 x 80: anomalous: score 0.80, threshold 0.50 (text), 1 marked place>"
        == str(make(picture, spot, image_path="parts/a.png"))
    )
    assert repr(make(picture, None, threshold=None)) == "<Prediction of a picture, 120 x 80: undecided: score 0.80, no threshold>"
