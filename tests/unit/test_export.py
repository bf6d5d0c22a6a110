"""`vlad export`: the same scores, maps and verdicts without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")

from vlad import AnomalyDetector
from vlad.backbones import ClipBackbone, TimmBackbone
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.deploy.check import compare
from vlad.deploy.exporting import export
from vlad.deploy.runtime import ExportedDetector
from vlad.deploy.spec import Spec, is_exported
from vlad.errors import ConfigError, ImageReadError, OutputError, VladWarning
from vlad.synthetic import ProductLine

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def good() -> list[np.ndarray]:
    line = ProductLine("gear", 3, 160)
    return [line.sample(number).image for number in range(3)]


@pytest.fixture(scope="module")
def bad() -> np.ndarray:
    return ProductLine("gear", 3, 160).sample(100, "crack").image


@pytest.fixture(scope="module")
def lite() -> LiteBackbone:
    return LiteBackbone(device="cpu")


def vit(**settings) -> TimmBackbone:
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_small_patch14_dinov2", num_classes=0, dynamic_img_size=True, depth=2, embed_dim=48, num_heads=2, img_size=70
    )
    return TimmBackbone(model.eval(), device="cpu", dtype="float32", name="a small ViT", **({"resolution": 98} | settings))


def network() -> TimmBackbone:
    torch.manual_seed(0)
    return TimmBackbone(timm.create_model("resnet10t", num_classes=0).eval(), resolution=96, device="cpu", dtype="float32", name="a resnet")


def same(detector: AnomalyDetector, exported: ExportedDetector, pictures: list[np.ndarray], tolerance: float = 2e-6) -> None:
    for picture in pictures:
        one, other = detector.predict(picture), exported.predict(picture)
        assert other.pred_score == pytest.approx(one.pred_score, abs=tolerance) and other.pred_label == one.pred_label
        np.testing.assert_allclose(other.anomaly_map, one.anomaly_map, atol=5 * tolerance)
        assert (other.threshold, other.threshold_source, other.mask_threshold) == (one.threshold, one.threshold_source, one.mask_threshold)
        assert (other.class_name, other.prompts, other.image_size) == (one.class_name, one.prompts, one.image_size)
        assert other.scores.get("p_value") == one.scores.get("p_value") and one.model in other.model
        np.testing.assert_allclose(other.embedding, one.embedding, atol=5 * tolerance)


class TestParity:
    @pytest.mark.parametrize("kind", ["onnx", "openvino"])
    @pytest.mark.parametrize("scorer", ["nearest", "subspace", "gaussian", "positioned", "histogram"])
    def test_lite_beside_references(self, lite, good, bad, scorer, kind, tmp_path):
        if kind == "openvino":
            pytest.importorskip("openvino", reason="OpenVINO is not installed")
        settings = {"rotations": 2} if scorer in ("nearest", "subspace") else {}
        shown = [ProductLine("gear", 3, 160).sample(number).image for number in range(6)] if scorer == "histogram" else good
        detector = AnomalyDetector(lite, scorer=scorer, search="exact", class_name="gear", **settings).fit(shown)
        exported = ExportedDetector(export(detector, tmp_path / "out, of a part", kind=kind))
        tall = np.ascontiguousarray(bad[:, :90])
        same(detector, exported, [bad, good[0], np.ascontiguousarray(good[1][::-1]), tall])

    def test_lite_by_words(self, lite, bad, good, tmp_path):
        detector = AnomalyDetector(lite, class_name="gear")
        exported = ExportedDetector(export(detector, tmp_path))
        same(detector, exported, [bad, good[0]])
        assert exported.predict(bad).verdict.startswith("undecided: one picture and no good ones")
        assert exported.predict(bad, threshold=0.2).threshold_source == "user"

    @pytest.mark.parametrize("maps", ["windows", "dense"])
    @pytest.mark.parametrize("with_references", [False, True])
    def test_a_clip(self, tiny_clip, golden, prompts, maps, with_references, tmp_path):
        """Words alone, and WinCLIP+ beside references."""
        backbone = ClipBackbone(tiny_clip, device="cpu", dtype="float32", name="tiny")
        detector = AnomalyDetector(backbone, prompts=prompts, text_maps=maps)
        if with_references:
            detector.fit(golden.pictures("reference"))
        same(detector, ExportedDetector(export(detector, tmp_path)), list(golden.pictures()))

    @pytest.mark.parametrize("shape", [(98, 98), (98, 150), (70, 61)], ids=str)
    def test_a_vit_that_keeps_the_aspect(self, shape, tmp_path):
        """Position embeddings of another grid than the model's own, baked in; and padding where a side is no whole number of patches."""
        rng = np.random.default_rng(0)
        pictures = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for _ in range(4)]
        detector = AnomalyDetector(vit(), rotations=1, search="exact").fit(pictures[:3])
        exported = ExportedDetector(export(detector, tmp_path))
        same(detector, exported, pictures, tolerance=5e-6)
        with pytest.raises(ImageReadError, match="the export is for the shape of"):
            exported.predict(np.zeros((300, 100, 3), np.uint8))
        after = detector.predict(pictures[3]).pred_score
        again = AnomalyDetector(vit(), rotations=1, search="exact").fit(pictures[:3])
        assert after == again.predict(pictures[3]).pred_score, "the model is left as it was"

    def test_a_network_and_a_patch_backbone_beside_a_clip(self, tiny_clip, prompts, tmp_path):
        rng = np.random.default_rng(0)
        pictures = [rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(4)]
        alone = AnomalyDetector(network(), rotations=1, search="exact").fit(pictures[:3])
        same(alone, ExportedDetector(export(alone, tmp_path / "alone")), pictures, tolerance=5e-6)
        clip = ClipBackbone(tiny_clip, device="cpu", dtype="float32", name="tiny")
        beside = AnomalyDetector(clip, patch_backbone=vit(), prompts=prompts, rotations=1, search="exact").fit(pictures[:3])
        same(beside, ExportedDetector(export(beside, tmp_path / "beside")), pictures, tolerance=5e-6)
        with pytest.raises(ConfigError, match="words of a CLIP beside a patch backbone take a second input; set text_weight=0"):
            export(beside.copy(text_weight=0.5), tmp_path / "both")

    def test_settings_that_go_with_it(self, lite, good, bad, tmp_path):
        settings = {"roi": "0.1,0.1,0.8,0.8", "min_area": 4, "adapt": "exposure", "rotations": 1, "search": "exact"}
        detector = AnomalyDetector(lite, **settings).fit(good)
        exported = ExportedDetector(export(detector, tmp_path))
        same(detector, exported, [bad, good[0]])
        one, other = detector.predict(bad), exported.predict(bad)
        assert [region.box for region in other.regions] == [region.box for region in one.regions] and other.roi == one.roi

    def test_float16_of_openvino_is_near(self, lite, good, bad, tmp_path):
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
        detector = AnomalyDetector(lite, rotations=1, search="exact").fit(good)
        full, half = (export(detector, tmp_path / name, kind="openvino", precision=name) for name in ("float32", "float16"))
        weights = [sum(path.stat().st_size for path in folder.glob("model.bin")) for folder in (full, half)]
        assert weights[1] < 0.6 * weights[0]
        same(detector, ExportedDetector(half), [bad, good[0]], tolerance=1e-3)


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"tile": 200, "rotations": 1}, "tiles are not exported"),
            ({"ignore": "1,1,30,30", "rotations": 1}, "exported where it is one box"),
        ],
    )
    def test_is_told(self, lite, good, settings, message, tmp_path):
        with pytest.raises(ConfigError, match=message):
            export(AnomalyDetector(lite, **settings).fit(good), tmp_path)

    def test_options(self, lite, good, tmp_path):
        detector = AnomalyDetector(lite)
        with pytest.raises(ConfigError, match="format must be 'onnx' or 'openvino', got 'tflite'"):
            export(detector, tmp_path, kind="tflite")
        with pytest.raises(ConfigError, match="precision 'float16' is written for OpenVINO alone"):
            export(detector, tmp_path, precision="float16")
        with pytest.raises(ConfigError, match="knows no words and has no references"):
            export(AnomalyDetector(vit()), tmp_path)
        with pytest.raises(ConfigError, match="expected a detector in float32"):
            half = TimmBackbone(vit().model, resolution=98, device="cpu", dtype="bfloat16")
            export(AnomalyDetector(half, threshold=0.5, rotations=1).fit(good[0]), tmp_path)


class TestFolder:
    @pytest.fixture(scope="class")
    def exported(self, lite, good, tmp_path_factory) -> Path:
        return export(AnomalyDetector(lite, rotations=1).fit(good), tmp_path_factory.mktemp("exported") / "gear")

    def test_what_is_in_it(self, exported):
        assert sorted(path.name for path in exported.iterdir()) == ["detector.json", "model.onnx"] and is_exported(exported)
        values = json.loads((exported / "detector.json").read_text())
        assert values["format"] == "vlad-exported" and values["sha256"].keys() == {"model.onnx"} and values["versions"]["opset"] == "18"
        assert Spec.read(exported).input == (448, 448) and {"score", "map", "embedding"} <= set(Spec.read(exported).outputs)
        with pytest.raises(ConfigError, match="is an exported detector; run it by"):
            AnomalyDetector.load(exported)

    def test_damage_is_told(self, exported, tmp_path):
        folder = Path(shutil.copytree(exported, tmp_path / "copy"))
        with (folder / "model.onnx").open("ab") as file:
            file.write(b"x")
        with pytest.raises(ConfigError, match=r"model\.onnx is missing or is not the one that detector\.json states"):
            ExportedDetector(folder)
        (folder / "detector.json").write_text("{")
        with pytest.raises(ConfigError, match=r"detector\.json is damaged"):
            ExportedDetector(folder)
        with pytest.raises(ConfigError, match="holds no exported detector"):
            ExportedDetector(tmp_path)

    def test_an_export_that_fails_leaves_the_one_before(self, lite, good, exported, tmp_path, monkeypatch):
        folder = Path(shutil.copytree(exported, tmp_path / "copy"))
        monkeypatch.setattr("torch.onnx.export", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OutputError, match="No space left on device"):
            export(AnomalyDetector(lite, rotations=1).fit(good), folder)
        assert ExportedDetector(folder).predict(good[0]).pred_label is False
        assert sorted(path.name for path in folder.iterdir()) == ["detector.json", "model.onnx"]

    def test_the_same_arguments_as_a_detector(self, exported, good):
        detector = ExportedDetector(exported)
        assert len(detector.predict(good, batch_size=2)) == 3
        with pytest.raises(ConfigError, match="threshold must be a number from 0 to 1, got 7"):
            detector.predict(good, threshold=7)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("threshold", 2), ("mean", [0.5]), ("std", [0, 0, 0]), ("input", [448]), ("outputs", ["map"]), ("kind", "x"),
            ("scores", ["a"]), ("sha256", []), ("sha256", {}), ("sha256", {"../x": "y"}), ("light", "dark"), ("min_area", 0),
            ("format_version", 9), ("model", None), ("roi", 3), ("resize", None), ("made_for", [1]),
        ],
    )  # fmt: skip
    def test_every_entry_is_looked_at(self, exported, key, value, tmp_path):
        folder = Path(shutil.copytree(exported, tmp_path / "copy"))
        values = json.loads((folder / "detector.json").read_text())
        (folder / "detector.json").write_text(json.dumps(values | {key: value}))
        with pytest.raises(ConfigError, match=str(folder)):
            ExportedDetector(folder)

    def test_many_pictures_and_one_that_cannot_be_read(self, exported, good, tmp_path):
        Image.fromarray(good[0]).save(tmp_path / "good.png")
        (tmp_path / "bad.png").write_bytes(b"none")
        detector = ExportedDetector(exported)
        first, error, last = detector.predict([tmp_path / "good.png", tmp_path / "bad.png", good[1]], on_error="return")
        assert first.image_path == str(tmp_path / "good.png") and isinstance(error, ImageReadError) and last.image_path is None
        with pytest.raises(ImageReadError):
            detector.predict([tmp_path / "bad.png"])
        assert detector.predict(good[0], maps=False).anomaly_map is None
        with pytest.warns(VladWarning, match="an exported detector has no tiles"):
            detector.predict(np.full((100, 300, 3), 9, np.uint8) + np.arange(300, dtype=np.uint8)[None, :, None])

    def test_the_comparison(self, lite, good, bad, exported, tmp_path):
        paths = [tmp_path / f"{number}.png" for number in range(3)]
        for path, picture in zip(paths, good, strict=True):
            Image.fromarray(picture).save(path)
        detector = AnomalyDetector(lite, rotations=1).fit(paths)
        paths[2].unlink()
        found = compare(detector, ExportedDetector(exported), [bad])
        assert found.pictures == 3 and found.score < 1e-5 and found.flipped == () and len(found.left_out) == 1
        assert "3 pictures: scores differ by at most" in found.in_words() and "no verdict flips" in found.in_words()
        stricter = json.loads((exported / "detector.json").read_text()) | {"threshold": 1.0}
        folder = Path(shutil.copytree(exported, tmp_path / "copy"))
        (folder / "detector.json").write_text(json.dumps(stricter))
        with pytest.warns(VladWarning, match="gives other verdicts on 1 of 3 pictures; do not use it"):
            flipped = compare(detector, ExportedDetector(folder), [bad])
        assert len(flipped.flipped) == 1
        assert json.loads(flipped.write(folder).read_text())["pictures"] == 3
        with pytest.raises(ImageReadError, match="there is no picture to compare on"):
            compare(AnomalyDetector(lite), ExportedDetector(exported))


def test_the_command_line_exports_compares_and_detects_without_torch(lite, good, bad, tmp_path):
    for number, picture in enumerate([*good, bad]):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    references = [tmp_path / f"{number}.png" for number in range(3)]
    fitted = AnomalyDetector.from_pretrained("lite", rotations=1).fit(references).save(tmp_path / "fit")
    run = [sys.executable, "-m", "vlad"]
    done = subprocess.run(
        [*run, "export", fitted, "--out", tmp_path / "out", "--check", tmp_path / "3.png"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0 and "4 pictures: scores differ by at most" in done.stdout and "no verdict flips" in done.stdout, done.stderr
    assert json.loads((tmp_path / "out/check.json").read_text())["flipped"] == []
    arguments = ["vlad", "detect", tmp_path / "3.png", "--model", tmp_path / "out", "--out", tmp_path / "results", "--format", "json"]
    code = f"""
import sys
from vlad.cli import main
sys.argv = {[*map(str, arguments), "--fail-on-anomaly"]!r}
try:
    main()
finally:
    print([name for name in ("torch", "timm", "open_clip") if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    (row,) = json.loads(done.stdout)
    assert done.returncode == 1 and done.stderr.rstrip().endswith("[]"), done.stderr
    expected = AnomalyDetector.load(fitted, search="exact").predict(tmp_path / "3.png")
    assert row["pred_score"] == pytest.approx(expected.pred_score, abs=1e-6) and (tmp_path / "results/3_overlay.png").is_file()
    asked = [*run, "detect", tmp_path / "3.png", "--model", tmp_path / "out", "--rotations", "2"]
    refused = subprocess.run(asked, capture_output=True, text=True)
    assert refused.returncode == 2 and "is an exported detector, which is as it was exported; leave --rotations out" in refused.stderr
