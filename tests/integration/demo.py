"""The demo, served inside the test's process on a free port of the loopback."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from waiting import LIMIT, wait_until

from vlad.vlm.backends.base import Limits, Message, Reply

EXAMPLES = Path(__file__).resolve().parents[2] / "demos" / "examples"


class ScriptedVlm:
    """Says what it was told to say, in pieces."""

    most_images = None
    name = "scripted"

    def __init__(self, reply: str) -> None:
        self.reply = reply

    def chat(
        self,
        messages: Sequence[Message],
        *,
        limits: Limits | None = None,
        schema: dict[str, Any] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Reply:
        for start in range(0, len(self.reply), 7):
            if on_text is not None:
                on_text(self.reply[start : start + 7])
        return Reply(self.reply, "stop", 0.0)

    def letters(self, messages: Sequence[Message], letters: Sequence[str], *, limits: Limits | None = None) -> dict[str, float] | None:
        return None


@contextlib.contextmanager
def served(detector: Any, **options: Any) -> Iterator[tuple[str, Any]]:
    """Address and service of a running demo; `login`, `host` and `allow_hosts` go to the server, `vlm` and `limits` to the service."""
    import uvicorn

    from vlad.app.examples import find_example_batch, find_examples
    from vlad.app.server import configure, create_app, listen, private_cache
    from vlad.app.service import Service

    login = options.pop("login", None)
    server_options = {name: options.pop(name) for name in ("host", "allow_hosts") if name in options}
    service = Service(detector, examples=find_examples(), batch=find_example_batch(), **options)
    with private_cache(), listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        server = uvicorn.Server(configure(create_app(service, login=login, port=port, **server_options)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started or not thread.is_alive(), "the demo started")
        assert server.started, "the demo ended before it started"
        try:
            yield f"http://127.0.0.1:{port}", service
        finally:
            server.should_exit = True
            thread.join(LIMIT)
            service.close()
