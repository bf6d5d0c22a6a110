"""A switch that holds a stream and lets it go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Switch:
    """On at first. While it is off a stream gives no picture: files of a folder and frames of a video wait, those of a camera pass by.

    ::

        switch = Switch()
        for name, frame in Camera("rtsp://camera/line", switch=switch): ...
        switch.pause()  # from another thread, or a signal's handler; switch.resume() goes on
    """

    def __init__(self) -> None:
        self._is_on = threading.Event()
        self._is_on.set()

    def pause(self) -> None:
        """Hold the stream."""
        self._is_on.clear()

    def resume(self) -> None:
        """Let it go on."""
        self._is_on.set()

    @property
    def is_paused(self) -> bool:
        """True between `pause` and `resume`."""
        return not self._is_on.is_set()

    def hold(self) -> bool:
        """Wait while the switch is off; True if it was."""
        was_off = self.is_paused
        while not self._is_on.wait(1):  # a wait without end would take no signal on Windows
            pass
        return was_off


@contextmanager
def on_signals(switch: Switch, tell: Callable[[str], None]) -> Iterator[None]:
    """Inside, SIGUSR1 pauses and SIGUSR2 resumes, where the system has them.

    Args:
        switch: what the signals turn.
        tell: called with what has been done, in words.
    """

    def pause(*_: object) -> None:
        switch.pause()
        tell("paused; SIGUSR2 goes on")

    def resume(*_: object) -> None:
        switch.resume()
        tell("going on")

    wanted: dict[str, Callable[..., None]] = {"SIGUSR1": pause, "SIGUSR2": resume}
    before: dict[signal.Signals, Any] = {}
    with suppress(ValueError):  # not in the main thread, where no handler may be set
        for name, handler in wanted.items():
            if number := getattr(signal, name, None):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
