"""A fitted detector as a folder: what does not match is refused, what is compatible loads."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from copy import copy
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, VladWarning
from vlad.references import fingerprint
from vlad.references.calibration import threshold
from vlad.synthetic import ProductLine


@pytest.fixture(scope="module")
def good() -> list[np.ndarray]:
    line = ProductLine("washer", 3, 96)
    return [line.sample(number).image for number in range(4)]


@pytest.fixture(scope="module")
def fitted(good) -> AnomalyDetector:
    return AnomalyDetector(LiteBackbone(device="cpu"), rotations=2, class_name="washer").fit(good[:3])


@pytest.fixture(scope="module")
def newer(good) -> AnomalyDetector:
    return AnomalyDetector(LiteBackbone(device="cpu"), rotations=1, class_name="ring", threshold=0.7).fit(good[1:])


@pytest.fixture
def folder(fitted, tmp_path):
    return fitted.save(tmp_path / "washer")


def test_what_is_in_it(folder):
    config = json.loads((folder / "config.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "memory.safetensors", "text_vectors.safetensors"]
    assert config["format_version"] == 5 and len(config["memory"]["references"]) == 3 and config["settings"]["class_name"] == "washer"
    assert {"vlad_version", "model", "prompts"} <= config.keys() and len(config["memory"]["calibration"]["image_scores"]) == 3


def test_loads_by_name_alone(folder, good):
    loaded = AnomalyDetector.from_pretrained(folder, device="cpu")
    assert loaded.predict(good[0]).pred_score == 0 and loaded.predict(good[3]).threshold_source == "references"
    assert loaded.predict(good[3], threshold=0.4).threshold_source == "user"
    assert AnomalyDetector.load(folder, fpr_limit=0.01).predict(good[3]).threshold > loaded.predict(good[3]).threshold


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_memory_that_does_not_match(folder, good, damage):
    path = folder / "memory.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        tensors = load_file(path)
        tensors["patches.rows"][0, 0] += 0.5
        save_file(tensors, path)
    with pytest.raises(ConfigError, match=r"memory\.safetensors"):
        AnomalyDetector.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"references": {}},
        {"settings": {"scorer": "nearest"}},
        {"scores": {"0": [1]}},
        {"settings": None},
        {"calibration": {}},
        {"next": "x"},
        {"noun": [1]},
        {"coreset_loss": {"tokens": "many", "kept": 0, "radius": 0, "mean": 0}},
    ],
)
def test_config_that_does_not_match(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["memory"] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"does not fit memory\.safetensors"):
        AnomalyDetector.load(folder)


@pytest.mark.parametrize("rotations", [{"x": [1]}, "two", True, 0])
def test_wrong_types_in_the_settings_of_the_references(folder, rotations):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["memory"]["settings"]["rotations"] = rotations
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"does not fit memory\.safetensors.*rotations"):
        AnomalyDetector.load(folder)


@pytest.mark.parametrize("setting", [{"scorer": "subspace"}, {"rotations": 4}, {"coreset": 0.5}, {"foreground": True}])
def test_settings_that_need_the_references_again(folder, setting):
    with pytest.raises(ConfigError, match=f"was fitted with {next(iter(setting))}=.*fit again"):
        AnomalyDetector.load(folder, **setting)


def test_saving_again_leaves_nothing_old_behind(folder, good):
    detector = AnomalyDetector.load(folder)
    detector.memory = None
    detector.save(folder)
    assert not (folder / "memory.safetensors").exists()
    assert AnomalyDetector.load(folder).predict(good[3]).undecided.startswith("one picture")


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("new_has_references", [True, False])
def test_a_save_cut_short_leaves_the_old_or_the_new_detector(folder, good, newer, monkeypatch, steps, new_has_references):
    """Killed before its n-th write, rename or removal; whatever is left loads, and can be saved into again."""
    from safetensors import torch as safetensors_torch

    new = copy(newer)
    if not new_has_references:
        new.memory = None
    left = steps

    def cut(call):
        def counted(*args, **options):
            nonlocal left
            if left == 0:
                raise _Killed
            left -= 1
            return call(*args, **options)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(safetensors_torch, "save_file", cut(safetensors_torch.save_file))
        for name in ("write_text", "replace", "unlink"):
            patch.setattr(Path, name, cut(getattr(Path, name)))
        with suppress(_Killed):
            new.save(folder)
    loaded = AnomalyDetector.load(folder, backbone=newer.backbone)
    shas = {reference.sha256 for reference in loaded.references}
    old = {fingerprint(picture) for picture in good[:3]}
    assert (loaded.config.threshold, shas) in [(None, old), (0.7, {reference.sha256 for reference in new.references})]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new.save(folder)
        assert AnomalyDetector.load(folder, backbone=newer.backbone).config.threshold == 0.7
    names = ["config.json", *(["memory.safetensors"] if new_has_references else []), "text_vectors.safetensors"]
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == names


def test_a_folder_of_the_first_format(good, tmp_path):
    folder = AnomalyDetector(LiteBackbone(device="cpu"), threshold=0.3).save(tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    config["format_version"] = 1
    del config["memory"], config["text"], config["patch_model"], config["model"]["options"]
    for key in ("scorer", "rotations", "coreset", "foreground", "text_weight", "top_share", "calibration", "fpr_limit"):
        del config["settings"][key]
    (folder / "config.json").write_text(json.dumps(config))
    assert AnomalyDetector.load(folder).predict(good[0]).threshold == 0.3


def test_a_folder_keeps_the_method_it_was_saved_with(folder, good):
    """The default of the version that wrote it, not of the one that reads it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["settings"]["calibration"] = "student"
    del config["sha256"]
    path.write_text(json.dumps(config))
    loaded = AnomalyDetector.load(folder)
    assert loaded.config.calibration == "student"
    calibration = loaded.memory.calibration
    assert (
        loaded.predict(good[3]).threshold == calibration.image_threshold("student", 0.05) != calibration.image_threshold("shrinkage", 0.05)
    )


@pytest.mark.parametrize("method", ["shrinkage", "student"])
def test_one_reference_of_a_folder_without_mirrored_views(good, tmp_path, method):
    """As folders of earlier versions hold it: the threshold is what it was then, whatever method is asked for."""
    folder = AnomalyDetector(LiteBackbone(device="cpu"), rotations=1).fit(good[:1]).save(tmp_path / "one")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    kept = config["memory"]["calibration"]
    del kept["image_mirror_scores"], kept["pixel_mirror_scores"], config["sha256"]
    path.write_text(json.dumps(config))
    loaded = AnomalyDetector.load(folder, calibration=method)
    result = loaded.predict(good[3])
    assert result.threshold == threshold(kept["image_scores"], "student", 0.05)
    assert result.mask_threshold == threshold(kept["pixel_scores"], "student", 0.05)


def test_another_precision_is_noted(folder, good):
    with pytest.warns(VladWarning, match="fitted in another precision"):
        loaded = AnomalyDetector.load(folder, dtype="bfloat16")
    assert loaded.predict(good[0]).pred_score < 0.5 * loaded.predict(good[3]).pred_score


def test_with_a_patch_backbone(good, tmp_path):
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2, embed_dim=24, num_heads=2, dynamic_img_size=True)
    weights = tmp_path / "model"
    weights.mkdir()
    full = timm.create_model("resnet10t", num_classes=0)
    save_file({name: tensor.contiguous() for name, tensor in full.state_dict().items()}, weights / "model.safetensors")
    (weights / "config.json").write_text(json.dumps({"architecture": "resnet10t", "num_classes": 0}))
    detector = AnomalyDetector.from_pretrained(
        "lite", patch_backbone=weights, resolution=96, device="cpu", dtype="float32", text_weight=0.2, rotations=1
    )
    saved = detector.fit(good[:2]).save(tmp_path / "saved")
    loaded = AnomalyDetector.load(saved, device="cpu")
    assert loaded.patch_backbone.resolution == 96
    a, b = detector.predict(good[3]), loaded.predict(good[3])
    assert a.pred_score == b.pred_score and np.array_equal(a.anomaly_map, b.anomaly_map) and a.model == b.model
    with pytest.raises(ConfigError, match="saved with other weights"):
        from vlad.backbones import TimmBackbone

        AnomalyDetector.load(saved, patch_backbone=TimmBackbone(model.eval(), device="cpu", dtype="float32", resolution=96))
    with pytest.raises(ConfigError, match="leave patch_backbone out"):
        AnomalyDetector.from_pretrained(saved, patch_backbone="dinov2-small")
