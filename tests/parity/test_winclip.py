"""Parity with a peer's WinCLIP on the tiny CLIP, and the bugs that peers had."""

from __future__ import annotations

import copy

import numpy as np
import open_clip
import pytest
import torch

from vlad import AnomalyDetector
from vlad.backbones import ClipBackbone
from vlad.backbones.preprocessing import preprocess
from vlad.backbones.towers import OpenClipTower, Tower, build_tower
from vlad.scoring.text import text_vectors

TOLERANCE = 1e-5


def assert_close(actual: torch.Tensor | np.ndarray | float, expected: torch.Tensor | np.ndarray | float, atol: float = TOLERANCE) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def pixels(golden, backbone):
    return preprocess(golden.pictures(), backbone.preprocessing)


@pytest.fixture(scope="module")
def embeddings(backbone, pixels):
    return backbone.encode_image(pixels, scales=(2, 3), patches=True)


class TestGolden:
    def test_preprocessing(self, golden, pixels):
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
        std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
        assert torch.equal(pixels, (golden.tensors["query_pictures"].permute(0, 3, 1, 2).float() / 255 - mean) / std)

    def test_text_embeddings(self, golden, backbone):
        means = [backbone.encode_text(golden.info[f"{side}_prompts"]).mean(0) for side in ("normal", "anomalous")]
        assert_close(torch.stack(means), golden.tensors["text_embeddings"])

    def test_image_embeddings(self, golden, embeddings):
        assert_close(embeddings.image, golden.tensors["image_embeddings"])

    @pytest.mark.parametrize("scale", [2, 3])
    def test_window_embeddings(self, golden, embeddings, scale):
        assert_close(embeddings.windows[scale], golden.tensors[f"window_embeddings_{scale}"])

    def test_patch_embeddings(self, golden, embeddings):
        assert_close(embeddings.patches, golden.tensors["patch_embeddings_ln_post"])

    def test_scores_and_maps(self, golden, detector):
        results = detector.predict(golden.pictures())
        assert_close([r.pred_score for r in results], golden.tensors["zero_shot_pred_score"])
        assert_close(np.stack([r.anomaly_map for r in results]), golden.tensors["zero_shot_anomaly_map"])


class TestWindows:
    def test_window_ignores_every_other_patch(self, golden, backbone):
        """A permuted batch-first transformer attends across windows, without any error."""
        picture = golden.pictures()[0]
        changed = picture.copy()
        changed[:, 48:] = 255 - changed[:, 48:]  # patches of columns 3 to 5
        before, after = (backbone.encode_image(preprocess([p], backbone.preprocessing), scales=(2, 3)) for p in (picture, changed))
        for scale in (2, 3):
            columns = torch.arange((7 - scale) ** 2) % (7 - scale)
            untouched = columns + scale <= 3
            assert untouched.any()
            assert torch.equal(before.windows[scale][0, untouched], after.windows[scale][0, untouched])
            assert not torch.isclose(before.windows[scale][0, ~untouched], after.windows[scale][0, ~untouched]).all(-1).any()
        assert not torch.allclose(before.image, after.image)

    def test_savings_are_exact(self, tiny_clip, pixels):
        """First-block QKV computed once and CLS-only last block, against the plain transformer on every window."""
        tower = build_tower(tiny_clip.visual)
        assert isinstance(tower, OpenClipTower)
        with torch.inference_mode():
            tokens = tower.embed(pixels)
            fast = tower.encode_windows(tokens, (1, 2, 3))
            plain = {scale: Tower._subset_encoder(tower, tokens)(tower._subset(scale, tokens.device)) for scale in (1, 2, 3)}
        for scale in (1, 2, 3):
            assert_close(fast[scale], plain[scale], atol=5e-6)

    def test_full_window_is_the_picture(self, backbone, pixels):
        embeddings = backbone.encode_image(pixels, scales=(6,))
        assert_close(embeddings.windows[6][:, 0], embeddings.image, atol=5e-6)

    def test_windows_in_chunks(self, tiny_clip, pixels, embeddings):
        chunked = ClipBackbone(tiny_clip, device="cpu", dtype="float32", chunk=2).encode_image(pixels, scales=(2, 3), patches=True)
        assert_close(chunked.image, embeddings.image)
        assert_close(chunked.windows[2], embeddings.windows[2])
        assert_close(chunked.patches, embeddings.patches)

    def test_no_hook_is_left_behind(self, tiny_clip, backbone, pixels):
        backbone.encode_image(pixels, scales=(2, 3), patches=True)
        for module in (*tiny_clip.modules(), *backbone.model.modules()):
            assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks

    def test_peak_memory_does_not_grow_with_the_batch(self, backbone, pixels, monkeypatch):
        largest = []
        original = OpenClipTower.encode_windows
        monkeypatch.setattr(
            OpenClipTower, "encode_windows", lambda self, tokens, scales: largest.append(len(tokens)) or original(self, tokens, scales)
        )
        backbone.encode_image(pixels.repeat(4, 1, 1, 1), scales=(2,))
        assert largest == [1] * 12


class TestScore:
    def test_image_score_is_not_the_maximum_of_the_map(self, golden, detector):
        results = detector.predict(golden.pictures())
        assert all(r.pred_score != pytest.approx(float(r.anomaly_map.max()), abs=1e-4) for r in results)

    def test_image_score_alone_computes_no_window(self, golden, detector, monkeypatch):
        expected = [r.pred_score for r in detector.predict(golden.pictures())]
        monkeypatch.setattr(OpenClipTower, "_subset_encoder", lambda *_: pytest.fail("a window was computed"))
        results = detector.predict(golden.pictures(), maps=False)
        assert [r.pred_score for r in results] == expected
        assert all(r.anomaly_map is None and r.pred_mask is None and r.regions == () for r in results)

    def test_text_is_embedded_once(self, backbone, prompts, golden, monkeypatch):
        calls = []
        original = ClipBackbone.encode_text
        monkeypatch.setattr(ClipBackbone, "encode_text", lambda self, sentences: calls.append(len(sentences)) or original(self, sentences))
        detector = AnomalyDetector(backbone, prompts=prompts)
        for _ in range(3):
            detector.predict(golden.pictures(), class_name="metal nut")
        assert calls == [len(golden.info["normal_prompts"]) + len(golden.info["anomalous_prompts"])]
        detector.predict(golden.pictures()[0], class_name="hazelnut")
        assert len(calls) == 2

    def test_text_vectors_are_unit_means(self):
        normal, anomalous = torch.tensor([[3.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 5.0], [5.0, 0.0]])
        assert_close(text_vectors(normal, anomalous), torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]]), atol=1e-7)


class TestText:
    @pytest.mark.parametrize("sentence", ["a", "a photo of a metal nut.", "word " * 200], ids=["short", "usual", "longer than the context"])
    def test_cut_padding_is_exact(self, tiny_clip, backbone, sentence):
        tokens = open_clip.SimpleTokenizer()([sentence])
        with torch.inference_mode():
            assert_close(backbone.encode_text([sentence]), tiny_clip.encode_text(tokens), atol=2e-6)

    def test_result_does_not_depend_on_its_neighbours(self, backbone):
        together = backbone.encode_text(["a photo.", "a very much longer sentence about a damaged metal nut."])
        assert_close(together[:1], backbone.encode_text(["a photo."]), atol=2e-6)


def test_the_callers_model_is_left_alone(tiny_clip):
    model = copy.deepcopy(tiny_clip).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    backbone = ClipBackbone(model, device="cpu", dtype="bfloat16")
    assert model.training and all(p.dtype == torch.float32 for p in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not backbone.model.training and backbone.dtype == torch.bfloat16


def test_bfloat16_stays_near_float32(tiny_clip, golden, prompts):
    results = [
        AnomalyDetector(ClipBackbone(tiny_clip, device="cpu", dtype=dtype), prompts=prompts).predict(golden.pictures())
        for dtype in ("float32", "bfloat16")
    ]
    differences = [abs(a.pred_score - b.pred_score) for a, b in zip(*results, strict=True)]
    assert 0 < max(differences) < 0.05


class TestReferences:
    """WinCLIP+."""

    def test_scores_and_maps(self, golden, detector):
        results = detector.fit(golden.pictures("reference")).predict(golden.pictures())
        assert_close([r.pred_score for r in results], golden.tensors["few_shot_pred_score"])
        assert_close(np.stack([r.anomaly_map for r in results]), golden.tensors["few_shot_anomaly_map"])

    def test_score_alone(self, golden, detector):
        results = detector.fit(golden.pictures("reference")).predict(golden.pictures(), maps=False)
        assert_close([r.pred_score for r in results], golden.tensors["few_shot_pred_score"])
        assert all(r.anomaly_map is None for r in results)

    def test_references_are_encoded_once(self, golden, detector, monkeypatch):
        detector.fit(golden.pictures("reference"))
        seen = []
        original = ClipBackbone.encode_image
        monkeypatch.setattr(
            ClipBackbone, "encode_image", lambda self, pixels, **options: seen.append(len(pixels)) or original(self, pixels, **options)
        )
        detector.predict(golden.pictures())
        assert seen == [3]
