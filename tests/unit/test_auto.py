"""`auto`: words alone by a CLIP, and as soon as there are references by DINOv2 beside it, in Python, as a command and in the harness."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from vlad import AnomalyDetector
from vlad.backbones import TimmBackbone, registry
from vlad.backbones.registry import AUTO_BESIDE, patches_of_auto
from vlad.errors import ConfigError, ImageReadError, VladWarning, WeightsNotFoundError

RUN = {"device": "cpu", "dtype": "float32"}
rng = np.random.default_rng(0)
GOOD = [np.full((96, 96, 3), 120, np.uint8) + rng.integers(0, 9, (96, 96, 3), dtype=np.uint8) for _ in range(3)]


@pytest.fixture
def words(tiny_clip, golden, tmp_path, monkeypatch) -> Path:
    """A tiny CLIP in place of that of WinCLIP."""
    folder = tmp_path / "clip"
    folder.mkdir()
    config = {"model_cfg": golden.info["model_config"], "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tiny_clip.state_dict().items()}, folder / "open_clip_model.safetensors")
    monkeypatch.setattr(registry, "AUTO", str(folder))
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory) -> Path:
    """A hub cache with the real DINOv2-S/14 and random weights."""
    torch.manual_seed(0)
    cache = tmp_path_factory.mktemp("cache")
    base = cache / "models--timm--vit_small_patch14_dinov2.lvd142m"
    (base / "snapshots" / "abc").mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text("abc")
    model = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, base / "snapshots" / "abc" / "model.safetensors")
    return cache


def auto(cache: Path, **settings) -> AnomalyDetector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AnomalyDetector.from_pretrained("auto", cache_dir=cache, **(RUN | {"rotations": 1, "resolution": 70} | settings))


class TestBeside:
    def test_references_bring_dinov2(self, words, dino):
        detector = auto(dino)
        before = detector.predict(GOOD[0])
        assert detector.patch_backbone is None and detector.scorer == "winclip" and AUTO_BESIDE not in detector.model_name
        detector.fit(GOOD)
        assert (detector.scorer, detector.text_weight, detector.patch_backbone.resolution) == ("nearest", 0.0, 70)
        assert detector.patch_backbone.name == f"{AUTO_BESIDE} (vit_small_patch14_dinov2.lvd142m)" and detector.backbone.source.endswith(
            "clip"
        )
        after = detector.predict(GOOD[0])
        assert after.scores["text_image"] == pytest.approx(before.scores["text_image"], abs=1e-6), "reported, of the whole picture"
        alone = AnomalyDetector(detector.patch_backbone, rotations=1).fit(GOOD).predict(GOOD[0])
        assert (
            after.pred_score == alone.pred_score and after.threshold == alone.threshold and (after.anomaly_map == alone.anomaly_map).all()
        )
        assert detector.fit(GOOD[:2]).patch_backbone is detector.patch_backbone

    def test_by_default_at_448_pixels_and_eight_angles(self, words, dino):
        detector = auto(dino, rotations=None, resolution=None)
        detector.ready_for_references()
        assert detector.patch_backbone.resolution == 448 and detector.patch_backbone.layers == (11,)
        assert detector.config.rotations is None and auto(dino, rotations=None).fit(GOOD[:1]).memory.settings.rotations == 8

    @pytest.mark.parametrize("way", ["add_references", "fit_unlabelled", "copy"])
    def test_every_way_to_references(self, words, dino, way):
        detector = auto(dino)
        if way == "add_references":
            detector.add_references(GOOD)
        elif way == "fit_unlabelled":
            detector.fit_unlabelled([*GOOD, *(picture[::-1] for picture in GOOD), *(picture[:, ::-1] for picture in GOOD)])
        else:
            other = detector.copy().fit(GOOD)
            assert detector.patch_backbone is None and detector.copy().fit(GOOD).patch_backbone is other.patch_backbone, "loaded once"
            detector = other
        assert detector.patch_backbone is not None and detector.scorer == "nearest"

    def test_what_was_asked_for_goes_before(self, words, dino):
        assert auto(dino, scorer="winclip", resolution=None).fit(GOOD).patch_backbone is None
        weighed = auto(dino, text_weight=0.25).fit(GOOD)
        assert weighed.text_weight == 0.25 and weighed.memory.calibration.conditions.text_weight == 0.25
        none = auto(dino, text_weight=0.0).fit(GOOD).predict(GOOD[0])
        assert "text_image" not in none.scores, "0 that was asked for saves the pass"
        named = AnomalyDetector.from_pretrained(str(words), **RUN, rotations=1).fit(GOOD)
        assert named.patch_backbone is None and named.scorer == "winclip"

    def test_the_folder_holds_both(self, words, dino, tmp_path):
        detector = auto(dino).fit(GOOD)
        loaded = AnomalyDetector.load(detector.save(tmp_path / "model"), cache_dir=dino, **RUN)
        assert loaded.predict(GOOD[1]).pred_score == detector.predict(GOOD[1]).pred_score and loaded.model_name == detector.model_name

    def test_a_folder_without_references_takes_it_later_as_it_was_asked_for(self, words, dino, tmp_path):
        folder = auto(dino, layers=(-2, -1), merge="concat").save(tmp_path / "model")
        loaded = AnomalyDetector.load(folder, cache_dir=dino, **RUN)
        assert loaded.patch_backbone is None
        again = AnomalyDetector.load(loaded.save(tmp_path / "again"), cache_dir=dino, **RUN)
        for detector in (loaded.fit(GOOD), again.fit(GOOD)):
            patches = detector.patch_backbone
            assert (patches.layers, patches.merge, patches.resolution) == ((10, 11), "concat", 70)
        assert json.loads((loaded.save(tmp_path / "fitted") / "config.json").read_text())["later"] is None
        assert again.predict(GOOD[0]).pred_score == auto(dino, layers=(-2, -1), merge="concat").fit(GOOD).predict(GOOD[0]).pred_score

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"resolution": 20}, "resolution must be a whole number of pixels, at least 28"),
            ({"layers": (12,)}, "layers must be 'middle' or whole numbers from 0 to 11"),
            ({"merge": "sum"}, "merge must be 'mean'"),
            ({"norm": "no"}, "norm must be True, False or None"),
        ],
    )
    def test_its_settings_are_looked_at_at_once(self, words, dino, setting, message, tmp_path):
        with pytest.raises(ConfigError, match=message):
            auto(dino, **setting)
        folder = auto(dino).save(tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        del config["sha256"]
        for later in (setting | {"layers": list(setting.get("layers", []))}, {"depth": 3}):
            (folder / "config.json").write_text(json.dumps(config | {"later": later}))
            with pytest.raises(ConfigError, match=rf"{re.escape(str(folder))}.*is damaged: later: "):
                AnomalyDetector.load(folder, cache_dir=dino, **RUN)

    def test_a_folder_of_before_keeps_the_weight_of_its_words(self, words, dino, tmp_path):
        detector = auto(dino, text_weight=0.5).fit(GOOD)
        folder = detector.save(tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        config["format_version"], config["settings"]["text_weight"] = 3, None
        del config["sha256"]
        (folder / "config.json").write_text(json.dumps(config))
        loaded = AnomalyDetector.load(folder, cache_dir=dino, **RUN)
        assert loaded.text_weight == 0.5 and loaded.predict(GOOD[1]).pred_score == detector.predict(GOOD[1]).pred_score

    def test_without_its_weights_it_stays_with_the_clip(self, words, tmp_path):
        detector = AnomalyDetector.from_pretrained("auto", cache_dir=tmp_path / "empty", rotations=1, **RUN)
        with pytest.warns(VladWarning, match=rf"by its model for words, which finds less than {AUTO_BESIDE} would"):
            detector.fit(GOOD)
        assert detector.scorer == "winclip" and detector.patch_backbone is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", ".*threshold|.*enlarged")
            detector.fit(GOOD)  # it was said
        with pytest.raises(WeightsNotFoundError, match="dinov2-small"):
            auto(tmp_path / "empty", resolution=140).fit(GOOD)

    def test_a_fit_that_fails_leaves_all_as_it_was(self, words, dino, tmp_path):
        detector = auto(dino)
        before = detector.predict(GOOD[0])
        for fail in (detector.fit, detector.add_references, detector.fit_unlabelled):
            with pytest.raises((ImageReadError, ConfigError)):
                fail([tmp_path / "none.png"])
            assert detector.patch_backbone is None and detector.scorer == "winclip" and detector.predict(GOOD[0]).model == before.model

    def test_a_cache_changes_nothing(self, words, dino, tmp_path):
        from vlad.evaluation.cache import on_cache

        plain, cached = auto(dino), on_cache(auto(dino), tmp_path / "cache")
        for detector in (plain, cached):
            detector.fit(GOOD).calibrate(GOOD[:2], [255 - GOOD[0]])
        found, expected = (one.predict(GOOD[1]) for one in (cached, plain))
        assert (found.model, found.pred_score, found.threshold_source) == (expected.model, expected.pred_score, "labels")
        again = on_cache(plain, tmp_path / "cache").predict(GOOD[1])
        assert (again.threshold, again.threshold_source) == (expected.threshold, "labels")
        assert cached.patch_backbone.misses > 0 and auto(dino).fit(GOOD).patch_backbone is not cached.patch_backbone

    def test_settings_of_a_patch_backbone_that_none_would_take(self, words, dino):
        with pytest.raises(ConfigError, match="resolution belong to a patch backbone, and scorer 'winclip' takes none"):
            auto(dino, scorer="winclip")


class TestBesideLite:
    def test_dinov2_in_the_cache_stands_beside_lite(self, dino):
        detector = auto(dino).fit(GOOD)
        assert detector.backbone.source == "lite" and detector.scorer == "nearest"
        assert detector.model_name.endswith(f"{AUTO_BESIDE} (vit_small_patch14_dinov2.lvd142m)") and detector.text_weight == 0
        alone = AnomalyDetector.from_pretrained("lite", **RUN).predict(GOOD[0])
        words = auto(dino)
        words.ready_for_references()
        assert words.patch_backbone is not None and words.predict(GOOD[0]).pred_score == alone.pred_score, "words see as before"

    def test_offline_lite_alone_and_nothing_more_is_said(self, tmp_path):
        with pytest.warns(VladWarning, match="falls back to the small embedded model"):
            detector = AnomalyDetector.from_pretrained("auto", cache_dir=tmp_path, rotations=1, **RUN)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            detector.fit(GOOD)
        assert detector.scorer == "nearest" and detector.patch_backbone is None and not any("dinov2" in str(one.message) for one in said)


def test_one_of_several_threads_loads(words, dino, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    loads = []
    monkeypatch.setattr(registry, "load_backbone", lambda *names, **settings: loads.append(names) or SimpleNamespace())
    later = patches_of_auto(is_offline=False, of_patches={})
    with ThreadPoolExecutor(8) as pool:
        found = set(map(id, pool.map(lambda _: later.get(), range(32))))
    assert len(found) == 1 and loads == [(AUTO_BESIDE,)]


def test_the_harness_is_ready_before_it_says_what_it_measures(words, dino, tmp_path):
    from vlad.evaluation.datasets import load_dataset
    from vlad.evaluation.runner import EvalSettings, run

    for place in ("good/0.png", "good/1.png", "good/2.png", "bad/0.png"):
        (tmp_path / "set" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GOOD[int(place[-5])] if "good" in place else 255 - GOOD[0]).save(tmp_path / "set" / place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(auto(dino), load_dataset(tmp_path / "set"), tmp_path / "out", EvalSettings(k_shots=(0, 1), seeds=(0,))) == []
    assert AUTO_BESIDE in json.loads((tmp_path / "out" / "run.json").read_text())["model"]["name"]


class TestLayers:
    def backbone(self, depth: int = 12, **settings) -> TimmBackbone:
        torch.manual_seed(0)
        model = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, depth=depth, embed_dim=24, num_heads=2)
        with torch.no_grad():
            model.norm.weight.uniform_(0.5, 2)
        return TimmBackbone(model.eval(), **(RUN | {"resolution": 64} | settings))

    @pytest.mark.parametrize(("depth", "layers"), [(12, range(6, 9)), (24, range(13, 17)), (40, range(22, 29))])
    def test_the_middle(self, depth, layers):
        backbone = self.backbone(depth, layers="middle")
        assert backbone.layers == tuple(layers) and (backbone.norm, backbone.merge) == (False, "raw")
        again = self.backbone(depth, **backbone.options)
        assert again.fingerprint == backbone.fingerprint != self.backbone(depth, layers="middle", norm=True).fingerprint

    def test_tokens_of_the_middle_are_those_between_the_blocks(self):
        from vlad.backbones.preprocessing import preprocess

        backbone = self.backbone(layers="middle")
        (found,) = backbone.encode_patches([GOOD[0]])
        seen = []
        for number in (6, 7, 8):
            backbone.model.blocks[number].register_forward_hook(lambda module, given, out: seen.append(out[0, 1:]))
        with torch.inference_mode():
            backbone.model(preprocess([GOOD[0]], backbone.preprocessing, size=(64, 64)))
        torch.testing.assert_close(found.tokens, torch.stack(seen).mean(0), atol=1e-6, rtol=0)

    def test_subspace_on_a_dinov2_takes_the_middle(self, dino):
        def made(name: str = "dinov2-small", **settings) -> TimmBackbone:
            return AnomalyDetector.from_pretrained(name, cache_dir=dino, resolution=70, **RUN, **settings).backbone

        assert made(scorer="subspace").layers == (6, 7, 8) and made().layers == (11,)
        assert made(scorer="subspace", layers=[-1]).layers == (11,)
        detector = auto(dino, scorer="subspace").fit(GOOD)
        assert detector.patch_backbone.layers == (6, 7, 8) and not detector.patch_backbone.norm

    def test_wrong_ones_are_told(self):
        for wrong in ("last", [12], 3):
            with pytest.raises(ConfigError, match="layers must be 'middle' or whole numbers from 0 to 11"):
                self.backbone(layers=wrong)
        with pytest.raises(ConfigError, match="merge must be 'mean' or 'raw'"):
            self.backbone(merge="sum")

    def test_on_the_command_line(self, dino, tmp_path, monkeypatch):
        from vlad.cli.options import DetectorOptions

        monkeypatch.setenv("HF_HUB_CACHE", str(dino))
        options = DetectorOptions(model="dinov2-small", resolution=70, layers="3,-1", merge="concat", norm=False, **RUN)
        backbone = options.load(quiet=True).backbone
        assert (backbone.layers, backbone.merge, backbone.norm) == ((3, 11), "concat", False)
        with pytest.raises(ConfigError, match="--layers must be 'middle' or whole numbers with commas"):
            _ = DetectorOptions(layers="first").settings
