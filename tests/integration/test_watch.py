"""`vlad detect --watch` as a user meets it: a camera in the network that goes away and comes back, a video whose light changes."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from command import start, vlad
from waiting import LIMIT, wait_until


def picture(level: int, seed: int) -> np.ndarray:
    """A coarse surface with noise, uint8 (96, 96, 3)."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(0).normal(0, 12, (12, 12, 1)).repeat(8, 0).repeat(8, 1)
    return np.clip(level + base + rng.normal(0, 3, (96, 96, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def camera():
    """A camera in the network (Motion JPEG over HTTP) that breaks off after every fourth frame; its URL, and how often it was opened."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.opened += 1
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for number in range(4):
                data = cv2.imencode(".jpg", picture(110, number))[1].tobytes()
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(data), data))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.opened = 0
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def rows_of(out: Path) -> list[dict]:
    path = out / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
def test_a_camera_that_goes_away_and_comes_back(camera, tmp_path):
    url, out = f"http://127.0.0.1:{camera.server_port}/line.mjpg", tmp_path / "out"
    run = start("detect", "--watch", url, "--model", "lite", "--out", out, "--save", "json", "--save-video", tmp_path / "run.mkv",
                "--format", "jsonl", stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    try:
        wait_until(lambda: camera.opened >= 3 and len(rows_of(out)) >= 3, "two returns", process=run)
        run.send_signal(signal.SIGUSR1)
        wait_until(lambda: camera.opened >= 5, "two more", process=run)
        paused = len(rows_of(out))
        wait_until(lambda: camera.opened >= 6, "one more", process=run)
        assert len(rows_of(out)) <= paused + 1, "a frame that was under way, no other"
        run.send_signal(signal.SIGUSR2)
        wait_until(lambda: len(rows_of(out)) > paused + 1, "a row after the pause", process=run)
        run.send_signal(signal.SIGTERM)
        stdout, stderr = run.communicate(timeout=LIMIT)
    finally:
        run.kill()
    rows = rows_of(out)
    names = [row["image_path"] for row in rows]
    assert run.returncode == 130 and "interrupted; what was done is complete" in stderr
    assert names == sorted(set(names)) and names[0].startswith("line_0000")
    assert "broke off after" in stderr and "back after" in stderr and "connected again" in stderr and "passed while paused" in stderr
    assert [json.loads(line)["image_path"] for line in stdout.splitlines()] == names
    assert (out / "marked.png").is_file() and cv2.VideoCapture(str(tmp_path / "run.mkv")).read()[0]


def test_a_video_whose_light_changes_half_way(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "line.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 96))
    for number in range(60):
        writer.write(picture(110 if number < 30 else 210, number))
    writer.release()
    out = tmp_path / "out"
    run = vlad("detect", "--watch", tmp_path / "line.avi", "--model", "lite", "--warm-up", "12", "--out", out, "--save", "json")
    rows = rows_of(out)
    assert run.returncode == 0 and len(rows) == 60 and len(run.stdout.splitlines()) == 60
    flags = [row["scores"].get("outlier") for row in rows]
    assert flags[:12] == [None] * 12 and sum(flags[12:30]) <= 1
    assert flags[30:42] == [1.0] * 12 and sum(flags[42:]) <= 2, "after twelve in a row the stream is another"
    assert "the stream is another since 12 pictures before line_000041" in run.stderr and "drift at line_0000" in run.stderr
    assert run.stdout.splitlines()[35].endswith("  outlier") and "outliers" in run.stderr
    assert rows[35]["scores"]["outlier_distance"] > rows[35]["scores"]["outlier_limit"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["IMAGE", "--save-video", "a.mp4"], "--save-video: only with --watch"),
        (["IMAGE", "--stop-after", "3", "--reconnect-for", "1"], "--stop-after, --reconnect-for: only with --watch"),
        (["--watch", "FOLDER", "--save-video", "a.mp4", "--no-maps"], "--save-video shows the maps"),
        (["--watch", "FOLDER", "--save-video", "FOLDER/a.mp4"], "lies in the watched folder"),
        (["--watch", "FOLDER", "--save-video", "a.gif", "--stop-after", "0"], "must end in .mp4, .mkv, .avi, .webm"),
        (["--watch", "FOLDER", "--outlier-percentile", "0.3"], "Invalid value for '--outlier-percentile'"),
    ],
)
def test_what_does_not_go_together(options, message, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(110, 0))
    given = [option.replace("FOLDER", str(tmp_path)).replace("IMAGE", str(tmp_path / "a.png")) for option in options]
    run = vlad("detect", *given, "--model", "lite")
    assert run.returncode == 2 and message in " ".join(run.stderr.split())


def test_an_exported_detector_watches(tmp_path):
    pytest.importorskip("onnxruntime")
    from vlad import AnomalyDetector
    from vlad.deploy.exporting import export

    (tmp_path / "in").mkdir()
    for number in range(6):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), picture(110, number))
    good = [picture(110, 100 + number) for number in range(3)]
    AnomalyDetector.from_pretrained("lite", device="cpu", rotations=1).fit(good).save(tmp_path / "model")
    export(AnomalyDetector.load(tmp_path / "model", device="cpu"), tmp_path / "exported")
    out = tmp_path / "out"
    command = ("detect", "--watch", tmp_path / "in", "--model", tmp_path / "exported")
    run = vlad(*command, "--stop-after", "0.5", "--out", out, "--threshold", "0.9", "--warm-up", "4")
    rows = rows_of(out)
    assert run.returncode == 0 and len(rows) == 6 and not any(row["pred_label"] for row in rows), run.stderr
    assert {row["threshold_source"] for row in rows} == {"user"} and rows[5]["scores"]["outlier"] == 0 and (out / "marked.png").is_file()
