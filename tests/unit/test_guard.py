"""The guards before the demo, one by one and without a server: names and origins, bodies, logins, storage."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import LIMIT

pytest.importorskip("gradio", reason="the demo needs the extra vlad-anomaly[demo]")

from vlad.app.guard import bodies
from vlad.app.guard.bodies import WORDS, Bodies
from vlad.app.guard.hosts import Hosts, check_names
from vlad.app.guard.logins import Guesses, Logins
from vlad.app.guard.storage import OwnFolder, Storage
from vlad.app.guard.streams import Sessions
from vlad.app.guard.tasks import Begun
from vlad.errors import ConfigError

MEGABYTE = 2**20


class Inner:
    """The application behind a guard: reads everything, and answers with the number of bytes. What it saw is kept."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.seen, self.calls = status, 0, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        while (message := await receive())["type"] == "http.request":
            self.seen += len(message["body"])
            if not message["more_body"]:
                break
        else:
            raise RuntimeError("the client has gone")
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": str(self.seen).encode()})


def ask(
    app: Any, method: str = "GET", path: str = "/", *, body: Iterable[bytes] = (b"",), client: str = "192.0.2.1", **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers of one request; headers are named with underlines. A body that never ends is one of None."""
    pieces, sent = list(body), []

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        if piece is None:
            await asyncio.sleep(LIMIT)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in {"host": "localhost:7860", **headers}.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "client": (client, 5)}
    asyncio.run(app(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]  # one answer, never two
    text = sent[1]["body"]
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], json.loads(text) if text.startswith(b"{") else text, told


# Names and origins


@pytest.mark.parametrize("bound", ["127.0.0.1", "localhost", "::1", "127.0.0.5"])
@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        *((name, True) for name in ("localhost", "localhost:7860", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:7860", "[::1]", "[::1]:7860")),
        *(
            (name, False)
            for name in ("evil.example", "evil.example:7860", "localhost.evil.example", "0.0.0.0:7860", "[::2]:7860", "192.0.2.1")
        ),
        *((name, False) for name in ("", "user@localhost", "localhost:x", "127.0.0.1.", "[::1", "127.0.0.1 evil.example")[:5]),
    ],
)
def test_the_loopback_answers_to_its_own_names(bound, host, is_known):
    if host == "127.0.0.1.":
        is_known = True  # the same name, written in full
    status, body, _ = ask(Hosts(Inner(), bound), host=host)
    assert status == (200 if is_known else 421) and (is_known or "--allow-host NAME" in body["error"])


@pytest.mark.parametrize(
    ("bound", "names", "host", "is_known"),
    [
        ("127.0.0.1", ["parts.example"], "parts.example", True),
        ("127.0.0.1", ["Parts.Example"], "parts.example:443", True),
        ("127.0.0.1", ["parts.example"], "localhost:7860", True),
        ("127.0.0.1", ["parts.example"], "other.parts.example", False),
        ("127.0.0.1", ["*.tunnel.example"], "abc.tunnel.example", True),
        ("127.0.0.1", ["*.tunnel.example"], "tunnel.example", False),
        ("127.0.0.1", ["*.tunnel.example"], "evil-tunnel.example", False),
        ("127.0.0.1", ["*"], "any.example", True),
        ("127.0.0.1", ["2001:db8::1"], "[2001:db8::1]:7860", True),
        ("0.0.0.0", [], "any.example", True),
        ("0.0.0.0", ["parts.example"], "any.example", False),
        ("192.0.2.7", ["parts.example"], "192.0.2.7:7860", True),
    ],
)
def test_further_names_are_let_in_by_one_setting(bound, names, host, is_known):
    assert ask(Hosts(Inner(), bound, names), host=host)[0] == (200 if is_known else 421)


ACTS = [
    ("POST", "/v1/detect"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/mcp/"),
    ("PUT", "/"),
    ("DELETE", "/x"),
    ("POST", "/login"),
]
LISTENS = [("GET", "/gradio_api/queue/data"), ("GET", "/gradio_api/call/detect/1"), ("GET", "/gradio_api/mcp/sse")]


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({}, True),  # a program
        ({"origin": "http://localhost:7860"}, True),
        ({"origin": "http://localhost:7860", "sec_fetch_site": "same-origin"}, True),
        ({"origin": "https://behind.a.proxy", "sec_fetch_site": "same-origin"}, True),  # the browser knows, and no page can say so itself
        ({"origin": "http://localhost:3000"}, False),
        ({"origin": "http://localhost"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://evil.example", "sec_fetch_site": "cross-site"}, False),
        ({"origin": "http://localhost:7860", "sec_fetch_site": "cross-site"}, False),
        ({"origin": "http://localhost:3000", "sec_fetch_site": "same-site"}, False),
        ({"origin": "http://evil.example", "sec_fetch_site": "none"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "none"}, True),  # typed into the browser
    ],
)
@pytest.mark.parametrize(("method", "path"), ACTS + LISTENS)
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_pages_of_others_do_nothing_here(bound, method, path, headers, is_own):
    inner = Inner()
    status, body, _ = ask(Hosts(inner, bound), method, path, **headers)
    assert status == (200 if is_own else 403) and inner.calls == is_own
    assert is_own or "pages of other sites" in body["error"]


def test_links_from_other_pages_lead_here_and_their_scripts_read_nothing():
    guard = Hosts(Inner(), "127.0.0.1")
    assert ask(guard, "GET", "/", sec_fetch_site="cross-site")[0] == 200
    assert ask(guard, "GET", "/", origin="http://evil.example")[0] == 403
    assert ask(guard, "OPTIONS", "/v1/detect", origin="http://evil.example", access_control_request_method="POST")[0] == 403


def test_pages_of_a_name_that_is_let_in_may_act_and_any_name_is_no_pages():
    for origin, status in (("https://parts.example", 200), ("https://parts.example:444", 200), ("https://evil.example", 403)):
        assert (
            ask(Hosts(Inner(), "127.0.0.1", ["parts.example"]), "POST", "/v1/detect", origin=origin, sec_fetch_site="cross-site")[0]
            == status
        )
    assert ask(Hosts(Inner(), "127.0.0.1", ["*"]), "POST", host="a.example", origin="https://evil.example")[0] == 403
    assert ask(Hosts(Inner(), "127.0.0.1", ["*"]), "POST", host="a.example", origin="https://a.example")[0] == 200


@pytest.mark.parametrize(("origin", "is_own"), [(b"http://localhost:7860", True), (b"http://evil.example", False)])
def test_websockets_have_an_origin_too(origin, is_own):
    seen: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    async def send(message: Any) -> None:
        seen.append(message["type"])

    scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"localhost:7860"), (b"origin", origin)]}
    asyncio.run(Hosts(inner, "127.0.0.1")(scope, None, send))
    assert seen == ["websocket.accept" if is_own else "websocket.close"]


@pytest.mark.parametrize("name", ["http://parts.example", "parts.example:80", "", "a b", "par*s.example", "*.", "*example"])
def test_what_is_no_name_is_said(name):
    with pytest.raises(ConfigError, match="is no name of a host"):
        check_names([name])


# Bodies


def guard(inner: Any, *, held: int = 64 * MEGABYTE, room: int = 64 * MEGABYTE, folder: Path | None = None) -> Bodies:
    folder = folder or Path(tempfile.gettempdir(), "vlad-not-there")
    return Bodies(inner, file_bytes=2 * MEGABYTE, files=3, held_bytes=held, storage=Storage([folder], room))


def pieces(size: int, piece: int = 2**16) -> list[bytes]:
    return [bytes(piece)] * (size // piece)


JSON = [
    "/gradio_api/queue/join",
    "/gradio_api/call/detect",
    "/gradio_api/cancel",
    "/login",
    "/",
    "/nowhere",
    "/gradio_api/component_server",
]


@pytest.mark.parametrize("path", JSON)
@pytest.mark.parametrize("length", [{}, {"content_length": "9"}, {"content_length": str(400 * MEGABYTE)}, {"content_length": "9" * 400}])
def test_words_have_a_limit_everywhere_whatever_the_header_says(path, length):
    inner = Inner()
    status, body, headers = ask(guard(inner), "POST", path, body=pieces(400 * MEGABYTE), **length)
    assert status == 413 and "larger than 2 MB" in body["error"] and inner.seen <= WORDS and headers["connection"] == "close"
    assert ask(guard(Inner()), "POST", path, body=pieces(MEGABYTE))[:2] == (200, str(MEGABYTE).encode())


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/v1/detect", 2 * MEGABYTE + 2**16), ("/gradio_api/mcp/", 4 * MEGABYTE), ("/gradio_api/mcp/messages/", 4 * MEGABYTE)],
)
def test_pictures_have_the_limit_of_a_picture(path, limit):
    assert ask(guard(Inner()), "POST", path, body=pieces(limit))[0] == 200
    assert ask(guard(Inner()), "POST", path, body=[*pieces(limit), b"x"])[0] == 413


def test_an_answer_that_has_begun_is_not_given_twice():
    async def hasty(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
        while (await receive())["type"] != "http.disconnect":
            pass

    assert ask(guard(hasty), "POST", "/x", body=pieces(8 * MEGABYTE))[:2] == (200, b"done")


def test_what_all_send_together_has_a_limit_and_is_let_go_again():
    outer = guard(Inner(), held=3 * MEGABYTE)
    outer.held = 2 * MEGABYTE + 1  # another request's
    status, body, headers = ask(outer, "POST", "/x", body=pieces(MEGABYTE))
    assert status == 503 and headers["retry-after"] == "30" and "too much is being sent at once" in body["error"]
    outer.held -= 1
    assert ask(outer, "POST", "/x", body=pieces(MEGABYTE))[0] == 200 and outer.held == 2 * MEGABYTE


def test_a_body_that_stops_coming_is_given_up(monkeypatch):
    monkeypatch.setattr(bodies, "_PAUSE", 0.01)
    status, body, _ = ask(guard(Inner()), "POST", "/x", body=[b"x", None, b"y"])
    assert status == 408 and "too slowly" in body["error"]
    monkeypatch.setattr(bodies, "_PAUSE", LIMIT)
    monkeypatch.setattr(bodies, "_LONGEST", 0.01)
    assert ask(guard(Inner()), "POST", "/x", body=[b"x", None, b"y"])[0] == 408


def upload(*parts: tuple[str | None, int]) -> tuple[list[bytes], str]:
    """A multipart body in pieces and its type; each part has a file name or none, and a size."""
    body = b""
    for name, size in parts:
        kind = f'; filename="{name}"' if name is not None else ""
        body += f'--x\r\nContent-Disposition: form-data; name="files"{kind}\r\n\r\n'.encode() + bytes(size) + b"\r\n"
    body += b"--x--\r\n"
    return [body[start : start + 2**16] for start in range(0, len(body), 2**16)], "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("parts", "status", "reason"),
    [
        ([("a.png", MEGABYTE), ("b.png", 2 * MEGABYTE)], 200, ""),
        ([(None, 3 * MEGABYTE)], 413, "2 MB beside its files"),
        ([("a.png", 9), (None, MEGABYTE), (None, MEGABYTE)], 413, "2 MB beside its files"),
        ([(f"{number}.png", 9) for number in range(4)], 413, "more than 3 files"),
        ([("a.png", 8 * MEGABYTE)], 413, "larger than 6 MB"),
    ],
)
def test_uploads_keep_a_limit_of_their_own(parts, status, reason, tmp_path):
    body, kind = upload(*parts)
    found = ask(guard(Inner(), folder=tmp_path), "POST", "/gradio_api/upload", body=body, content_type=kind)
    assert found[0] == status and (not reason or reason in found[1]["error"])


# Storage


class Writer(Inner):
    """Keeps what comes, as Gradio does."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.file = folder / "tmpnew"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def kept() -> Any:
            message = await receive()
            with self.file.open("ab") as file:
                file.write(message.get("body", b""))
            return message

        await super().__call__(scope, kept, send)


def test_all_uploads_together_have_a_limit(tmp_path):
    old = tmp_path / "old.png"
    old.write_bytes(bytes(3 * MEGABYTE))
    body, kind = upload(("a.png", 2 * MEGABYTE))
    full = guard(Writer(tmp_path), room=4 * MEGABYTE, folder=tmp_path)
    status, answer, _ = ask(full, "POST", "/gradio_api/upload", body=body, content_type=kind)
    assert status == 507 and "fill the room" in answer["error"] and (tmp_path / "tmpnew").stat().st_size <= MEGABYTE
    old.unlink()  # as Gradio sweeps
    assert ask(full, "POST", "/gradio_api/upload", body=body, content_type=kind)[0] == 200


def test_many_small_files_fill_the_room_too(tmp_path):
    full = guard(Inner(), room=MEGABYTE, folder=tmp_path)
    body, kind = upload(("a.png", 1))
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    assert ask(full, "POST", "/gradio_api/upload", body=body, content_type=kind)[0] == 507


def test_an_upload_that_broke_off_is_deleted_when_it_is_old(tmp_path):
    for name, age in (("tmpold", 10_000), ("tmpyoung", 0), ("kept.png", 10_000)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (tmp_path.stat().st_mtime - age,) * 2)
    Storage([tmp_path], MEGABYTE).count()
    assert {path.name for path in tmp_path.iterdir()} == {"tmpyoung", "kept.png"}


_SERVER = """
from vlad.app.guard.storage import OwnFolder
folder = OwnFolder("vlad-uploads-")
(folder.path / "upload.png").write_bytes(b"x")
print(folder.path, flush=True)
input()
"""


@pytest.mark.skipif("not hasattr(__import__('os'), 'fork')", reason="the system has no such locks")
def test_what_a_killed_server_left_goes_at_the_next_start_and_a_living_ones_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    stranger, link = tmp_path / "vlad-uploads-file", tmp_path / "vlad-uploads-link"
    stranger.write_text("no folder")
    (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere")
    process = subprocess.Popen([sys.executable, "-c", _SERVER], stdin=-1, stdout=-1, text=True)
    left = Path(process.stdout.readline().strip())
    first = OwnFolder("vlad-uploads-")
    assert (left / "upload.png").exists()  # its server lives
    process.kill()
    process.communicate(timeout=LIMIT)
    second = OwnFolder("vlad-uploads-")
    assert not left.exists() and first.path.is_dir() and stranger.exists() and link.exists() and (tmp_path / "elsewhere").is_dir()
    first.close()
    del second
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name.startswith((".new", "vlad")) and not path.is_symlink()]


# Logins


class Now:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_guessing_gets_slower_and_is_forgotten():
    clock = Now()
    guesses = Guesses(clock)
    waits = []
    for _ in range(20):
        waits.append(guesses.wait("192.0.2.1"))
        clock.now += waits[-1]
        assert guesses.wait("192.0.2.1") == 0
        guesses.failed("192.0.2.1")
    assert waits[:8] == [0, 0, 0, 0, 0, 1, 2, 4] and waits[-1] == 300 == max(waits)
    assert guesses.wait("192.0.2.1") == 300 and guesses.wait("192.0.2.2") == 0
    clock.now += 3601
    guesses.failed("192.0.2.1")
    assert guesses.wait("192.0.2.1") == 0
    for _ in range(9):
        guesses.failed("192.0.2.1")
    guesses.right("192.0.2.1")
    assert guesses.wait("192.0.2.1") == 0


def test_addresses_are_kept_in_bounded_memory_and_one_network_is_one():
    guesses = Guesses(Now())
    for number in range(20_000):
        guesses.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(guesses._counts) == 4096
    for number in range(9):
        guesses.failed(f"2001:db8:0:1::{number:x}")
    assert guesses.wait("2001:db8:0:1:ffff::7") > 0 and guesses.wait("2001:db8:0:2::1") == 0
    for number in range(9):
        guesses.failed(f"::ffff:192.0.2.{number}")
    assert guesses.wait("::ffff:192.0.2.77") == 0


def door(inner: Any, users: dict[str, str] | None = None) -> Logins:
    return Logins(inner, ("anna", "secret"), lambda cookies: (users or {}).get(cookies.get("token", "")), "Who are you?")


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def guess_with_basic(app: Any, inner: Inner, text: str, client: str) -> int:
    return ask(app, "POST", "/v1/detect", client=client, **basic(text))[0]


def guess_with_form(app: Any, inner: Inner, text: str, client: str) -> int:
    inner.status = 200 if text == "anna:secret" else 400
    return ask(app, "POST", "/login", client=client)[0]


@pytest.mark.parametrize(("guess", "wrong"), [(guess_with_basic, 401), (guess_with_form, 400)])
def test_a_password_is_not_guessed_fast(guess: Callable[..., int], wrong):
    inner = Inner()
    app = door(inner)
    clock = Now()
    app.guesses = Guesses(clock)
    assert [guess(app, inner, f"anna:{number}", "192.0.2.1") for number in range(8)] == [wrong] * 5 + [429] * 3
    assert guess(app, inner, "anna:secret", "192.0.2.1") == 429  # also the right one, or guessing would go on
    status, body, headers = ask(app, "POST", "/login", client="192.0.2.1")
    assert status == 429 and headers["retry-after"] == "1" and "try again in 1 s" in body["error"]
    assert guess(app, inner, "anna:secret", "192.0.2.2") == 200
    clock.now += 1
    assert guess(app, inner, "anna:secret", "192.0.2.1") == 200
    assert guess(app, inner, "anna:wrong", "192.0.2.1") == wrong


def test_no_credentials_are_no_guess():
    app = door(Inner())
    assert {ask(app, "POST", "/v1/detect")[0] for _ in range(20)} == {401}
    assert ask(app, "POST", "/v1/detect", **basic("anna:secret"))[0] == 200


@pytest.mark.parametrize("token", ["", "=", "%%%", "Zm9v", "é".encode("latin-1").decode("latin-1")])
def test_broken_credentials_are_wrong(token):
    assert ask(door(Inner()), "POST", "/v1/detect", authorization=f"Basic {token}")[0] == 401


def test_nothing_is_read_of_a_request_without_a_login():
    inner = Inner()
    for path in ("/v1/detect", "/gradio_api/queue/join", "/gradio_api/upload"):
        assert ask(guard(door(inner)), "POST", path, body=pieces(64 * MEGABYTE))[0] == 401
    assert inner.calls == 0


CLOSED = ["openapi.json", "docs", "redoc", "config", "monitoring", "monitoring/summary", "svelte/x", "logout"]
CLOSED += [
    f"gradio_api/{path}" for path in ("openapi.json", "info", "app_id", "token", "startup-events", "heartbeat/x", "queue/data", "file=x")
]
OPEN = [
    "",
    "healthz",
    "theme.css",
    "gradio_api/theme.css",
    "static/img/logo.svg",
    "assets/index.js",
    "favicon.ico",
    "manifest.json",
    "robots.txt",
]


def test_without_a_login_only_the_door_is_open():
    app = door(Inner(), {"good": "anna"})
    assert {path: ask(app, "GET", f"/{path}")[0] for path in CLOSED} == dict.fromkeys(CLOSED, 401)
    assert {path: ask(app, "GET", f"/{path}")[0] for path in OPEN} == dict.fromkeys(OPEN, 200)
    for path in ("gradio_api/reset", "gradio_api/cancel", "gradio_api/stream/x", "theme.css", "static/../gradio_api/cancel"):
        assert ask(app, "POST", f"/{path}")[0] == 401
        assert ask(app, "POST", f"/{path}", cookie="a=b; token=good")[0] == 200
        assert ask(app, "POST", f"/{path}", cookie="token=bad")[0] == 401
    assert ask(app, "GET", "/config")[1]["detail"] == {"error": "Not authenticated", "auth_message": "Who are you?"}


# Tasks


@pytest.mark.parametrize("wrap", [Begun, lambda coroutine: coroutine])
def test_a_task_that_is_cancelled_before_it_begins_tidies_up(wrap):
    left: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(LIMIT)
        finally:
            left.append("tidy")

    async def main() -> None:
        task = asyncio.create_task(wrap(work()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert left == (["tidy"] if wrap is Begun else [])  # the second is why


def test_the_queue_is_free_after_a_request_that_was_cancelled_before_it_began():
    import gradio

    from vlad.app.build import build_page
    from vlad.app.service import Service

    service = Service(SimpleNamespace(model_name="none", encoder=SimpleNamespace(joint=None), memory=None, decides_alone=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page = build_page(service)
    assert isinstance(page, gradio.Blocks)
    work = page._queue.process_events([], False, 0.0, None)
    assert isinstance(work, Begun)
    work.close()
    service.close()


# Streams


def test_a_browsers_stream_never_runs_out_and_a_programs_does():
    waiting = Sessions()
    waiting["k3v9x0q1a2b"], waiting["1b4e28ba-2fa1-11d2-883f-0016d3cca427"] = set(), set()
    for session, left in (("k3v9x0q1a2b", 1), ("1b4e28ba-2fa1-11d2-883f-0016d3cca427", 0)):
        waiting[session].add("event")
        assert "event" in waiting[session]
        waiting[session].remove("event")
        assert len(waiting[session]) == left, "at zero Gradio ends the stream"


def test_a_browser_that_has_gone_leaves_nothing():
    """As Gradio's `clean_events` tidies up."""
    waiting = Sessions()
    waiting["browser"] = set()
    waiting["browser"].update({"queued", "other"})
    waiting["browser"] -= {"queued"}
    assert waiting["browser"] == {"other"} and len(waiting["browser"]) == 1
    waiting["browser"] -= {"other"}
    if not waiting["browser"]:
        waiting.pop("browser")
    assert "browser" not in waiting
