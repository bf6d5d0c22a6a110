"""Connections that are opened and then say nothing: uvicorn waits for the first word, and for the rest of a header, as long as it takes."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
MOST_CONNECTIONS = 512  # with those of open pages, two each; below the 1,024 files that a process may usually open
MOST_HEADER = 2**16  # bytes


class PatientProtocol(H11Protocol):
    """uvicorn's, with an end to its patience while no request is on its way."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Asyncio's; a piece of a header is no reason to wait longer."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """uvicorn's; what follows it waits with a limit of its own, until the next piece comes."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop()
        elif self._end is None and not self.transport.is_closing():
            self._end = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None

    def _give_up(self) -> None:
        self._end = None
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.transport.get_protocol() is self:  # else it has become a websocket
            self.transport.abort()
