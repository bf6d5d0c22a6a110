"""Errors that no visitor should see and no log needs in full: requests that make no sense fail inside Gradio, each with its traceback."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from vlad.app.guard.asgi import App, Message, Receive, Scope, Send
from vlad.untrusted import printable

_log = logging.getLogger("vlad.app")


def in_short(error: BaseException) -> str:
    """An error on one line, and where it came from."""
    *_, last = traceback.extract_tb(error.__traceback__) or [None]
    place = "" if last is None else f" ({Path(last.filename).name}:{last.lineno})"
    return printable(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}", one_line=True)


class Errors:
    """Logs on one line what was raised after it was answered. What happens at vlad's own endpoint is logged in full."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http" or not started or scope["path"].startswith("/v1/"):
                raise
            _log.error("%s %s: %s", scope["method"], printable(scope["path"][:200], one_line=True), in_short(error))
