"""Settings: JSON both ways, and every value out of range is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vlad import AnomalyDetector
from vlad.config import DetectorConfig
from vlad.errors import ConfigError


def test_json_both_ways():
    config = DetectorConfig(class_name="metal nut", scales=(3, 2), threshold=0.4, tile=512)
    assert config.scales == (2, 3)
    assert DetectorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"treshold": 0.5}, "unknown setting 'treshold', did you mean 'threshold'"),
        ({"threshold": 1.5}, "threshold must be a number from 0 to 1, got 1.5"),
        ({"mask_threshold": -0.1}, "mask_threshold must be"),
        ({"temperature": 0}, "temperature must be a finite number > 0, got 0"),
        ({"scales": (0, 2)}, r"scales must be whole numbers >= 1.*got 0"),
        ({"scales": (2.5,)}, "scales must be whole numbers"),
        ({"scales": 2}, "scales must be"),
        ({"tile": 8}, "tile must be None, or at least 32 pixels, got 8"),
        ({"tile_overlap": 0.9}, "tile_overlap must be a share from 0 to 0.75"),
        ({"max_pixels": 0}, "max_pixels must be"),
        ({"threshold": "high"}, "threshold must be a number from 0 to 1, got 'high'"),
        ({"threshold": True}, "threshold must be"),
        ({"threshold": float("nan")}, "threshold must be"),
        ({"temperature": float("inf")}, "temperature must be"),
        ({"scales": (True,)}, "scales must be"),
        ({"tile": 100.5}, "tile must be"),
        ({"tile": "64"}, "tile must be"),
        ({"class_name": 5}, "class_name must be"),
    ],
)
def test_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        DetectorConfig.from_dict(settings)


def test_scales_that_do_not_fit_the_grid(backbone):
    with pytest.raises(ConfigError, match=r"scales \(2, 9\) do not fit.*6 x 6 patches"):
        AnomalyDetector(backbone, scales=(2, 9))


def test_a_typo_costs_no_loading(monkeypatch):
    monkeypatch.setattr("vlad.backbones.registry.load_backbone", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(ConfigError, match="did you mean 'tile'"):
        AnomalyDetector.from_pretrained("lite", tille=512)


def test_numbers_of_numpy_become_plain(backbone, golden):
    """A threshold worked out from float32 scores is the usual case, and must fit into JSON."""
    config = DetectorConfig(threshold=np.float32(0.25), tile=np.int64(64), temperature=np.float64(0.1))
    assert json.loads(json.dumps(config.to_dict()))["threshold"] == 0.25
    result = AnomalyDetector(backbone).predict(golden.pictures()[0], threshold=np.float32(0.25))
    assert json.loads(json.dumps(result.to_dict()))["threshold"] == 0.25


def test_tile_of_nothing_switches_tiling_off(backbone, golden):
    assert DetectorConfig(tile=0).tile == 0 and DetectorConfig().tile is None
    detector = AnomalyDetector(backbone, tile=48)
    with pytest.warns(UserWarning, match="tiles of 48 pixels are enlarged to the 96"):
        assert "tiles" in detector.predict(golden.pictures()[0]).scores
    assert "tiles" not in detector.predict(golden.pictures()[0], tile=0).scores


@pytest.mark.parametrize("wrong", ["lite", None, object()])
def test_what_is_no_backbone(wrong):
    with pytest.raises(ConfigError, match="from_pretrained"):
        AnomalyDetector(wrong)


@pytest.mark.parametrize("name", [None, 5, "", " "])
def test_what_is_no_name(name):
    with pytest.raises(ConfigError, match="name must be"):
        AnomalyDetector.from_pretrained(name)
