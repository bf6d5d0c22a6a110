"""What the camera did to the whole picture: told in words, matched where that is wanted, remembered where it is known before."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError
from vlad.pictures.appearance import differences, mean_light, measure, with_light


def part(seed: int, *, bad: bool = False, size: int = 320) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    radius = np.hypot(rows - size / 2, cols - size / 2)
    pixels = np.full((size, size, 3), 190.0)
    pixels[(radius < 110) & (radius > 50)] = [110, 110, 115]
    pixels += rng.normal(0, 3, pixels.shape)
    if bad:
        pixels[60:75, 150:190] = [40, 35, 30]
    return pixels.clip(0, 255).astype(np.uint8)


def jpeg(picture: np.ndarray, quality: int = 30) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


CHANGES = {
    "nothing": (lambda picture: picture, ()),
    "darker": (lambda picture: (picture * 0.8).astype(np.uint8), ("darker than every reference by 20%",)),
    "brighter": (lambda picture: (picture * 1.2).clip(0, 255).astype(np.uint8), ("brighter than every reference by 20%",)),
    "blurred": (lambda picture: cv2.GaussianBlur(picture, (0, 0), 2), ("less sharp than every reference",)),
    "noisy": (
        lambda picture: (picture + np.random.default_rng(0).normal(0, 25, picture.shape)).clip(0, 255).astype(np.uint8),
        ("sharper or noisier than every reference",),
    ),
    "larger": (lambda picture: cv2.resize(picture, (640, 640)), ("of another size than every reference (640 x 640 pixels)",)),
    "cut": (lambda picture: picture[:200], ("of another shape than every reference (320 x 200 pixels)",)),
}


@pytest.fixture(scope="module")
def references():
    return [measure(part(seed)) for seed in range(8)]


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_told_in_words(references, name):
    change, words = CHANGES[name]
    found = differences(measure(change(part(100))), references)
    assert (
        [one for one in found if one.split(" than ")[0] in {word.split(" than ")[0] for word in words}] and set(words) <= set(found)
    ) or not words
    assert words or found == ()


def test_black_references():
    black, bright = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 60, np.uint8)
    speck = black.copy()
    speck[3:5, 3:5] = 200
    assert differences(measure(black + 1), [measure(speck)]) == ("less sharp than every reference",), "a grey level is no light"
    assert "brighter than every reference" in differences(measure(bright), [measure(speck)])


def test_compression_is_told(references):
    assert any("compressed more strongly" in one for one in differences(measure(jpeg(part(100))), references))


def test_a_defect_alone_is_no_difference_of_the_whole(references):
    assert differences(measure(part(100, bad=True)), references) == () and differences(measure(part(100)), []) == ()


def test_good_pictures_that_vary_are_not_told_of():
    rng = np.random.default_rng(0)
    light = rng.normal(1, 0.06, 40)
    pictures = [measure((part(number) * scale).clip(0, 255).astype(np.uint8)) for number, scale in enumerate(light)]
    told = [bool(differences(one, pictures[:10])) for one in pictures[10:]]
    assert np.mean(told) <= 0.1


@pytest.mark.parametrize("gain", [0.5, 0.8, 1.0, 1.2])
def test_light_is_matched(gain):
    picture = part(5)
    changed = (picture * gain).clip(0, 255).astype(np.uint8)
    found = with_light(changed, measure(picture).light)
    assert np.abs(found.astype(int) - picture).mean() < 2.5
    assert with_light(np.zeros((32, 32, 3), np.uint8), measure(picture).light).max() == 0


class TestDetector:
    @pytest.fixture(scope="class")
    def lite(self):
        return LiteBackbone(device="cpu")

    @pytest.fixture(scope="class")
    def fitted(self, lite):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            good = [part(seed) for seed in range(6)]
            return {
                "plain": AnomalyDetector(lite, rotations=1).fit(good),
                "exposure": AnomalyDetector(lite, rotations=1, adapt="exposure").fit(good),
                "mild": AnomalyDetector(lite, rotations=1, mild_changes=True).fit(good),
            }

    def test_the_verdict_says_how_the_whole_differs(self, fitted):
        dark = (part(50) * 0.7).astype(np.uint8)
        result = fitted["plain"].predict(dark)
        assert result.differs == ("darker than every reference by 30%",)
        assert result.verdict.endswith("; as a whole darker than every reference by 30%")
        assert result.to_dict()["differs"] == list(result.differs)
        assert fitted["plain"].predict(part(50)).differs == ()

    @pytest.mark.parametrize("gain", [0.8, 1.2])
    def test_matched_light_brings_no_false_alarm_and_hides_no_defect(self, fitted, gain):
        good, bad = ((part(50, bad=is_bad) * gain).clip(0, 255).astype(np.uint8) for is_bad in (False, True))
        plain, matched = fitted["plain"], fitted["exposure"]
        assert matched.predict(good).pred_score < plain.predict(good).pred_score
        assert matched.predict(bad).pred_label is True and matched.predict(bad).pred_score > 3 * matched.predict(good).pred_score

    def test_what_is_known_before_scores_less(self, fitted):
        for name in ("darker", "brighter", "blurred"):
            changed = CHANGES[name][0](part(50))
            assert fitted["mild"].predict(changed).pred_score < 0.8 * fitted["plain"].predict(changed).pred_score, name
        assert fitted["mild"].predict(part(50, bad=True)).pred_label is True

    def test_saved_and_loaded(self, fitted, lite, tmp_path):
        picture = (part(50) * 0.8).astype(np.uint8)
        for name, detector in fitted.items():
            loaded = AnomalyDetector.load(detector.save(tmp_path / name), backbone=lite)
            before, after = detector.predict(picture), loaded.predict(picture)
            assert (before.pred_score, before.differs, before.threshold) == (after.pred_score, after.differs, after.threshold)
        with pytest.raises(ConfigError, match="was fitted with adapt='exposure', not None"):
            AnomalyDetector.load(tmp_path / "exposure", backbone=lite, adapt=None)

    def test_further_references_are_matched_to_the_first(self, fitted):
        detector = fitted["exposure"].copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector.add_references((part(60) * 0.7).astype(np.uint8))
        assert detector.memory.light == fitted["exposure"].memory.light == mean_light([measure(part(seed)) for seed in range(6)])
        assert max(score for score, _ in detector.memory.scores.values()) < 0.1 and len(detector.memory.appearances) == 7
        detector.remove_references(detector.references[-1])
        assert len(detector.memory.appearances) == 6

    def test_folders_of_earlier_versions_say_nothing(self, fitted, lite, tmp_path):
        import json

        folder = fitted["plain"].save(tmp_path / "old")
        config = json.loads((folder / "config.json").read_text())
        del config["memory"]["appearances"], config["memory"]["light"], config["sha256"]
        (folder / "config.json").write_text(json.dumps(config))
        assert AnomalyDetector.load(folder, backbone=lite).predict((part(50) * 0.5).astype(np.uint8)).differs == ()

    @pytest.mark.parametrize("wrong", [{"adapt": "contrast"}, {"adapt": True}, {"mild_changes": 1}])
    def test_out_of_range(self, lite, wrong):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            AnomalyDetector(lite, **wrong)


class TestLongPictures:
    @pytest.fixture(scope="class")
    def lite(self):
        return LiteBackbone(device="cpu")

    def surface(self, seed: int, *, crack: bool = False) -> np.ndarray:
        rng = np.random.default_rng(seed)
        pixels = 128 + 25 * np.sin(np.arange(1800) / 9)[None] + rng.normal(0, 5, (320, 1800))
        if crack:
            pixels[100:140, 1300:1302] = 40
        return np.repeat(pixels.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)

    def test_a_hairline_crack_is_found_and_it_is_said_how(self, lite):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = AnomalyDetector(lite, rotations=1, tile=0).fit([self.surface(seed) for seed in range(3)])
            squeezed = whole.predict(self.surface(9, crack=True))
            tiled = AnomalyDetector(lite, rotations=1).fit([self.surface(seed) for seed in range(3)])
            good, bad = tiled.predict(self.surface(9)), tiled.predict(self.surface(9, crack=True))
        assert bad.pred_score > squeezed.pred_score and bad.pred_label is True and good.pred_label is False
        assert bad.anomaly_map.shape == (320, 1800) and bad.anomaly_map[95:145, 1285:1317].max() == bad.anomaly_map.max()
        assert any("pictures of 1800 x 320 are looked at in" in note and "tiles of 448 x 320" in note for note in bad.warnings)
        assert "--tile 0" in bad.to_dict()["warnings"][-1] and whole.predict(self.surface(9)).warnings == ()

    def test_each_picture_gets_its_own_remarks(self, lite):
        one = np.full((64, 64, 3), 90, np.uint8)
        pictures = [self.surface(9), self.surface(9)[:, :320], one]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            long, square, blank = AnomalyDetector(lite, rotations=1).fit([self.surface(0)]).predict(pictures)
            judged = AnomalyDetector(lite).predict_mutual([*(self.surface(seed)[:, :320] for seed in range(8)), one])
        assert "are looked at in" in long.warnings[-1] and square.warnings == ()
        assert [note.split(":")[1] for note in blank.warnings] == [
            " every pixel has the same value, so there is nothing to see; check the camera"
        ]
        assert [len(one.warnings) for one in judged] == [0] * 8 + [1]

    @pytest.mark.parametrize(
        ("height", "width", "tiles"),
        [(400, 799, 0), (300, 620, 0), (300, 700, 1), (700, 300, 1), (1000, 1900, 0), (512, 4096, 1)],
    )
    def test_where_it_begins(self, lite, height, width, tiles):
        detector = AnomalyDetector(lite)
        scorer = detector._scorer(memory=None)
        assert (scorer._tile_of(np.zeros((height, width, 3), np.uint8)) is not None) == bool(tiles)
        assert AnomalyDetector(lite, tile=0)._scorer(memory=None)._tile_of(np.zeros((height, width, 3), np.uint8)) is None

    def test_folders_of_earlier_versions_keep_the_old_way(self, lite, tmp_path):
        import json

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            old = AnomalyDetector(lite, rotations=1, tile=0).fit([self.surface(seed) for seed in range(3)])
            folder = old.save(tmp_path / "old")
            config = json.loads((folder / "config.json").read_text())
            config["format_version"], config["settings"]["tile"], config["memory"]["settings"]["tile"] = 2, None, None
            del config["sha256"]
            (folder / "config.json").write_text(json.dumps(config))
            loaded = AnomalyDetector.load(folder, backbone=lite)
        assert loaded.predict(self.surface(9)).pred_score == old.predict(self.surface(9)).pred_score and loaded.config.tile == 0

    def test_a_scorer_that_compares_place_with_place_takes_none(self, lite):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = AnomalyDetector(lite, scorer="gaussian").fit([self.surface(seed) for seed in range(3)])
            assert "tiles" not in detector.predict(self.surface(9)).scores


class TestWarnings:
    def test_reach_the_result(self, tmp_path: Path):
        detector = AnomalyDetector(LiteBackbone(device="cpu"))
        dark, plain = np.full((64, 64, 3), 900, np.uint16), part(0)
        dark[0, 0] = 1000
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first, second = detector.predict([dark, plain], class_name="qwertzuiop")
        assert any("16-bit maximum is 1000" in note for note in first.warnings) and not any("16-bit" in note for note in second.warnings)
        assert any("does not know 'qwertzuiop'" in note for note in second.warnings)
        assert first.to_dict()["warnings"] == list(first.warnings)
