"""`predict_mutual`: what users see of pictures that are judged by each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.references.unlabelled import MutualSettings
from vlad.synthetic import ProductLine


@pytest.mark.parametrize("values", [{"share": 0.0}, {"share": 1.5}, {"others": 1}, {"rescore": 0}, {"expect_anomalous": 1.0}], ids=str)
def test_settings_out_of_range(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        MutualSettings(**values)


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(LiteBackbone(device="cpu"))


def test_the_bad_ones_of_a_batch_are_found(detector, gears):
    results = detector.predict_mutual(gears)
    ranked = np.argsort([-result.pred_score for result in results])
    assert {2, 7} <= set(ranked[:3])  # a crack of a few pixels may be outdone by one odd good gear
    first = results[0]
    assert first.threshold_source == "mutual" and first.anomaly_map.shape == gears[0].shape[:2]
    assert first.scores["mutual_pictures"] == 9 and results[ranked[0]].scores["mutual_rank"] == pytest.approx(8 / 9)
    assert [r.pred_score for r in detector.predict_mutual(gears[::-1])] == [r.pred_score for r in results[::-1]]
    assert detector.predict_mutual(gears, threshold=0.9)[2].threshold_source == "user"
    assert detector.predict_mutual(gears, maps=False)[0].anomaly_map is None


def test_few_pictures_get_scores_and_no_verdict(detector, gears):
    results = detector.predict_mutual(gears[:3])
    assert [result.pred_label for result in results] == [None] * 3 and all(result.pred_score > 0 for result in results)
    (alone,) = detector.predict_mutual(gears[:1])
    assert alone.pred_label is None and alone.anomaly_map is None
    with pytest.raises(ConfigError, match="got one; call predict"):
        detector.predict_mutual(gears[0])


def test_unreadable_pictures_cost_only_themselves(detector, gears, tmp_path):
    paths = []
    for number, picture in enumerate(gears[:4]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(picture).save(paths[-1])
    paths.insert(1, tmp_path / "missing.png")
    results = detector.predict_mutual(paths, on_error="return")
    assert isinstance(results[1], ImageReadError) and [r.image_path for r in results[2:]] == [str(path) for path in paths[2:]]
    with pytest.raises(ImageReadError, match="missing"):
        detector.predict_mutual(paths)


def test_a_mixed_folder_is_judged_kind_by_kind(detector, gears):
    leather = ProductLine("leather", 1, 160)
    mixed = [picture for number in range(4) for picture in (gears[number], leather.sample(number).image)]
    with pytest.warns(VladWarning, match="show 2 kinds of product"):
        results = detector.predict_mutual(mixed)
    assert len({result.scores["mutual_group"] for result in results[::2]}) == len({r.scores["mutual_group"] for r in results[1::2]}) == 1
    alone = detector.predict_mutual(gears[:4])
    assert [r.pred_score for r in results[::2]] == [r.pred_score for r in alone]


def test_other_backbones_and_their_settings(gears):
    from timm import create_model

    from vlad.backbones import TimmBackbone

    torch.manual_seed(0)
    model = create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, depth=3, embed_dim=24, num_heads=2).eval()
    small, large = (AnomalyDetector(TimmBackbone(model, device="cpu", dtype="float32", resolution=side)) for side in (64, 128))
    found = [detector.predict_mutual(gears) for detector in (small, large)]
    assert all(result.threshold_source == "mutual" and result.anomaly_map.shape == (160, 160) for results in found for result in results)
    assert [result.pred_score for result in found[0]] != [result.pred_score for result in found[1]]
    drawn = small.predict_mutual(gears, settings=MutualSettings(rescore=3))
    assert np.std([result.pred_score for result in drawn]) < np.std([result.pred_score for result in found[0]])
