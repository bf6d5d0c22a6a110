"""A coroutine that tidies up even if it is cancelled before it has begun.

Gradio counts a request as running before its task starts, and uncounts it in the task's own `finally`. Cancelled in between (`/cancel`, at
an unlucky moment), it stays counted, and with one at a time at the model nobody ever gets there again.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any


class Begun(Coroutine[Any, Any, Any]):
    """Runs as the coroutine does, but an exception finds it at its first `await`, never before its first line."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine, self._has_begun = coroutine, False

    def send(self, value: Any) -> Any:
        """A coroutine's."""
        self._has_begun = True
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """A coroutine's."""
        if not self._has_begun:
            self.send(None)
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """A coroutine's."""
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()
