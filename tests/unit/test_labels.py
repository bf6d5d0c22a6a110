"""Thresholds from labelled pictures: what they do, what they say, what is kept of them."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.metrics import f1_max
from vlad.output.calibration_chart import draw_calibration
from vlad.references.labels import Labels
from vlad.references.rates import choose
from vlad.synthetic import ProductLine

pytestmark = pytest.mark.filterwarnings("ignore:.*enlarged to 448", "ignore:.*is a guess")


@pytest.fixture(scope="module")
def blank() -> AnomalyDetector:
    return AnomalyDetector(LiteBackbone(device="cpu"), rotations=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Sixteen good gears and six damaged ones with their masks, as files."""
    folder, line = tmp_path_factory.mktemp("gears"), ProductLine("gear", 3, 160)
    for kind in ("good", "bad", "masks"):
        (folder / kind).mkdir()
    for number in range(16):
        Image.fromarray(line.sample(number).image).save(folder / "good" / f"{number:02}.png")
    for number in range(6):
        sample = line.sample(number, "foreign patch")
        Image.fromarray(sample.image).save(folder / "bad" / f"{number}.png")
        Image.fromarray((sample.mask > 0).astype(np.uint8) * 255).save(folder / "masks" / f"{number}_mask.png")
    return folder


@pytest.fixture(scope="module")
def good(files):
    return sorted((files / "good").iterdir())


@pytest.fixture(scope="module")
def bad(files):
    return sorted((files / "bad").iterdir())


@pytest.fixture(scope="module")
def fitted(blank, good) -> AnomalyDetector:
    return blank.copy().fit(good[:4])


def test_the_threshold_is_that_of_the_scores(fitted, good, bad):
    detector = fitted.copy().calibrate(good[4:], bad, max_misses=0)
    normal, anomalous = ([r.pred_score for r in detector.predict(some)] for some in (good[4:], bad))
    assert detector.labels.normal == tuple(sorted(normal)) and detector.labels.anomalous == tuple(sorted(anomalous))
    result = detector.predict(bad[0])
    assert result.threshold == choose(normal, anomalous, detector.labels.rule) and result.threshold_source == "labels"
    assert all(r.pred_label for r in detector.predict(bad))
    assert detector.predict(bad[0], threshold=0.9).threshold_source == "user"
    assert fitted.labels is None and fitted.predict(bad[0]).threshold_source == "references"
    assert result.mask_threshold == fitted.predict(bad[0]).mask_threshold  # without masks that of the references


def test_references_stand_among_few_good_ones(fitted, good, bad):
    own = fitted.memory.calibration.image_scores
    few = fitted.copy().calibrate(good[4:6], bad).labels
    assert set(own) < set(few.normal) and len(few.normal) == 6 and "4 of these are references" in "\n".join(few.report())
    assert fitted.copy().calibrate(bad=bad[:2]).labels.normal == own
    itself = fitted.copy().calibrate(good, bad).labels  # references among the good ones are scored against the others
    assert set(own) < set(itself.normal) and len(itself.normal) == 16


def test_words_alone_can_be_calibrated(blank, good, bad):
    detector = blank.copy(class_name="gear")
    assert detector.predict(good[0]).pred_label is None and not detector.decides_alone
    detector.calibrate(good[:6], bad, max_false_alarms=0)
    result = detector.predict(good[0])
    assert result.threshold_source == "labels" and result.pred_label is False and detector.decides_alone
    other = detector.predict(good[0], class_name="washer")  # other words: the scores are made anew
    assert other.threshold_source == "labels" and other.threshold != result.threshold


@pytest.mark.parametrize("as_list", [False, True])
def test_masks_give_the_threshold_of_the_map(fitted, good, bad, files, as_list):
    masks = [files / "masks" / f"{path.stem}_mask.png" for path in bad] if as_list else files / "masks"
    detector = fitted.copy().calibrate(good[4:8], bad, masks=masks)
    maps = [detector.predict(path).anomaly_map for path in (*good[4:8], *bad)]
    truth = [np.zeros(maps[0].shape, bool)] * 4 + [np.asarray(Image.open(files / "masks" / f"{path.stem}_mask.png")) > 0 for path in bad]
    values, marked = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in truth])
    exact = f1_max(marked, values)
    assert detector.labels.pixel_f1 == pytest.approx(exact, abs=0.002)
    above = values > detector.labels.pixel
    assert 2 * (above & marked).sum() / (above.sum() + marked.sum()) == pytest.approx(exact, abs=0.002)
    assert detector.predict(bad[0]).mask_threshold == detector.labels.pixel
    assert any("pixel F1" in line for line in detector.labels.report())


def test_masks_that_do_not_fit(fitted, good, bad):
    with pytest.raises(ConfigError, match="a mask or None for each of the bad pictures, 6 of them, got 1"):
        fitted.copy().calibrate(good[4:], bad, masks=[None])
    with pytest.raises(ConfigError, match="10 x 10 pixels, the picture 160 x 160"):
        fitted.copy().calibrate(good[4:5], bad[:1], masks=[np.ones((10, 10))])


def test_masks_that_are_not_there_are_an_error(fitted, good, bad, files):
    for masks, said in (
        (files / "nowhere", "is no folder"),
        (files / "masks" / "0_mask.png", "is no folder"),
        (files / "good", "has a mask"),
    ):
        with pytest.raises(ConfigError, match=said):
            fitted.copy().calibrate(good[4:], bad[:1], masks=masks)


def test_what_else_decides_is_said(fitted, good, bad):
    with pytest.warns(VladWarning, match=r"threshold 0\.9 of the settings goes before"):
        fitted.copy(threshold=0.9).calibrate(good[4:6], bad[:1])
    with pytest.warns(VladWarning, match="min_area=50 leaves pictures with smaller places out"):
        fitted.copy(min_area=50).calibrate(good[4:6], bad[:1])


def test_what_is_added_and_what_is_replaced(fitted, good, bad):
    detector = fitted.copy().calibrate(good[4:6], bad[:3], max_misses=0)
    again = detector.copy().calibrate(bad=bad[3:], add=True)
    assert len(again.labels.anomalous) == 6 and again.labels.asked.max_misses == 0
    assert len(detector.copy().calibrate(good[4:6], bad[3:]).labels.anomalous) == 3
    changed = detector.copy().calibrate(good=bad[:1], add=True)  # it was good after all
    assert len(changed.labels.anomalous) == 2 and len(changed.labels.pictures) == 5
    gone = again.copy().remove_labels(again.labels.pictures[:2])
    assert len(gone.labels.pictures) == 6
    assert again.copy().remove_labels(again.labels.pictures).labels is None
    with pytest.raises(ConfigError, match=r"items of detector\.labels\.pictures"):
        detector.copy().remove_labels([object()])


def test_bad_input(fitted, good, bad, tmp_path):
    with pytest.raises(ConfigError, match="got none"):
        fitted.copy().calibrate()
    with pytest.raises(ConfigError, match="given as good and as bad"):
        fitted.copy().calibrate(good[4:5], good[4:5])
    with pytest.raises(ConfigError, match="needs anomalous pictures"):
        fitted.copy().calibrate(good[4:], max_misses=0.1)
    with pytest.raises(ConfigError, match="on_error"):
        fitted.copy().calibrate(good[4:], on_error="ignore")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.warns(VladWarning, match=r"left out of the labels: .*broken\.png"):
        assert len(fitted.copy().calibrate([*good[4:6], tmp_path / "broken.png"], bad).labels.pictures) == 8
    with pytest.raises(ImageReadError, match=r"broken\.png"):
        fitted.copy().calibrate([tmp_path / "broken.png"], bad, on_error="raise")
    before = fitted.copy().calibrate(good[4:], bad)
    with pytest.raises(ConfigError):
        before.calibrate(good[4:], max_misses=0.1)
    assert len(before.labels.anomalous) == 6  # nothing is lost


def test_other_conditions_and_other_references_make_scores_anew(fitted, good, bad, tmp_path):
    detector = fitted.copy().calibrate(good[4:8], bad, max_misses=0)
    wide = detector.copy(top_share=0.2)
    assert wide.predict(bad[0]).threshold == fitted.copy(top_share=0.2).calibrate(good[4:8], bad, max_misses=0).predict(bad[0]).threshold
    more = detector.copy().add_references(good[8:10])
    fresh = fitted.copy().add_references(good[8:10]).calibrate(good[4:8], bad, max_misses=0)
    assert more.labels.anomalous == fresh.labels.anomalous and more.labels.threshold == fresh.labels.threshold
    with pytest.warns(VladWarning, match=r"threshold from labels was of other references and is forgotten"):
        assert detector.copy().fit(good[8:12]).labels is None
    moved = tmp_path / "moved.png"
    moved.write_bytes(bad[0].read_bytes())
    gone = fitted.copy().calibrate(good[4:8], [moved], max_misses=0)
    moved.unlink()
    with pytest.raises(ConfigError, match=r"top_share=0\.2 instead of 0\.01 the threshold from labels .*moved\.png cannot be seen again"):
        gone.copy(top_share=0.2).predict(bad[1])
    with pytest.warns(VladWarning, match=r"moved\.png cannot be seen again, so old scores stay"):
        kept = gone.copy().add_references(good[8:9])
    assert kept.labels.anomalous == gone.labels.anomalous


def test_a_reference_is_not_bad_and_a_bad_one_is_no_reference(fitted, good, bad):
    with pytest.raises(ConfigError, match=r"00\.png is given as bad and is a reference"):
        fitted.copy().calibrate(good[4:], good[:1])
    detector = fitted.copy().calibrate(good[4:8], bad[:2], max_misses=0)
    with pytest.warns(VladWarning, match="was labelled as bad and is a reference now"):
        detector.add_references(bad[:1])
    assert len(detector.labels.anomalous) == 1 and len(detector.references) == 5
    with pytest.warns(VladWarning, match="the threshold from labels is forgotten: .* needs anomalous pictures"):
        detector.add_references(bad[1:2])
    assert detector.labels is None and detector.predict(good[5]).threshold_source == "references"


def test_save_and_load(fitted, good, bad, files, tmp_path):
    detector = fitted.copy().calibrate(good[4:8], bad, masks=files / "masks", cost_ratio=20, bad_share=0.1)
    detector.save(tmp_path / "model")
    again = AnomalyDetector.load(tmp_path / "model", backbone=fitted.backbone)
    one, other = detector.predict(bad[0]), again.predict(bad[0])
    assert one.to_dict() | {"seconds": 0} == other.to_dict() | {"seconds": 0} and again.labels == detector.labels
    assert Labels.from_dict(json.loads(json.dumps(detector.labels.to_dict()))) == detector.labels
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["labels"]["asked"]["cost_ratio"] = -1
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"labels in .* are damaged"):
        AnomalyDetector.load(tmp_path / "model", backbone=fitted.backbone)


def test_a_few_bad_ones_do_not_cost_false_alarms(fitted, good, bad):
    """One bad picture that scores among the good ones does not pull the threshold below all of them."""
    results = fitted.predict(good[4:])
    like = good[4 + int(np.argmin([result.pred_score for result in results]))]  # the "bad" one looks more than any other like a good one
    labels = fitted.copy().calibrate([path for path in good[4:] if path != like], [like]).labels
    assert labels.threshold == results[0].threshold and labels.is_lowered and "lowered as far" in labels.report()[0]
    assert labels.misses.count == 1 and labels.missed[0].picture.place == str(like)
    assert "1 of 1 bad ones missed" in labels.promise()


def test_the_chart(fitted, good, bad, tmp_path):
    labels = fitted.copy().calibrate(good[4:], bad).labels
    with Image.open(draw_calibration(labels, tmp_path / "chart.png", model="lite")) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels == (190, 18, 60)).all(1).any() and (pixels == (24, 24, 27)).all(1).any()  # bad ones, and the threshold
    text = draw_calibration(fitted.copy().calibrate(good[4:]).labels, tmp_path / "chart.svg").read_text()
    assert text.startswith("<?xml")


def test_no_guess_is_spoken_of_where_labels_decide(blank, good, bad):
    detector = blank.copy().fit(good[:2]).calibrate(good[4:], bad)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        detector.add_references(good[2:3])
    assert not any("is a guess" in str(one.message) for one in said)


def test_a_labelled_reference_counts_once_and_an_only_one_not_at_all(blank, fitted, good, bad):
    labels = fitted.copy().calibrate([*good[:2], good[6]], bad[:2]).labels
    assert len(labels.normal) == 5 and labels.false_alarms.of == 5  # four references, two of them labelled, and one more
    alone = blank.copy().fit(good[:1])
    labels = alone.copy().calibrate(good[:1], bad[:2]).labels
    assert labels.normal == () and labels.threshold == alone.predict(good[1]).threshold


def test_scores_of_references_are_of_the_conditions_that_hold(fitted, good, bad, tmp_path):
    fitted.copy().calibrate(bad=bad[:1]).save(tmp_path / "model")
    loaded = AnomalyDetector.load(tmp_path / "model", backbone=fitted.backbone, top_share=0.2)
    fresh = fitted.copy(top_share=0.2).calibrate(bad=bad[:1])
    assert loaded.predict(good[5]).threshold == fresh.predict(good[5]).threshold
