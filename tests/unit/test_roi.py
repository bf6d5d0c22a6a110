"""Where to look: what lies outside has no influence at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.config import DetectorConfig
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.pictures.roi import Roi, in_short, patches_inside
from vlad.synthetic import ProductLine

SIZE = (120, 160)
BOX = "20,30,100,60"


@pytest.fixture(scope="module")
def blank() -> AnomalyDetector:
    return AnomalyDetector(LiteBackbone(device="cpu"), rotations=1)


@pytest.fixture(scope="module")
def parts() -> list[np.ndarray]:
    return [ProductLine("gear", 3, 160).sample(number).image for number in range(6)]


def damaged(picture: np.ndarray, x: int, y: int, side: int = 18) -> np.ndarray:
    other = picture.copy()
    other[y : y + side, x : x + side] = (250, 20, 220)
    return other


def roi(look=None, ignore=None) -> Roi:
    found = DetectorConfig(roi=look, ignore=ignore).look
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("look", "ignore", "count"),
    [
        (BOX, None, 100 * 60),
        ((20, 30, 100, 60), None, 100 * 60),
        (np.array([20, 30, 100, 60]), None, 100 * 60),
        (tuple(np.array([20, 30, 100, 60])), None, 100 * 60),
        ("1e-1,0,0.5,1", None, 80 * 120),  # shares, although the first has no point
        ("0.25,0.25,0.5,0.5", None, 80 * 60),
        (None, BOX, 120 * 160 - 100 * 60),
        (BOX, "20,30,50,60", 50 * 60),
        ("0,0,10,10; 150,110,100,100", None, 100 + 100),  # beyond the border it is cut
        (np.eye(120, 160, dtype=bool), None, 120),
        (np.ones((60, 80), np.uint8), None, 120 * 160),  # a mask is laid over the whole picture
    ],
)
def test_what_counts(look, ignore, count):
    assert roi(look, ignore).mask(SIZE).sum() == count


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1,2,3", "must be a box"),
        ("1,2,3,x", "must be a box"),
        ("nowhere.png", "there is no such file"),
        ("-1,0,5,5", "x and y >= 0"),
        ("0,0,0,5", "> 0"),
        ("0.5,0.5,0.6,0.5", "reaches beyond it"),
        ("0,0,1e999,10", "> 0"),
        ("x" * 5000, "no such file"),
        (np.zeros((8, 8), bool), "selects nothing"),
        (np.ones((8, 8, 3), np.uint8), "bool or uint8"),
        ((1, 2, 3), "must be a box"),
        (7, "must be a box"),
        ("mask:no base64", "damaged"),
    ],
)
def test_what_is_no_region(value, said):
    with pytest.raises(ConfigError, match=said):
        DetectorConfig(roi=value)


def test_no_part_is_everywhere():
    assert DetectorConfig(roi=" ; ").roi is None and DetectorConfig(roi="", ignore=BOX).look == Roi(None, BOX)


def test_nothing_left_and_a_mask_of_other_pictures():
    with pytest.raises(ConfigError, match="nothing of a picture of 160 x 120 pixels"):
        roi(BOX, "0,0,1000,1000").mask(SIZE)
    with pytest.raises(ConfigError, match="another shape"):
        roi(np.ones((50, 50), bool)).mask(SIZE)


def test_a_file_is_kept_in_the_settings(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.kron([[0, 255], [0, 255]], np.ones((30, 40))).astype(np.uint8)).save(path)
    config = DetectorConfig(roi=path, ignore=BOX)
    assert DetectorConfig(roi=str(path)).roi == config.roi
    path.unlink()
    again = DetectorConfig.from_dict(config.to_dict())
    assert again == config and again.look.mask(SIZE).sum() == 80 * 120 - 60 * 40
    assert in_short(config.roi) == "a mask of 80 x 60 pixels" and in_short(config.ignore) == BOX and in_short(None) == "none"


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 60), st.integers(1, 60))
def test_cut_and_back(x, y, w, h):
    """Every pixel inside keeps its place, and none outside gets a value."""
    region = Roi(f"{x},{y},{w},{h}", "40,40,9,9")
    try:
        mask = region.mask((100, 100))
    except ConfigError:
        assert x >= 40 and y >= 40 and x + w <= 49 and y + h <= 49
        return
    picture = np.random.default_rng(0).integers(1, 255, (100, 100, 3), np.uint8)
    cut, inside = region.cut(picture)
    back = region.whole(cut[..., 0].astype(np.float32), (100, 100))
    assert np.array_equal(back, np.where(mask, picture[..., 0], 0))
    assert inside is None or not inside.all()


def test_patches_half_inside_count():
    inside = np.zeros((100, 100), bool)
    inside[:, :35] = True  # of ten columns of patches three and a half
    found = patches_inside(inside, (10, 10), (1.0, 1.0)).reshape(10, 10)
    assert found[:, :4].all() and not found[:, 4:].any()
    inside[:] = False
    inside[50, 50] = True
    assert patches_inside(inside, (10, 10), (1.0, 1.0)).sum() == 1  # one at least
    padded = patches_inside(np.ones((50, 100), bool), (10, 10), (0.5, 1.0)).reshape(10, 10)
    assert padded[:5].all() and not padded[5:].any()


_BOTH = {"roi": "0,0,160,120", "ignore": "60,50,30,30"}


@pytest.mark.parametrize(
    ("scorer", "where"),
    [
        ("nearest", {"roi": "30,30,100,80"}),
        ("nearest", {"ignore": "0,100,160,60"}),
        ("nearest", _BOTH),
        ("winclip", _BOTH),
        ("subspace", _BOTH),
        ("gaussian", _BOTH),
    ],
)
def test_outside_nothing_matters(blank, parts, scorer, where):
    detector = blank.copy(scorer=scorer, **where)
    detector.fit([damaged(part, 60, 125) for part in parts[:3]])
    clean = blank.copy(scorer=scorer, **where).fit(parts[:3])
    assert detector.predict(parts[4]).pred_score == clean.predict(parts[4]).pred_score
    before, after = clean.predict(parts[5]), clean.predict(damaged(parts[5], 100, 130))
    assert before.pred_score == after.pred_score and np.array_equal(before.anomaly_map, after.anomaly_map)
    assert before.threshold == detector.predict(parts[5]).threshold
    mask = clean.config.look.mask(parts[5].shape[:2])
    assert not after.anomaly_map[~mask].any() and after.anomaly_map[mask].any()


def test_inside_it_is_found(blank, parts):
    detector = blank.copy(roi="20,20,120,120").fit(parts[:4])
    bad = detector.predict(damaged(parts[5], 70, 30))
    assert bad.pred_label and bad.pred_score > 2 * detector.predict(parts[5]).pred_score
    y, x = np.unravel_index(bad.anomaly_map.argmax(), bad.anomaly_map.shape)
    assert 60 < x < 98 and 20 < y < 58


def test_words_look_there_only(blank, parts):
    detector = blank.copy(roi="0,0,160,100")
    before, after = detector.predict(parts[0]), detector.predict(damaged(parts[0], 80, 130))
    assert before.pred_score == after.pred_score and np.array_equal(before.anomaly_map, after.anomaly_map)
    assert before.pred_score != blank.predict(parts[0]).pred_score


def test_tiles_and_turned_references(blank, parts):
    large = [np.kron(part, np.ones((6, 6, 1), np.uint8)) for part in parts]  # 960 pixels
    detector = blank.copy(tile=480, rotations=2, roi="0,0,700,960", ignore="100,0,300,200").fit(large[:2])
    before, after = detector.predict(large[2]), detector.predict(damaged(damaged(large[2], 800, 500, 120), 120, 20, 100))
    assert before.pred_score == after.pred_score and np.array_equal(before.anomaly_map, after.anomaly_map)
    assert detector.predict(damaged(large[2], 300, 500, 150)).pred_score > before.pred_score


def test_judged_by_each_other(blank, gears):
    spoiled = [damaged(gear, 140, 5) if number == 4 else gear for number, gear in enumerate(gears)]
    detector = blank.copy(ignore="130,0,30,30")
    found, plain = detector.predict_mutual(spoiled), detector.predict_mutual(gears)
    assert [one.pred_score for one in found] == [one.pred_score for one in plain]
    assert not found[4].anomaly_map[:30, 130:].any() and found[4].anomaly_map.any()
    assert np.argmax([one.pred_score for one in blank.predict_mutual(spoiled)]) == 4
    beside = blank.copy(ignore="130,0,30,30").fit(gears[:1]).predict_mutual(spoiled)
    assert not any(one.anomaly_map[:30, 130:].any() for one in beside)
    fitted = detector.copy().fit_unlabelled(spoiled)
    assert len(fitted.references) >= 6


def test_it_is_saved_and_cannot_be_changed_without_the_references(blank, parts, tmp_path):
    mask = np.zeros((160, 160), bool)
    mask[20:140, 20:140] = True
    detector = blank.copy(roi=mask, min_area=30).fit(parts[:3])
    detector.save(tmp_path / "model")
    again = AnomalyDetector.load(tmp_path / "model", backbone=blank.backbone)
    one, other = detector.predict(parts[4]), again.predict(parts[4])
    assert one.pred_score == other.pred_score and one.threshold == other.threshold and again.config.min_area == 30
    with pytest.raises(ConfigError, match="roi=a mask of 160 x 160 pixels, not 0,0,50,50"):
        AnomalyDetector.load(tmp_path / "model", backbone=blank.backbone, roi="0,0,50,50")
    with pytest.raises(ConfigError, match="references to be seen again"):
        again.copy(ignore="0,0,50,50")


def test_a_picture_of_which_nothing_counts_costs_no_other(blank, parts, tmp_path):
    small = Image.fromarray(parts[1]).resize((40, 40))
    small.save(tmp_path / "small.png")
    detector = blank.copy(roi="60,60,80,80")
    found = detector.predict([parts[0], tmp_path / "small.png", parts[2]], on_error="return")
    assert isinstance(found[1], ImageReadError) and found[0].pred_score and found[2].pred_score
    with pytest.raises(ImageReadError, match=r"small\.png: nothing of a picture of 40 x 40 pixels"):
        detector.predict(tmp_path / "small.png")
    with pytest.warns(VladWarning, match=r"left out of the references: .*small\.png"):
        assert len(detector.copy().fit([parts[0], parts[1], tmp_path / "small.png"]).references) == 2
    with pytest.warns(VladWarning, match=r"left out of the labels: .*small\.png"):
        assert len(detector.copy().fit(parts[:2]).calibrate([parts[2], tmp_path / "small.png"]).labels.pictures) == 1


def test_the_overlay_shows_it(blank, parts):
    plain, looked = (np.asarray(one.overlay()) for one in (blank.predict(parts[0]), blank.copy(roi="80,0,80,160").predict(parts[0])))
    height, width = plain.shape[0] - (plain.shape[0] - plain.shape[1]), plain.shape[1]
    outside = looked[: height // 2, : width // 2 - 8].astype(int)
    assert np.ptp(outside, axis=2).max() < 12 and outside.mean() > 150  # grey and faint
    assert np.ptp(plain[: height // 2, : width // 2 - 8].astype(int), axis=2).max() > 12
