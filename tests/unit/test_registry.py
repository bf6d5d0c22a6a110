"""Names to models: real weights or a clear error, never random weights, and no waiting for a hub that does not answer."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from vlad import AnomalyDetector
from vlad.backbones import ClipBackbone, hub, load_backbone
from vlad.backbones.presets import PRESETS
from vlad.backbones.registry import preset_cached
from vlad.backbones.towers import TimmViTTower, build_tower
from vlad.errors import BackboneError, ConfigError, WeightsNotFoundError

REPO = "timm/vit_base_patch16_plus_clip_240.laion400m_e31"
ARCHITECTURE = "ViT-B-16-plus-240"
EMPTY = {"device": "cpu", "dtype": "float32"}


def snapshot(cache: Path, repo: str) -> Path:
    """An empty snapshot folder in the hub's cache layout."""
    base = cache / f"models--{repo.replace('/', '--')}"
    folder = base / "snapshots" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text(folder.name)
    return folder


@pytest.fixture(scope="module")
def full_size(tmp_path_factory) -> tuple[torch.nn.Module, Path]:
    """The real architecture of WinCLIP with random weights, and its checkpoint (float16, to keep the file small)."""
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE).half().float().eval()
    path = tmp_path_factory.mktemp("weights") / "open_clip_model.safetensors"
    save_file({name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}, path)
    return model, path


@pytest.fixture
def tiny_folder(tiny_clip, golden, tmp_path) -> Path:
    """The tiny model as a local folder in open_clip's layout."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    config = {"model_cfg": golden.info["model_config"], "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tiny_clip.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


class TestFullSize:
    """The preset's normal path, offline, on the real architecture in the real file format."""

    pixels = torch.randn(1, 3, 240, 240, generator=torch.Generator().manual_seed(1))

    def check(self, backbone: ClipBackbone, model: torch.nn.Module, name: str) -> None:
        assert (backbone.grid, backbone.preprocessing.size, backbone.name) == ((15, 15), 240, name)
        with torch.inference_mode():
            torch.testing.assert_close(backbone.encode_image(self.pixels).image, model.visual(self.pixels), atol=1e-4, rtol=1e-4)
        sentence = ["a photo of a damaged metal nut."]
        with torch.inference_mode():
            expected = model.encode_text(open_clip.get_tokenizer(ARCHITECTURE)(sentence))
        torch.testing.assert_close(backbone.encode_text(sentence), expected, atol=1e-4, rtol=1e-4)

    def test_hub_cache(self, full_size, tmp_path):
        model, path = full_size
        (snapshot(tmp_path, REPO) / "open_clip_model.safetensors").symlink_to(path)
        assert preset_cached("winclip", tmp_path) and not preset_cached("clip-b16", tmp_path)
        self.check(load_backbone("winclip", cache_dir=tmp_path, **EMPTY), model, "winclip (ViT-B-16-plus-240, laion400m_e31)")

    def test_hub_cache_by_environment(self, full_size, tmp_path, monkeypatch):
        _, path = full_size
        (snapshot(tmp_path / "hub", REPO) / "open_clip_model.safetensors").symlink_to(path)
        monkeypatch.delenv("HF_HUB_CACHE", raising=False)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        detector = AnomalyDetector.from_pretrained("auto", **EMPTY)
        assert detector.backbone.name == "winclip (ViT-B-16-plus-240, laion400m_e31)"

    def test_local_checkpoint(self, full_size):
        model, path = full_size
        self.check(load_backbone("winclip", pretrained=path, **EMPTY), model, f"winclip ({path.name})")

    def test_architecture_and_file_in_one_name(self, full_size, monkeypatch):
        _, path = full_size
        monkeypatch.setattr("vlad.backbones.open_clip_models._create_model", lambda name, shown, **options: pytest.fail(f"{name} {shown}"))
        with pytest.raises(pytest.fail.Exception, match=f"{ARCHITECTURE} {path}"):
            load_backbone(f"{ARCHITECTURE}:{path}")


class TestFolder:
    def test_weights_and_preprocessing(self, tiny_folder, backbone):
        loaded = load_backbone(str(tiny_folder), **EMPTY)
        assert loaded.preprocessing.mean == (0.5, 0.4, 0.3) and loaded.preprocessing.std == (0.2, 0.25, 0.3)
        pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        assert torch.equal(loaded.encode_image(pixels, scales=(2,)).windows[2], backbone.encode_image(pixels, scales=(2,)).windows[2])
        assert str(tiny_folder) in loaded.name

    def test_hub_repository_in_the_cache(self, tiny_folder, tmp_path):
        folder = snapshot(tmp_path / "cache", "someone/tiny-clip")
        for file in tiny_folder.iterdir():
            (folder / file.name).symlink_to(file)
        for name in ("someone/tiny-clip", "hf-hub:someone/tiny-clip"):
            assert load_backbone(name, cache_dir=tmp_path / "cache", **EMPTY).name == "someone/tiny-clip"

    def test_torch_checkpoint_is_read_with_weights_only(self, tiny_folder, tiny_clip):
        (tiny_folder / "open_clip_model.safetensors").unlink()
        torch.save(tiny_clip.state_dict(), tiny_folder / "open_clip_pytorch_model.bin")
        assert load_backbone(str(tiny_folder), **EMPTY).grid == (6, 6)

    def test_a_pickle_that_runs_code_is_refused(self, tiny_folder, tmp_path):
        class Evil:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "owned",))

        (tiny_folder / "open_clip_model.safetensors").unlink()
        torch.save({"state_dict": Evil()}, tiny_folder / "open_clip_pytorch_model.bin")
        with pytest.raises(BackboneError, match="weights_only"):
            load_backbone(str(tiny_folder), **EMPTY)
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\xff" * 100], ids=["empty", "text", "noise"])
    def test_broken_checkpoint(self, tiny_folder, content):
        (tiny_folder / "open_clip_model.safetensors").write_bytes(content)
        with pytest.raises(BackboneError, match=f"the checkpoint {tiny_folder} could not be loaded"):
            load_backbone(str(tiny_folder), **EMPTY)

    def test_checkpoint_of_another_architecture(self, tiny_folder, tiny_clip):
        state = dict(tiny_clip.state_dict())
        del state["visual.proj"]
        save_file(state, tiny_folder / "open_clip_model.safetensors")
        with pytest.raises(BackboneError, match="could not be loaded"):
            load_backbone(str(tiny_folder), **EMPTY)

    def test_hub_repository_without_its_tokenizer(self, siglip_folder, tmp_path):
        """Only the weights were fetched by hand: the tokenizer is asked for, not silently left out."""
        folder = snapshot(tmp_path / "cache", "someone/siglip")
        for name in ("open_clip_config.json", "open_clip_model.safetensors"):
            (folder / name).symlink_to(siglip_folder / name)
        with pytest.raises(WeightsNotFoundError, match=r"hf download someone/siglip\n"):
            load_backbone("someone/siglip", cache_dir=tmp_path / "cache")
        for file in siglip_folder.iterdir():
            if not (folder / file.name).exists():
                (folder / file.name).symlink_to(file)
        assert load_backbone("someone/siglip", cache_dir=tmp_path / "cache", **EMPTY).name == "someone/siglip"

    def test_no_weights(self, tiny_folder):
        (tiny_folder / "open_clip_model.safetensors").unlink()
        with pytest.raises(WeightsNotFoundError, match=r"holds no weights; put open_clip_model\.safetensors"):
            load_backbone(str(tiny_folder))

    def test_no_configuration(self, tmp_path):
        with pytest.raises(BackboneError, match=r"holds no open_clip_config\.json"):
            load_backbone(str(tmp_path))

    def test_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(BackboneError, match="does not exist"):
            load_backbone(f"local-dir:{tmp_path / 'nothing'}")


class TestCheckpointFile:
    """A file says neither its activation nor how it wants its pictures."""

    @pytest.fixture
    def built(self, tmp_path, monkeypatch) -> dict:
        """What the model would be built with."""
        made: dict = {}

        def create(name: str, shown: object, **options: object) -> object:
            made.update(options, name=name)
            raise BackboneError("enough")

        monkeypatch.setattr("vlad.backbones.open_clip_models._create_model", create)
        (tmp_path / "my.pt").touch()
        return made

    def load(self, name: str) -> None:
        with pytest.raises(BackboneError, match="enough"):
            load_backbone(name)

    @pytest.mark.parametrize("architecture", ["ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-B-32"])
    def test_where_tags_disagree_one_is_asked_for(self, built, tmp_path, architecture):
        with pytest.raises(BackboneError, match=rf"weights of {architecture} were trained in \d ways .*QuickGELU.*{architecture}:TAG:FILE"):
            load_backbone(f"{architecture}:{tmp_path / 'my.pt'}")
        assert not built

    @pytest.mark.parametrize(
        ("tag", "quick"),
        [("openai", True), ("dfn2b", True), ("metaclip_400m", True), ("laion400m_e31", False), ("datacomp_xl_s13b_b90k", False)],
    )
    @pytest.mark.parametrize("pretrained", [True, False])
    def test_a_tag_says_the_activation(self, built, tmp_path, tag, quick, pretrained):
        if pretrained:
            with pytest.raises(BackboneError, match="enough"):
                load_backbone("ViT-B-16", pretrained=f"{tag}:{tmp_path / 'my.pt'}")
        else:
            self.load(f"ViT-B-16:{tag}:{tmp_path / 'my.pt'}")
        assert built["force_quick_gelu"] is quick and built["pretrained"] == str(tmp_path / "my.pt")

    def test_mean_and_std_of_the_only_way(self, built, tmp_path):
        self.load(f"MobileCLIP2-B:{tmp_path / 'my.pt'}")
        assert built["force_preprocess_cfg"] == {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        self.load(f"ViT-B-16-plus-240:{tmp_path / 'my.pt'}")
        assert built["force_quick_gelu"] is False and built["force_preprocess_cfg"]["mean"][0] == pytest.approx(0.48145466)
        self.load(f"ViT-B-16-quickgelu:{tmp_path / 'my.pt'}")
        assert built["force_quick_gelu"] is True

    def test_it_is_found_again_with_its_tag(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            "vlad.backbones.open_clip_models._build", lambda name, path, like, options, label, cache: (options["source"], label)
        )
        (tmp_path / "my.pt").touch()
        name = f"ViT-B-16:openai:{tmp_path / 'my.pt'}"
        assert load_backbone(name) == (name, "ViT-B-16:openai (my.pt)")

    def test_a_tag_goes_before_that_of_a_preset(self, tmp_path, monkeypatch):
        made = []

        def keep(name, path, like, options, label, cache):
            made.append((options["source"], like.get("quick_gelu", False)))

        monkeypatch.setattr("vlad.backbones.open_clip_models._build", keep)
        (tmp_path / "my.pt").touch()
        load_backbone(f"clip-b16:{tmp_path / 'my.pt'}")
        load_backbone(f"clip-b16:laion2b_s34b_b88k:{tmp_path / 'my.pt'}")
        load_backbone(made[1][0])
        other = (f"ViT-B-16:laion2b_s34b_b88k:{tmp_path / 'my.pt'}", False)
        assert made == [(f"clip-b16:{tmp_path / 'my.pt'}", True), other, other]

    def test_a_missing_tokenizer_is_told_in_our_words(self, built, tmp_path):
        with pytest.raises(
            WeightsNotFoundError, match=r"the tokenizer of ViT-B-16-SigLIP .*\n.*\n *hf download timm/ViT-B-16-SigLIP\n"
        ) as told:
            load_backbone(f"ViT-B-16-SigLIP:{tmp_path / 'my.pt'}", cache_dir=tmp_path)
        assert f"put its tokenizer.json beside {tmp_path / 'my.pt'}" in str(told.value) and not built

    def test_a_tokenizer_beside_the_file(self, built, siglip_folder):
        (siglip_folder / "my.pt").touch()
        self.load(f"ViT-B-16-SigLIP:{siglip_folder / 'my.pt'}")
        assert built["force_preprocess_cfg"] == {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


@pytest.fixture
def siglip_folder(tmp_path) -> Path:
    """A small model with SigLIP's layout and a tokenizer of its own, in the hub's file format."""
    transformers = pytest.importorskip("transformers", reason="tokenizers of SigLIP models need the extra vlad-anomaly[vlm]")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["a", "photo", "of", "the", "flawless", "damaged", "object", "</s>", "<pad>", "<unk>"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "siglip"
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    vision = {"image_size": 160, "timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"}
    text = {"context_length": 16, "vocab_size": len(words), "hf_tokenizer_name": "someone/elsewhere", "width": 64, "heads": 2, "layers": 2}
    text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "tokenizer_kwargs": {"clean": "canonicalize"}}
    config = {"embed_dim": 64, "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}})
    )
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def test_siglip_folder_with_its_own_tokenizer(siglip_folder):
    backbone = load_backbone(str(siglip_folder), **EMPTY)
    flawless, damaged, unknown, other = backbone.encode_text(
        [f"a photo of the {word} object" for word in ("flawless", "damaged", "xyz", "qrs")]
    )
    assert not torch.allclose(flawless, damaged, atol=1e-3) and torch.equal(unknown, other)
    detector = AnomalyDetector(backbone)
    result = detector.predict(np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8))
    assert result.anomaly_map.shape == (50, 80) and backbone.preprocessing.mean == (0.5, 0.5, 0.5)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("ViT-B-61", BackboneError, "did you mean .*ViT-B-16"),
            ("winklip", BackboneError, "did you mean 'winclip'"),
            ("ViT-B-32", BackboneError, "no weights named for ViT-B-32; write ViT-B-32:TAG with one of openai"),
            ("ViT-B-32:openay", BackboneError, "no weights named 'openay'"),
            ("ViT-B-32:/nowhere/file.pt", WeightsNotFoundError, "/nowhere/file.pt for ViT-B-32 does not exist"),
            ("models/nut", WeightsNotFoundError, "there is no folder models/nut here"),
            ("hf-hub:a/b/c", BackboneError, "no hub repository"),
            ("RN50:openai", BackboneError, "RN50 .a ResNet. is no plain ViT"),
            ("EVA02-B-16:merged2b_s8b_b131k", BackboneError, "eva02_base_patch16_clip_224. is no plain ViT"),
            ("convnext_base:laion400m_s13b_b51k", BackboneError, "is no plain ViT"),
            ("WinCLIP", WeightsNotFoundError, "the weights of 'winclip'"),
        ],
    )
    def test_unknown(self, name, error, message, tmp_path):
        with pytest.raises(error, match=message):
            load_backbone(name, cache_dir=tmp_path)

    @pytest.mark.parametrize("name", ["auto:x", "lite:x", "Lite:x"])
    def test_presets_without_a_file(self, name):
        with pytest.raises(ConfigError, match="pretrained"):
            load_backbone(name)

    @pytest.mark.parametrize("name", ["auto", "lite", "hf-hub:someone/model"])
    def test_pretrained_belongs_to_an_architecture(self, name):
        with pytest.raises(ConfigError, match="pretrained"):
            load_backbone(name, pretrained="laion400m_e31")

    @pytest.mark.parametrize("name", [name for name in PRESETS if not name.startswith("lite")])
    def test_missing_weights_give_the_command_and_the_folder(self, name, tmp_path):
        with pytest.raises(WeightsNotFoundError) as caught:
            load_backbone(name, cache_dir=tmp_path)
        message = str(caught.value)
        assert str(tmp_path) in message and "hf download timm/" in message and "HF_HUB_OFFLINE is set" in message and name in message

    def test_openai_weights_get_their_activation(self, monkeypatch, tmp_path):
        """open_clip itself only warns when OpenAI's weights are put into a model with another activation."""
        seen = {}
        (snapshot(tmp_path, "timm/vit_base_patch16_clip_224.openai") / "open_clip_model.safetensors").write_bytes(b"x")

        def create(name, shown, **options):
            seen.update(options)
            raise BackboneError("stop here")

        monkeypatch.setattr("vlad.backbones.open_clip_models._create_model", create)
        with pytest.raises(BackboneError, match="stop here"):
            load_backbone("clip-b16", cache_dir=tmp_path)
        assert seen["force_quick_gelu"] is True and seen["force_preprocess_cfg"]["mean"] == (0.48145466, 0.4578275, 0.40821073)


class TestAuto:
    def test_falls_back_to_lite_and_says_so(self, tmp_path):
        with pytest.warns(UserWarning, match=r"falls back to the small embedded model 'lite'.*HF_HUB_OFFLINE is set"):
            detector = AnomalyDetector.from_pretrained("auto", cache_dir=tmp_path)
        assert detector.backbone.name.startswith("lite")


class TestHub:
    @pytest.fixture
    def silent_server(self, monkeypatch):
        """A hub that takes the connection and never answers."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
            monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
            yield server

    def test_a_hub_that_does_not_answer_costs_seconds(self, silent_server, tmp_path):
        with pytest.raises(WeightsNotFoundError, match="not answer"):
            load_backbone("winclip", cache_dir=tmp_path)
        silent_server.setblocking(False)
        silent_server.accept()[0].close()  # our own question, which gives up after seconds; the hub client alone would go on for 40
        with pytest.raises(BlockingIOError):
            silent_server.accept()

    def test_a_hub_that_refuses(self, silent_server):
        silent_server.close()
        assert "does not answer: ConnectError" in hub.why_unreachable()

    def test_offline_is_a_reason(self):
        assert hub.why_unreachable() == "HF_HUB_OFFLINE is set"

    def test_a_file_that_the_repository_does_not_hold(self, monkeypatch, tmp_path):
        from huggingface_hub.errors import EntryNotFoundError

        def nothing(*_, **__):
            raise EntryNotFoundError("404")

        monkeypatch.setattr(hub, "why_unreachable", lambda: None)
        monkeypatch.setattr("huggingface_hub.hf_hub_download", nothing)
        with pytest.raises(WeightsNotFoundError, match="holds none of a, b"):
            hub.fetch_file("some/repo", ("a", "b"), what="x", cache_dir=tmp_path)

    def test_a_download_that_breaks_off(self, monkeypatch, tmp_path):
        def broken(*_, **__):
            raise ConnectionResetError("peer went away")

        monkeypatch.setattr(hub, "why_unreachable", lambda: None)
        monkeypatch.setattr("huggingface_hub.hf_hub_download", broken)
        with pytest.raises(WeightsNotFoundError, match="download from some/repo failed: ConnectionResetError: peer went away"):
            hub.fetch_file("some/repo", ("a", "b"), what="x", cache_dir=tmp_path)


@pytest.fixture(scope="module")
def siglip():
    """SigLIP's layout (no CLS, attention pooling) in a small size."""
    from open_clip.timm_model import TimmModel

    torch.manual_seed(0)
    visual = TimmModel("vit_base_patch16_siglip_224", 768, 224, pool="map", proj="none")
    visual.trunk.blocks = visual.trunk.blocks[:2]
    return visual.eval()


class TestTowers:
    @pytest.mark.parametrize(
        ("architecture", "reason"),
        [("RN50", "convolutional network"), ("EVA02-B-16", "rotary positions"), ("convnext_base", "not a plain ViT")],
    )
    def test_which_do_not_allow_windows(self, architecture, reason):
        with torch.device("meta"):
            model = open_clip.create_model(architecture, device="meta")
        with pytest.raises(BackboneError, match=reason):
            build_tower(model.visual)

    def test_siglip_windows(self, siglip):
        tower = build_tower(siglip)
        assert isinstance(tower, TimmViTTower) and tower.prefix == 0
        pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        changed = pixels.clone()
        changed[..., 32:] += 1  # from the third column of patches on
        with torch.inference_mode():
            torch.testing.assert_close(tower.encode(tower.embed(pixels))[0], siglip(pixels), atol=1e-5, rtol=1e-5)
            before, after = (tower.encode_windows(tower.embed(p), (2, 14)) for p in (pixels, changed))
        torch.testing.assert_close(before[14][:, 0], siglip(pixels).detach(), atol=1e-5, rtol=1e-5)
        assert torch.equal(before[2][:, 0], after[2][:, 0]) and not torch.allclose(before[2][:, 1], after[2][:, 1])
        assert before[2].shape == (2, 169, 768)

    def test_average_pooling(self, golden):
        config = golden.info["model_config"]
        model = open_clip.CLIP(**config | {"vision_cfg": config["vision_cfg"] | {"pool_type": "avg"}}).eval()
        pixels = torch.randn(1, 3, 96, 96)
        windows = ClipBackbone(model, device="cpu", dtype="float32").encode_image(pixels, scales=(6,)).windows[6]
        with torch.inference_mode():
            torch.testing.assert_close(windows[:, 0], model.visual(pixels), atol=1e-5, rtol=1e-5)

    def test_a_model_without_text_is_refused(self):
        with pytest.raises(BackboneError, match="expected an open_clip model"):
            ClipBackbone(torch.nn.Linear(1, 1))


class TestDevice:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"device": "gpu"}, "device 'gpu' is unknown"),
            ({"dtype": "int8"}, "dtype 'int8' is unknown"),
            ({"device": "cpu", "dtype": "float16"}, "float16 on a CPU"),
            ({"device": "cpu", "chunk": 0}, "chunk must be at least 1"),
        ],
    )
    def test_out_of_range(self, tiny_clip, options, message):
        with pytest.raises(ConfigError, match=message):
            ClipBackbone(tiny_clip, **options)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA devices")
    def test_absent_cuda(self, tiny_clip):
        with pytest.raises(ConfigError, match="0 CUDA devices are visible"):
            ClipBackbone(tiny_clip, device="cuda")
