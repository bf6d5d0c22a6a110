"""Dense maps and learned prompts against plain scripts of their formulas, which share no code with the package."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vlad import AnomalyDetector
from vlad.backbones import ClipBackbone
from vlad.backbones.base import DENSE
from vlad.backbones.preprocessing import preprocess
from vlad.errors import BackboneError, ConfigError, PromptError, VladWarning
from vlad.prompts import PromptEnsemble
from vlad.prompts.vectors import PromptVectors, read_vectors, write_vectors

sys.path.insert(0, str(Path(__file__).parents[2] / "eval"))


def plain_dense(model, pixels: torch.Tensor, kinds: str) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Dense embeddings (P, D), the picture's (D,) and each block's (P, D) of one picture, head by head, place by place, in float64."""
    visual = model.visual.double()
    width, heads = visual.conv1.out_channels, visual.transformer.resblocks[0].attn.num_heads
    patches = visual.conv1(pixels.double())[0].flatten(1).T
    x = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
    x = visual.ln_pre(x)
    blocks = list(visual.transformer.resblocks)

    def attend(block, normed, kind):
        weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
        q, k, v = (normed @ weight[n * width : (n + 1) * width].T + bias[n * width : (n + 1) * width] for n in range(3))
        a, b = {"x": (q, k), "q": (q, q), "k": (k, k), "v": (v, v)}[kind]
        size = width // heads
        out = torch.zeros_like(v)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for place in range(len(v)):
                weights = torch.softmax(a[place, part] @ b[:, part].T / math.sqrt(size), dim=0)
                out[place, part] = weights @ v[:, part]
        return out @ block.attn.out_proj.weight.T + block.attn.out_proj.bias

    def ordinary(block, x):
        x = x + attend(block, block.ln_1(x), "x")
        return x + block.mlp(block.ln_2(x))

    half = len(blocks) // 2
    for block in blocks[:half]:
        x = ordinary(block, x)
    dense, seen = x.clone(), []
    for block in blocks[half:]:
        normed = block.ln_1(x)
        dense = dense + sum(attend(block, normed, kind) for kind in kinds) / len(kinds)
        x = ordinary(block, x)
        projected = visual.ln_post(dense[1:]) @ visual.proj
        seen.append(projected / projected.norm(dim=1, keepdim=True))
    mean = sum(seen[-3:]) / len(seen[-3:])
    mean = mean / mean.norm(dim=1, keepdim=True)
    return mean.detach().numpy(), (visual.ln_post(x[0]) @ visual.proj).detach().numpy(), [one.detach().numpy() for one in seen]


@pytest.fixture
def copy_of_clip(tiny_clip):
    import copy

    return copy.deepcopy(tiny_clip)


class TestFormula:
    @pytest.mark.parametrize("kinds", ["v", "qkv"])
    def test_against_a_plain_script(self, tiny_clip, copy_of_clip, golden, kinds):
        backbone = ClipBackbone(tiny_clip, device="cpu", dtype="float32", dense_attention=kinds)
        for picture in golden.pictures()[:2]:
            pixels = preprocess([picture], backbone.preprocessing)
            found = backbone.encode_image(pixels, scales=(DENSE, 2), patches=True)
            dense, image, _ = plain_dense(copy_of_clip, pixels, kinds)
            np.testing.assert_allclose(found.windows[DENSE][0], dense, atol=1e-6)
            np.testing.assert_allclose(found.image[0], image, atol=1e-5)
            ordinary = backbone.encode_image(pixels, scales=(2,), patches=True)
            torch.testing.assert_close(found.image, ordinary.image, atol=1e-5, rtol=0)
            torch.testing.assert_close(found.windows[2], ordinary.windows[2], atol=1e-6, rtol=0)
            torch.testing.assert_close(found.patches, ordinary.patches, atol=1e-5, rtol=0)

    def test_the_map_is_the_softmax_of_each_patch(self, tiny_clip, copy_of_clip, golden, prompts):
        backbone = ClipBackbone(tiny_clip, device="cpu", dtype="float32")
        detector = AnomalyDetector(backbone, prompts=prompts, text_maps="dense")
        picture = golden.pictures()[0]
        result = detector.predict(picture)
        dense, *_ = plain_dense(copy_of_clip, preprocess([picture], backbone.preprocessing), "v")
        normal, anomalous = detector.text_vectors().double().numpy()
        expected = 1 / (1 + np.exp(-(dense @ anomalous - dense @ normal) / detector.temperature))
        assert result.scores["text_dense_max"] == pytest.approx(expected.max(), abs=1e-5)
        windows = AnomalyDetector(backbone, prompts=prompts).predict(picture)
        assert result.pred_score == pytest.approx(windows.pred_score, abs=1e-6) and "text_scale_2_max" not in result.scores
        assert result.anomaly_map.shape == windows.anomaly_map.shape and not np.allclose(result.anomaly_map, windows.anomaly_map)

    def test_beside_references_and_after_loading(self, tiny_clip, golden, prompts, tmp_path):
        backbone = ClipBackbone(tiny_clip, device="cpu", dtype="float32")
        detector = AnomalyDetector(backbone, prompts=prompts, text_maps="dense", rotations=1).fit(golden.pictures("reference"))
        assert detector.memory.scales == (2, 3), "association compares windows as before"
        result = detector.predict(golden.pictures()[0])
        loaded = AnomalyDetector.load(detector.save(tmp_path / "model"), backbone=backbone).predict(golden.pictures()[0])
        assert loaded.pred_score == result.pred_score and (loaded.anomaly_map == result.anomaly_map).all()
        conditions = detector.memory.calibration.conditions
        assert conditions.scales == (DENSE,)

    def test_through_the_cache(self, tiny_clip, golden, prompts, tmp_path):
        from vlad.evaluation.cache import on_cache

        detector = AnomalyDetector(ClipBackbone(tiny_clip, device="cpu", dtype="float32"), prompts=prompts, text_maps="dense")
        cached = on_cache(detector, tmp_path)
        maps = [cached.predict(golden.pictures()[0]).anomaly_map for _ in range(2)]
        assert (maps[0] == maps[1]).all() and (maps[0] == detector.predict(golden.pictures()[0]).anomaly_map).all()
        assert cached.backbone.hits == 1

    def test_who_has_none_says_so(self, tiny_clip):
        from vlad.backbones.lite.backbone import LiteBackbone
        from vlad.backbones.towers import Tower

        with pytest.raises(ConfigError, match="text_maps 'dense' needs a CLIP whose image tower is open_clip's own ViT, lite"):
            AnomalyDetector(LiteBackbone(device="cpu"), text_maps="dense")
        import timm

        from vlad.backbones import TimmBackbone

        vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, depth=1, embed_dim=12, num_heads=1)
        with pytest.raises(ConfigError, match="text_maps 'dense' needs a CLIP"):
            AnomalyDetector(TimmBackbone(vit.eval(), device="cpu", name="a patch backbone"), text_maps="dense")
        with pytest.raises(ConfigError, match="text_maps must be one of 'windows', 'coarse', 'dense'"):
            AnomalyDetector(ClipBackbone(tiny_clip, device="cpu"), text_maps="fast")
        with pytest.raises(BackboneError, match="gives no dense maps"):
            Tower().encode_dense(torch.zeros(1, 2, 3))


class TestVectors:
    def file(self, tmp_path: Path, vectors: np.ndarray, model: str = "tiny") -> Path:
        write_vectors(tmp_path / "learned.safetensors", vectors, model=model, name="learned", source="a test")
        return tmp_path / "learned.safetensors"

    def test_they_stand_for_the_sentences(self, tiny_clip, golden, tmp_path, prompts):
        backbone = ClipBackbone(tiny_clip, device="cpu", dtype="float32", name="tiny")
        by_words = AnomalyDetector(backbone, prompts=prompts)
        path = self.file(tmp_path, 3 * by_words.text_vectors().numpy())
        detector = AnomalyDetector(backbone, prompts=path)
        picture = golden.pictures()[0]
        found, expected = detector.predict(picture, class_name="bottle"), by_words.predict(picture)
        assert found.pred_score == pytest.approx(expected.pred_score, abs=1e-6) and found.prompts == "learned"
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=1e-5)
        again = AnomalyDetector.load(detector.save(tmp_path / "model"), backbone=backbone)
        assert again.predict(picture).pred_score == detector.predict(picture).pred_score
        assert again.prompts == detector.prompts and again.prompts.fingerprint != prompts.fingerprint and not again.prompts.uses_class_name

    def test_two_for_each_of_the_last_blocks(self, tiny_clip, copy_of_clip, golden, tmp_path):
        backbone = ClipBackbone(tiny_clip, device="cpu", dtype="float32", name="tiny")
        layers, width = backbone.dense_layers, backbone.encode_text(["a"]).shape[1]
        assert layers == 2, "of its three blocks"
        vectors = np.random.default_rng(0).normal(size=(2, layers, width)).astype(np.float32)
        path = self.file(tmp_path, vectors)
        detector = AnomalyDetector(backbone, prompts=path, text_maps="dense")
        picture = golden.pictures()[0]
        _, image, blocks = plain_dense(copy_of_clip, preprocess([picture], backbone.preprocessing), "v")
        unit = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float64)

        def scores(embeddings: np.ndarray, layer: int) -> np.ndarray:
            return 1 / (1 + np.exp(-embeddings @ (unit[1, layer] - unit[0, layer]) / detector.temperature))

        expected = sum(scores(block, layer) for layer, block in enumerate(blocks)) / layers
        result = detector.predict(picture)
        assert result.scores["text_dense_max"] == pytest.approx(expected.max(), abs=1e-5)
        assert result.scores["text_image"] == pytest.approx(float(scores(image / np.linalg.norm(image), -1)), abs=1e-5), "the last block's"
        of_last = AnomalyDetector(backbone, prompts=self.file(tmp_path, vectors[:, -1]), text_maps="dense").predict(picture)
        assert of_last.pred_score == result.pred_score and not np.allclose(of_last.anomaly_map, result.anomaly_map)
        again = AnomalyDetector.load(detector.save(tmp_path / "model"), backbone=backbone).predict(picture)
        assert (again.anomaly_map == result.anomaly_map).all()
        from vlad.evaluation.cache import on_cache

        cached = on_cache(detector, tmp_path / "cache")
        assert all((cached.predict(picture).anomaly_map == result.anomaly_map).all() for _ in range(2)) and cached.backbone.hits == 1
        windows = AnomalyDetector(backbone, prompts=detector.prompts).predict(picture)
        assert windows.pred_score == pytest.approx(result.pred_score, abs=1e-6) and "text_scale_2_max" in windows.scores
        deeper = AnomalyDetector(backbone, prompts=self.file(tmp_path, np.ones((2, layers + 1, width))), text_maps="dense")
        with pytest.raises(PromptError, match=rf"are for the last {layers + 1} blocks and belong to tiny; tiny has dense maps of its last"):
            deeper.predict(picture)
        with pytest.raises(PromptError, match=r"expected vectors for at most 64 layers, got 65"):
            read_vectors(self.file(tmp_path, np.ones((2, 65, 3))))
        with pytest.raises(PromptError, match="2 numbers for 3"):
            PromptVectors("x", (1.0, 2.0), (1.0, 2.0), layers=3)

    def test_the_command_line_knows_them(self, tmp_path):
        from typer.testing import CliRunner

        from vlad.cli.prompts import app

        path = self.file(tmp_path, np.ones((2, 3, 5)))
        for command in ("check", "show"):
            run = CliRunner().invoke(app, [command, str(path)])
            assert run.exit_code == 0 and "two vectors of 5 numbers for each of the last 3 blocks, learned with tiny" in run.output
        assert '"layers": 3' in CliRunner().invoke(app, ["show", str(path), "--format", "json"]).output
        path.write_bytes(b"none")
        assert CliRunner().invoke(app, ["check", str(path)]).exit_code == 2

    def test_a_folder_is_known_by_its_name(self, tiny_clip, tmp_path, recwarn):
        backbone = ClipBackbone(tiny_clip, device="cpu", dtype="float32", name="open_clip folder clip")
        width = backbone.encode_text(["a"]).shape[1]
        AnomalyDetector(backbone, prompts=self.file(tmp_path, np.eye(2, width), model="models/clip")).text_vectors()
        assert not [one for one in recwarn if "were learned with" in str(one.message)]

    def test_of_another_model(self, tiny_clip, tmp_path):
        backbone = ClipBackbone(tiny_clip, device="cpu", dtype="float32", name="tiny")
        width = backbone.encode_text(["a"]).shape[1]
        other = AnomalyDetector(backbone, prompts=self.file(tmp_path, np.eye(2, width), model="ViT-L-14-336:openai"))
        with pytest.warns(VladWarning, match="were learned with ViT-L-14-336:openai; with tiny they mean something only if"):
            other.text_vectors()
        narrow = AnomalyDetector(backbone, prompts=self.file(tmp_path, np.eye(2, 5)))
        with pytest.raises(PromptError, match=rf"have 5 numbers and belong to tiny; tiny has {width}"):
            narrow.text_vectors()

    def test_what_is_no_such_file(self, tmp_path):
        from safetensors.numpy import save_file

        with pytest.raises(PromptError, match="there is no such file"):
            read_vectors(tmp_path / "none.safetensors")
        (tmp_path / "broken.safetensors").write_bytes(b"{}" * 9)
        with pytest.raises(PromptError, match="no safetensors file that could be read"):
            read_vectors(tmp_path / "broken.safetensors")
        for tensors, about in (({"a": np.eye(2)}, {"model": "x"}), ({"vectors": np.eye(3)}, {"model": "x"}), ({"vectors": np.eye(2)}, {})):
            save_file(tensors, tmp_path / "other.safetensors", metadata=about)
            with pytest.raises(PromptError, match=r"expected one tensor 'vectors' \(2, D\) or \(2, L, D\) and the metadata 'model'"):
                PromptEnsemble.load(tmp_path / "other.safetensors")
        for normal, anomalous in (((1.0,), (1.0, 2.0)), ((0.0, 0.0), (1.0, 0.0)), ((math.nan,), (1.0,)), ((), ())):
            with pytest.raises(PromptError, match="expected two of one width"):
                PromptVectors("x", normal, anomalous)

    def test_the_converter(self, tiny_clip, tmp_path, golden):
        from convert_prompts import encode, read_checkpoint

        torch.manual_seed(0)
        width, deep = tiny_clip.token_embedding.embedding_dim, 1
        learner = {"ctx_pos": torch.randn(1, 1, 3, width), "ctx_neg": torch.randn(1, 1, 3, width)}
        learner |= {f"compound_prompts_text.{number}": torch.randn(2, width) for number in range(deep)}
        torch.save({"prompt_learner": learner}, tmp_path / "epoch.pth")
        found = encode(tiny_clip, read_checkpoint(tmp_path / "epoch.pth"))

        import open_clip

        tokens = open_clip.SimpleTokenizer(context_length=tiny_clip.context_length)
        for row, (side, text) in enumerate((("ctx_pos", "X X X object."), ("ctx_neg", "X X X damaged object."))):
            ids = tokens([text])[0]
            x = tiny_clip.token_embedding(ids).detach().clone()
            x[1:4] = learner[side][0, 0]
            x = x + tiny_clip.positional_embedding
            for number, block in enumerate(tiny_clip.transformer.resblocks):
                if number == 1:
                    x = x.detach().clone()
                    x[1:3] = learner["compound_prompts_text.0"]
                x = block(x[None], attn_mask=tiny_clip.attn_mask)[0]
            end = tiny_clip.ln_final(x)[int((ids == ids.max()).nonzero()[0])] @ tiny_clip.text_projection
            torch.testing.assert_close(found[row], (end / end.norm()).detach(), atol=1e-6, rtol=0)
        for key, value, message in (
            ("ctx_pos", torch.zeros(1, 3, 4, width), "expected one prompt of each side"),
            ("ctx_neg", torch.randn(1, 1, 3, width + 1), "does not fit a text tower of width"),
            ("compound_prompts_text.0", torch.randn(90, width), "does not fit a text tower of width"),
            ("compound_prompts_text.9", torch.randn(2, width), "compound prompts are too many for a text tower of 2 blocks"),
        ):
            torch.save({"prompt_learner": learner | {key: value, f"{key[:-1]}8": value}}, tmp_path / "wrong.pth")
            with pytest.raises(PromptError, match=message):
                encode(tiny_clip, read_checkpoint(tmp_path / "wrong.pth"))
        (tmp_path / "text.pth").write_text("none")
        for path in (tmp_path / "text.pth", tmp_path / "missing.pth"):
            with pytest.raises(PromptError, match="no checkpoint that could be read"):
                read_checkpoint(path)
        torch.save({"other": torch.zeros(2)}, tmp_path / "other.pth")
        with pytest.raises(PromptError, match="expected the tensors ctx_pos and ctx_neg of AnomalyCLIP, ctx_pos is missing"):
            read_checkpoint(tmp_path / "other.pth")
