"""Runner, results, cache, comparison, search and report on small pictures and the tiny CLIP of the golden files."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from vlad import AnomalyDetector
from vlad.backbones import Backbone, PatchBackbone, TimmBackbone
from vlad.config import DetectorConfig
from vlad.errors import ConfigError, DatasetError, PromptError
from vlad.evaluation import runner
from vlad.evaluation import search as search_module
from vlad.evaluation.anchors import load_anchors
from vlad.evaluation.cache import CachedBackbone, CachedPatchBackbone, on_cache
from vlad.evaluation.compare import compare_runs
from vlad.evaluation.datasets import LAYOUTS, Category, Picture, load_dataset
from vlad.evaluation.report import write_report
from vlad.evaluation.results import image_metrics, read_results, spread, summarise
from vlad.evaluation.runner import EvalSettings, Processes, Unit, check_units, plan_units, run
from vlad.evaluation.samples import Sample, SampleWriter, file_name, read_counts, read_map, read_samples
from vlad.evaluation.search import search
from vlad.evaluation.shipped import load_config, shipped
from vlad.evaluation.table import runs_table
from vlad.output.charts import Line, curves, histogram
from vlad.references.unlabelled import MutualSettings

DATA = Path(__file__).parents[1] / "data"


def draw(path: Path, seed: int, *, defect: bool = False, mask: Path | None = None, size: int = 48) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(100, 140, (size, size, 3), dtype=np.uint8)
    truth = np.zeros((size, size), np.uint8)
    if defect:
        top, left = rng.integers(4, size - 16, 2)
        pixels[top : top + 10, left : left + 10] = (250, 20, 20)
        truth[top : top + 10, left : left + 10] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    if mask is not None:
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(truth).save(mask)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Two categories in MVTec AD's layout: 6 references, 4 good and 5 anomalous pictures each."""
    root = tmp_path_factory.mktemp("data")
    for offset, category in enumerate(("bolt", "nut")):
        folder, base = root / category, 100 * offset
        for number in range(6):
            draw(folder / f"train/good/{number:03d}.png", base + number)
        for number in range(4):
            draw(folder / f"test/good/{number:03d}.png", base + 20 + number)
        for number in range(5):
            name = f"{'dent' if number % 2 else 'crack'}/{number:03d}"
            mask = folder / f"ground_truth/{name}_mask.png"
            draw(folder / f"test/{name}.png", base + 40 + number, defect=True, mask=mask)
    return root


@pytest.fixture
def fitted(backbone, prompts) -> AnomalyDetector:
    """Takes references fast: at one angle each."""
    return AnomalyDetector(backbone, prompts=prompts, scales=(2, 3), temperature=0.07, rotations=1)


@pytest.fixture(scope="session")
def tiny_timm() -> torch.nn.Module:
    """A ViT of two layers with patches of 16 pixels."""
    import timm

    torch.manual_seed(0)
    settings = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 0}
    return timm.models.vision_transformer.VisionTransformer(**settings, dynamic_img_size=True).eval()


@pytest.fixture(scope="session")
def patch_backbone(tiny_timm) -> TimmBackbone:
    return TimmBackbone(tiny_timm, resolution=64, device="cpu", dtype="float32")


class Stopped(BaseException):
    """As a kill: nothing catches it."""


class KilledDetector(AnomalyDetector):
    """Is killed after so many pictures, its copies counted in."""

    left = 0

    def predict_iter(self, images, **options):
        for result in super().predict_iter(images, **options):
            if not KilledDetector.left:
                raise Stopped
            KilledDetector.left -= 1
            yield result


def lasting(results: dict) -> dict:
    """results.json without what differs between two equal runs."""
    kept = {key: value for key, value in results.items() if key != "created"}
    kept["units"] = [{key: value for key, value in unit.items() if key != "seconds"} for unit in results["units"]]
    return kept


class TestRun:
    def test_every_picture_once_in_every_unit(self, fitted, data, tmp_path):
        settings = EvalSettings(k_shots=(0, 2), seeds=(0, 1))
        assert run(fitted, load_dataset(data), tmp_path / "out", settings) == []
        samples = read_samples(tmp_path / "out")
        keys = [sample.key for sample in samples]
        assert len(keys) == len(set(keys)) == 2 * 9 * 3
        assert {(s.k_shot, s.seed) for s in samples} == {(0, 0), (2, 0), (2, 1)}
        assert all((s.threshold_source == "references") == (s.k_shot > 0) for s in samples)
        assert fitted.references == ()  # the caller's detector is left as it was

    def test_references_follow_the_protocol(self, data):
        dataset = load_dataset(data, categories=["nut"])
        units = plan_units(dataset, EvalSettings(k_shots=(2,), seeds=(0, 2)))
        names = [[picture.path.name for picture in unit.references] for unit in units]
        assert names == [["000.png", "001.png"], ["004.png", "005.png"]]

    def test_zero_shot_takes_one_seed(self, data):
        units = plan_units(load_dataset(data, categories=["nut"]), EvalSettings(k_shots=(4, 0), seeds=(0, 1, 2)))
        assert [(unit.k_shot, unit.seed, unit.skipped is None) for unit in units] == [
            (0, 0, True),
            (4, 0, True),
            (4, 1, False),
            (4, 2, False),
        ]
        assert units[2].skipped == "nut has 6 references, k=4 with seed 1 needs 8"

    def test_too_few_references_are_reported_and_the_rest_is_done(self, fitted, data, tmp_path):
        problems = run(fitted, load_dataset(data), tmp_path / "out", EvalSettings(k_shots=(0, 7)))
        assert [problem.split(",")[0] for problem in problems] == ["bolt has 6 references", "nut has 6 references"]
        results = summarise(tmp_path / "out", problems)
        assert [unit["k_shot"] for unit in results["units"]] == [0, 0] and results["problems"] == problems

    def test_references_of_a_plain_folder_are_not_tested(self, fitted, tmp_path):
        for number in range(4):
            draw(tmp_path / f"data/good/{number}.png", number)
        draw(tmp_path / "data/bad/0.png", 9, defect=True)
        run(fitted, load_dataset(tmp_path / "data"), tmp_path / "out", EvalSettings(k_shots=(0, 2), seeds=(1,)))
        tested = {k: sorted(s.image_path for s in read_samples(tmp_path / "out") if s.k_shot == k) for k in (0, 2)}
        assert tested == {0: ["bad/0.png", *(f"good/{n}.png" for n in range(4))], 2: ["bad/0.png", "good/0.png", "good/1.png"]}

    def test_bad_pictures_and_masks_cost_only_themselves(self, detector, data, tmp_path):
        root = tmp_path / "data"
        shutil.copytree(data / "nut", root / "nut")
        (root / "nut/test/good/001.png").write_bytes(b"no picture")
        (root / "nut/ground_truth/dent/001_mask.png").unlink()
        Image.new("L", (5, 7), 255).save(root / "nut/ground_truth/dent/003_mask.png")
        assert run(detector, load_dataset(root), tmp_path / "out") == []
        results = summarise(tmp_path / "out")
        (unit,) = results["units"]
        assert (unit["n_good"], unit["n_anomalous"], unit["n_failed"], unit["n_with_masks"]) == (3, 5, 1, 6)
        problems = "\n".join(results["problems"])
        assert len(results["problems"]) == 3
        assert "001.png: is none of PNG" in problems and "its mask is missing" in problems and "mask is 5 x 7" in problems
        assert unit["metrics"]["image_auroc"] is not None and unit["metrics"]["aupro"] is not None

    def test_a_category_that_fails_does_not_end_the_run(self, fitted, data, tmp_path):
        root = tmp_path / "data"
        shutil.copytree(data, root)

        (root / "bolt/train/good/001.png").write_bytes(b"")
        problems = run(fitted, load_dataset(root), tmp_path / "out", EvalSettings(k_shots=(2,)))
        assert len(problems) == 1 and problems[0].startswith("bolt, k=2, seed 0: ") and "001.png: is empty" in problems[0]
        assert {sample.category for sample in read_samples(tmp_path / "out")} == {"nut"}

    def test_references_are_those_of_a_fresh_fit(self, fitted, data, tmp_path):
        """Also where the detector came with others, which a copy for another noun could not be calibrated on again."""
        held = tmp_path / "held.png"
        draw(held, 7)
        fitted.fit([held], class_name="gasket")
        held.unlink()
        dataset = load_dataset(data, categories=["nut"])
        assert run(fitted, dataset, tmp_path / "out", EvalSettings(k_shots=(2,), seeds=(1,))) == []
        fresh = AnomalyDetector(fitted.backbone, prompts=fitted.prompts, scales=(2, 3), temperature=0.07, rotations=1)
        fresh.fit([data / f"nut/train/good/00{number}.png" for number in (2, 3)])
        paths = [picture.path for picture in dataset.categories[0].test]
        expected = [(p.pred_score, p.threshold) for p in fresh.predict(paths, class_name="nut")]
        assert [(s.pred_score, s.threshold) for s in read_samples(tmp_path / "out")] == expected
        assert [reference.path for reference in fitted.references] == [str(held)]

    def test_each_reference_is_read_once(self, fitted, data, tmp_path, monkeypatch):
        from vlad.pictures import reading

        opened, real = [], reading._open
        monkeypatch.setattr(reading, "_open", lambda source, *rest: opened.append(str(source)) or real(source, *rest))
        run(fitted, load_dataset(data, categories=["nut"]), tmp_path / "out", EvalSettings(k_shots=(3,), maps=False))
        references = [path for path in opened if "train" in path]
        assert references == [str(data / f"nut/train/good/00{number}.png") for number in range(3)]

    def test_without_maps(self, detector, data, tmp_path):
        run(detector, load_dataset(data), tmp_path / "out", EvalSettings(maps=False))
        results = summarise(tmp_path / "out")
        assert not (tmp_path / "out/pixels").exists() and "aupro" not in results["summary"][0]["metrics"]
        assert results["summary"][0]["metrics"]["image_auroc"]["mean"] is not None

    def test_judged_by_each_other_category_by_category(self, detector, data, tmp_path):
        dataset, settings, out = load_dataset(data), EvalSettings(mutual=True), tmp_path / "out"
        run(detector, dataset, out, settings)
        samples = read_samples(out)
        assert len(samples) == 18 and {sample.threshold_source for sample in samples} == {"mutual"}
        nuts = [picture.path for picture in dataset.categories[1].test]
        expected = [result.pred_score for result in detector.predict_mutual(nuts)]
        assert [sample.pred_score for sample in samples if sample.category == "nut"] == expected
        lines = (out / "samples.jsonl").read_text().splitlines(keepends=True)
        (out / "samples.jsonl").write_text("".join(lines[:12]))  # gone on with, the rest is judged by all as well
        run(detector, dataset, out, settings, resume=True)
        assert [sample.pred_score for sample in read_samples(out)] == [sample.pred_score for sample in samples]
        assert json.loads((out / "run.json").read_text())["settings"]["mutual"] is True
        assert "how_mutual" not in json.loads((out / "run.json").read_text())["settings"]
        beside = EvalSettings(k_shots=(1,), mutual=True, how_mutual=MutualSettings(share=0.5))
        run(detector, dataset, tmp_path / "beside", beside)  # references and the other pictures
        assert {sample.threshold_source for sample in read_samples(tmp_path / "beside")} == {"mutual"}
        assert json.loads((tmp_path / "beside/run.json").read_text())["settings"]["how_mutual"]["share"] == 0.5
        with pytest.raises(ConfigError, match="in one process"):
            run(detector, dataset, tmp_path / "two", settings, processes=Processes(0, 2))

    def test_numbers_equal_the_metrics_on_the_predictions(self, detector, data, tmp_path):
        from vlad.metrics import aupro, auroc, f1_max

        run(detector, load_dataset(data, categories=["nut"]), tmp_path / "out")
        (unit,) = summarise(tmp_path / "out")["units"]
        paths = sorted((data / "nut/test").rglob("*.png"))
        predictions = detector.predict(paths, class_name="nut")
        labels = [path.parent.name != "good" for path in paths]
        masks = [
            np.asarray(Image.open(data / f"nut/ground_truth/{path.parent.name}/{path.stem}_mask.png")) > 0
            if bad
            else np.zeros((48, 48), bool)
            for path, bad in zip(paths, labels, strict=True)
        ]
        scores = [prediction.pred_score for prediction in predictions]
        maps = [prediction.anomaly_map for prediction in predictions]
        assert unit["metrics"]["image_auroc"] == pytest.approx(auroc(labels, scores))
        assert unit["metrics"]["image_f1_max"] == pytest.approx(f1_max(labels, scores))
        assert unit["metrics"]["aupro"] == pytest.approx(aupro(maps, masks), abs=unit["pixel_errors"]["aupro"] + 1e-12)
        assert unit["metrics"]["pixel_auroc"] == pytest.approx(auroc(masks, maps), abs=unit["pixel_errors"]["pixel_auroc"] + 1e-12)
        assert unit["pixel_errors"]["aupro"] < 1e-2

    def test_saturated_regions_give_spro(self, detector, tmp_path):
        folder = tmp_path / "data/pushpins"
        for number in range(3):
            draw(folder / f"test/good/{number}.png", number)
            truth = folder / f"ground_truth/logical_anomalies/{number}/000.png"
            draw(folder / f"test/logical_anomalies/{number}.png", 9 + number, defect=True, mask=truth)
        rule = {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 20, "relative_saturation": False}
        (folder / "defects_config.json").write_text(json.dumps([rule]))
        run(detector, load_dataset(tmp_path / "data"), tmp_path / "out")
        results = summarise(tmp_path / "out")
        metrics = results["units"][0]["metrics"]
        assert metrics["spro"] is not None and "aupro" not in metrics and results["settings"]["fpr_limit"] == 0.05
        assert "sPRO" in write_report(tmp_path / "out")[0].read_text()

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"k_shots": ()}, "k_shots"),
            ({"k_shots": (-1,)}, "k_shots"),
            ({"seeds": (0, 0)}, "seeds"),
            ({"fpr_limit": 2.0}, "fpr_limit"),
            ({"bootstrap": -1}, "bootstrap"),
        ],
    )
    def test_settings_are_checked(self, values, message):
        with pytest.raises(ConfigError, match=message):
            EvalSettings(**values)


class TestResume:
    def test_killed_twice_equals_uninterrupted(self, fitted, data, tmp_path):
        settings = EvalSettings(k_shots=(0, 1), seeds=(0, 1))
        dataset = load_dataset(data)
        run(fitted, dataset, tmp_path / "whole", settings)
        expected = lasting(summarise(tmp_path / "whole"))
        out = tmp_path / "killed"
        for count in (16, 17):
            again = KilledDetector(fitted.backbone, prompts=fitted.prompts, scales=(2, 3), temperature=0.07, rotations=1)
            KilledDetector.left = count
            with pytest.raises(Stopped):
                run(again, dataset, out, settings, resume=True, batch_size=5)
        assert len(read_samples(out)) == 33
        run(fitted, dataset, out, settings, resume=True)
        assert lasting(summarise(out)) == expected
        lines = [
            [json.loads(line) | {"seconds": 0} for line in (folder / "samples.jsonl").read_text().splitlines()]
            for folder in (out, tmp_path / "whole")
        ]
        assert lines[0] == lines[1]

    def test_a_line_cut_off_by_a_kill_is_done_again(self, detector, data, tmp_path):
        dataset, out = load_dataset(data, categories=["nut"]), tmp_path / "out"
        run(detector, dataset, out)
        expected = lasting(summarise(out))
        text = (out / "samples.jsonl").read_text()
        (out / "samples.jsonl").write_text(text[:-30])
        assert len(read_samples(out)) == 8
        run(detector, dataset, out, resume=True)
        assert lasting(summarise(out)) == expected and len((out / "samples.jsonl").read_text().splitlines()) == 9

    def test_a_finished_run_does_nothing_again(self, detector, data, tmp_path, monkeypatch):
        dataset, out = load_dataset(data), tmp_path / "out"
        run(detector, dataset, out)
        monkeypatch.setattr(detector, "predict_iter", lambda *_, **__: pytest.fail("predicted again"))
        assert run(detector, dataset, out, resume=True) == []

    def test_another_run_is_refused(self, detector, data, tmp_path):
        dataset, out = load_dataset(data), tmp_path / "out"
        run(detector, dataset, out, EvalSettings(maps=False))
        with pytest.raises(ConfigError, match="holds a run already; add --resume"):
            run(detector, dataset, out, EvalSettings(maps=False))
        with pytest.raises(ConfigError, match="holds a run with another settings"):
            run(detector, dataset, out, EvalSettings(maps=False, bootstrap=7), resume=True)
        with pytest.raises(ConfigError, match="holds a run with another dataset"):
            run(detector, load_dataset(data, categories=["nut"]), out, EvalSettings(maps=False), resume=True)

    def test_a_file_or_foreign_samples_are_not_overwritten(self, detector, data, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ConfigError, match="is a file"):
            run(detector, load_dataset(data), tmp_path / "file")
        (tmp_path / "samples.jsonl").write_text("mine\n")
        with pytest.raises(ConfigError, match=r"no run\.json"):
            run(detector, load_dataset(data), tmp_path, resume=True)


class TestProcesses:
    def test_shares_are_disjoint_and_complete_and_merge_to_the_same(self, detector, data, tmp_path, monkeypatch):
        """Two processes one after the other, as they would run side by side."""
        dataset, settings = load_dataset(data), EvalSettings(maps=False)
        run(detector, dataset, tmp_path / "alone", settings)
        expected = lasting(summarise(tmp_path / "alone"))
        monkeypatch.setattr(Processes, "wait", lambda self: None)
        monkeypatch.setattr(runner, "write_merged", lambda *_: None)
        out = tmp_path / "two"
        run(detector, dataset, out, settings, processes=Processes(0, 2))
        assert len(read_samples(out)) == 10  # of 9 pictures each, the first takes 5
        monkeypatch.undo()
        monkeypatch.setattr(Processes, "wait", lambda self: None)
        with SampleWriter(out, 1) as writer:
            for sample in read_samples(tmp_path / "alone"):
                if sample.key not in {one.key for one in read_samples(out)}:
                    writer.add(sample)
        assert (out / "samples.1.jsonl").exists()
        run(detector, dataset, out, settings, resume=True)
        assert lasting(summarise(out)) == expected and not (out / "samples.1.jsonl").exists()

    def test_alone_without_a_launcher(self, monkeypatch):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        assert Processes.find() == Processes(0, 1) and Processes().device("auto") == "auto"


class TestSamples:
    def test_survive_the_file(self, tmp_path):
        sample = Sample(
            category="ä", k_shot=0, seed=0, image_path="a/b c.png", defect="good", gt_label=False, pred_score=0.25, image_size=(3, 4)
        )
        with SampleWriter(tmp_path) as writer:
            writer.add(sample)
        assert read_samples(tmp_path) == [sample]

    def test_a_damaged_line_in_the_middle_is_named(self, tmp_path):
        (tmp_path / "samples.jsonl").write_text("{broken\n{}\n")
        with pytest.raises(ConfigError, match=r"samples\.jsonl, line 1: damaged"):
            read_samples(tmp_path)

    def test_what_a_kill_left_of_a_line_goes(self, tmp_path):
        path = tmp_path / "samples.jsonl"
        path.write_text('{"a": 1}\n{"b"')
        with SampleWriter(tmp_path):
            assert path.read_text() == '{"a": 1}\n'

    def test_names_of_any_length_are_file_names(self):
        long = ["划痕" * 12 + "/" + "图像采集时间" * 10 + end for end in ("a.png", "b.png")]
        names = [file_name(text) for text in long]
        assert len(set(names)) == 2 and all(len(name.encode()) <= 210 for name in names)
        assert names == [file_name(text) for text in long], "a run that goes on finds the same"

    @pytest.mark.parametrize("line", ['{"schema_version": 99}', '{"category": "a"}', '{"schema_version": 1, "category": "a"}'])
    def test_other_schemas_and_incomplete_lines(self, tmp_path, line):
        (tmp_path / "samples.jsonl").write_text(f"{line}\n")
        with pytest.raises(ConfigError, match=r"schema|incomplete"):
            read_samples(tmp_path)

    def test_file_names_do_not_clash(self):
        names = ["a/b.png", "a%2fb.png", "a_b.png", "a b.png"]
        assert len({file_name(name) for name in names}) == 4 and not any("/" in file_name(name) for name in names)

    def test_pixels_come_back(self, detector, data, tmp_path):
        run(detector, load_dataset(data, categories=["nut"]), tmp_path)
        sample = read_samples(tmp_path)[-1]
        counts, small = read_counts(tmp_path, sample), read_map(tmp_path, sample)
        assert counts is not None and counts.counts.sum() == 48 * 48 and small is not None and small.shape == (48, 48)
        (tmp_path / str(sample.pixels)).write_bytes(b"")
        with pytest.raises(ConfigError, match="cannot be read"):
            read_counts(tmp_path, sample)


class TestResults:
    def test_files_of_schema_1_still_read(self):
        """Written once by the first version of this schema; never made again."""
        results = read_results(DATA / "evaluation_v1")
        assert results["summary"][0]["metrics"]["image_auroc"]["mean"] == pytest.approx(0.75)
        samples = read_samples(DATA / "evaluation_v1")
        assert [sample.pred_score for sample in samples] == [0.125, 0.5, 0.375, 0.875]
        assert image_metrics(samples)["image_auroc"] == pytest.approx(0.75)

    def test_nan_never_reaches_the_file(self, detector, tmp_path):
        for number in range(3):
            draw(tmp_path / f"data/good/{number}.png", number)
        (tmp_path / "data/bad").mkdir()
        run(detector, load_dataset(tmp_path / "data"), tmp_path / "out")
        results = summarise(tmp_path / "out")
        (unit,) = results["units"]
        assert unit["metrics"]["image_auroc"] is None and unit["undefined"]["image_auroc"] == "there is no anomalous one among 3"
        assert "no defective pixel" in unit["undefined"]["aupro"]
        assert results["summary"][0]["metrics"]["image_auroc"] == {"mean": None, "std": None, "interval": None, "undefined_in": ["data"]}
        write_report(tmp_path / "out", load_dataset(tmp_path / "data"))

    def test_mean_over_categories_then_spread_over_seeds(self, fitted, data, tmp_path):
        run(fitted, load_dataset(data), tmp_path, EvalSettings(k_shots=(1,), seeds=(0, 1, 2), bootstrap=20))
        results = summarise(tmp_path)
        table = np.array([[u["metrics"]["image_auroc"] for u in results["units"] if u["seed"] == seed] for seed in range(3)])
        (row,) = results["summary"]
        assert row["metrics"]["image_auroc"]["mean"] == pytest.approx(table.mean())
        assert row["metrics"]["image_auroc"]["std"] == pytest.approx(table.mean(axis=1).std(ddof=1))
        low, high = row["metrics"]["image_auroc"]["interval"]
        assert low <= table.mean() <= high

    def test_says_what_was_run(self, detector, data, tmp_path):
        run(detector, load_dataset(data), tmp_path, EvalSettings(bootstrap=0))
        results = summarise(tmp_path)
        assert results["model"]["fingerprint"] == detector.backbone.fingerprint
        assert results["prompts"]["fingerprint"] == detector.prompts.fingerprint
        assert results["dataset"]["fingerprint"] == load_dataset(data).fingerprint
        assert results["versions"]["torch"] == torch.__version__.split("+")[0] or results["versions"]["torch"] == torch.__version__
        assert str(data) not in (tmp_path / "results.json").read_text()
        assert all(unit["intervals"] == {} for unit in results["units"])

    def test_a_detector_without_threshold(self):
        samples = [
            Sample(category="a", k_shot=0, seed=0, image_path=str(i), defect="x", gt_label=bool(i), pred_score=i / 2) for i in (0, 1)
        ]
        found = image_metrics(samples)
        assert found["image_auroc"] == 1 and math.isnan(found["recall"])

    @pytest.mark.parametrize(("content", "message"), [(None, "found no file"), ("{", "damaged"), ('{"schema_version": 2}', "newer vlad")])
    def test_errors(self, tmp_path, content, message):
        if content is not None:
            (tmp_path / "results.json").write_text(content)
        with pytest.raises(ConfigError, match=message):
            read_results(tmp_path)


class TestCache:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_gives_the_same_bits_and_encodes_once(self, tiny_clip, tmp_path, dtype):
        from vlad.backbones import ClipBackbone

        backbone = ClipBackbone(tiny_clip, device="cpu", dtype=dtype)
        pixels = torch.randn(3, 3, 96, 96)
        expected = backbone.encode_image(pixels, scales=(2, 3), patches=True)
        for hits, misses in ((0, 3), (3, 0)):
            cached = CachedBackbone(backbone, tmp_path)
            found = cached.encode_image(pixels, scales=(2, 3), patches=True)
            assert (cached.hits, cached.misses) == (hits, misses)
            assert torch.equal(found.image, expected.image) and torch.equal(found.patches, expected.patches)
            assert all(torch.equal(found.windows[scale], expected.windows[scale]) for scale in (2, 3))

    def test_only_what_is_missing_is_encoded(self, backbone, tmp_path):
        pixels = torch.randn(3, 3, 96, 96)
        cached = CachedBackbone(backbone, tmp_path)
        cached.encode_image(pixels[:2], scales=(2,))
        found = cached.encode_image(pixels.flip(0), scales=(2,))
        assert (cached.hits, cached.misses) == (2, 3)
        assert torch.equal(found.image, backbone.encode_image(pixels.flip(0)).image)
        cached.encode_image(pixels, scales=(2, 3))
        assert cached.misses == 6

    def test_damaged_files_are_made_again(self, backbone, tmp_path):
        pixels = torch.randn(1, 3, 96, 96)
        cached = CachedBackbone(backbone, tmp_path)
        expected = cached.encode_image(pixels).image
        next(tmp_path.rglob("*.safetensors")).write_bytes(b"cut off")
        assert torch.equal(cached.encode_image(pixels).image, expected) and cached.misses == 2

    def test_another_backbone_has_another_folder(self, backbone, tiny_clip, tmp_path):
        from vlad.backbones import ClipBackbone

        other = ClipBackbone(tiny_clip, device="cpu", dtype="bfloat16")
        assert CachedBackbone(backbone, tmp_path).folder != CachedBackbone(other, tmp_path).folder

    def test_is_a_backbone_to_a_detector(self, backbone, prompts, detector, data, tmp_path):
        paths = sorted((data / "nut/test").rglob("*.png"))
        cached = AnomalyDetector(CachedBackbone(backbone, tmp_path), prompts=prompts, scales=(2, 3), temperature=0.07)
        for expected, found in zip(detector.predict(paths), cached.predict(paths), strict=True):
            assert found.pred_score == expected.pred_score and np.array_equal(found.anomaly_map, expected.anomaly_map)
        assert cached.backbone.fingerprint == backbone.fingerprint and cached.backbone.hits == 0

    def test_is_the_backbone_in_all_but_its_encoding(self, backbone, patch_backbone, tmp_path):
        for cached, inner, protocol in (
            (CachedBackbone(backbone, tmp_path), backbone, Backbone),
            (CachedPatchBackbone(patch_backbone, tmp_path), patch_backbone, PatchBackbone),
        ):
            assert isinstance(cached, protocol)
            names = ["name", "source", "fingerprint", "preprocessing", "device", "dtype", "advice"]
            names += ["grid", "scales", "temperature"] if protocol is Backbone else ["options", "resolution"]
            assert all(getattr(cached, name) == getattr(inner, name) for name in names)
            with pytest.raises(AttributeError, match="nonsense"):
                _ = cached.nonsense
        assert torch.equal(CachedBackbone(backbone, tmp_path).encode_text(["a nut"]), backbone.encode_text(["a nut"]))
        assert not hasattr(CachedPatchBackbone(patch_backbone, tmp_path), "encode_image")

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_patch_tokens_come_back_with_their_grids(self, tiny_timm, tmp_path, dtype):
        patch_backbone = TimmBackbone(tiny_timm, resolution=64, device="cpu", dtype=dtype)
        rng = np.random.default_rng(0)
        pictures = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((48, 48), (40, 90), (90, 40))]
        expected = patch_backbone.encode_patches(pictures)
        for hits, misses in ((0, 3), (3, 0)):
            cached = CachedPatchBackbone(patch_backbone, tmp_path)
            found = cached.encode_patches(pictures)
            assert (cached.hits, cached.misses) == (hits, misses)
            for one, other in zip(found, expected, strict=True):
                assert torch.equal(one.tokens, other.tokens) and (one.grid, one.shown) == (other.grid, other.shown)
        assert expected[1].shown != (1.0, 1.0)  # what has to come back

    def test_equal_bytes_in_another_shape_are_another_picture(self, patch_backbone, tmp_path):
        cached = CachedPatchBackbone(patch_backbone, tmp_path)
        grey = np.full((40, 80, 3), 128, np.uint8)
        first, second = (cached.encode_patches([picture])[0] for picture in (grey, grey.reshape(80, 40, 3)))
        assert cached.misses == 2 and first.grid == second.grid[::-1]

    def test_damaged_tokens_are_made_again(self, patch_backbone, tmp_path):
        cached = CachedPatchBackbone(patch_backbone, tmp_path)
        picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        (expected,) = cached.encode_patches([picture])
        (file,) = tmp_path.rglob("*.safetensors")
        for damage in (b"cut off", save({"tokens": torch.zeros(1)})):
            file.write_bytes(damage)
            (found,) = cached.encode_patches([picture])
            assert torch.equal(found.tokens, expected.tokens)
        assert (cached.hits, cached.misses) == (0, 3)

    @pytest.mark.parametrize("kind", ["clip", "patches", "both", "lite"])
    def test_a_few_shot_run_reads_what_it_computed(self, backbone, patch_backbone, prompts, data, tmp_path, kind):
        settings = {"prompts": prompts, "rotations": 2}
        if kind == "lite":
            from vlad.backbones.lite.backbone import LiteBackbone

            plain = AnomalyDetector(LiteBackbone(device="cpu"), rotations=1)
        elif kind == "patches":
            plain = AnomalyDetector(patch_backbone, **settings)
        else:
            plain = AnomalyDetector(backbone, patch_backbone=patch_backbone if kind == "both" else None, scales=(2, 3), temperature=0.07,
                                    scorer="nearest" if kind == "both" else None, **settings)  # fmt: skip
        dataset = load_dataset(data, categories=["nut"])
        k_shots = (2,) if kind in ("patches", "lite") else (0, 2)
        lines = {}
        for name in ("plain", "first", "second"):
            detector = plain if name == "plain" else on_cache(plain, tmp_path / "cache")
            assert run(detector, dataset, tmp_path / name, EvalSettings(k_shots=k_shots)) == []
            assert (tmp_path / name / "run.json").read_text() == (tmp_path / "plain/run.json").read_text()
            texts = (tmp_path / name / "samples.jsonl").read_text().splitlines()
            lines[name] = [json.loads(text) | {"seconds": 0} for text in texts]
            assert {s.threshold_source for s in read_samples(tmp_path / name) if s.k_shot} == {"references"}
        assert lines["first"] == lines["plain"] and lines["second"] == lines["plain"]
        for sample in read_samples(tmp_path / "plain"):
            assert np.array_equal(read_map(tmp_path / "plain", sample), read_map(tmp_path / "second", sample))
        seen = [one for one in (detector.encoder.joint, detector.encoder.patch_backbone) if one is not None]
        assert all(one.misses == 0 and one.hits > 0 for one in seen)

    def test_references_stay(self, fitted, data, tmp_path):
        fitted.fit([data / "nut/train/good/000.png", data / "nut/train/good/001.png"], class_name="nut")
        cached = on_cache(fitted, tmp_path)
        path = data / "nut/test/crack/000.png"
        one, other = fitted.predict(path), cached.predict(path)
        assert (one.pred_score, one.threshold, one.model) == (other.pred_score, other.threshold, other.model)
        assert isinstance(cached.backbone, CachedBackbone) and cached.references == fitted.references

    def test_a_folder_that_cannot_be_written(self, backbone, tmp_path, monkeypatch):
        cached = CachedBackbone(backbone, tmp_path)

        def full(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(ConfigError, match=r"cannot be written \(No space left on device\); make room"):
            cached.encode_image(torch.randn(1, 3, 96, 96))

    def test_no_pictures(self, backbone, tmp_path):
        from vlad.backbones.lite.backbone import LiteBackbone

        assert CachedBackbone(LiteBackbone(device="cpu"), tmp_path).encode_image(torch.empty(0, 3, 448, 448)).image.shape[0] == 0

    def test_a_folder_that_is_a_file(self, backbone, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="cannot be made"):
            CachedBackbone(backbone, tmp_path / "file")


@pytest.fixture
def two_runs(detector, data, tmp_path) -> tuple[Path, Path]:
    """The same detector with other temperatures of the softmax: other scores, the same ranking of pictures, other maps."""
    dataset = load_dataset(data)
    run(detector, dataset, tmp_path / "a")
    detector.temperature = 0.5
    run(detector, dataset, tmp_path / "b")
    for name in "ab":
        summarise(tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def worsen(folder: Path, category: str) -> None:
    """Swap the scores' order in one category."""
    path = folder / "samples.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["category"] == category:
            row["pred_score"] = 0.9 if not row["gt_label"] else 0.1
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class TestCompare:
    def test_a_run_equals_itself(self, two_runs):
        comparison = compare_runs(two_runs[0], two_runs[0], metrics=["image_auroc", "aupro"])
        assert not comparison.regressions and all(one.difference == 0 and one.p_value == 1 for one in comparison.differences)
        assert "no mean fell by more than 0.5" in comparison.to_text()

    def test_a_rank_preserving_change_is_no_difference(self, two_runs):
        comparison = compare_runs(*two_runs, metrics=["image_auroc"])
        assert [one.difference for one in comparison.differences] == [0, 0, 0]
        assert any(note.startswith("detector.temperature: 0.07 in A, 0.5 in B") for note in comparison.notes)

    def test_a_regression_is_found_and_is_significant(self, two_runs):
        for category in ("bolt", "nut"):
            worsen(two_runs[1], category)
        comparison = compare_runs(*two_runs, metrics=["image_auroc"])
        (worse,) = comparison.regressions
        assert worse.category is None and worse.b == 0 and worse.interval[1] < 0 and worse.p_value < 0.01
        assert "regression: image_auroc at k=0" in comparison.to_text()
        json.dumps(comparison.to_dict())

    def test_tolerance(self, two_runs):
        worsen(two_runs[1], "nut")
        fall = -compare_runs(*two_runs, metrics=["image_auroc"]).differences[0].difference
        assert fall > 0
        assert compare_runs(*two_runs, metrics=["image_auroc"], tolerance=fall + 0.01).regressions == ()
        assert compare_runs(*two_runs, metrics=["image_auroc"], tolerance=fall - 0.01).regressions

    def test_pixel_metrics_are_paired_too(self, two_runs):
        comparison = compare_runs(*two_runs, metrics=["aupro"])
        mean = comparison.differences[0]
        results = [read_results(folder)["summary"][0]["metrics"]["aupro"]["mean"] for folder in two_runs]
        assert (mean.a, mean.b) == pytest.approx(tuple(results)) and mean.interval is not None

    def test_nothing_in_common(self, detector, data, two_runs, tmp_path):
        for number in range(2):
            draw(tmp_path / f"other/good/{number}.png", number)
        draw(tmp_path / "other/bad/0.png", 9)
        run(detector, load_dataset(tmp_path / "other"), tmp_path / "c")
        summarise(tmp_path / "c")
        with pytest.raises(ConfigError, match="have no category, k, seed and picture in common"):
            compare_runs(two_runs[0], tmp_path / "c", metrics=["image_auroc"])
        with pytest.raises(ConfigError, match="none of the metrics"):
            compare_runs(*two_runs, metrics=["beauty"])


class TestTable:
    @pytest.fixture
    def runs(self, tmp_path) -> dict[str, Path]:
        """Runs of one category whose image AUROC over seeds is as given."""
        folders = {}
        for name, values in {"a": (0.9, 0.8, 1.0), "b": (0.6,), "c": (0.5,), "d": (None,)}.items():
            metrics = {"image_auroc": spread(values), "aupro": spread([None])}
            row = {"k_shot": 1, "seeds": list(range(len(values))), "metrics": metrics}
            results = {"schema_version": 1, "categories": [row | {"category": "nut"}], "summary": [row | {"n_categories": 1}]}
            folders[name] = tmp_path / name
            folders[name].mkdir()
            (folders[name] / "results.json").write_text(json.dumps(results))
        return folders

    def test_spread_is_the_sample_standard_deviation(self):
        assert spread([0.9, 0.8, 1.0]) == {"mean": pytest.approx(0.9), "std": pytest.approx(0.1)}  # 0.0816 if divided by n
        assert spread([0.5, None]) == {"mean": 0.5, "std": None} and spread([None]) == {"mean": None, "std": None}

    def test_over_seeds_of_a_run_and_over_runs_of_a_name(self, runs):
        text = runs_table({"a": [runs["a"]], "b": [runs["b"]], "heads": [runs["b"], runs["c"]], "d": [runs["d"]]})
        assert text.splitlines() == [
            "| run | data | k | n | image_auroc | aupro |",
            "|---|---|---|---|---|---|",
            "| a | nut | 1 | 3 | 90.0 ± 10.0 | – |",
            "| b | nut | 1 | 1 | 60.0 | – |",
            "| heads | nut | 1 | 2 | 55.0 ± 7.1 | – |",
            "| d | nut | 1 | 1 | – | – |",
        ]
        assert runs_table({"b": [runs["b"]]}, ["image_auroc"]).splitlines()[-1] == "| b | nut | 1 | 1 | 60.0 |"
        with pytest.raises(ConfigError, match="no run measured 'beauty'; there are aupro, image_auroc"):
            runs_table({"b": [runs["b"]]}, ["beauty"])

    def test_says_what_the_report_says(self, detector, data, tmp_path):
        run(detector, load_dataset(data), tmp_path, EvalSettings(bootstrap=0))
        results = summarise(tmp_path)
        write_report(tmp_path)
        rows = runs_table({"run": [tmp_path]}, ["image_auroc", "pixel_auroc", "aupro"]).splitlines()[2:]
        assert [row.split(" | ")[1] for row in rows] == ["bolt", "nut", "mean of 2"]
        cells = [f"{100 * results['summary'][0]['metrics'][name]['mean']:.1f}" for name in ("image_auroc", "pixel_auroc", "aupro")]
        assert rows[-1].endswith(" | ".join(cells) + " |")
        assert f"| **{'** | **'.join(cells)}** |" in (tmp_path / "report.md").read_text()


class TestSearch:
    def test_chance_is_not_mistaken_for_skill(self, detector, tmp_path, monkeypatch):
        """Candidates that score at random: the best of many looks good on all pictures, what to expect of it does not."""
        for number in range(32):
            draw(tmp_path / f"{'good' if number % 2 else 'bad'}/{number:02d}.png", number)
        rng = np.random.default_rng(0)
        monkeypatch.setattr(search_module, "_score", lambda *_: rng.random(32))
        nouns = ["nut", "bolt", "screw", "gear", "cable", "tube"]
        outcome = search(detector, load_dataset(tmp_path).categories[0], class_names=nouns, folds=4, repeats=5)
        best = outcome.candidates[0]
        assert len(outcome.candidates) > 30 and best.image_auroc > 0.65
        assert outcome.expected < best.image_auroc - 0.1
        assert sum(one.chosen for one in outcome.candidates) == pytest.approx(1)

    def test_scores_are_the_detector_s(self, detector, data):
        from vlad.metrics import auroc

        (category,) = load_dataset(data, categories=["nut"]).categories
        outcome = search(detector, category, prompts=["winclip", "generic"], class_names=["metal nut"], folds=2, repeats=2)
        labels = [picture.is_anomalous for picture in category.test]
        for one in outcome.candidates:
            again = AnomalyDetector(detector.backbone, prompts=one.prompts, temperature=0.07)
            scores = [p.pred_score for p in again.predict([picture.path for picture in category.test], class_name="metal nut", maps=False)]
            assert one.image_auroc == pytest.approx(auroc(labels, scores))
        assert "choosing gives" in outcome.to_text() and outcome.n_good == 4

    def test_equal_sentences_are_tried_once(self, detector, data):
        (category,) = load_dataset(data, categories=["nut"]).categories
        outcome = search(detector, category, prompts=["winclip"], class_names=["nut", "nuts_01", "nut"], folds=2, repeats=1)
        assert len({one.class_name for one in outcome.candidates}) == len(outcome.candidates)
        assert outcome.gain_std is None and "±" not in outcome.to_text()  # one repetition has no spread

    def test_a_backbone_without_words(self, detector, data):
        class Wordless:
            name = "wordless"

        detector.backbone = Wordless()
        (category,) = load_dataset(data, categories=["nut"]).categories
        with pytest.raises(ConfigError, match="wordless knows no words"):
            search(detector, category)

    def test_too_few_pictures(self, detector, data):
        (category,) = load_dataset(data, categories=["nut"]).categories
        with pytest.raises(DatasetError, match="5 folds need 5 good and 5 anomalous pictures, there are 4 and 5"):
            search(detector, category, prompts=["winclip"])
        with pytest.raises(PromptError, match="winclop"):
            search(detector, category, prompts=["winclop"], folds=2)


class TestReport:
    def test_another_dataset_in_its_layout_is_not_called_by_its_name(self, detector, data, tmp_path):
        run(detector, load_dataset(data), tmp_path)
        results = summarise(tmp_path)
        html = write_report(tmp_path, load_dataset(data))[0].read_text()
        assert results["dataset"]["title"] == f"{data.name} (laid out as MVTec AD)" and results["dataset"]["is_published"] is False
        assert f"<h1>{data.name} (laid out as MVTec AD)</h1>" in html and "(paper)" not in html
        results["dataset"].pop("is_published")  # as runs of before are
        (tmp_path / "results.json").write_text(json.dumps(results))
        assert "(paper)" not in write_report(tmp_path)[0].read_text()

    def test_a_run_that_was_called_otherwise_goes_on(self, detector, data, tmp_path):
        run(detector, load_dataset(data), tmp_path)
        identity = json.loads((tmp_path / "run.json").read_text())
        identity["dataset"]["title"] = "MVTec AD"
        del identity["dataset"]["is_published"]
        (tmp_path / "run.json").write_text(json.dumps(identity))
        assert run(detector, load_dataset(data), tmp_path, resume=True) == []

    def test_the_published_numbers_make_it_the_dataset(self):
        layout = LAYOUTS["mvtec"]
        assert layout.are_published([("bottle", 20, 63), ("zipper", 32, 119)])
        assert not layout.are_published([("bottle", 20, 63), ("hazelnut", 6, 17)]) and not layout.are_published([("nut", 20, 63)])
        assert LAYOUTS["folder"].are_published([("anything", 1, 1)])

    def test_holds_everything_itself(self, fitted, data, tmp_path, monkeypatch):
        monkeypatch.setattr("vlad.evaluation.datasets.Dataset.is_published", True)
        dataset = load_dataset(data)
        run(fitted, dataset, tmp_path, EvalSettings(k_shots=(0, 1), seeds=(0, 1)))
        results = summarise(tmp_path)
        html_path, markdown_path = write_report(tmp_path, dataset)
        html, markdown = html_path.read_text(), markdown_path.read_text()
        assert not re.search(r'(src|href)="(?!data:)', html) and "<script" not in html and "url(" not in html
        for text in (html, markdown):
            for row in results["summary"]:
                assert f"{100 * row['metrics']['image_auroc']['mean']:.1f}" in text
            assert "WinCLIP+ (paper)" in text and "second-hand" in text and "do not compare directly" in text
            assert "dent" in text and "crack" in text and results["model"]["fingerprint"] in text
        assert html.count("<svg") >= 2 * 4 + 4 and html.count("data:image/jpeg;base64,") >= 3
        assert "–" not in re.findall(r'<tr class="ours">.*?</tr>', html)[0]

    def test_text_is_escaped(self, detector, tmp_path):
        draw(tmp_path / "data/good/0.png", 0)
        draw(tmp_path / "data/good/1.png", 1)
        draw(tmp_path / "data/<b>&bold/0.png", 2, defect=True)
        run(detector, load_dataset(tmp_path / "data"), tmp_path / "out")
        summarise(tmp_path / "out")
        html = write_report(tmp_path / "out", load_dataset(tmp_path / "data"))[0].read_text()
        assert "<b>&bold" not in html and "&lt;b&gt;&amp;bold" in html

    def test_without_the_dataset_maps_are_shown_alone(self, detector, data, tmp_path):
        run(detector, load_dataset(data), tmp_path)
        summarise(tmp_path)
        with_pictures = write_report(tmp_path, load_dataset(data))[0].read_text().count("data:image")
        alone = write_report(tmp_path)[0].read_text().count("data:image")
        assert 0 < alone < with_pictures

    def test_problems_are_shown(self, detector, data, tmp_path):
        run(detector, load_dataset(data, categories=["nut"]), tmp_path)
        summarise(tmp_path, ["nut has 6 references, k=9 needs more"])
        assert "k=9 needs more" in write_report(tmp_path)[0].read_text()


class TestCharts:
    def test_a_curve_is_where_it_should_be(self):
        svg = curves([Line("a & b", np.array([0, 0.5, 1.0]), np.array([0, 1.0, 1.0]))], x_label="x", y_label="y")
        assert "<title>a &amp; b</title>" in svg and 'd="M40.0 266.0L162.0 8.0L284.0 8.0"' in svg

    @pytest.mark.parametrize("scores", [([], []), ([0.5], [0.5]), ([0.1, 0.2], [0.9])])
    def test_histograms_of_few_scores(self, scores):
        svg = histogram(*scores, [0.5])
        assert svg.count("<rect") == len(set(scores[0])) + len(set(scores[1])) and 'class="threshold"' in svg and "nan" not in svg


class TestShipped:
    def test_anchors_are_those_of_the_papers(self):
        anchors = {(a.method, a.dataset, a.k_shot): a for a in load_anchors()}
        winclip = anchors["WinCLIP (paper)", "mvtec", 0]
        assert (winclip.image_auroc, winclip.pixel_auroc, winclip.aupro) == (91.8, 85.1, 64.6) and winclip.remarks == ""
        assert anchors["AnomalyCLIP", "visa", 0].remarks == "auxiliary training data"
        assert len(anchors) == len(load_anchors()) and all(a.source and a.dataset in LAYOUTS for a in anchors.values())

    @pytest.mark.parametrize("entry", ["{method: x}", "{method: x, dataset: mvtec, k_shot: 0, source: y, image_aurok: 3}"])
    def test_a_wrong_anchor_is_named(self, tmp_path, entry):
        path = tmp_path / "anchors.yaml"
        path.write_text(f"schema_version: 1\nanchors:\n  - {entry}\n")
        with pytest.raises(ConfigError, match="anchor 1 must have"):
            load_anchors(path)

    def test_configurations_name_known_datasets_and_settings(self):
        configs = {path.stem: load_config(path.stem) for path in shipped("configs").glob("*.yaml")}
        assert {"mvtec", "visa", "synthetic", "few_shot", "lite"} <= configs.keys()
        for values in configs.values():
            assert values.get("dataset", "mvtec") in LAYOUTS
            for variant in values.get("variants", {}).values():
                DetectorConfig.from_dict(variant.get("setting", {}))

    def test_unknown_configurations(self, tmp_path):
        with pytest.raises(ConfigError, match=r"known are .*mvtec"):
            load_config("mvtek")
        (tmp_path / "list.yaml").write_text("- 1")
        with pytest.raises(ConfigError, match="as a mapping, got list"):
            load_config(str(tmp_path / "list.yaml"))
        with pytest.raises(ConfigError, match="no such file"):
            load_config(str(tmp_path / "none.yaml"))


def test_a_run_without_enough_references_is_refused_before_a_model_is_loaded():
    few = Category("nut", "nut", references=(), test=(Picture(Path("a.png")),))
    impossible, possible = Unit(few, 40, 0, (), (), "nut has 28 references, k=40 with seed 0 needs 40"), Unit(few, 0, 0, (), few.test)
    with pytest.raises(ConfigError, match=r"nothing can be measured: nut has 28 references.*and 1 more.*smaller --k-shot"):
        check_units([impossible, impossible])
    check_units([impossible, possible])
