"""Patch backbones: timm's own tokens, real checkpoints or a clear error, any size and shape of picture."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from vlad import AnomalyDetector
from vlad.backbones import PRESETS, PatchBackbone, TimmBackbone, load_backbone
from vlad.backbones.preprocessing import preprocess
from vlad.errors import BackboneError, ConfigError, WeightsNotFoundError

DINO = "vit_small_patch14_dinov2"
PICTURE = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
PRESET_NAMES = [name for name, preset in PRESETS.items() if preset.source.startswith("timm:")]


@pytest.fixture(scope="module")
def dino() -> torch.nn.Module:
    """The real DINOv2-S/14 with random weights."""
    torch.manual_seed(0)
    return timm.create_model(DINO, num_classes=0, dynamic_img_size=True).eval()


@pytest.fixture(scope="module")
def checkpoint(dino, tmp_path_factory):
    """Its checkpoint as the hub keeps it: position embeddings of 518 pixels, timm's names."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in dino.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def backbone(checkpoint) -> PatchBackbone:
    return load_backbone("dinov2-small", pretrained=checkpoint, device="cpu", dtype="float32", resolution=126)


def small(**settings) -> TimmBackbone:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, depth=3, embed_dim=24, num_heads=2)
    return TimmBackbone(model.eval(), **({"device": "cpu", "dtype": "float32", "resolution": 64} | settings))


class TestTokens:
    def test_those_of_timm(self, dino, backbone):
        """A picture of 126 x 168 pixels is 9 x 12 patches without padding; timm interpolates the positions."""
        picture = np.random.default_rng(1).integers(0, 256, (126, 168, 3), dtype=np.uint8)
        (found,) = backbone.encode_patches([picture])
        with torch.inference_mode():
            expected = dino.forward_features(preprocess([picture], backbone.preprocessing, size=(126, 168)))[0, dino.num_prefix_tokens :]
        assert found.grid == (9, 12) and found.shown == (1.0, 1.0)
        torch.testing.assert_close(found.tokens, expected, atol=1e-5, rtol=0)

    def test_layers_are_normalised_and_averaged(self, dino, checkpoint):
        backbone = load_backbone("dinov2-small", pretrained=checkpoint, device="cpu", dtype="float32", resolution=56, layers=[-1, 3])
        (found,) = backbone.encode_patches([np.ascontiguousarray(PICTURE[:90])])
        with torch.inference_mode():
            maps = dino.forward_intermediates(
                preprocess([PICTURE[:90]], backbone.preprocessing, size=(56, 56)), indices=[3, 11], norm=True, intermediates_only=True
            )
        expected = torch.stack([F.normalize(stage, dim=1) for stage in maps]).mean(0)[0].flatten(1).T
        assert backbone.layers == (3, 11)
        torch.testing.assert_close(found.tokens, expected, atol=1e-5, rtol=0)

    def test_concatenated(self):
        mean, both = (small(layers=(1, 2), merge=merge).encode_patches([PICTURE])[0].tokens for merge in ("mean", "concat"))
        assert both.shape[1] == 48
        torch.testing.assert_close(both[:, :24] / 2 + both[:, 24:] / 2, mean)
        torch.testing.assert_close(both[:, :24].norm(dim=1), torch.ones(len(both)))

    def test_a_result_does_not_depend_on_its_neighbours(self):
        backbone = small()
        pictures = [PICTURE, PICTURE[:40], np.ascontiguousarray(PICTURE[:, ::-1])]
        for together, picture in zip(backbone.encode_patches(pictures), pictures, strict=True):
            assert torch.equal(together.tokens, backbone.encode_patches([picture])[0].tokens)

    @pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "wide_resnet50_2", "convnext_atto"])
    def test_other_architectures(self, name):
        torch.manual_seed(0)
        backbone = TimmBackbone(timm.create_model(name, num_classes=0), device="cpu", dtype="float32", resolution=128)
        (found,) = backbone.encode_patches([PICTURE])
        stride = 16 if name.startswith("vit") else 8
        assert found.grid == (128 // stride, round(128 * 120 / 90 / 16 + 0.499) * 16 // stride) or found.grid[0] > found.grid[1]
        assert found.tokens.shape[0] == found.grid[0] * found.grid[1] and torch.isfinite(found.tokens).all()
        if stride == 8:
            assert len(backbone.layers) == 2 and backbone.merge == "concat"


class TestShape:
    @pytest.mark.parametrize(
        ("shape", "grid", "shown"),
        [
            ((120, 90), (6, 4), (85 / 96, 1.0)),
            ((90, 120), (4, 6), (1.0, 85 / 96)),
            ((100, 100), (4, 4), (1.0, 1.0)),
            ((20, 400), (1, 8), (9 / 16, 1.0)),  # a strip is bounded at twice the resolution
        ],
    )
    def test_aspect_is_kept_and_padded(self, shape, grid, shown):
        (found,) = small().encode_patches([np.zeros((*shape, 3), np.uint8)])
        assert found.grid == grid and found.shown == pytest.approx(shown)

    def test_square(self):
        (found,) = small(square=True).encode_patches([PICTURE])
        assert found.grid == (4, 4) and found.shown == (1.0, 1.0)

    def test_the_map_lies_where_the_picture_is(self):
        """A patch that differs lights up at its own place, although the grid is padded."""
        picture = np.full((180, 130, 3), 90, np.uint8)
        broken = picture.copy()
        broken[140:165, 90:120] = 255
        detector = AnomalyDetector(small(resolution=128), scorer="nearest")
        result = detector.fit([picture, np.full((180, 130, 3), 92, np.uint8)]).predict(broken)
        y, x = np.unravel_index(int(result.anomaly_map.argmax()), result.anomaly_map.shape)
        assert result.anomaly_map.shape == (180, 130) and 130 <= y < 175 and 80 <= x < 130


class TestLoading:
    def test_authors_names(self, dino, tmp_path):
        """DINOv2's own release: no `.gamma` renamed, a mask token, square positions; timm's filter reads it."""
        state = {name.replace("norm.", "norm."): tensor for name, tensor in dino.state_dict().items()}
        state["mask_token"] = torch.zeros(1, 384)
        path = tmp_path / "dinov2_vits14_pretrain.pth"
        torch.save(state, path)
        backbone = load_backbone(f"dinov2-small:{path}", device="cpu", dtype="float32", resolution=56)
        assert torch.equal(backbone.model.blocks[5].mlp.fc1.weight, dino.blocks[5].mlp.fc1.weight)

    def test_folder_of_the_hub(self, checkpoint, backbone, tmp_path):
        (tmp_path / "model.safetensors").symlink_to(checkpoint)
        config = {"architecture": DINO, "num_classes": 0, "pretrained_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        found = load_backbone(str(tmp_path), device="cpu", dtype="float32", resolution=126)
        assert found.preprocessing.mean == (0.5, 0.4, 0.3) and found.fingerprint != backbone.fingerprint
        again = load_backbone(found.source, device="cpu", dtype="float32", **found.options)
        assert again.fingerprint == found.fingerprint

    def test_settings_change_the_fingerprint(self):
        prints = {small(**s).fingerprint for s in ({}, {"resolution": 80}, {"square": True}, {"layers": (1,)}, {"mean": (0.1, 0.2, 0.3)})}
        assert len(prints) == 5

    def test_the_fingerprint_is_that_of_before_where_nothing_new_is_set(self):
        """Folders and caches of earlier versions know a backbone by it."""
        backbone = small()
        before = {key: value for key, value in backbone.options.items() if key != "norm"}
        digest = hashlib.sha256(repr((backbone.dtype, backbone.preprocessing, before)).encode())
        for key, tensor in sorted(backbone.model.state_dict().items()):
            digest.update(f"{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        assert backbone.fingerprint == digest.hexdigest() != small(norm=False).fingerprint

    @pytest.mark.parametrize("name", PRESET_NAMES)
    def test_presets_without_weights(self, name, tmp_path):
        with pytest.raises(WeightsNotFoundError, match=f"{name}.*not in the cache.*\n.*\n *hf download timm/"):
            load_backbone(name, cache_dir=tmp_path)

    def test_presets_from_the_cache(self, checkpoint, tmp_path):
        base = tmp_path / "models--timm--vit_small_patch14_dinov2.lvd142m"
        (base / "snapshots" / "abc").mkdir(parents=True)
        (base / "refs").mkdir()
        (base / "refs" / "main").write_text("abc")
        (base / "snapshots" / "abc" / "model.safetensors").symlink_to(checkpoint)
        backbone = load_backbone("dinov2-small", device="cpu", cache_dir=tmp_path)
        assert backbone.name == "dinov2-small (vit_small_patch14_dinov2.lvd142m)" and backbone.resolution == 448

    @pytest.mark.parametrize(
        ("name", "settings", "error", "message"),
        [
            ("timm:vit_smal_patch14_dinov2", {}, BackboneError, "did you mean.*vit_small_patch14"),
            ("timm:vit_small_patch14_dinov2:/nothing.pth", {}, WeightsNotFoundError, "does not exist"),
            (
                "lite",
                {"resolution": 448},
                ConfigError,
                "resolution: a setting of a patch backbone .*dinov2-small.*which 'lite' is not; leave it out",
            ),
            ("winclip", {"layers": [1]}, ConfigError, "layers: a setting of a patch backbone"),
            ("timm:", {}, BackboneError, "names no model; write timm:MODEL"),
        ],
    )
    def test_errors(self, name, settings, error, message):
        with pytest.raises(error, match=message):
            load_backbone(name, **settings)

    def test_another_models_checkpoint(self, checkpoint, tmp_path):
        for name in ("dinov2-base", "wide-resnet50", "timm:resnet18"):  # the last two have classifiers, without which timm takes any file
            with pytest.raises(BackboneError, match=f"does not fit {name.removeprefix('timm:')}"):
                load_backbone(name, pretrained=checkpoint, device="cpu")
        text = tmp_path / "notes.txt"
        text.write_text("no checkpoint")
        with pytest.raises(BackboneError, match=r"the checkpoint .*notes\.txt does not fit dinov2-small"):
            load_backbone("dinov2-small", pretrained=text, device="cpu")

    def test_a_classifier_of_other_classes_or_none_is_no_obstacle(self, tmp_path):
        torch.manual_seed(0)
        made = timm.create_model("resnet18", num_classes=7).eval()
        for name, state in (
            ("seven.pth", made.state_dict()),
            ("none.pth", {key: value for key, value in made.state_dict().items() if not key.startswith("fc.")}),
        ):
            torch.save(state, tmp_path / name)
            backbone = load_backbone(f"timm:resnet18:{tmp_path / name}", device="cpu", dtype="float32")
            assert torch.equal(backbone.model.layer2[0].conv1.weight, made.layer2[0].conv1.weight)

    def test_what_is_a_dinov2(self, checkpoint, tmp_path):
        from vlad.backbones.registry import is_dinov2

        (tmp_path / "config.json").write_text(json.dumps({"architecture": DINO}))
        names = ("dinov2-small", f"DINOv2-small:{checkpoint}", f"timm:{DINO}", f"timm:{DINO}:{checkpoint}", tmp_path)
        assert all(map(is_dinov2, names))
        assert not any(map(is_dinov2, ("lite", "dinov3-small", "timm:resnet18:/dinov2/file.pth", tmp_path / "none", None)))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"resolution": 16}, "resolution must be.*at least 32"),
            ({"resolution": "448"}, "resolution must be"),
            ({"layers": (3,)}, "layers must be 'middle' or whole numbers from 0 to 2"),
            ({"layers": ("last",)}, "layers must be"),
            ({"layers": ()}, "layers must be"),
            ({"layers": (True,)}, "layers must be"),
            ({"merge": "sum"}, "merge must be"),
        ],
    )
    def test_settings_out_of_range(self, settings, message):
        with pytest.raises(ConfigError, match=message):
            small(**settings)

    def test_what_is_no_model(self):
        with pytest.raises(BackboneError, match="expected a timm model"):
            TimmBackbone(torch.nn.Linear(2, 2))


class TestInTheDetector:
    def test_alone_it_needs_references(self):
        detector = AnomalyDetector(small())
        with pytest.raises(ConfigError, match="knows no words and has no references"):
            detector.predict(PICTURE)
        with pytest.raises(ConfigError, match="knows no words"):
            detector.text_vectors()
        with pytest.raises(ConfigError, match="scorer 'winclip'"):
            AnomalyDetector(small(), scorer="winclip")

    def test_beside_a_clip(self, backbone, tiny_clip, golden, prompts):
        from vlad.backbones import ClipBackbone

        clip = ClipBackbone(tiny_clip, device="cpu", dtype="float32", name="tiny")
        references, query = golden.pictures("reference"), golden.pictures()[0]
        text = AnomalyDetector(clip, prompts=prompts).predict(query)
        alone = AnomalyDetector(small()).fit(references).predict(query)
        for weight in (0.5, 0.25, 0.0):
            both = AnomalyDetector(clip, patch_backbone=small(), prompts=prompts, text_weight=weight).fit(references).predict(query)
            assert both.pred_score == pytest.approx(weight * text.pred_score + (1 - weight) * alone.pred_score, abs=1e-6)
            np.testing.assert_allclose(both.anomaly_map, weight * text.anomaly_map + (1 - weight) * alone.anomaly_map, atol=1e-6)
            assert both.model == "tiny + VisionTransformer object (weights unknown)"
            assert ("text_image" in both.scores) == (weight > 0)
