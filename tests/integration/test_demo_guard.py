"""The demo as those meet it who should not be let in, or ask for too much; and a proxy, a browser and a client that should."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

pytest.importorskip("gradio", reason="the demo needs the extra vlad-anomaly[demo]")

from demo import EXAMPLES, served
from gradio_client import Client, handle_file
from waiting import LIMIT, wait_until

from vlad import AnomalyDetector
from vlad.app.guard import bodies, sockets
from vlad.app.service import Limits

SCRATCH = EXAMPLES / "washer_scratch.png"
MEGABYTE = 2**20
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def lite() -> AnomalyDetector:
    return AnomalyDetector.from_pretrained("lite", device="cpu")


@pytest.fixture(scope="module")
def demo(lite) -> Iterator[str]:
    with served(lite, limits=Limits(file_bytes=2 * MEGABYTE)) as (address, _):
        yield address


@pytest.fixture
def closed(lite) -> Iterator[str]:
    """A second server, for one test: the folder for uploads is the process's, and the last one's."""
    with served(lite, login=("anna", "secret")) as (address, _):
        yield address


def send(address: str, path: str, *, body: Any = None, method: str | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; headers are named with underlines, and may be any, the host's name too."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=LIMIT)
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, named, encode_chunked=not isinstance(body, bytes))
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def picture(field: str) -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="part.png"\r\n\r\n'.encode()
    return head + SCRATCH.read_bytes() + b"\r\n--x--\r\n"


def join(**values: Any) -> bytes:
    return json.dumps({"data": [None, "", None, None], "fn_index": 0, "session_hash": "s"} | values).encode()


REQUESTS = {
    "detect": ("/v1/detect", picture("image"), FORM),
    "upload": ("/gradio_api/upload", picture("files"), FORM),
    "call": ("/gradio_api/call/detect", join(), JSON),
    "join": ("/gradio_api/queue/join", join(), JSON),
    "cancel": ("/gradio_api/cancel", json.dumps({"session_hash": "s", "fn_index": 0, "event_id": "e"}).encode(), JSON),
    "mcp": (
        "/gradio_api/mcp/",
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode(),
        JSON | {"Accept": "application/json, text/event-stream"},
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize(
    ("stranger", "status"),
    [
        ({"Host": "evil.example:7860"}, 421),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_a_foreign_page_drives_nothing(demo, name, stranger, status):
    path, body, headers = REQUESTS[name]
    assert send(demo, path, body=body, **headers | stranger)[0] == status
    assert send(demo, path, body=body, **headers, Origin=demo)[0] < 400 or name == "join"  # the page itself may


def test_another_name_reads_nothing_either(demo):
    for path in ("/", "/healthz", "/config", "/gradio_api/info"):
        status, _, body = send(demo, path, Host="evil.example:7860")
        assert status == 421 and b"--allow-host NAME" in body and send(demo, path)[0] == 200


def test_a_proxy_keeps_working_by_one_setting(lite):
    proxied = {"Host": "parts.example", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "parts.example"}
    browser = {"Origin": "https://parts.example", "Sec-Fetch-Site": "same-origin"}
    with served(lite, allow_hosts=["parts.example"]) as (address, _):
        status, _, page = send(address, "/", **proxied)
        assert status == 200 and b"https://parts.example" in page
        path, body, headers = REQUESTS["detect"]
        assert send(address, path, body=body, **headers, **proxied, **browser)[0] == 200
        assert send(address, path, body=body, **headers, **proxied, Origin="https://parts.example")[0] == 200  # an older browser
        assert send(address, path, body=body, **headers, **proxied, Origin="https://evil.example")[0] == 403
        assert Client(address, verbose=False).predict(api_name="/describe_model")["model"] == lite.model_name


def test_a_body_that_is_too_long_is_refused_before_anybody_asks_who_sends_it(demo, closed):
    body = b'{"data": ["' + b"x" * (3 * MEGABYTE) + b'"]}'
    for path in ("/gradio_api/queue/join", "/gradio_api/call/detect", "/gradio_api/reset", "/login", "/nowhere"):
        for address in (demo, closed):
            status, _, answer = send(address, path, body=body, **JSON)
            assert status == 413 and "larger than 2 MB" in json.loads(answer)["error"]


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/call/detect"])
def test_a_body_without_a_length_is_counted_as_it_comes(demo, path):
    status, _, answer = send(demo, path, body=(b'{"data": ["' + b"x" * 2**16 for _ in range(80)), **JSON)
    assert status == 413 and "larger than 2 MB" in json.loads(answer)["error"]


def test_a_field_of_an_upload_is_no_way_around(demo):
    field = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\n' + b"x" * (3 * MEGABYTE) + b"\r\n--x--\r\n"
    status, _, answer = send(demo, "/gradio_api/upload", body=field, **FORM)
    assert status == 413 and "beside its files" in json.loads(answer)["error"]


def test_a_body_that_stops_coming_is_given_up(demo, monkeypatch):
    monkeypatch.setattr(bodies, "_PAUSE", 0.1)
    with socket.create_connection(urlsplit(demo).netloc.split(":"), timeout=LIMIT) as sock:
        sock.sendall(
            b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nContent-Type: application/json\r\n\r\n{"
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: loc", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he"])
def test_a_connection_that_says_nothing_is_closed(demo, said, monkeypatch):
    monkeypatch.setattr(sockets, "HEADER_SECONDS", 0.2)
    opened = [socket.create_connection(urlsplit(demo).netloc.split(":"), timeout=LIMIT) for _ in range(20)]
    try:
        for sock in opened:
            sock.sendall(said)
        for sock in opened:
            while True:  # until its end; who never closes it lets this fail at the limit
                try:
                    if not sock.recv(2**16):
                        break
                except ConnectionResetError:
                    break
    finally:
        for sock in opened:
            sock.close()
    assert send(demo, "/healthz")[0] == 200


def test_connections_have_a_limit(lite, monkeypatch):
    monkeypatch.setattr(sockets, "MOST_CONNECTIONS", 4)
    with served(lite) as (address, _):
        opened = [socket.create_connection(urlsplit(address).netloc.split(":"), timeout=LIMIT) for _ in range(4)]
        assert send(address, "/healthz")[0] == 503
        for sock in opened:
            sock.close()
        wait_until(lambda: send(address, "/healthz")[0] == 200, "there was room again")


def test_what_is_described_is_described_to_those_who_logged_in(closed):
    for path in (
        "/openapi.json",
        "/docs",
        "/config",
        *(f"/gradio_api/{name}" for name in ("openapi.json", "info", "app_id", "startup-events")),
    ):
        assert send(closed, path)[0] == 401
    for name in ("cancel", "upload", "join", "call"):
        path, body, headers = REQUESTS[name]
        assert send(closed, path, body=body, **headers)[0] == 401
    assert send(closed, "/gradio_api/reset", body=b'{"event_id": "x"}', **JSON)[0] == 401
    status, _, page = send(closed, "/")
    assert status == 200 and b"auth_required" in page and b"detect_batch" not in page
    assert Client(closed, auth=("anna", "secret"), verbose=False).predict(api_name="/describe_model")["vlad"]
    form = urlencode({"username": "anna", "password": "secret"}).encode()
    status, headers, _ = send(closed, "/login", body=form, Content_Type="application/x-www-form-urlencoded")
    assert status == 200
    cookie = headers["set-cookie"].split(";")[0]
    assert b"detect_batch" in send(closed, "/", Cookie=cookie)[2]
    assert send(closed, "/gradio_api/info", Cookie=cookie)[0] == 200
    assert send(closed, "/gradio_api/cancel", body=REQUESTS["cancel"][1], **JSON, Cookie=cookie)[0] == 200
    assert send(closed, "/openapi.json", Cookie=cookie)[0] == 404


def test_guessing_is_slowed(lite):
    with served(lite, login=("anna", "secret")) as (address, _):
        form = urlencode({"username": "anna", "password": "wrong"}).encode()
        tries = [send(address, "/login", body=form, Content_Type="application/x-www-form-urlencoded") for _ in range(7)]
        assert [status for status, _, _ in tries][:5] == [400] * 5 and tries[-1][0] == 429 and int(tries[-1][1]["retry-after"]) >= 1
        spoofed = send(address, "/v1/detect", body=b"", Authorization="Basic eDp5", X_Forwarded_For="192.0.2.9")
        assert spoofed[0] == 429  # one count for both doors, and no proxy is believed where none was named


@pytest.mark.parametrize(
    "data",
    [
        [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "", None, None],
        [5],
        [None, {"a": 1}, "x", 7],
        [None, "", None, [3]],
        [{"path": 3}, "", None, None],
    ],
)
def test_a_request_that_makes_no_sense_gets_words_and_fills_no_log(demo, data, capfd, caplog):
    status, _, answer = send(demo, "/gradio_api/call/detect", body=json.dumps({"data": data}).encode(), **JSON)
    assert status == 200
    _, _, told = send(demo, f"/gradio_api/call/detect/{json.loads(answer)['event_id']}")
    words = json.loads(told.split(b"data: ")[-1])["error"]
    assert (b"event: error" in told and "/gradio_api/info" in words) or "no picture" in words or "class name" in words.lower()
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("path", "body"),
    [("call/nope", {"data": []}), ("call/v2/nope", {}), ("queue/join", {"data": [], "fn_index": 9999, "session_hash": "s"})],
)
def test_a_name_that_nobody_has_is_not_found(demo, path, body, capfd, caplog):
    status, _, answer = send(demo, f"/gradio_api/{path}", body=json.dumps(body).encode(), **JSON)
    assert status == 404 and "nothing of this name" in json.loads(answer)["error"]
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_what_breaks_inside_gradio_is_json_and_one_line(demo, monkeypatch, capfd, caplog):
    monkeypatch.setattr("gradio.queueing.Queue.push", lambda *_, **__: 1 / 0)
    status, _, answer = send(demo, "/gradio_api/call/detect", body=join(), **JSON)
    assert status == 500 and "went wrong on the server" in json.loads(answer)["error"]
    wait_until(lambda: "ZeroDivisionError" in caplog.text, "it was noted")
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_all_uploads_have_a_limit_and_one_visitor_goes_on(lite):
    with served(lite, limits=Limits(stored_bytes=40 * 2**16)) as (address, _):
        path, body, headers = REQUESTS["upload"]
        statuses = set()
        for number in range(100):
            statuses.add(send(address, path, body=body.replace(b"IEND", b"%04d" % number), **headers)[0])
            if 507 in statuses:
                break
        assert statuses == {200, 507}
        assert send(address, *REQUESTS["detect"][:1], body=REQUESTS["detect"][1], **FORM)[0] == 200  # which keeps nothing


def test_a_client_uploads_and_asks_as_before(demo):
    assert "pred_score" in Client(demo, verbose=False).predict(handle_file(SCRATCH), "washer", None, None, api_name="/detect")
