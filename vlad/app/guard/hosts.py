"""Which names the server answers to, and whose pages may use it.

A page of another site can send requests here from the browser of whoever visits it, and with a name that it lets point to the loopback
(DNS rebinding) even read the answers. Starlette's TrustedHostMiddleware knows names alone, and says nothing of what to do.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from vlad.app.guard.asgi import App, Receive, Scope, Send, header, refuse
from vlad.errors import ConfigError

_HERE = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]\\]+)(?::(\d{1,5}))?", re.IGNORECASE)
_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[?[0-9a-f:.]+\]?", re.IGNORECASE)
_ONLY_ASK = ("GET", "HEAD", "OPTIONS")
_ACT_ALL_THE_SAME = (
    "/gradio_api/queue/",
    "/gradio_api/call/",
    "/gradio_api/mcp",
    "/gradio_api/heartbeat/",
    "/gradio_api/stream/",
    "/logout",
)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names as `Hosts` takes them.

    Raises:
        ConfigError: one is no name of a host.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no name of a host; give one without http:// and port, *.example.com, or * for any")
    return tuple(f"[{name}]" if ":" in name and not name.startswith("[") else name.lower() for name in names)


class Hosts:
    """Refuses requests to other names, and those that pages of other origins make and that do something."""

    def __init__(self, app: App, bound: str, names: Sequence[str] = ()) -> None:
        """`bound`: the address of the socket; `names`: further names, whose own pages may use this server."""
        self.app, self.names = app, check_names(names)
        self.of_here = is_loopback(bound)
        self.is_open = "*" in self.names or not (self.of_here or self.names)
        self.known = (*_HERE, *check_names((bound,)), *self.names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        reason = None
        if scope["type"] in ("http", "websocket"):
            host = header(scope, b"host") or ""
            parsed = _HOST.fullmatch(host)
            if not (self.is_open or (parsed is not None and _matches(parsed[1], self.known))):
                reason = f"this server is not called {parsed[1] if parsed else 'so'}; start it with --allow-host NAME to let it be"
            elif self._acts(scope) and not self._is_own_page(scope, host):
                reason = "pages of other sites may not use this server; start it with --allow-host NAME to let those of NAME"
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refuse(send, 403 if "pages" in reason else 421, reason)

    def _acts(self, scope: Scope) -> bool:
        """Whether it does something, or a script means to read the answer: a browser names the origin then."""
        if scope["type"] == "websocket" or scope["method"] not in _ONLY_ASK or header(scope, b"origin") is not None:
            return True
        return str(scope["path"]).startswith(_ACT_ALL_THE_SAME)

    def _is_own_page(self, scope: Scope, host: str) -> bool:
        """Browsers say what they know of a request, and no page can change it; programs say nothing and are believed."""
        if any(key == b"origin" for key, _ in scope["headers"]) or header(scope, b"sec-fetch-site") not in (None, "none", "same-origin"):
            origin = urlsplit(header(scope, b"origin") or "")
            name = _HOST.fullmatch(origin.netloc)
            if name is not None and origin.scheme in ("http", "https") and _matches(name[1], [one for one in self.names if one != "*"]):
                return True
            if header(scope, b"sec-fetch-site") in (None, "none"):  # an older browser, or no secure connection
                return name is not None and _without_port(origin.netloc) == _without_port(host)
            return header(scope, b"sec-fetch-site") == "same-origin"
        return True


def _without_port(host: str) -> str:
    """Small letters, and no port that is understood."""
    return re.sub(r":(80|443)$", "", host.lower())


def _matches(name: str, known: Sequence[str]) -> bool:
    name = name.lower().removesuffix(".")
    return any(name == one or (one.startswith("*.") and name.endswith(one[1:])) for one in known)
