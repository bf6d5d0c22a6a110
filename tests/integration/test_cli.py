"""The command line as a user meets it: output, files, exit codes, interrupted runs."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from command import start, vlad
from PIL import Image
from safetensors.torch import save_file
from waiting import LIMIT, wait_until

from vlad.disk import held
from vlad.output import unique_stems
from vlad.output.rows import COLUMNS

VLAD = [sys.executable, "-m", "vlad"]


@pytest.fixture(scope="module")
def model(tiny_clip, golden, tmp_path_factory) -> Path:
    """The tiny CLIP as a model folder."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": golden.info["model_config"]}))
    save_file({name: tensor.contiguous() for name, tensor in tiny_clip.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def pictures(golden, tmp_path_factory) -> Path:
    """test/good/000.png, test/broken/000.png, test/broken/001.png."""
    folder = tmp_path_factory.mktemp("pictures") / "test"
    for place, picture in zip(("good/000.png", "broken/000.png", "broken/001.png"), golden.pictures(), strict=True):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / place)
    return folder


@pytest.fixture(scope="module")
def options(model) -> tuple[str, ...]:
    return ("--model", str(model), "--device", "cpu", "--dtype", "float32")


@pytest.fixture(scope="module")
def expected(model, pictures) -> dict[str, object]:
    from vlad import AnomalyDetector, find_images

    paths = find_images([pictures])
    detector = AnomalyDetector.from_pretrained(str(model), device="cpu", dtype="float32")
    return dict(zip(map(str, paths), detector.predict(paths, class_name="metal_nut"), strict=True))


class TestDetect:
    @pytest.mark.parametrize("rarity", [0, 20])
    def test_rarity_is_the_detectors(self, options, model, pictures, rarity):
        from vlad import AnomalyDetector

        detector = AnomalyDetector.from_pretrained(str(model), device="cpu", dtype="float32", rarity=rarity)
        expected = detector.predict(pictures / "broken/000.png")
        (row,) = json.loads(vlad("detect", pictures / "broken/000.png", "--rarity", str(rarity), "--format", "json", *options).stdout)
        assert row["pred_score"] == expected.pred_score and ("rarity" in row["scores"]) is (rarity > 0)

    def test_folder_to_files(self, options, pictures, expected, tmp_path):
        out = tmp_path / "out"
        run = vlad("detect", pictures, "--class-name", "metal_nut", "--out", out, *options)
        assert run.returncode == 0, run.stderr
        assert "open_clip folder" in run.stderr and "on cpu in float32" in run.stderr  # every run names its model
        rows = list(csv.DictReader((out / "results.csv").open(encoding="utf-8")))
        lines = [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]
        assert tuple(rows[0]) == COLUMNS
        assert [row["image_path"] for row in rows] == [line["image_path"] for line in lines] == list(expected)
        for row, line, result in zip(rows, lines, expected.values(), strict=True):
            assert float(row["pred_score"]) == line["pred_score"] == result.pred_score
            assert row["pred_label"] == str(result.pred_label) and int(row["n_regions"]) == len(result.regions) == len(line["regions"])
            assert (row["threshold"], row["threshold_source"], row["error"]) == ("0.5", "text", "") and row["model"]
            base = out / Path(row["image_path"]).relative_to(pictures).with_suffix("")
            assert np.array_equal(np.asarray(Image.open(f"{base}_map.tiff")), result.anomaly_map)
            assert np.array_equal(np.asarray(Image.open(f"{base}_mask.png")) > 0, result.pred_mask)
            assert Image.open(f"{base}_overlay.png").width == 320

    def test_json(self, options, pictures, expected):
        run = vlad("detect", pictures, "--class-name", "metal nut", "--format", "json", *options)
        assert [line["pred_score"] for line in json.loads(run.stdout)] == [r.pred_score for r in expected.values()]

    def test_csv(self, options, pictures, expected):
        run = vlad("detect", str(pictures / "**" / "*.png"), "--class-name", "metal nut", "--format", "csv", "-q", *options)
        rows = {row["image_path"]: float(row["pred_score"]) for row in csv.DictReader(io.StringIO(run.stdout))}
        assert rows == {path: result.pred_score for path, result in expected.items()} and run.stderr == ""

    def test_table(self, options, pictures, expected):
        run = vlad("detect", pictures, "--class-name", "metal nut", *options)
        for path, result in expected.items():
            (line,) = (line for line in run.stdout.splitlines() if path in line)
            assert f"{result.pred_score:.3f}" in line and ("anomalous" if result.pred_label else "normal") in line

    def test_score_alone(self, options, pictures, expected):
        run = vlad("detect", pictures, "--class-name", "metal nut", "--no-maps", "--format", "json", *options)
        lines = json.loads(run.stdout)
        assert [line["pred_score"] for line in lines] == [r.pred_score for r in expected.values()]
        assert not any(line["regions"] for line in lines)

    @pytest.mark.parametrize(("threshold", "code"), [("0", 1), ("1", 0)])
    def test_fail_on_anomaly(self, options, pictures, threshold, code):
        run = vlad("detect", pictures, "--threshold", threshold, "--fail-on-anomaly", "--no-maps", *options)
        assert run.returncode == code, run.stderr

    def test_unreadable_files_are_reported_and_the_rest_is_done(self, options, pictures, tmp_path):
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"\x89PNG\r\n\x1a\n")
        out = tmp_path / "out"
        run = vlad("detect", bad, pictures / "good", tmp_path / "missing.png", "--no-maps", "--out", out, *options)
        assert run.returncode == 3
        assert "bad.png" in run.stderr and "missing.png" in run.stderr and "2 failed" in run.stderr
        rows = list(csv.DictReader((out / "results.csv").open(encoding="utf-8")))
        assert [bool(row["pred_score"]) for row in rows] == [False, False, True]
        assert "bad.png" in rows[1]["error"] and "missing.png" in rows[0]["error"] and rows[0]["image_path"].endswith("missing.png")

    def test_a_picture_that_goes_away_during_the_run(self, options, pictures, tmp_path, monkeypatch):
        """The overlay is drawn on what was read."""
        from vlad.cli.results import ResultWriter

        here = tmp_path / "0.png"
        here.write_bytes((pictures / "good" / "000.png").read_bytes())
        original = ResultWriter._add_prediction
        monkeypatch.setattr(
            ResultWriter, "_add_prediction", lambda self, path, *rest: here.unlink(missing_ok=True) or original(self, path, *rest)
        )
        run = vlad("detect", here, pictures / "good", "--out", tmp_path / "out", *options)
        rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open(encoding="utf-8")))
        assert run.returncode == 0 and not any(row["error"] for row in rows) and not here.exists()
        assert len(list((tmp_path / "out").rglob("*_overlay.png"))) == len(rows) == 2

    def test_results_do_not_go_into_a_file(self, options, pictures, tmp_path):
        (tmp_path / "file").write_text("")
        run = vlad("detect", pictures, "--out", tmp_path / "file", *options)
        assert run.returncode == 2 and "--out must be a folder" in run.stderr

    def test_inputs_are_never_overwritten(self, options, golden, tmp_path):
        for name, picture in zip(("000.png", "000_mask.png"), golden.pictures(), strict=False):
            Image.fromarray(picture).save(tmp_path / name)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        run = vlad("detect", tmp_path, "--out", tmp_path, *options)
        assert run.returncode == 2 and "choose a folder that holds none of the pictures" in run.stderr
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_picture_given_twice_is_scored_once(self, options, pictures, monkeypatch):
        monkeypatch.chdir(pictures)
        run = vlad("detect", "good/000.png", pictures / "good" / "000.png", "good", "--no-maps", "--format", "json", *options)
        assert [row["image_path"] for row in json.loads(run.stdout)] == ["good/000.png"]

    def test_one_picture_does_not_end_the_run_for_the_others(self, options, golden, tmp_path):
        folder = tmp_path / "pictures"
        folder.mkdir()
        awkward = ["a" * 245 + ".png", "two\nlines.png", "b.png"]
        if sys.platform == "linux":
            awkward.append(os.fsdecode(b"caf\xe9.png"))
        for name in awkward:
            Image.fromarray(golden.pictures()[0]).save(folder / name)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (2000, 16, 3), dtype=np.uint8)).save(folder / "tall.png")
        run = vlad("detect", folder, "--out", tmp_path / "out", *options)
        rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open(encoding="utf-8", errors="surrogateescape", newline="")))
        assert run.returncode == 0 and len(rows) == len(awkward) + 1 and not any(row["error"] for row in rows)
        assert {Path(row["image_path"]).name for row in rows} == {*awkward, "tall.png"}
        assert (tmp_path / "out" / "tall_overlay.png").exists() and "two\\nlines.png" in run.stdout

    def test_a_crash_is_no_found_anomaly(self, options, pictures, monkeypatch):
        monkeypatch.setattr("vlad.detector.AnomalyDetector.predict_iter", lambda *_, **__: 1 / 0)
        run = vlad("detect", pictures, "--fail-on-anomaly", *options)
        assert run.returncode == 70 and "ZeroDivisionError" in run.stderr

    @pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
    def test_a_reader_that_leaves(self, options, pictures):
        command = shlex.join([*VLAD, "detect", str(pictures), "--format", "csv", *options]) + " | true; exit ${PIPESTATUS[0]}"
        run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=LIMIT, check=False)
        assert run.returncode == 141 and "Traceback" not in run.stderr

    def test_regions_that_were_not_computed_are_not_none(self, options, pictures):
        run = vlad("detect", pictures, "--no-maps", "--format", "csv", *options)
        assert {row["n_regions"] for row in csv.DictReader(io.StringIO(run.stdout))} == {""}

    def test_notes_are_ours_alone_and_the_process_is_left_as_it_was(self, options, pictures, monkeypatch):
        from vlad.detector import AnomalyDetector
        from vlad.errors import VladWarning

        original, before = AnomalyDetector.from_pretrained, warnings.showwarning

        def load(*arguments, **settings):
            warnings.warn("of a library", UserWarning, stacklevel=1)
            warnings.warn("of our own", VladWarning, stacklevel=1)
            return original(*arguments, **settings)

        monkeypatch.setattr(AnomalyDetector, "from_pretrained", load)
        run = vlad("detect", pictures, "--no-maps", *options)
        assert "note: of our own" in run.stderr and "of a library" not in run.stderr
        assert warnings.showwarning is before

    def test_the_fallback_to_lite_is_told_even_to_the_quiet(self, pictures, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        run = vlad("detect", pictures, "-q", "--no-maps")
        assert run.returncode == 0 and "note: model 'auto' falls back to the small embedded model 'lite'" in run.stderr

    def test_nothing_readable(self, tmp_path):
        run = vlad("detect", tmp_path / "nothing.png")
        assert run.returncode == 3 and "nothing.png" in run.stderr and run.stdout == ""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--model", "ViT-B-61"], "did you mean"),
            (["--prompts", "winklip"], "winclip"),
            (["--threshold", "2"], "--threshold"),
            (["--tile", "3"], "--tile"),
            (["--class-name", "{0}"], "class name"),
            (["--format", "xml"], "--format"),
            (["--device", "gpu", "--model", "lite"], "device 'gpu' is unknown"),
            (["--save", "json"], "--save says what goes into --out"),
            (["--save", "mask", "--no-maps", "--out", "new"], "leaves nothing to write without maps"),
            (["--save", "", "--out", "new"], "leaves nothing to write; name json"),
            (["--save", "heat", "--out", "new"], "--save takes overlay, overlay-jpeg, mask, map"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_usage_errors(self, pictures, arguments, message):
        run = vlad("detect", pictures, *arguments)
        assert run.returncode == 2 and message in run.stderr and "Traceback" not in run.stderr

    @pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "kill"])
    def test_an_interrupted_run_keeps_what_it_did(self, options, golden, tmp_path, sign):
        folder = tmp_path / "many"
        folder.mkdir()
        for number in range(400):
            Image.fromarray(golden.pictures()[0]).save(folder / f"{number:04d}.png")
        out = tmp_path / "out"
        command = ("detect", folder, "--out", out, "--batch-size", "1", *options)
        run = start(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        table = out / "results.csv"
        wait_until(lambda: table.exists() and len(table.read_text().splitlines()) > 3, "three results", process=run)
        run.send_signal(sign)
        _, stderr = run.communicate(timeout=LIMIT)
        rows = list(csv.DictReader(table.open(encoding="utf-8")))
        assert run.returncode == 130 and "interrupted" in stderr and "Traceback" not in stderr
        assert 2 < len(rows) < 400 and all(row["pred_score"] for row in rows)
        assert len((out / "results.jsonl").read_text().splitlines()) in (len(rows), len(rows) - 1)
        assert all((out / f"{Path(row['image_path']).stem}_overlay.png").exists() for row in rows)

    def test_a_second_run_into_the_same_folder_is_refused(self, options, pictures, tmp_path):
        with held(tmp_path / "out"):
            (tmp_path / "out" / "results.jsonl").write_text("rows of the first")
            run = vlad("detect", pictures, "--out", tmp_path / "out", *options)
        assert run.returncode == 2 and "out is in use by another process, vlad" in run.stderr and "until then" not in run.stderr
        assert (tmp_path / "out" / "results.jsonl").read_text() == "rows of the first"

    @pytest.mark.parametrize("change", ["removed", "replaced"])
    def test_a_folder_that_is_removed_during_the_run(self, options, pictures, tmp_path, monkeypatch, change):
        from vlad.prediction import Prediction

        save, out = Prediction.save, tmp_path / "out"

        def saved(self, *arguments, **named):
            written = save(self, *arguments, **named)
            if "001" in str(self.image_path):
                shutil.rmtree(out)
                if change == "replaced":
                    out.mkdir()
                    (out / "results.csv").touch()
                    (out / "results.jsonl").touch()
            return written

        monkeypatch.setattr(Prediction, "save", saved)
        run = vlad("detect", pictures, "--out", out, *options)
        assert run.returncode == 74 and "was removed or replaced during the run" in run.stderr, run.stderr
        assert "complete" not in run.stderr and "until then" in run.stderr and "bug" not in run.stderr

    def test_a_verdict_outlives_an_overlay_that_cannot_be_written(self, options, pictures, expected, tmp_path, monkeypatch):
        from vlad.prediction import Prediction

        def full(self, *arguments, **named):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x_overlay.png")

        monkeypatch.setattr(Prediction, "save", full)
        run = vlad("detect", pictures, "--class-name", "metal_nut", "--out", tmp_path, "--format", "csv", *options)
        rows = {row["image_path"]: row for row in csv.DictReader(io.StringIO(run.stdout))}
        assert run.returncode == 3 and {p: float(row["pred_score"]) for p, row in rows.items()} == {
            p: one.pred_score for p, one in expected.items()
        }
        assert all("No space left on device at x_overlay.png" in row["error"] and row["pred_label"] for row in rows.values())
        assert "3 failed" in run.stderr and "s a picture" in run.stderr

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
    def test_a_full_disk_behind_the_shell(self, options, pictures):
        with Path("/dev/full").open("w") as full:
            run = start("detect", pictures, "--format", "csv", *options, stdout=full, stderr=subprocess.PIPE)
            stderr = run.communicate(timeout=LIMIT)[1]
        assert run.returncode == 74 and "No space left on device" in stderr and "Traceback" not in stderr, stderr


@pytest.fixture(scope="module")
def references(golden, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    for number, picture in enumerate(golden.pictures("reference")):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def with_references(model, pictures, references) -> dict[str, object]:
    from vlad import AnomalyDetector, find_images

    paths = find_images([pictures])
    detector = AnomalyDetector.from_pretrained(str(model), device="cpu", dtype="float32", class_name="metal nut").fit(references)
    return dict(zip(map(str, paths), detector.predict(paths), strict=True))


class TestReferences:
    def test_detect(self, options, pictures, references, with_references):
        run = vlad("detect", pictures, "--references", references, "--class-name", "metal nut", "--format", "json", *options)
        lines = {line["image_path"]: line for line in json.loads(run.stdout)}
        assert run.returncode == 0 and "references: 2 pictures" in run.stderr and run.stderr.count("a guess and can be far off") == 1
        assert {path: line["pred_score"] for path, line in lines.items()} == {p: r.pred_score for p, r in with_references.items()}
        assert all(
            (line["threshold_source"], line["threshold"]) == ("references", with_references[p].threshold) for p, line in lines.items()
        )

    def test_fit_then_detect(self, options, pictures, references, with_references, tmp_path):
        run = vlad("fit", references, "--out", tmp_path / "nut", "--class-name", "metal nut", *options)
        assert run.returncode == 0 and "written" in run.stderr, run.stderr
        run = vlad("detect", pictures, "--model", tmp_path / "nut", "--format", "csv", "--out", tmp_path / "out")
        rows = {row["image_path"]: row for row in csv.DictReader(io.StringIO(run.stdout))}
        assert run.returncode == 0 and {p: float(row["pred_score"]) for p, row in rows.items()} == {
            p: r.pred_score for p, r in with_references.items()
        }
        assert {row["threshold_source"] for row in rows.values()} == {"references"}

    def test_unreadable_references(self, options, pictures, references, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"no picture")
        run = vlad("fit", references, tmp_path / "broken.png", "--out", tmp_path / "nut", "--coreset", "0.5", *options)
        assert run.returncode == 3 and "broken.png" in run.stderr and "coreset keeps 36 of 72 tokens" in run.stderr
        assert (tmp_path / "nut" / "config.json").exists()
        run = vlad("fit", tmp_path / "broken.png", tmp_path / "missing", "--out", tmp_path / "none", *options)
        assert run.returncode == 3 and "missing" in run.stderr and not (tmp_path / "none").exists()
        run = vlad("detect", pictures, "--references", tmp_path / "missing", *options)
        assert run.returncode == 3 and "missing" in run.stderr

    def test_watch(self, options, pictures, references, with_references, tmp_path):
        run = vlad(
            "detect", "--watch", pictures / "broken", "--references", references, "--class-name", "metal nut", "--stop-after", "1",
            "--out", tmp_path / "out", *options,
        )  # fmt: skip
        rows = {row["image_path"]: row for row in csv.DictReader((tmp_path / "out" / "results.csv").open(encoding="utf-8"))}
        assert run.returncode == 0 and len(rows) == 2 and len(run.stdout.splitlines()) == 2
        assert all(float(row["pred_score"]) == with_references[path].pred_score for path, row in rows.items())
        assert {path.name for path in (tmp_path / "out").glob("*_overlay.png")} == {"000_overlay.png", "001_overlay.png"}

    def test_watching_again_goes_on(self, options, golden, tmp_path):
        folder, out = tmp_path / "in", tmp_path / "out"
        folder.mkdir()
        for number, picture in enumerate(golden.pictures()):
            Image.fromarray(picture).save(folder / f"{number}.bmp")
        command = ("detect", "--watch", folder, "--stop-after", "0.6", "--out", out, *options)
        assert vlad(*command).returncode == 0
        first = (out / "results.jsonl").read_bytes()
        (folder / "0.bmp").unlink()  # moved away: its row stays
        Image.fromarray(golden.pictures()[0]).save(folder / "1.bmp")  # the name again, with another picture
        (out / "results.jsonl").write_bytes(first + b'{"image_path": "cut o')  # as a kill leaves it
        run = vlad(*command)
        rows = [json.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]
        assert run.returncode == 0 and "3 recorded before" in run.stderr and (out / "results.jsonl").read_bytes().startswith(first)
        assert [Path(row["image_path"]).name for row in rows] == ["0.bmp", "1.bmp", "2.bmp", "1.bmp"]
        assert [row["files"] for row in rows] == ["0", "1", "2", "1~2"] and len({row["time"] for row in rows}) == 4
        assert rows[3]["pred_score"] == rows[0]["pred_score"] != rows[1]["pred_score"]
        assert len(list(out.glob("*_overlay.png"))) == 4
        table = list(csv.DictReader((out / "results.csv").open(encoding="utf-8")))
        assert [row["image_path"] for row in table] == [row["image_path"] for row in rows]
        assert "4 recorded before" in vlad(*command).stderr and len((out / "results.jsonl").read_bytes().splitlines()) == 4

    def test_watching_again_with_other_files_keeps_those_of_before(self, options, golden, tmp_path):
        folder, out = tmp_path / "in", tmp_path / "out"
        folder.mkdir()
        for number, kinds in enumerate(("json", "overlay,map", "overlay")):
            Image.fromarray(golden.pictures()[number]).save(folder / "a.bmp")
            assert vlad("detect", "--watch", folder, "--stop-after", "0.6", "--out", out, "--save", kinds, *options).returncode == 0
        rows = [json.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]
        assert [row["files"] for row in rows] == ["a", "a~2", "a~3"]
        assert {path.name for path in out.glob("a*")} == {"a.json", "a~2_overlay.png", "a~2_map.tiff", "a~3_overlay.png"}

    def test_frames_that_are_recorded_are_passed_over(self, options, tmp_path):
        import cv2

        path = tmp_path / "line.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
        for level in (50, 100, 150):
            writer.write(np.full((48, 64, 3), level, np.uint8))
        writer.release()
        command = ("detect", "--watch", path, "--no-maps", "--out", tmp_path / "out", *options)
        table = tmp_path / "out" / "results.jsonl"
        assert vlad(*command).returncode == 0
        whole = [json.loads(line)["pred_score"] for line in table.read_text().splitlines()]
        table.write_text("".join(f"{line}\n" for line in table.read_text().splitlines()[:2]))
        assert "2 recorded before" in vlad(*command).stderr
        rows = [json.loads(line) for line in table.read_text().splitlines()]
        assert [row["image_path"] for row in rows] == [f"line_{number:06d}" for number in range(3)]
        assert [row["pred_score"] for row in rows] == whole

    def test_a_folder_that_goes_away_is_an_input_that_cannot_be_read(self, options, golden, tmp_path):
        folder, out = tmp_path / "in", tmp_path / "out"
        folder.mkdir()
        Image.fromarray(golden.pictures()[0]).save(folder / "0.png")
        run = start("detect", "--watch", folder, "--out", out, *options, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_until(lambda: (out / "results.jsonl").exists() and (out / "results.jsonl").read_text(), "a row", process=run)
        shutil.rmtree(folder)
        stderr = run.communicate(timeout=LIMIT)[1]
        assert run.returncode == 3 and "in: cannot be watched any more" in stderr and "1 failed" in stderr

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "expected pictures to inspect or --watch, got neither"),
            (["x.png", "--watch", "."], "got both"),
            (["--watch", "nothing.avi", "--model", "lite"], "OpenCV cannot open it"),
            (["--watch", ".", "--out", "results", "--model", "lite"], "lies in the watched folder"),
        ],
    )
    def test_usage(self, arguments, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        run = vlad("detect", *arguments)
        assert run.returncode == 2 and message in run.stderr


class TestOutputNames:
    @pytest.mark.parametrize(
        ("paths", "stems"),
        [
            (["a/1.png", "b/1.png"], ["a/1", "b/1"]),
            (["a/1.png", "a/1.jpg", "a/2.png"], ["1.png", "1.jpg", "2"]),
            (["a/1.png", "a/1.PNG"], ["1.png", "1.PNG~2"]),
            (["x/a/1.png", "x/a/../b/1.png"], ["a/1", "b/1"]),
            (["a/1.png", "a/../../outside/1.png"], None),
            (["a.png", "a.jpg", "a.png.bmp"], ["a.png~2", "a.jpg", "a.png"]),
            (["a.png.bmp", "a.png", "a.jpg"], ["a.png", "a.png~2", "a.jpg"]),
        ],
    )
    def test_never_collide_and_never_leave_the_folder(self, paths, stems):
        found = list(unique_stems([Path(path) for path in paths]).values())
        assert len(set(found)) == len(paths) and not any(".." in stem or stem.startswith("/") for stem in found)
        if stems:
            assert found == stems


class TestOthers:
    def test_help_names_every_command(self):
        run = vlad("--help")
        assert run.returncode == 0 and all(command in run.stdout for command in ("detect", "ask", "checklist", "prompts", "doctor"))

    def test_help_has_examples_and_exit_codes(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "140")
        run = vlad("detect", "--help")
        assert "vlad detect part.png --model winclip --class-name" in run.stdout and "3 some input could not be read" in run.stdout

    def test_version(self):
        import vlad as package

        assert vlad("--version").stdout.strip() == f"vlad {package.__version__}"

    def test_doctor(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setenv("COLUMNS", "200")
        run = vlad("doctor")
        assert run.returncode == 0, run.stdout
        assert "not reachable (HF_HUB_OFFLINE is set)" in run.stdout and str(tmp_path) in run.stdout
        assert "smolvlm2" in run.stdout and "embedded, loads" in run.stdout and run.stdout.count("not here") == 24

    @pytest.mark.parametrize("arguments", [["--help"], ["prompts", "list"]], ids=" ".join)
    def test_light_commands_import_nothing_heavy(self, arguments):
        code = (
            f"import sys; sys.argv = ['vlad', *{arguments!r}]; import vlad.cli\n"
            "try: vlad.cli.main()\nexcept SystemExit: pass\n"
            "print('LOADED', *(m for m in ('torch', 'open_clip', 'timm', 'numpy') if m in sys.modules))"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=True)
        assert run.stdout.splitlines()[-1].strip() == "LOADED"

    def test_import_is_lazy(self):
        code = "import vlad, sys; print(any(m in sys.modules for m in ('torch', 'numpy', 'PIL'))); print(vlad.AnomalyDetector.__name__)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=True)
        assert run.stdout.split() == ["False", "AnomalyDetector"]
