"""A detector as a folder: the same scores after loading, and everything that does not match is refused."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from safetensors.torch import save_file

from vlad import AnomalyDetector
from vlad.backbones import ClipBackbone
from vlad.errors import ConfigError, VladWarning


@pytest.fixture
def model_folder(tiny_clip, golden, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": golden.info["model_config"]}))
    save_file({name: tensor.contiguous() for name, tensor in tiny_clip.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture
def saved(model_folder, tmp_path):
    detector = AnomalyDetector.from_pretrained(
        str(model_folder), device="cpu", dtype="float32", prompts="textiles", class_name="carpet", threshold=0.4, scales=(2,), tile=512
    )
    return detector, detector.save(tmp_path / "saved" / "carpet")


@pytest.mark.parametrize("load", [AnomalyDetector.load, AnomalyDetector.from_pretrained], ids=["load", "from_pretrained"])
def test_the_folder_alone_reproduces_the_scores(saved, golden, load, monkeypatch):
    detector, folder = saved
    loaded = load(folder)
    assert loaded.config == detector.config and loaded.prompts == detector.prompts and loaded.scales == (2,)
    monkeypatch.setattr(ClipBackbone, "encode_text", lambda *_: pytest.fail("the stored text vectors were not used"))
    before, after = detector.predict(golden.pictures()), loaded.predict(golden.pictures())
    for a, b in zip(before, after, strict=True):
        assert a.pred_score == b.pred_score and np.array_equal(a.anomaly_map, b.anomaly_map)
        assert (a.threshold, a.class_name) == (b.threshold, b.class_name) == (0.4, "carpet")


def test_settings_and_prompts_can_be_overridden(saved):
    loaded = AnomalyDetector.load(saved[1], threshold=0.7, prompts="winclip")
    assert (loaded.config.threshold, loaded.config.tile, loaded.prompts.name) == (0.7, 512, "winclip")


def test_another_precision_embeds_the_text_anew(saved, golden):
    loaded = AnomalyDetector.load(saved[1], dtype="bfloat16")
    saved_vectors, vectors = saved[0].text_vectors(), loaded.text_vectors()
    assert str(loaded.backbone.dtype) == "torch.bfloat16" and not vectors.equal(saved_vectors)
    assert loaded.predict(golden.pictures()[0]).pred_score == pytest.approx(saved[0].predict(golden.pictures()[0]).pred_score, abs=0.05)


def test_other_weights_are_refused(saved, model_folder, tiny_clip):
    state = {name: tensor.clone().contiguous() for name, tensor in tiny_clip.state_dict().items()}
    state["visual.proj"][0, 0] += 1
    save_file(state, model_folder / "open_clip_model.safetensors")
    with pytest.raises(ConfigError, match="saved with other weights"):
        AnomalyDetector.load(saved[1])


def test_made_from_an_object(detector, backbone, tmp_path, golden):
    folder = detector.save(tmp_path / "object")
    with pytest.raises(ConfigError, match="saved from a model object"):
        AnomalyDetector.load(folder)
    loaded = AnomalyDetector.load(folder, backbone=backbone)
    assert loaded.predict(golden.pictures()[0]).pred_score == detector.predict(golden.pictures()[0]).pred_score


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "written in format 99"),
        ({"format": "something"}, "holds no detector"),
        ({"model": {}}, "incomplete: 'model.name' is missing"),
        ({"settings": {"tilt": 5}}, "unknown setting 'tilt'"),
        ({"settings": None}, "damaged: settings must be an object, got None"),
        ({"model": {"name": {"x": [1]}}}, "damaged: model.name must be a text, got {'x': \\[1\\]}"),
        ({"model": {"name": "a", "source": 3}}, "damaged: model.source must be a text or null, got 3"),
        ({"patch_model": [1]}, "damaged: patch_model must be an object"),
        ({"memory": "a"}, "damaged: memory must be an object"),
        ({"text": {"sha256": 5}}, "damaged: text.sha256 must be a text, got 5"),
        ({"prompts": None}, "damaged: prompts must be an object"),
    ],
)
def test_what_does_not_match_is_refused(saved, change, message):
    config = saved[1] / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        AnomalyDetector.load(saved[1])


@pytest.mark.parametrize(
    ("content", "message"), [("", "is damaged"), ("{", "is damaged"), ("[]", "holds no detector"), ("5", "holds no detector")]
)
def test_broken_config(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        AnomalyDetector.load(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 200])
@pytest.mark.parametrize("load", [AnomalyDetector.load, AnomalyDetector.from_pretrained], ids=["load", "from_pretrained"])
def test_a_config_cut_short(saved, load, length):
    config = saved[1] / "config.json"
    config.write_bytes(config.read_bytes()[:length])
    with pytest.raises(ConfigError, match=r"config\.json is damaged"):
        load(saved[1])


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_cannot_become_a_folder(detector, tmp_path, below):
    (tmp_path / "a_file").write_text("kept")
    with pytest.raises(ConfigError, match=r"saved as a folder.*a_file"):
        detector.save(tmp_path / "a_file" / below)
    assert (tmp_path / "a_file").read_text() == "kept"


def test_a_flipped_byte_of_the_text_is_never_used(saved, golden):
    detector, folder = saved
    file = folder / "text_vectors.safetensors"
    content = bytearray(file.read_bytes())
    content[-2] ^= 0x40
    file.write_bytes(content)
    with pytest.warns(VladWarning, match=r"text_vectors\.safetensors is damaged.*embedded anew"):
        loaded = AnomalyDetector.load(folder)
    assert loaded.predict(golden.pictures()[0]).pred_score == detector.predict(golden.pictures()[0]).pred_score


def test_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="holds no detector"):
        AnomalyDetector.load(tmp_path / "nothing")


def test_a_saved_detector_names_its_own_model(saved):
    with pytest.raises(ConfigError, match="leave pretrained out"):
        AnomalyDetector.from_pretrained(saved[1], pretrained="openai")


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_text_vectors_can_be_made_again(saved, golden, damage):
    detector, folder = saved
    file = folder / "text_vectors.safetensors"
    file.unlink() if damage == "missing" else file.write_bytes(b"nonsense")
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        loaded = AnomalyDetector.load(folder)
    assert any("embedded anew" in str(note.message) for note in notes) == (damage == "corrupt")
    assert loaded.predict(golden.pictures()[0]).pred_score == detector.predict(golden.pictures()[0]).pred_score


def test_another_model_in_another_precision_is_refused(detector, tiny_clip, tmp_path):
    folder = detector.save(tmp_path / "object")
    with pytest.raises(ConfigError, match="saved with other weights"):
        AnomalyDetector.load(folder, backbone=ClipBackbone(tiny_clip, name="another", device="cpu", dtype="bfloat16"))


def test_float16_of_a_gpu_loads_on_a_cpu(saved):
    config = saved[1] / "config.json"
    values = json.loads(config.read_text())
    values["model"]["dtype"] = "float16"
    del values["sha256"]
    config.write_text(json.dumps(values))
    assert AnomalyDetector.load(saved[1], device="cpu").config.threshold == 0.4


def test_others_may_read_what_others_may_read(detector, golden, tmp_path):
    detector.fit(golden.pictures("reference"))
    folder = detector.save(tmp_path / "model")
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert len(modes) == 3 and len(set(modes.values())) == 1, modes
