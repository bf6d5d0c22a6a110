"""`predict_together`: how pictures without references are judged, where nobody says how."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vlad import AnomalyDetector
from vlad.backbones.base import Advice
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, ImageReadError
from vlad.references.unlabelled import MutualSettings
from vlad.scoring.products import unlikeness
from vlad.synthetic import ProductLine
from vlad.together import by_each_other, predict_together

FAMILIES = ("gear", "leather", "brick", "screw", "capsule", "wood", "washer", "knitwear")


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(LiteBackbone(device="cpu"))


@pytest.fixture(scope="module")
def collection() -> list[np.ndarray]:
    return [ProductLine(family, 3, 160).sample(0).image for family in FAMILIES]


def test_a_folder_of_one_kind_is_judged_by_itself(detector, gears):
    found = list(predict_together(detector, gears, batch_size=2))
    alone = detector.predict_mutual(gears)
    assert [result.pred_score for result in found] == [result.pred_score for result in alone]
    assert {result.threshold_source for result in found} == {"mutual"} and not any(result.undecided for result in found)


def test_a_collection_has_the_words_scores_and_no_verdict(detector, collection):
    found = list(predict_together(detector, collection, batch_size=3))
    words = detector.predict(collection)
    assert [result.pred_score for result in found] == pytest.approx([result.pred_score for result in words])
    assert all(result.pred_label is None and "show no one kind of product" in result.undecided for result in found)
    assert np.allclose(found[0].anomaly_map, words[0].anomaly_map)


@pytest.mark.parametrize(("count", "reason"), [(1, "one picture and no good ones to compare with"), (5, "5 pictures are too few")])
def test_few_are_undecided(detector, gears, count, reason):
    found = list(predict_together(detector, gears[:count]))
    assert all(result.threshold is None and result.undecided.startswith(reason) for result in found)
    assert found[0].verdict.startswith(f"undecided: {reason}") and found[0].to_dict()["undecided"] == found[0].undecided


def test_who_decides(detector, gears, collection):
    assert by_each_other(detector, 8) and not by_each_other(detector, 7) and not by_each_other(detector, 8, threshold=0.3)
    assert not by_each_other(detector.copy(text_threshold=0.5), 8) and not by_each_other(detector.copy(tile=100), 8)
    assert by_each_other(detector.copy().fit(gears[0]), 8) is False
    (words,) = predict_together(detector, gears[:1], mutual=False)
    assert (words.threshold, words.threshold_source) == (0.5, "text")
    told = list(predict_together(detector, collection, mutual=True))  # whoever says so gets the comparison, and no verdict here either
    assert all("mutual" in result.scores and result.pred_label is None for result in told)
    (tiled,) = predict_together(detector.copy(tile=100), gears[:1])
    assert tiled.undecided == "tiles are not judged by each other; give references"


def test_a_patch_backbone_knows_no_words_and_judges_a_folder_by_itself(gears):
    import timm

    from vlad.backbones import TimmBackbone

    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, depth=2, embed_dim=24, num_heads=1).eval()
    detector = AnomalyDetector(TimmBackbone(vit, resolution=64, device="cpu", dtype="float32"))
    assert by_each_other(detector, 8) and not detector.decides_alone and not detector.copy(threshold=0.5).decides_alone
    assert {result.threshold_source for result in predict_together(detector, gears)} <= {"mutual", None}
    with pytest.raises(ConfigError, match="knows no words and has no references"):
        list(predict_together(detector, gears[:3]))


def test_settings_of_references_that_change_nothing_are_told(detector, gears):
    with pytest.warns(UserWarning, match="without references scorer, foreground, tile change nothing where pictures are judged by each"):
        detector.copy(scorer="subspace", foreground=True, tile=400).predict_mutual(gears)


def test_a_backbone_whose_words_can_tell_keeps_them(detector, gears, monkeypatch):
    monkeypatch.setattr(detector.backbone, "advice", Advice(scorer="nearest"))
    assert detector.decides_alone and detector.predict(gears[0]).threshold == 0.5
    assert {result.threshold_source for result in predict_together(detector, gears)} == {"text"}


def test_settings_and_bad_pictures(detector, gears, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    for path, picture in zip(paths, gears, strict=True):
        Image.fromarray(picture).save(path)
    paths[3].write_bytes(b"no picture")
    steps: list[str] = []
    found = list(
        predict_together(
            detector,
            paths,
            settings=MutualSettings(expect_anomalous=0.25),
            on_error="return",
            on_progress=lambda phase, *_: steps.append(phase),
        )
    )
    assert isinstance(found[3], ImageReadError) and sum(bool(getattr(result, "pred_label", False)) for result in found) == 2
    assert {"look", "compare"} <= set(steps)
    with pytest.raises(ImageReadError):
        list(predict_together(detector, paths))
    with pytest.raises(ConfigError, match="batch_size"):
        list(predict_together(detector, paths, batch_size=0))


def test_unlikeness_by_hand():
    straight = np.eye(5)
    assert unlikeness(straight) == 0.5 and unlikeness(straight[:1]) == float("inf") and unlikeness(straight[:2]) == 0.5
    assert unlikeness(np.tile(straight, (6, 1))) == 0.5  # copies are no company
    near = straight[0] + 0.01 * np.eye(5)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    assert unlikeness(np.concatenate([near, straight[1:4]])) < 0.001  # the median does not mind three strays
