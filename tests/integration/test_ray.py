"""A local cluster of Ray: the same rows as in one process, also where a worker is killed half-way or the run goes on after a kill."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from command import vlad
from PIL import Image

from vlad import AnomalyDetector
from vlad.cluster.parts import Parts
from vlad.cluster.paths import Paths, source_of
from vlad.errors import ConfigError, ImageReadError
from vlad.together import predict_together

psutil = pytest.importorskip("psutil", reason="psutil is not installed")
ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'vlad-anomaly[ray]')")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
COUNT = 52


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures of a coarse surface, every thirteenth with a dark place, and one file that is no picture."""
    place = tmp_path_factory.mktemp("many")
    base = np.random.default_rng(0).normal(0, 12, (12, 12, 1)).repeat(8, 0).repeat(8, 1)
    for number in range(COUNT):
        picture = np.clip(120 + base + np.random.default_rng(number).normal(0, 4, (96, 96, 3)), 0, 255).astype(np.uint8)
        if number % 13 == 12:
            picture[40:60, 30:50] = 20
        cv2.imwrite(str(place / f"{number:03d}.png"), picture)
    (place / "020.png").write_bytes(b"no picture")
    return place


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=200 * 2**20)
    yield
    ray.shutdown()


def workers(name: str) -> list[psutil.Process]:
    """Those of this process's own cluster."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [process] if name in " ".join(process.cmdline()) else []
    return found


def rows_of(out: Path) -> list[dict]:
    return [row for path in sorted((out / "parts").glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("model") / "surface"
    AnomalyDetector.from_pretrained("lite", device="cpu", rotations=1).fit([folder / f"{number:03d}.png" for number in range(4)]).save(
        place
    )
    return place


@pytest.fixture
def small(monkeypatch):
    """Chunks and blocks of a few pictures, so that there are many."""
    monkeypatch.setattr("vlad.cluster.run.CHUNK", 8)
    monkeypatch.setattr("vlad.cluster.run._LEAST", 16)


def plain(fitted: Path, folder: Path) -> list:
    detector = AnomalyDetector.load(fitted, device="cpu")
    return list(predict_together(detector, sorted(folder.glob("*.png")), on_error="return"))


def test_rows_are_those_of_one_process_bit_for_bit(cluster, small, folder, fitted, tmp_path):
    run = vlad("detect", folder, "--model", fitted, "--engine", "ray", "--workers", "2", "--out", tmp_path, "--device", "cpu")
    rows, expected = rows_of(tmp_path), plain(fitted, folder)
    assert run.returncode == 3 and "020.png" in run.stderr and "1 failed" in run.stderr
    assert [Path(row["image_path"]).name for row in rows] == [f"{number:03d}.png" for number in range(COUNT)]
    for row, one in zip(rows, expected, strict=True):
        if isinstance(one, ImageReadError):
            assert row["pred_score"] is None and row["error"].count("020.png") == 1
        else:
            assert (row["pred_score"], row["threshold"], row["pred_label"]) == (one.pred_score, one.threshold, one.pred_label)
            assert row["threshold_source"] == one.threshold_source and json.loads(row["regions"]) == [r.to_dict() for r in one.regions]
    assert any(row["pred_label"] for row in rows) and "pictures of this run" in rows[0]["threshold_source"]


def test_a_worker_that_is_killed_half_way(cluster, small, folder, fitted, tmp_path):
    from vlad.cluster.run import Cluster, detect

    detector = AnomalyDetector.load(fitted, device="cpu")
    killed: list[int] = []

    def tell(done: int) -> None:
        if killed:
            return
        for process in workers("MapWorker"):
            process.kill()
            killed.append(process.pid)
            return

    parts = Parts(tmp_path, "parquet", {})
    done: list[int] = []
    summary = detect(
        detector, Paths([str(folder)]), parts, Cluster(workers=2, device="cpu"), mutual=False, block=16,
        tell=lambda count: (done.append(count), tell(count)),
    )  # fmt: skip
    assert killed and sum(done) == COUNT and sum(summary.verdicts.values()) == COUNT
    rows = rows_of(tmp_path)
    assert [Path(row["image_path"]).name for row in rows] == [f"{number:03d}.png" for number in range(COUNT)]
    expected = list(detector.predict_iter(sorted(folder.glob("*.png")), on_error="return"))
    assert [row["pred_score"] for row in rows] == [getattr(one, "pred_score", None) for one in expected]


def test_a_run_goes_on_with_what_is_not_there(cluster, small, folder, fitted, tmp_path):
    command = (
        "detect",
        folder,
        "--model",
        fitted,
        "--engine",
        "ray",
        "--out",
        tmp_path,
        "--device",
        "cpu",
        "--no-adapt",
        "--results",
        "csv",
    )
    assert vlad(*command).returncode == 3
    whole = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert sorted(whole) == [f"part-{number:07d}.csv" for number in range(4)]
    (tmp_path / "parts" / "part-0000001.csv").unlink()
    kept = (tmp_path / "parts" / "part-0000000.csv").stat().st_mtime_ns
    run = vlad(*command)
    assert "36 of them recorded before" in run.stderr and (tmp_path / "parts" / "part-0000000.csv").stat().st_mtime_ns == kept
    scores = [row["pred_score"] for row in csv.DictReader((tmp_path / "parts" / "part-0000001.csv").read_text().splitlines())]
    assert scores == [row["pred_score"] for row in csv.DictReader(whole["part-0000001.csv"].decode().splitlines())]
    Image.fromarray(np.full((96, 96, 3), 120, np.uint8)).save(folder / "020.png")  # what could not be read can be read now
    try:
        run = vlad(*command)
        assert run.returncode == 0 and "36 of them recorded before" in run.stderr and "failed" not in run.stderr
        run = vlad(*command, "--fail-on-anomaly")
        assert run.returncode == 1 and "52 of them recorded before" in run.stderr and "0 anomalous" not in run.stderr
    finally:
        (folder / "020.png").write_bytes(b"no picture")
    run = vlad(*command, "--threshold", "0.4")
    assert run.returncode == 2 and "holds a run with another detector.threshold: None, now 0.4" in run.stderr


def test_without_references_a_sample_judges(cluster, small, folder, tmp_path):
    run = vlad("detect", folder, "--model", "lite", "--engine", "ray", "--out", tmp_path, "--device", "cpu")
    rows = rows_of(tmp_path)
    assert "judged by a sample of them" in run.stderr and len(rows) == COUNT
    found = {int(Path(row["image_path"]).stem): row for row in rows if row["pred_score"] is not None}
    bad = {12, 25, 38, 51}
    assert min(found[number]["pred_score"] for number in bad) > max(row["pred_score"] for number, row in found.items() if number not in bad)
    assert all(found[number]["pred_label"] for number in bad) and sum(row["pred_label"] for row in found.values()) <= len(bad) + 2
    assert {row["threshold_source"] for row in rows if row["pred_score"] is not None} == {"mutual"}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_part_takes_names_that_are_no_utf8(tmp_path, kind):
    parts = Parts(tmp_path, kind, {})
    row = {"image_path": "a\udcff.png", "pred_score": 0.5, "pred_label": True, "warnings": ["a\udcff.png: small"], "regions": []}
    parts.write(0, [row, {"image_path": "b.png", "error": "no picture"}])
    assert parts.verdicts(0) == [(True, False), (None, True)] and parts.verdicts(1) is None
    parts.place(0).write_bytes(b"damaged")
    assert not parts.verdicts(0)


class TestPaths:
    def test_folders_lists_and_urls_name_the_same(self, folder, tmp_path):
        import pyarrow as pa

        expected = [str(path) for path in sorted(folder.glob("*.png"))]
        (tmp_path / "list.txt").write_text("\n".join(expected) + "\n\n")
        parquet.write_table(pa.table({"label": [0] * COUNT, "path": expected}), tmp_path / "list.parquet")
        found = [Paths([str(source)]) for source in (folder, tmp_path / "list.txt", tmp_path / "list.parquet")]
        assert all(list(paths) == expected and paths.count == COUNT for paths in found) and len({paths.sha256 for paths in found}) == 1
        urls = list(Paths([f"file://{folder}"]))
        assert urls == [f"file://{path}" for path in expected] and source_of(urls[0]) == Path(expected[0])
        assert list(Paths([f"file://{folder}/00*.png", str(folder / "000.png"), str(folder / "000.png")])) == [*urls[:10], expected[0]]
        (tmp_path / "wide.txt").write_text("\n".join(expected), encoding="utf-16")
        (tmp_path / "spark.parquet").mkdir()
        parquet.write_table(pa.table({"path": expected}), tmp_path / "spark.parquet" / "part-0.parquet")
        assert all(list(Paths([str(tmp_path / name)])) == expected for name in ("wide.txt", "spark.parquet"))
        numbers, blocks = zip(*found[0].blocks(20), strict=True)
        assert numbers == (0, 1, 2) and [len(block) for block in blocks] == [20, 20, 12]
        assert found[0].spread(10) == expected[::6]

    def test_what_names_no_pictures(self, tmp_path):
        import pyarrow as pa

        (tmp_path / "empty.txt").write_text("\n")
        parquet.write_table(pa.table({"label": ["a"]}), tmp_path / "other.parquet")
        parquet.write_table(pa.table({"path": [1]}), tmp_path / "numbers.parquet")
        (tmp_path / "broken.parquet").write_bytes(b"no table")
        for name, kind, message in (
            ("empty.txt", ImageReadError, "no picture is named there"),
            ("other.parquet", ConfigError, "has no column image_path, path, file, url, uri, but label"),
            ("numbers.parquet", ConfigError, "holds what is no text"),
            ("broken.parquet", ConfigError, "cannot be read as a list"),
            ("missing.txt", ConfigError, "cannot be read as a list"),
        ):
            with pytest.raises(kind, match=message):
                Paths([str(tmp_path / name)])
        with pytest.raises(ImageReadError, match="no picture is there"):
            Paths([f"file://{tmp_path}"])
        with pytest.raises(ConfigError, match="nowhere://x: cannot be listed"):
            Paths(["nowhere://x"])
        with pytest.raises(ImageReadError, match=r"memory://gone\.png: cannot be read \(FileNotFoundError"):
            source_of("memory://gone.png")
        import fsspec

        fsspec.filesystem("memory").pipe("/there.png", b"bytes")
        assert source_of("memory://there.png") == b"bytes"

    def test_local_names_are_whole_because_workers_stand_elsewhere(self, folder, tmp_path, monkeypatch):
        monkeypatch.chdir(folder)
        (tmp_path / "list.txt").write_text("000.png\n")
        assert list(Paths(["000.png"])) == list(Paths([str(tmp_path / "list.txt")])) == [str(folder / "000.png")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "ray"], "name a folder with --out"),
        (["--engine", "ray", "--out", "x", "--save", "json"], "--save: not with --engine ray"),
        (["--workers", "2"], "--workers: only with --engine ray"),
        (["--engine", "ray", "--out", "x", "--format", "csv"], "--format: not with --engine ray"),
    ],
)
def test_what_does_not_go_together(options, message, folder):
    run = vlad("detect", folder, "--model", "lite", *options)
    assert run.returncode == 2 and message in run.stderr


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Two categories in MVTec layout."""
    root = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("bracket", "plate")):
        base = np.random.default_rng(seed).normal(0, 12, (12, 12, 1)).repeat(8, 0).repeat(8, 1)
        for place, count in (("train/good", 3), ("test/good", 8), ("test/hole", 8)):
            (root / name / place).mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng((seed, number, len(place)))
                picture = np.clip(120 + base + rng.normal(0, 4, (96, 96, 3)), 0, 255).astype(np.uint8)
                if "hole" in place:
                    picture[40:60, 30:50] = 20
                cv2.imwrite(str(root / name / place / f"{number:03d}.png"), picture)
    return root


def samples_of(out: Path) -> list[dict]:
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_measurement_is_that_of_one_process(cluster, dataset, tmp_path, monkeypatch):
    command = ("eval", dataset, "--model", "lite", "--k-shot", "0,1", "--device", "cpu", "--bootstrap", "0", "--no-report", "--no-maps")
    run = vlad(*command, "--out", tmp_path / "alone")
    assert run.returncode == 0, run.stderr
    killed: list[int] = []

    def kill_one(self, count):
        for process in workers("_Measurer"):
            if not killed:
                process.kill()
                killed.append(process.pid)

    monkeypatch.setattr("tqdm.tqdm.update", kill_one)  # at the first unit that is done
    run = vlad(*command, "--out", tmp_path / "pool", "--engine", "ray", "--workers", "2")
    assert run.returncode == 0 and killed, run.stderr
    assert samples_of(tmp_path / "pool") == samples_of(tmp_path / "alone")
    assert [path.name for path in (tmp_path / "pool").glob("samples*.jsonl")] == ["samples.jsonl"]
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("alone", "pool")]
    assert all(results[0][key] == results[1][key] for key in ("categories", "summary", "settings", "problems"))
