"""One rule for picture and places: the score says whether, the map where, and a normal picture has no marked place."""

from __future__ import annotations

import numpy as np
import pytest

from vlad.errors import ConfigError
from vlad.prediction import Prediction
from vlad.scoring.regions import large_parts

HEAT = np.zeros((40, 60), np.float32)
HEAT[5:9, 5:9] = 0.85  # 16 pixels
HEAT[20:30, 30:50] = 0.6  # 200 pixels


def prediction(**values) -> Prediction:
    given = {
        "image_path": None,
        "image_size": HEAT.shape,
        "class_name": "part",
        "pred_score": 0.7,
        "threshold": 0.5,
        "threshold_source": "user",
        "mask_threshold": 0.5,
        "anomaly_map": HEAT,
        "scores": {},
        "model": "m",
        "prompts": "p",
        "seconds": 0.1,
        "_read": lambda: np.zeros((*HEAT.shape, 3), np.uint8),
    }
    return Prediction(**(given | values))


@pytest.mark.parametrize(
    ("score", "threshold", "mask_threshold", "min_area", "label", "areas"),
    [
        (0.7, 0.5, 0.5, None, True, [16, 200]),
        (0.28, 0.5, 0.5, None, False, []),  # a line scan with a scratch: the map peaks at 0.85
        (0.7, 0.5, 0.9, None, True, []),  # differs as a whole
        (0.28, None, 0.5, None, None, [16, 200]),  # undecided: what stands out is shown
        (0.7, 0.5, 0.5, 17, True, [200]),
        (0.7, 0.5, 0.5, 16, True, [16, 200]),
        (0.7, 0.5, 0.5, 201, False, []),
        (0.7, 0.5, 0.7, 17, False, []),
        (0.3, 0.5, 0.5, 17, False, []),
        (0.7, None, 0.5, 17, None, [200]),
    ],
)
def test_the_rule(score, threshold, mask_threshold, min_area, label, areas):
    found = prediction(pred_score=score, threshold=threshold, mask_threshold=mask_threshold, min_area=min_area)
    assert found.pred_label is label and [region.area for region in found.regions] == areas
    assert found.pred_mask.sum() == sum(areas) and found.pred_mask.shape == HEAT.shape
    assert found.to_dict()["is_anomalous"] is label and len(found.to_dict()["regions"]) == len(areas)
    found.overlay()


def test_the_verdict_says_what_area_was_wanted():
    said = prediction(min_area=201).verdict
    assert said == "normal: score 0.70 but no marked place of 201 pixels, threshold 0.50 (user)"


def test_without_a_map_the_score_decides_alone():
    found = prediction(anomaly_map=None, min_area=17)
    assert found.pred_label is True and found.regions == () and found.pred_mask is None


def test_large_parts():
    mask = HEAT > 0.5
    assert large_parts(mask, 17).sum() == 200 and large_parts(mask, 1).sum() == 216 and not large_parts(mask, 999).any()
    diagonal = np.eye(5, dtype=bool)
    assert large_parts(diagonal, 5).sum() == 5  # connected over corners, as regions are


def test_an_area_needs_maps(lite):
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    detector = lite.copy(min_area=5)
    with pytest.raises(ConfigError, match="min_area asks how large"):
        detector.predict(picture, maps=False)
    with pytest.raises(ConfigError, match="min_area asks how large"):
        detector.predict_mutual([picture] * 8, maps=False)
    with pytest.raises(ConfigError, match="min_area must be"):
        lite.copy(min_area=0)


@pytest.fixture(scope="module")
def lite():
    from vlad import AnomalyDetector
    from vlad.backbones.lite.backbone import LiteBackbone

    return AnomalyDetector(LiteBackbone(device="cpu"))
