"""Settings: JSON both ways, and every value out of range is named."""

from __future__ import annotations

import json

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
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"scales": (0, 2)}, r"scales must be whole numbers >= 1.*got \(0, 2\)"),
        ({"scales": (2.5,)}, "scales must be whole numbers"),
        ({"scales": 2}, "wrong type"),
        ({"tile": 8}, "tile must be None or at least 32 pixels, got 8"),
        ({"tile_overlap": 0.9}, "tile_overlap must be a share from 0 to 0.75"),
        ({"max_pixels": 0}, "max_pixels must be"),
        ({"threshold": "high"}, "wrong type"),
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
