"""How much anybody may send, counted as it comes and before anybody asks who sends it; a header is believed only where it says too much."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from vlad.app.guard.asgi import App, Message, Receive, Scope, Send, header, refuse
from vlad.app.guard.parts import Parts
from vlad.app.guard.storage import Storage

WORDS = 2 * 2**20  # of JSON or a form without files; the page's longest, the names of 200 uploaded pictures, takes 0.1 MB
_BESIDE_A_FILE = 2**16  # of a form
_DRAINED, _MOST_DRAINED = 4, 64 * 2**20  # times the limit, and bytes, that are read of a request that is refused
_PAUSE, _LONGEST = 30.0, 600.0  # seconds between two pieces of a body, and for all of it
_GENTLE = {"Connection": "close"}


@dataclass(frozen=True)
class _Rule:
    """What holds for a path: bytes of a body, and whether it goes to the disk as it comes."""

    bytes: int
    to_disk: bool = False


class _Refused(Exception):
    """A body is not read to its end."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason


class Bodies:
    """Ends a request whose body is too long or comes too slowly, or whose like already fill the memory or the disk."""

    def __init__(self, app: App, file_bytes: int, files: int, held_bytes: int, storage: Storage) -> None:
        """
        Args:
            file_bytes: of one file, which another guard or the reader holds to.
            files: in one request that uploads.
            held_bytes: of all requests together that are in memory, or wait for what does the work.
            storage: where uploads go.
        """
        self.app, self.file_bytes, self.files, self.most_held, self.storage = app, file_bytes, files, held_bytes, storage
        self.held = 0

    def _rule(self, scope: Scope) -> _Rule:
        path, kind = str(scope["path"]), header(scope, b"content-type") or ""
        if path == "/gradio_api/upload":
            return _Rule(self.files * (self.file_bytes + _BESIDE_A_FILE), to_disk=True)
        if path.startswith("/v1/") or (path == "/gradio_api/component_server" and kind.startswith("multipart/")):
            return _Rule(self.file_bytes + _BESIDE_A_FILE)
        if path.startswith("/gradio_api/mcp"):  # a tool's pictures come inside the JSON
            return _Rule(2 * self.file_bytes)
        return _Rule(WORDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = _Body(self, self._rule(scope), scope, receive)
        length = header(scope, b"content-length") or "0"
        if length.isdecimal() and int(length[:20]) > request.rule.bytes:
            request.refused = request.too_large()
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if request.refused is None or started:  # else it is what the application makes of our interruption
                started = True
                await send(message)

        try:
            if request.refused is None:
                await self.app(scope, request.receive, answer)
        except Exception:
            if request.refused is None:
                raise
        finally:
            self.held -= request.held
        if request.refused is not None and not started:
            await request.drain()
            headers = _GENTLE | ({"Retry-After": "30"} if request.refused.status == 503 else {})
            await refuse(send, request.refused.status, request.refused.reason, headers)


class _Body:
    """The body of one request, passed on piece by piece. After a refusal the application sees a client that has gone."""

    def __init__(self, bodies: Bodies, rule: _Rule, scope: Scope, receive: Receive) -> None:
        self.bodies, self.rule, self._receive = bodies, rule, receive
        self.refused: _Refused | None = None
        self.seen = self.held = 0
        self._more, self._end = True, time.monotonic() + _LONGEST
        self._parts = Parts(header(scope, b"content-type") or "") if rule.to_disk else None

    def too_large(self) -> _Refused:
        megabytes = self.rule.bytes / 2**20
        return _Refused(413, f"the request is larger than {megabytes:.0f} MB; make it smaller, or send fewer files at once")

    async def receive(self) -> Message:
        """As ASGI's."""
        if self.refused is not None:
            return {"type": "http.disconnect"}
        if not self._more:
            return await self._receive()
        try:
            message = await self._next()
            await self._count(message.get("body", b""))
        except _Refused as refused:
            self.refused = refused
            return {"type": "http.disconnect"}
        return message

    async def _next(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), min(_PAUSE, max(self._end - time.monotonic(), 0.0)))
        except TimeoutError:
            raise _Refused(408, "the request came too slowly; send it again") from None
        self._more = message["type"] == "http.request" and bool(message.get("more_body"))
        return message

    async def _count(self, piece: bytes) -> None:
        self.seen += len(piece)
        if self.seen > self.rule.bytes:
            raise self.too_large()
        if self._parts is None:
            if self.bodies.held + len(piece) > self.bodies.most_held:
                raise _Refused(503, "too much is being sent at once; try again in half a minute")
            self.held += len(piece)
            self.bodies.held += len(piece)
            return
        before = self._parts.files
        self._parts.feed(piece)
        if self._parts.words > WORDS:
            raise _Refused(413, f"the request has more than {WORDS // 2**20} MB beside its files; send files as files")
        if self._parts.files > self.bodies.files:
            raise _Refused(413, f"the request has more than {self.bodies.files} files; send fewer at once")
        if not await self.bodies.storage.take(len(piece), self._parts.files - before):
            raise _Refused(507, "the uploads of all visitors fill the room that there is for them; try again in half an hour")

    async def drain(self) -> None:
        """Read on and keep nothing: who still sends when the answer comes sees a broken connection instead of it. Only so far, though."""
        most, dropped = min(_DRAINED * self.rule.bytes, _MOST_DRAINED), 0
        self._end = min(self._end, time.monotonic() + _PAUSE)
        try:
            while self._more and dropped < most and (self.refused is None or self.refused.status != 408):
                dropped += len((await self._next()).get("body", b""))
        except _Refused:
            return
