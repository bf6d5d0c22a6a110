"""Who may come in where a password is asked for, and how often somebody may guess it."""

from __future__ import annotations

import base64
import ipaddress
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import SimpleCookie
from math import ceil

from vlad.app.guard.asgi import App, Message, Receive, Scope, Send, header, refuse

_FREE, _LONGEST, _FORGOTTEN = 5, 300, 3600  # guesses before the first delay; seconds
_MOST_ADDRESSES = 4096
_OPEN = re.compile(r"/|/healthz|/(gradio_api/)?theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/pwa_icon(/\d+)?|/(static|assets)/.+")
_API = re.compile(rb"(window\.gradio_api_info = ).*?(;</script>)", re.DOTALL)
Login = tuple[str, str]


class Guesses:
    """Counts wrong passwords by address: after five of them each next one waits twice as long as the one before, up to five minutes. What
    is counted is forgotten after an hour, or when 4,096 other addresses have guessed since."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Seconds until this address may guess again."""
        count, last = self._counts.get(_network(address), (0, 0.0))
        if count < _FREE:
            return 0
        return max(0, ceil(last + min(2 ** min(count - _FREE, 20), _LONGEST) - self._clock()))

    def failed(self, address: str) -> None:
        """It guessed wrong, or is about to guess: many at once are as many guesses."""
        key, now = _network(address), self._clock()
        count, last = self._counts.pop(key, (0, now))
        self._counts[key] = (count + 1 if now - last < _FORGOTTEN else 1, now)
        if len(self._counts) > _MOST_ADDRESSES:
            self._counts.popitem(last=False)

    def right(self, address: str) -> None:
        """It knows the password."""
        self._counts.pop(_network(address), None)


class Logins:
    """Lets nobody in without the login but to what a browser needs to ask for it."""

    def __init__(self, app: App, login: Login, user_of: Callable[[dict[str, str]], str | None], message: str) -> None:
        """`user_of`: who has logged in with these cookies; `message`: for those who have not."""
        self.app, self.user_of, self.message = app, user_of, message
        self.expected = ":".join(login).encode()
        self.guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        path = str(scope["path"])
        if path.startswith("/v1/"):
            await self._basic(scope, receive, send)
        elif self.user_of(_cookies(scope)) is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif path.rstrip("/") == "/login" and scope["method"] == "POST":
            await self._log_in(scope, receive, send)
        elif _OPEN.fullmatch(path) and scope["method"] in ("GET", "HEAD"):
            await self._front(scope, receive, send) if path == "/" else await self.app(scope, receive, send)
        else:  # as Gradio words it, for its clients
            await refuse(send, 401, "user and password are needed", detail={"error": "Not authenticated", "auth_message": self.message})

    async def _basic(self, scope: Scope, receive: Receive, send: Send) -> None:
        """HTTP basic, before anything of the body is read."""
        address = _address(scope)
        scheme, _, token = (header(scope, b"authorization") or "").partition(" ")
        if scheme.lower() != "basic":
            await refuse(send, 401, "user and password are needed (HTTP basic)", {"WWW-Authenticate": "Basic"})
            return
        if wait := self.guesses.wait(address):
            await _slow_down(send, wait)
            return
        try:
            given = base64.b64decode(token, validate=True)
        except ValueError:
            given = b""
        if secrets.compare_digest(given, self.expected):
            self.guesses.right(address)
            await self.app(scope, receive, send)
            return
        self.guesses.failed(address)
        await refuse(send, 401, "user or password is wrong (HTTP basic)", {"WWW-Authenticate": "Basic"})

    async def _log_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The page's form, which Gradio checks."""
        address = _address(scope)
        if wait := self.guesses.wait(address):
            await _slow_down(send, wait)
            return
        self.guesses.failed(address)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                self.guesses.right(address)
            await send(message)

        await self.app(scope, receive, watched)

    async def _front(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The page that asks for the login, without the description of the endpoints that Gradio writes into it."""
        start: Message = {}
        body = bytearray()

        async def gathered(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                page = _API.sub(rb'\1{"named_endpoints":{},"unnamed_endpoints":{}}\2', bytes(body))
                start["headers"] = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
                if scope["method"] != "HEAD":
                    start["headers"].append((b"content-length", str(len(page)).encode()))
                await send(start)
                await send({"type": "http.response.body", "body": page})

        plain = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        await self.app({**scope, "headers": plain}, receive, gathered)


async def _slow_down(send: Send, wait: int) -> None:
    await refuse(send, 429, f"too many wrong passwords; try again in {wait} s", {"Retry-After": str(wait)}, detail="Too many attempts.")


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown",))[0])


def _network(address: str) -> str:
    """Whoever has one address of IPv6 has its whole network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped is not None:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _cookies(scope: Scope) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header(scope, b"cookie") or "").items()}
    except Exception:  # what no browser sends
        return {}
