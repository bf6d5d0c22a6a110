"""`vlad serve`: many clients, full queues, keys, models that change, a polite end."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("httpx", reason="the client that these tests ask with is not installed")

import httpx
from fastapi.testclient import TestClient

from vlad import AnomalyDetector
from vlad.errors import ConfigError, VladError
from vlad.prediction import Prediction
from vlad.serve.app import ServeLimits, build
from vlad.serve.batching import Batcher, ClosedError, FullError
from vlad.serve.keys import Keys, new_key
from vlad.serve.models import Models, UnknownModelError, named
from vlad.serve.records import Records
from vlad.synthetic import ProductLine

LIMIT = 120
ROOT = Path(__file__).parents[2]


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    line = ProductLine("gear", 3, 160)
    return [*(line.sample(number).image for number in range(3)), line.sample(100, "crack").image]


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory) -> Path:
    detector = AnomalyDetector.from_pretrained("lite", rotations=1, class_name="gear").fit(pictures[:3])
    return detector.save(tmp_path_factory.mktemp("served") / "gear")


def prediction(image: np.ndarray, name: str, threshold: float | None) -> Prediction:
    about = {"class_name": "part", "threshold_source": "user", "mask_threshold": None, "anomaly_map": None, "scores": {}, "prompts": "p"}
    return Prediction(
        image_path=None, image_size=image.shape[:2], pred_score=float(image[0, 0, 0]) / 255, threshold=threshold or 0.5, model=name,
        seconds=0.0, _read=lambda: image, **about,
    )  # fmt: skip


class Fake:
    """A detector whose score is the picture's first value, and which can be held up."""

    def __init__(self, name: str = "fake") -> None:
        self.name, self.batches = name, []
        self.go, self.begun = threading.Event(), threading.Event()
        self.go.set()

    @property
    def model_name(self) -> str:
        return self.name

    def predict(self, images, *, maps=True, threshold=None, on_error="raise"):
        self.batches.append(len(images))
        self.begun.set()
        assert self.go.wait(LIMIT)
        return [prediction(image, self.name, threshold) for image in images]


def flat(value: int, side: int = 20) -> np.ndarray:
    picture = np.full((side, side, 3), 90, np.uint8)
    picture[0, 0] = value
    return picture


def served(fake: Fake, **how) -> TestClient:
    return TestClient(build(Models({"part": Path("none")}, make=lambda _: fake), **how))


class TestAnswers:
    def test_as_predict_says(self, folder, pictures):
        detector = AnomalyDetector.load(folder)
        with TestClient(build(Models({"gear": folder}))) as client:
            files = [("a.png", png(pictures[3])), ("b.txt", b"none"), ("c.png", png(pictures[0]))]
            answer = client.post("/v1/detect", files=[("file", one) for one in files])
            assert answer.status_code == 200 and answer.json()["model"] == "gear"
            bad, none, good = answer.json()["results"]
            expected = detector.predict(pictures[3])
            assert bad["pred_score"] == expected.pred_score and bad["pred_label"] is expected.pred_label and bad["file"] == "a.png"
            assert bad["regions"] == [region.to_dict() for region in expected.regions]
            assert "pred_score" not in none and none["error"].startswith("b.txt: ")
            assert good["pred_score"] == detector.predict(pictures[0]).pred_score
            strict = client.post("/v1/detect", files={"file": ("a.png", png(pictures[3]))}, data={"threshold": "0.0001", "maps": "false"})
            assert strict.json()["results"][0]["pred_label"] is True and strict.json()["results"][0]["threshold_source"] == "user"
            assert client.get("/v1/models").json() == {"models": [{"name": "gear", "is_loaded": True, "problem": None}]}
            assert client.get("/readyz").status_code == 200 and client.get("/healthz").json()["status"] == "ok"
            told = client.get("/metrics").text
            assert 'vlad_pictures_total{model="gear",verdict="anomalous"} 2.0' in told
            assert 'vlad_pictures_total{model="gear",verdict="error"} 1.0' in told
            assert 'vlad_requests_total{status="200"} 2.0' in told and "vlad_loaded_models 1.0" in told
            assert client.get("/openapi.json").json()["paths"]["/v1/detect"]["post"]["responses"]["429"]

    def test_what_is_refused(self):
        limits = ServeLimits(file_bytes=2000, files=2)
        with served(Fake(), limits=limits) as client:
            assert client.post("/v1/detect", files={"file": png(flat(9))}, data={"model": "other"}).status_code == 404
            assert client.post("/v1/detect", json={"url": "http://localhost/x.png"}).status_code == 422, "addresses are not fetched"
            three = client.post("/v1/detect", files=[("file", png(flat(9)))] * 3)
            assert three.status_code == 413 and "3 files are more than 2" in three.json()["detail"]
            (row,) = client.post("/v1/detect", files={"file": ("big.png", b"x" * 3000)}).json()["results"]
            assert row["error"] == "big.png: larger than 2,000 bytes"
            assert client.post("/v1/detect", files={"file": b"x" * 100_000}).status_code == 413
            kind = {"content-type": "multipart/form-data; boundary=a"}
            assert client.post("/v1/detect", content=iter([b"x" * 50_000] * 3), headers=kind).status_code in (400, 413), "without a length"
            assert client.post("/v1/detect", files={"file": png(flat(9))}, data={"threshold": "2"}).status_code == 422
            typo = client.post("/v1/detect", files={"file": png(flat(9))}, data={"treshold": "0.1"})
            assert typo.status_code == 422 and "there is no field 'treshold'" in typo.json()["detail"]
            nameless = client.post("/v1/detect", data={"file": "PNG not a file"})
            assert nameless.status_code == 422 and "not a file" not in nameless.text and "go as files" in nameless.json()["detail"]
        with served(Fake(), limits=ServeLimits(waiting=2)) as client:
            three = client.post("/v1/detect", files=[("file", png(flat(9)))] * 3)
            assert three.status_code == 413 and "3 files are more than 2" in three.json()["detail"], "they would never have a place"

    def test_a_crash_is_counted_and_told_without_its_words(self, monkeypatch, capsys):
        fake = Fake()
        monkeypatch.setattr(fake, "predict", lambda *_, **__: 1 / 0)
        with TestClient(build(Models({"part": Path("none")}, make=lambda _: fake)), raise_server_exceptions=False) as client:
            answer = client.post("/v1/detect", files={"file": png(flat(9))})
            assert answer.status_code == 500 and answer.json() == {"detail": "an internal error; the log of the service has it"}
            assert 'vlad_requests_total{status="500"} 1.0' in client.get("/metrics").text
        assert "ZeroDivisionError" in capsys.readouterr().err

    def test_keys(self, tmp_path):
        key, line = new_key("line_3")
        (tmp_path / "keys.txt").write_text(f"# who may ask\n{line}\n")
        assert key not in line
        with served(Fake(), keys=Keys(tmp_path / "keys.txt")) as client:
            file = {"file": png(flat(9))}
            assert client.post("/v1/detect", files=file).status_code == 401 and client.get("/v1/models").status_code == 401
            assert client.post("/v1/detect", files=file, headers={"Authorization": "Bearer wrong"}).status_code == 401
            assert client.post("/v1/detect", files=file, headers={"Authorization": f"Bearer {key}"}).status_code == 200
            assert client.get("/v1/models", headers={"X-API-Key": key}).status_code == 200 and client.get("/healthz").status_code == 200
        for text, message in (("", "holds no key"), ("line_3 secret", r"keys\.txt:1: expected NAME and 64 hexadecimal digits")):
            (tmp_path / "keys.txt").write_text(text)
            with pytest.raises(ConfigError, match=message):
                Keys(tmp_path / "keys.txt")
        with pytest.raises(ConfigError, match="a key is called by letters"):
            new_key("a b")

    def test_without_a_key_no_body_is_read(self, tmp_path):
        _, line = new_key("a")
        (tmp_path / "keys.txt").write_text(line)
        app = build(Models({"part": Path("none")}, make=lambda _: Fake()), keys=Keys(tmp_path / "keys.txt"))
        sent: list[dict] = []

        async def receive():
            pytest.fail("the body is read")

        async def send(message):
            sent.append(message)

        head = {"type": "http", "method": "POST", "path": "/v1/detect", "query_string": b"", "http_version": "1.1", "scheme": "http"}
        headers = [(b"content-type", b"multipart/form-data; boundary=a"), (b"content-length", b"100000")]
        asyncio.run(app({**head, "headers": headers, "server": ("a", 80), "client": ("b", 1)}, receive, send))
        assert sent[0]["status"] == 401
        app.state.batcher.close()

    def test_a_full_queue_sends_away_and_slow_models_end(self):
        fake = Fake()
        fake.go.clear()
        with served(fake, limits=ServeLimits(waiting=1, batch=1, seconds=30)) as client, ThreadPoolExecutor(8) as pool:
            first = pool.submit(client.post, "/v1/detect", files={"file": png(flat(10))})
            assert fake.begun.wait(LIMIT)
            answers: list[Future] = [pool.submit(client.post, "/v1/detect", files={"file": png(flat(20))}) for _ in range(7)]
            away = next(one.result() for one in as_completed(answers, timeout=LIMIT) if one.result().status_code == 429)
            assert away.headers["retry-after"] == "1" and "ask again" in away.json()["detail"]
            fake.go.set()
            codes = [one.result(LIMIT).status_code for one in [first, *answers]]
            assert set(codes) == {200, 429}
        fake = Fake()
        fake.go.clear()
        with served(fake, limits=ServeLimits(seconds=0.2)) as client:
            assert client.post("/v1/detect", files={"file": png(flat(10))}).status_code == 504
            fake.go.set()


class TestBatching:
    def test_many_clients_and_nothing_mixed(self):
        fake = Fake()
        with served(fake, limits=ServeLimits(waiting=10_000)) as client, ThreadPoolExecutor(16) as pool:
            values = [number % 250 for number in range(160)]
            files = [{"file": png(flat(value, 16 + value % 30))} for value in values]
            answers = list(pool.map(lambda file: client.post("/v1/detect", files=file).json(), files))
        assert not [answer["results"][0]["error"] for answer in answers if "error" in answer["results"][0]]
        assert [round(answer["results"][0]["pred_score"] * 255) for answer in answers] == values
        assert [answer["results"][0]["image_size"] for answer in answers] == [[16 + value % 30] * 2 for value in values]
        assert sum(fake.batches) == 160 and max(fake.batches) > 1

    def test_only_what_belongs_together_goes_together(self):
        seen, go = [], threading.Event()

        def score(model, pictures, options):
            assert go.wait(LIMIT)
            seen.append((model, len(pictures), options))
            return [f"{model} {int(picture[0, 0, 0])}" for picture in pictures]

        batcher = Batcher(score, most=3, waiting=20)
        first = batcher.submit("a", flat(0))
        jobs = [batcher.submit("ab"[number % 2], flat(number), maps=number < 6) for number in range(1, 9)]
        go.set()
        assert first.result(LIMIT) == "a 0"
        assert [job.result(LIMIT) for job in jobs] == [f"{'ab'[number % 2]} {number}" for number in range(1, 9)]
        batcher.close()
        assert all(count <= 3 for _, count, _ in seen) and len(seen) < 9
        with pytest.raises(ClosedError):
            batcher.submit("a", flat(0))

    def test_an_error_is_told_to_those_whom_it_concerns(self):
        def score(model, pictures, options):
            if model == "broken":
                raise VladError("no such thing")
            return [1] * len(pictures)

        batcher = Batcher(score)
        bad, good = batcher.submit("broken", flat(0)), batcher.submit("fine", flat(0))
        with pytest.raises(VladError, match="no such thing"):
            bad.result(LIMIT)
        assert good.result(LIMIT) == 1
        batcher.close()

    def test_the_end_finishes_what_was_accepted(self):
        go = threading.Event()
        batcher = Batcher(lambda *_: [go.wait(LIMIT)], most=1, waiting=5)
        jobs = [batcher.submit("a", flat(number)) for number in range(3)]
        threading.Timer(0.05, go.set).start()
        batcher.close()
        assert [job.result(0) for job in jobs] == [True] * 3

    def test_full(self):
        go, begun = threading.Event(), threading.Event()

        def score(*_):
            begun.set()
            return [go.wait(LIMIT)]

        batcher = Batcher(score, most=1, waiting=1)
        jobs = [batcher.submit("a", flat(0))]
        assert begun.wait(LIMIT)
        jobs.append(batcher.submit("a", flat(0)))
        with pytest.raises(FullError, match="1 pictures wait already"):
            batcher.submit("a", flat(0))
        go.set()
        batcher.close()
        assert all(job.result(0) for job in jobs)


class TestModels:
    def test_loaded_when_asked_for_and_let_go(self, tmp_path):
        made = []
        folders = {name: tmp_path / name for name in "abc"}
        models = Models(folders, most=2, make=lambda folder: made.append(folder.name) or Fake(folder.name))
        assert [models.get(name).model_name for name in "abab"] == list("abab") and made == ["a", "b"]
        models.get("c")
        assert models.held == ["b", "c"]
        models.get("a")
        assert made == ["a", "b", "c", "a"]
        with pytest.raises(UnknownModelError, match="there is no model 'd'; served are a, b, c"):
            models.get("d")

    def test_a_folder_that_changes_is_taken_anew_and_the_old_one_serves_meanwhile(self, tmp_path):
        (tmp_path / "config.json").write_text("1")
        go, began, made = threading.Event(), threading.Event(), []

        def make(folder: Path) -> Fake:
            made.append(1)
            if len(made) == 2:
                began.set()
                assert go.wait(LIMIT)
            if len(made) == 3:
                raise VladError("half written")
            return Fake(str(len(made)))

        models = Models({"a": tmp_path}, make=make)
        assert models.get("a").model_name == "1" and models.get("a").model_name == "1"
        replace(tmp_path / "config.json", "2")
        with ThreadPoolExecutor(1) as pool:
            new = pool.submit(models.get, "a")
            assert began.wait(LIMIT) and models.get("a").model_name == "1"
            go.set()
            assert new.result(LIMIT).model_name == "2"
        assert models.get("a").model_name == "2"
        replace(tmp_path / "config.json", "3")
        assert models.get("a").model_name == "2", "what cannot be loaded replaces nothing"
        assert models.problems == {"a": "half written"}
        assert models.get("a").model_name == "2" and len(made) == 3
        (tmp_path / "memory.safetensors").write_text("the rest of a copy that was under way")
        assert models.get("a").model_name == "4" and models.problems == {}, "any file that changes has it tried again"

    def test_names(self, folder, tmp_path):
        assert named([str(folder), f"other={folder}"]) == {"gear": folder, "other": folder}
        (tmp_path / "shelf" / "empty").mkdir(parents=True)
        shutil.copytree(folder, tmp_path / "shelf" / "bolt")
        assert named([str(tmp_path / "shelf")]) == {"bolt": tmp_path / "shelf" / "bolt"}
        for given, message in (
            ([], "expected at least one folder"),
            ([str(folder), str(folder)], "two models are called 'gear'"),
            ([f"a b={folder}"], "a model is called by letters"),
            ([str(tmp_path)], "holds no detector"),
        ):
            with pytest.raises(ConfigError, match=message):
                named(given)


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


class TestRecords:
    def test_every_result_is_written_and_told_until_it_is_heard(self, tmp_path):
        heard, asked = [], []

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                asked.append(body["file"])
                if len(asked) == 1:
                    self.wfile.write(b"garbage\r\n\r\n")
                    self.close_connection = True
                    return
                if len(asked) == 2:
                    self.send_response(503)
                elif body["file"] == "1.png":
                    self.send_response(400)
                else:
                    heard.append(body["file"])
                    self.send_response(200)
                self.end_headers()
                if len(heard) == 2:
                    all_heard.set()

            def log_message(self, *_) -> None:
                pass

        all_heard = threading.Event()
        server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = tmp_path / "results.sqlite"
        quiet = Records(path)
        quiet.add([{"time": "t", "model": "a", "file": "0.png", "pred_score": 0.5, "pred_label": True}])
        quiet.close()
        records = Records(path, f"http://127.0.0.1:{server.server_port}/")  # what was written before is told as well
        records.add([{"time": "t", "model": "a", "file": f"{number}.png"} for number in (1, 2)])
        assert all_heard.wait(LIMIT)
        records.close()
        server.shutdown()
        assert asked == ["0.png"] * 3 + ["1.png", "2.png"] and heard == ["0.png", "2.png"], "one that is refused for good holds up no other"
        assert records.refused == 1
        with sqlite3.connect(path) as database:
            rows = database.execute("select file, pred_score, pred_label from results order by id").fetchall()
        assert rows == [("0.png", 0.5, 1), ("1.png", None, None), ("2.png", None, None)]
        with pytest.raises(ConfigError, match="a webhook must be an http or https URL"):
            Records(path, "ftp://x")
        with pytest.raises(ConfigError, match="a webhook must be an http or https URL"):
            Records(path, "http://user name:bad port/x")
        path.unlink()
        quiet.add([{"time": "t", "model": "a", "file": "9.png"}])
        with sqlite3.connect(path) as database:
            assert database.execute("select file from results").fetchall() == [("9.png",)], "a file that was moved away is made anew"

    def test_with_the_service(self, tmp_path):
        records = Records(tmp_path / "results.sqlite")
        with served(Fake(), records=records) as client:
            client.post("/v1/detect", files=[("file", ("a.png", png(flat(200)))), ("file", ("b.png", b"none"))])
        with sqlite3.connect(tmp_path / "results.sqlite") as database:
            rows = database.execute("select file, model, pred_label, error is null from results order by id").fetchall()
        assert rows == [("a.png", "part", 1, 1), ("b.png", "part", None, 0)]


def test_the_command_serves_and_ends_politely(folder, pictures, tmp_path):
    """A term under load: what was accepted is answered; and a folder replaced meanwhile is taken."""
    mine = Path(shutil.copytree(folder, tmp_path / "gear"))
    process = subprocess.Popen(
        [sys.executable, "-m", "vlad", "serve", mine, "--port", "0", "--results", tmp_path / "results.sqlite"],
        stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        address = next(found[1] for line in process.stderr if (found := re.search(r"at (http://\S+)", line)))
        with httpx.Client(base_url=address, timeout=LIMIT) as client:
            assert client.get("/readyz").status_code == 200
            file = {"file": ("a.png", png(pictures[3]))}
            (first,) = client.post("/v1/detect", files=file).json()["results"]
            AnomalyDetector.load(mine).copy(threshold=0.999).save(mine)
            (second,) = client.post("/v1/detect", files=file).json()["results"]
            assert (first["pred_label"], second["pred_label"], second["threshold"]) == (True, False, 0.999)
            with ThreadPoolExecutor(6) as pool:
                many = [("file", ("a.png", png(pictures[3])))] * 8
                answers = [pool.submit(client.post, "/v1/detect", files=many) for _ in range(6)]
                while not any(one.done() for one in answers) and "vlad_waiting_pictures 0.0" in client.get("/metrics").text:
                    pass
                process.send_signal(signal.SIGTERM)
                codes = []
                for one in answers:
                    try:
                        codes.append(one.result(LIMIT).status_code)
                    except httpx.ConnectError:  # came after the end began
                        codes.append(0)
        assert process.wait(LIMIT) == 0 and 200 in codes and set(codes) <= {200, 429, 503, 0}
        with sqlite3.connect(tmp_path / "results.sqlite") as database:
            (count,) = database.execute("select count(*) from results").fetchone()
        assert count == 2 + 8 * codes.count(200)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_command_makes_keys_and_refuses(tmp_path):
    run = [sys.executable, "-m", "vlad", "serve"]
    made = subprocess.run([*run, "--new-key", "line_3"], capture_output=True, text=True, cwd=ROOT)
    assert made.returncode == 0 and re.fullmatch(r"line_3 [0-9a-f]{64}\n", made.stdout) and "shown once: " in made.stderr
    none = subprocess.run(run, capture_output=True, text=True, cwd=ROOT)
    assert none.returncode == 2 and "expected at least one folder" in none.stderr
