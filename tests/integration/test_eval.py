"""`vlad eval` as a user meets it: files, exit codes, a run killed twice, two processes, the pinned numbers of the synthetic set."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import start, vlad
from PIL import Image
from safetensors.torch import save_file
from waiting import LIMIT, wait_until

from vlad.synthetic import write_benchmark

ROOT = Path(__file__).resolve().parents[2]
PIPES = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two categories in MVTec AD's layout, 3 references, 6 good and 6 anomalous pictures each, noise with bright squares."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for category in ("bolt", "nut"):
        for place, count in (("train/good", 3), ("test/good", 6), ("test/dent", 6)):
            for number in range(count):
                pixels, mask = rng.integers(90, 150, (64, 64, 3), dtype=np.uint8), np.zeros((64, 64), np.uint8)
                if place == "test/dent":
                    top, left = rng.integers(0, 48, 2)
                    pixels[top : top + 16, left : left + 16] = mask[top : top + 16, left : left + 16] = 255
                    path = root / category / f"ground_truth/dent/{number:03d}_mask.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(path)
                path = root / category / place / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="module")
def options(tiny_clip, golden, tmp_path_factory) -> list[str]:
    """The tiny CLIP as a model folder."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": golden.info["model_config"]}))
    save_file({name: tensor.contiguous() for name, tensor in tiny_clip.state_dict().items()}, folder / "open_clip_model.safetensors")
    return ["--model", str(folder), "--device", "cpu", "--dtype", "float32"]


def lasting(out: Path) -> tuple[dict, list[dict]]:
    """What two equal runs have in common: results and samples without dates and times."""
    results = json.loads((out / "results.json").read_text())
    results.pop("created")
    for unit in results["units"]:
        unit.pop("seconds")
    return results, [json.loads(line) | {"seconds": 0} for line in (out / "samples.jsonl").read_text().splitlines()]


class TestRun:
    def test_writes_results_samples_and_reports(self, data, options, tmp_path):
        run = vlad("eval", data, *options, "--out", tmp_path / "out")
        assert run.returncode == 0, run.stderr
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            ".lock", "run.json", "results.json", "samples.jsonl", "report.html", "report.md", "pixels",
        }  # fmt: skip
        assert "image_auroc" in run.stdout and "mean of 2" in run.stdout and "report in" in run.stderr
        results = json.loads((tmp_path / "out/results.json").read_text())
        assert results["schema_version"] == 1 and [unit["category"] for unit in results["units"]] == ["bolt", "nut"]

    def test_options_reach_the_run(self, data, options, tmp_path):
        out = tmp_path / "out"
        command = ("eval", data, *options, "--category", "nut", "--prompts", "generic", "--class-name", "hex nut", "--no-maps")
        run = vlad(
            *command, "--threshold", "0.9", "--bootstrap", "0", "--no-report", "--quiet", "--cache", tmp_path / "cache", "--out", out
        )
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
        results = json.loads((out / "results.json").read_text())
        assert results["prompts"]["name"] == "generic" and results["prompts"]["class_name"] == "hex nut"
        assert results["units"][0]["thresholds"] == [0.9] and not (out / "report.html").exists()
        assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 12

    def test_a_configuration_gives_options_and_the_command_line_goes_before(self, data, options, tmp_path):
        (tmp_path / "mine.yaml").write_text("dataset: mvtec\nmaps: false\nk_shot: [0]\ncategory: [nut]\nbootstrap: 5\n")
        out = tmp_path / "out"
        run = vlad("eval", data, *options, "--config", tmp_path / "mine.yaml", "--bootstrap", "7", "--out", out)
        assert run.returncode == 0, run.stderr
        identity = json.loads((out / "run.json").read_text())
        assert identity["settings"]["bootstrap"] == 7 and not identity["settings"]["maps"] and identity["dataset"]["categories"] == ["nut"]
        (tmp_path / "mine.yaml").write_text("bootstrab: 5\n")
        run = vlad("eval", data, "--config", tmp_path / "mine.yaml")
        assert run.returncode == 2 and "unknown option 'bootstrab'" in run.stderr

    def test_variants_of_a_configuration_share_a_cache_and_end_in_a_table(self, data, options, tmp_path):
        (tmp_path / "mine.yaml").write_text(
            "k_shot: [0, 1]\nseeds: [0, 1]\ncategory: nut\nbootstrap: 0\nsetting: {rotations: 1}\n"
            "variants:\n  default: {}\n  nearest: {setting: {scorer: nearest}}\n  no-maps: {maps: false, setting: {rotations: 2}}\n"
        )
        out = tmp_path / "out"
        command = ("eval", data, *options, "--config", tmp_path / "mine.yaml", "--setting", "top_share=0.02", "--out", out)
        run = vlad(*command, "--cache", tmp_path / "cache", "--no-report")
        assert run.returncode == 0, run.stderr
        detectors = {name: json.loads((out / name / "run.json").read_text())["detector"] for name in ("default", "nearest", "no-maps")}
        assert [(one["scorer"], one["rotations"], one["top_share"]) for one in detectors.values()] == [
            (None, 1, 0.02), ("nearest", 1, 0.02), (None, 2, 0.02),
        ]  # fmt: skip
        table = run.stdout[run.stdout.index("| run |") :].splitlines()
        assert [line.split(" | ")[:4] for line in table[2:]] == [
            [f"| {name}", "nut", k, n] for name in ("default", "nearest", "no-maps") for k, n in (("0", "1"), ("1", "2"))
        ]
        again = vlad("eval", "table", out / "default", out / "nearest", out / "no-maps")
        assert again.returncode == 0 and again.stdout.splitlines() == table
        uncached = tmp_path / "uncached"
        alone = ("eval", data, *options, "--category", "nut", "--k-shot", "0,1", "--seeds", "0,1", "--bootstrap", "0", "--no-report")
        settings = ("--setting", "scorer=nearest", "--setting", "rotations=1", "--setting", "top_share=0.02")
        assert vlad(*alone, *settings, "--out", uncached).returncode == 0
        assert lasting(uncached) == lasting(out / "nearest")

    def test_unreadable_pictures_exit_with_3(self, data, options, tmp_path):
        root = tmp_path / "data"
        for path in (data / "nut").rglob("*.png"):
            copy = root / path.relative_to(data)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        (root / "nut/test/dent/002.png").write_bytes(b"")
        run = vlad("eval", root, *options, "--out", tmp_path / "out")
        assert run.returncode == 3 and "002.png: is empty" in run.stderr and "mean of 1" in run.stdout

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "expected the folder of the dataset"),
            (("nowhere",), "no such file or folder"),
            (("--dataset", "mvtek", "."), "did you mean 'mvtec'"),
            (("DATA", "--k-shot", "one"), "--k-shot must be whole numbers"),
            (("DATA", "--seeds", "0,0"), "seeds must be different"),
            (("DATA", "--fpr-limit", "0"), "fpr_limit must be in"),
            (("DATA", "--category", "cable"), "no category 'cable'; there are bolt, nut"),
            (("DATA", "--config", "mvtek"), "known are"),
            (("compare", "a", "b"), "found no file"),
            (("report", "a"), "found no file"),
            (("table", "a"), "found no file"),
            (("DATA", "--setting", "rotations"), "--setting must be NAME=VALUE"),
            (("DATA", "--model", "lite", "--setting", "mutual={shares: 1}"), "mutual takes true, or {NAME: VALUE} of share"),
            (("DATA", "--model", "lite", "--setting", "rotation=1"), "did you mean 'rotations'"),
            (("DATA", "--model", "lite", "--setting", "class_name=nut"), "has an option of its own; give --class-name"),
            (("DATA", "--dataset", "mvtec", "--config", "CONFIG"), "variant b: unknown option 'rotations'"),
        ],
    )
    def test_usage_errors_exit_with_2(self, data, tmp_path, monkeypatch, arguments, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data").mkdir()
        (tmp_path / "variants.yaml").write_text("variants: {a: {}, b: {rotations: 1}}")
        places = {"DATA": str(data), "CONFIG": "./variants.yaml"}
        run = vlad("eval", *(places.get(word, word) for word in arguments))
        assert run.returncode == 2 and message in run.stderr, run.stderr

    def test_a_run_is_never_overwritten(self, data, options, tmp_path):
        command = ("eval", data, *options, "--no-maps", "--out", tmp_path / "out")
        assert vlad(*command).returncode == 0
        again = vlad(*command)
        assert again.returncode == 2 and "add --resume" in again.stderr
        assert vlad(*command, "--resume").returncode == 0

    def test_help_shows_examples_and_light_commands_stay_light(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "140")
        assert "vlad eval compare runs/a runs/b" in vlad("eval", "--help").stdout
        code = (
            "import sys; sys.argv = ['vlad', 'eval', '--help']; import vlad.cli\n"
            "try: vlad.cli.main()\nexcept SystemExit: pass\n"
            "print('LOADED', *(m for m in ('torch', 'numpy', 'sklearn', 'jinja2') if m in sys.modules))"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=True)
        assert run.stdout.splitlines()[-1].strip() == "LOADED"


class TestCheck:
    def test_a_sound_dataset(self, data):
        run = vlad("eval", data, "--check")
        assert run.returncode == 0 and "nut: 3 references, 6 good, 6 anomalous" in run.stdout and "0 errors" in run.stdout
        assert f"{data.name} (laid out as MVTec AD)" in run.stdout and "mvtec.com" not in run.stdout, "it is another data set"

    def test_a_published_dataset_comes_with_its_address_and_licence(self, data, monkeypatch):
        monkeypatch.setattr("vlad.evaluation.datasets.Dataset.is_published", True)
        run = vlad("eval", data, "--check")
        assert "https://www.mvtec.com" in run.stdout and "CC BY-NC-SA" in run.stdout

    def test_a_missing_mask_exits_with_3(self, data, tmp_path):
        root = tmp_path / "nut"
        for path in (data / "nut").rglob("*.png"):
            copy = root / path.relative_to(data / "nut")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        (root / "ground_truth/dent/001_mask.png").unlink()
        run = vlad("eval", root, "--check")
        assert run.returncode == 3 and "error: missing-mask: nut:" in run.stdout and "1 error," in run.stdout


def test_every_layout_of_the_registry_is_listed():
    from vlad.evaluation.datasets import LAYOUTS

    run = vlad("eval", "layouts")
    assert run.returncode == 0
    assert [line.split(":")[0] for line in run.stdout.splitlines() if line and not line.startswith(" ")] == [*LAYOUTS, "mmad"]
    assert "CATEGORY/ground_truth/" in run.stdout and "https://github.com/amazon-science/spot-diff" in run.stdout


class TestCompare:
    def test_a_regression_exits_with_1(self, data, options, tmp_path):
        a, b = tmp_path / "a", tmp_path / "b"
        assert vlad("eval", data, *options, "--out", a).returncode == 0
        assert vlad("eval", data, *options, "--out", b).returncode == 0
        same = vlad("eval", "compare", a, b)
        assert same.returncode == 0 and "no mean fell by more than 0.5" in same.stdout
        rows = [json.loads(line) for line in (b / "samples.jsonl").read_text().splitlines()]
        (b / "samples.jsonl").write_text("".join(json.dumps(row | {"pred_score": 0.2 if row["gt_label"] else 0.8}) + "\n" for row in rows))
        worse = vlad("eval", "compare", a, b, "--format", "json")
        assert worse.returncode == 1
        assert {one["metric"] for one in json.loads(worse.stdout)["regressions"]} == {"image_auroc"}
        assert vlad("eval", "compare", a, b, "--tolerance", "1").returncode == 0

    def test_the_report_is_written_again_without_a_model(self, data, options, tmp_path):
        out = tmp_path / "out"
        vlad("eval", data, *options, "--out", out)
        before = lasting(out)
        (out / "report.html").unlink()
        run = vlad("eval", "report", out, "--data-root", data)
        assert run.returncode == 0 and (out / "report.html").exists() and lasting(out) == before


class TestPrompts:
    def test_prints_the_candidates_and_writes_them(self, data, options, tmp_path):
        out = tmp_path / "search.json"
        names = ("--prompts", "winclip,generic", "--class-names", "hex nut")
        run = vlad("eval", "prompts", data, "--category", "nut", *names, "--folds", "3", *options, "--out", out)
        assert run.returncode == 0, run.stderr
        assert "nut: 6 good, 6 anomalous" in run.stdout and "choosing gives" in run.stdout
        (category,) = json.loads(out.read_text())["categories"]
        assert {one["prompts"] for one in category["candidates"]} == {"winclip", "generic"}


@pytest.mark.slow
class TestProcesses:
    def test_killed_twice_equals_uninterrupted(self, data, options, tmp_path):
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        samples = killed / "samples.jsonl"
        command = (data, *options, "--batch-size", "1", "--no-report")
        assert vlad("eval", *command, "--out", whole).returncode == 0
        for target in (7, 14):  # of 24 pictures
            run = start("eval", *command, "--out", killed, "--resume", **PIPES)
            wait_until(lambda target=target: samples.exists() and len(samples.read_text().splitlines()) >= target, "samples", process=run)
            run.kill()
            run.communicate(timeout=LIMIT)
        assert len(samples.read_text().splitlines()) < 24
        assert vlad("eval", *command, "--out", killed, "--resume").returncode == 0
        assert lasting(killed) == lasting(whole)

    def test_two_processes_give_what_one_gives(self, data, options, tmp_path):
        pytest.importorskip("accelerate", reason="several processes need the extra vlad-anomaly[vlm]")
        alone, both = tmp_path / "alone", tmp_path / "both"
        assert vlad("eval", data, *options, "--out", alone).returncode == 0
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "1"}
        command = (data, *options, "--out", both)
        runs = [start("eval", *command, environment=common | {"RANK": rank, "LOCAL_RANK": rank}, **PIPES) for rank in ("0", "1")]
        for run in runs:
            _, stderr = run.communicate(timeout=LIMIT)
            assert run.returncode == 0, stderr
        assert lasting(both) == lasting(alone) and not (both / "samples.1.jsonl").exists()


@pytest.mark.slow
def test_synthetic_numbers_are_those_committed(tmp_path):
    """A category of `vlad eval --dataset synthetic --model lite` gives what eval/results says it gave. When the weights of lite or
    the pictures change, make that folder's results.json again: `vlad eval --dataset synthetic --model lite --setting text_threshold=0.5
    --out OUT`."""
    committed = json.loads((ROOT / "eval/results/synthetic-lite/results.json").read_text())
    names = ("brick_wall",)
    write_benchmark(tmp_path / "data", categories=names)
    at_half = ("--setting", "text_threshold=0.5")  # lite's words have no threshold of their own any more
    run = vlad("eval", tmp_path / "data", "--dataset", "mvtec", "--model", "lite", *at_half, "--bootstrap", "0", "--out", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["model"]["fingerprint"] == committed["model"]["fingerprint"], "the weights are not those of the committed results"
    expected = {unit["category"]: unit for unit in committed["units"] if unit["k_shot"] == 0}
    for unit in results["units"]:
        for metric in ("image_auroc", "image_ap", "pixel_auroc", "aupro", "recall", "false_alarms"):  # the last two at 0.5
            assert unit["metrics"][metric] == pytest.approx(expected[unit["category"]]["metrics"][metric], abs=0.01), metric
