"""The few words of ASGI that every guard speaks."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def header(scope: Scope, name: bytes) -> str | None:
    """A header by its name in small letters; None if it is not there, or several times, which no honest client sends."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else None


async def refuse(send: Send, status: int, reason: str, headers: dict[str, str] | None = None, **more: Any) -> None:
    """Answer with {"error": reason}."""
    body = json.dumps({"error": reason} | more).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Cache-Control": "no-store"} | (headers or {})
    raw = [(key.lower().encode(), value.encode("latin-1")) for key, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
