"""The demo as programs meet it: gradio_client, plain HTTP, and those who try what they should not."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the demo needs the extra vlad-anomaly[demo]")

from command import start, vlad
from demo import EXAMPLES, ScriptedVlm, served
from gradio_client import Client, handle_file
from waiting import LIMIT, wait_until

from vlad import AnomalyDetector
from vlad.app.service import Limits

SCRATCH, GOOD = EXAMPLES / "washer_scratch.png", EXAMPLES / "washer_good.png"
REFERENCES = sorted((EXAMPLES / "references" / "washer").iterdir())[:2]


@pytest.fixture(scope="module")
def lite() -> AnomalyDetector:
    return AnomalyDetector.from_pretrained("lite", device="cpu")


@pytest.fixture(scope="module")
def demo(lite):
    with served(lite, limits=Limits(file_bytes=2 * 2**20, pictures=20)) as (address, service):
        yield address, service


@pytest.fixture(scope="module")
def client(demo):
    return Client(demo[0], verbose=False)


def fetch(address: str, *, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body, whatever the status."""
    request = urllib.request.Request(address, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def form(fields: dict[str, str], name: str | None = "part.png", data: bytes = b"") -> dict[str, Any]:
    """A multipart request as any client sends it."""
    parts = [f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode() for key, value in fields.items()]
    if name is not None:
        parts.append(f'--x\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n")
    return {"body": b"".join(parts) + b"--x--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


def test_plain_http_gives_what_python_gives(demo, lite):
    status, _, body = fetch(f"{demo[0]}/v1/detect", **form({"class_name": "washer", "threshold": "0.4"}, data=SCRATCH.read_bytes()))
    expected = lite.predict(SCRATCH, class_name="washer", threshold=0.4).to_dict()
    assert status == 200
    found = json.loads(body)
    assert found.pop("image_path") == "part.png" and found.pop("seconds") > 0
    assert found == {key: value for key, value in expected.items() if key not in ("image_path", "seconds")}
    status, _, body = fetch(f"{demo[0]}/healthz")
    assert status == 200 and json.loads(body)["model"] == lite.model_name


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (form({}, data=b"no picture"), 422, "is none of"),
        (form({}, data=b""), 422, "empty"),
        (form({}, name=None), 422, "image"),
        (form({"threshold": "2"}, data=b"x"), 422, "threshold"),
        (form({"class_name": "x" * 200}, data=SCRATCH.read_bytes()), 400, "at most 100"),
        (form({}, data=b"\0" * (3 * 2**20)), 413, "2 MB"),
    ],
)
def test_bad_requests_get_clear_json(demo, request_, status, reason):
    code, _, body = fetch(f"{demo[0]}/v1/detect", **request_)
    assert code == status and reason in json.loads(body)["error"] and b"Traceback" not in body


def test_a_body_without_a_length_is_cut_off_too(demo):
    def endless():
        yield form({})["body"].removesuffix(b"\r\n--x--\r\n")  # the beginning of a file that does not end
        for _ in range(64):
            yield b"\0" * 2**16

    request = urllib.request.Request(
        f"{demo[0]}/v1/detect", data=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"}, method="POST"
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=LIMIT)
    assert error.value.code == 413 and fetch(f"{demo[0]}/healthz")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "/proc/self/environ", str(Path(__file__).resolve())],
)
@pytest.mark.parametrize("route", ["gradio_api/file=", "file=", "gradio_api/file/", "gradio_api/stream/", ""])
def test_files_of_the_server_stay_there(demo, route, path):
    status, _, body = fetch(f"{demo[0]}/{route}{path}")
    assert status >= 400 or (b"root:" not in body and b"importorskip" not in body and b"PATH=" not in body)
    if route == "gradio_api/file=":
        assert status in (403, 404)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", str(Path(__file__).resolve()), "../../etc/passwd", "http://127.0.0.1:9/x.png", "file:///etc/passwd"]
)
@pytest.mark.parametrize(("endpoint", "several"), [("detect", False), ("detect_batch", True)])
def test_a_path_that_was_never_uploaded_is_refused(demo, path, endpoint, several):
    file = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "part.png"}
    inputs = [[file] if several else file, "", None, None]
    status, _, body = fetch(
        f"{demo[0]}/gradio_api/call/{endpoint}", body=json.dumps({"data": inputs}).encode(), headers={"Content-Type": "application/json"}
    )
    if status == 200:
        _, _, body = fetch(f"{demo[0]}/gradio_api/call/{endpoint}/{json.loads(body)['event_id']}")
        assert b"event: error" in body
    assert b"root:" not in body and b"pred_score" not in body


def test_every_action_is_an_endpoint_and_nothing_else_is(client):
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert set(endpoints["named_endpoints"]) == {
        f"/{name}" for name in ("detect", "heat_map", "detect_batch", "find_painted", "ask", "compare_prompts", "describe_model")
    }
    assert not endpoints["unnamed_endpoints"]


def test_endpoints_give_what_python_gives(client, lite, tmp_path):
    found = client.predict(handle_file(SCRATCH), "washer", None, None, api_name="/detect")
    assert found["pred_score"] == lite.predict(SCRATCH, class_name="washer").pred_score
    fitted = lite.copy().fit(REFERENCES).predict(SCRATCH)
    beside = client.predict(handle_file(SCRATCH), "", None, [handle_file(path) for path in REFERENCES], api_name="/detect")
    assert (beside["pred_score"], beside["threshold"], beside["threshold_source"]) == (fitted.pred_score, fitted.threshold, "references")
    assert lite.memory is None
    drawn = client.predict(handle_file(SCRATCH), "washer", 0.5, None, api_name="/heat_map")
    assert Image.open(drawn).size[0] == 512
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    batch = client.predict([handle_file(path) for path in (GOOD, SCRATCH, bad)], "", None, None, api_name="/detect_batch")
    assert [row["picture"] for row in batch["results"]] == ["washer_scratch.png", "washer_good.png"] and len(batch["failed"]) == 1
    painted = np.array(Image.open(GOOD))
    painted[230:250, 100:160] = 15
    Image.fromarray(painted).save(tmp_path / "painted.png")
    paint = client.predict(handle_file(GOOD), handle_file(tmp_path / "painted.png"), "washer", api_name="/find_painted")
    assert paint["after"]["pred_score"] > paint["before"]["pred_score"]
    answer = client.predict(handle_file(SCRATCH), "Where is it?", "washer", None, api_name="/ask")
    assert answer["verdict"] == "undecided" and answer["defects"] and "A" in answer["text"]
    words = client.predict(handle_file(SCRATCH), "a good {class_name}", "a broken {class_name}", "washer", api_name="/compare_prompts")
    assert words["shipped"]["prompts"] == "winclip" and words["own"]["prompts"] == "sentences"
    assert client.predict(api_name="/describe_model")["model"] == lite.model_name


def test_no_threshold_is_the_references_own_or_none_and_zero_is_zero(client, lite):
    own = client.predict(picture=handle_file(GOOD), api_name="/detect")
    assert (own["threshold"], own["threshold_source"]) == (None, None) and own["undecided"].startswith("one picture")
    for threshold in (0, 1):
        found = client.predict(picture=handle_file(GOOD), threshold=threshold, api_name="/detect")
        assert (found["threshold"], found["threshold_source"], found["pred_label"]) == (threshold, "user", threshold == 0)
    batch = client.predict([handle_file(GOOD)], "", 0, None, api_name="/detect_batch")
    assert batch["summary"] == "1 of 1 inspected, 1 anomalous, 0 normal" and batch["results"][0]["threshold"] == 0
    beside = [handle_file(path) for path in REFERENCES]
    sources = [client.predict(handle_file(GOOD), "", limit, beside, api_name="/detect")["threshold_source"] for limit in (None, 0)]
    assert sources == ["references", "user"]


def test_endpoints_say_what_is_wrong_and_go_on(client, tmp_path):
    bad = tmp_path / "notes.png"
    bad.write_text("no picture")
    with pytest.raises(Exception, match=r"notes\.png: is none of"):
        client.predict(handle_file(bad), "", None, None, api_name="/detect")
    with pytest.raises(Exception, match=r"between 0 and 1|is greater than maximum"):
        client.predict(handle_file(SCRATCH), "", 7, None, api_name="/detect")
    assert client.predict(handle_file(SCRATCH), "", None, None, api_name="/detect")["regions"]


def test_what_breaks_on_the_server_stays_there(demo, client, monkeypatch, caplog):
    monkeypatch.setattr(AnomalyDetector, "predict", lambda *_, **__: 1 / 0)
    with pytest.raises(Exception, match="went wrong on the server") as error:
        client.predict(handle_file(SCRATCH), "", None, None, api_name="/detect")
    assert "division" not in str(error.value) and "division" in caplog.text
    status, _, body = fetch(f"{demo[0]}/v1/detect", **form({}, data=SCRATCH.read_bytes()))
    assert status == 500 and b"division" not in body


def test_mcp_tools_carry_the_docstrings(demo):
    pytest.importorskip("mcp", reason="MCP needs gradio[mcp]")
    status, _, body = fetch(f"{demo[0]}/gradio_api/mcp/schema")
    tools = {tool["name"].rpartition("_detect")[1] or tool["name"]: tool for tool in json.loads(body)}
    assert status == 200 and any("Say whether a picture shows an anomaly" in tool["description"] for tool in tools.values())
    assert len(json.loads(body)) == 7


def test_a_login_guards_page_and_endpoint(lite):
    with served(lite, login=("anna", "secret")) as (address, _):
        request = form({}, data=SCRATCH.read_bytes())
        assert fetch(f"{address}/v1/detect", **request)[0] == 401
        for token, status in (("anna:wrong", 401), ("anna:secret", 200)):
            request["headers"]["Authorization"] = f"Basic {base64.b64encode(token.encode()).decode()}"
            assert fetch(f"{address}/v1/detect", **request)[0] == status
        assert fetch(f"{address}/gradio_api/info")[0] == 401 and fetch(f"{address}/healthz")[0] == 200
        assert b"auth_required" in fetch(address)[2]
        assert fetch(f"{address}/gradio_api/mcp/schema")[0] in (401, 404)  # tools know no login, so there are none


def test_health_is_told_while_many_wait(lite):
    with served(lite, limits=Limits(waiting=50, seconds=LIMIT)) as (address, service), ThreadPoolExecutor(50) as pool:
        with service.turn():
            requests = [pool.submit(fetch, f"{address}/v1/detect", **form({}, data=SCRATCH.read_bytes())) for _ in range(48)]
            wait_until(lambda: len(service._line) == 48, "48 requests waited")
            assert fetch(f"{address}/healthz")[0] == 200 and len(service._line) == 48  # answered while they all still wait
        assert {request.result()[0] for request in requests} == {200}


def test_a_vlm_answers_through_the_endpoint(lite):
    reply = json.dumps({"answer": "A scratch at <b>A</b>.", "judgement": "anomalous", "defects": []})
    vlm = ScriptedVlm(reply)
    vlm.name = "scripted at http://10.0.0.5:8000/v1"
    with served(lite, vlm=vlm) as (address, _):
        client = Client(address, verbose=False)
        answer = client.predict(handle_file(SCRATCH), "What is wrong?", "washer", None, api_name="/ask")
        about = client.predict(api_name="/describe_model")
    assert answer["text"] == "A scratch at <b>A</b>." and answer["model"].startswith("scripted, detector lite")
    assert about["answers"] == "scripted" and "10.0.0.5" not in json.dumps([answer, about])


def test_uploads_go_with_the_server(lite):
    with served(lite) as (address, service):
        Client(address, verbose=False).predict(handle_file(SCRATCH), "", None, None, api_name="/detect")
        cache = Path(os.environ["GRADIO_TEMP_DIR"])
        assert list(cache.rglob("*.png")) and service.folder.is_dir() and not list(service.folder.iterdir())
    assert not cache.exists() and not service.folder.exists()


def test_an_old_upload_is_swept_away(lite, monkeypatch, tmp_path):
    import gradio.route_utils

    sweep, answered = gradio.route_utils.delete_files_created_by_app, threading.Event()

    def sweep_what_was_used(*arguments: Any, **options: Any) -> None:  # a busy machine may need longer for the answer than a file may stay
        answered.wait(LIMIT)
        sweep(*arguments, **options)

    monkeypatch.setattr(gradio.route_utils, "delete_files_created_by_app", sweep_what_was_used)
    monkeypatch.setattr("vlad.app.build._SWEEP", 1)
    Image.open(SCRATCH).resize((200, 200)).save(tmp_path / "mine.png")
    with served(lite, limits=Limits(idle_seconds=1)) as (address, _):
        Client(address, verbose=False).predict(handle_file(tmp_path / "mine.png"), "", None, None, api_name="/detect")
        cache = Path(os.environ["GRADIO_TEMP_DIR"])
        assert list(cache.rglob("mine.png"))
        answered.set()
        wait_until(lambda: not list(cache.rglob("mine.png")), "the upload was swept away")
        assert list(cache.rglob("washer_good.png"))  # the examples stay


def test_the_command_says_where_it_is_and_stops_cleanly(tmp_path):
    log = tmp_path / "log"
    with log.open("w") as file:
        command = ("demo", "--model", "lite", "--device", "cpu", "--port", "0")
        process = start(*command, environment={"TMPDIR": str(tmp_path)}, stderr=file, stdout=file)
    try:
        wait_until(lambda: "http://127.0.0.1:" in log.read_text(), "the address was told", process=process)
        address = next(word for word in log.read_text().split() if word.startswith("http://"))
        assert fetch(f"{address}/healthz")[0] == 200
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(LIMIT)
    assert code == 0 and "Traceback" not in log.read_text() and log.read_text().endswith("uploads are deleted\n"), log.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("vlad")] == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "0.0.0.0"], "lets other machines in"),
        (["--auth", "anna"], "USER:PASSWORD"),
        (["--host", "192.0.2.1", "--allow-public"], "cannot listen"),
    ],
)
def test_the_command_refuses(arguments, reason):
    run = vlad("demo", "--model", "lite", *arguments)
    assert run.returncode == 2 and reason in run.stderr and "Traceback" not in run.stderr


def test_the_command_needs_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    run = vlad("demo")
    assert run.returncode == 2 and "pip install 'vlad-anomaly[demo]'" in run.stderr
