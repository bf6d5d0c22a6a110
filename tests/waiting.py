"""Waiting for what happens, never for a number of seconds: how long anything takes depends on what else the machine does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

LIMIT = 240  # seconds; only ends a test whose event never comes, so it is far above what a machine that is busy eight times over needs


def wait_until(condition: Callable[[], object], what: str, *, process: subprocess.Popen | None = None) -> None:
    """Return when the condition holds. Fails at once, with what was waited for, if the process that should bring it about has ended."""
    end = time.monotonic() + LIMIT
    while not condition():
        has_ended = process is not None and process.poll() is not None
        if has_ended and not condition():  # what it did last counts
            raise AssertionError(f"the process ended with {process.returncode} before {what}")
        if time.monotonic() > end:
            raise AssertionError(f"waited {LIMIT} s for {what}")
        time.sleep(0.01)


class Clock:
    """Stands for the module `time` where the seconds that pass would matter: they pass only while somebody sleeps, and `meanwhile` is
    what happens then."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.now, self.meanwhile = 0.0, meanwhile

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()
