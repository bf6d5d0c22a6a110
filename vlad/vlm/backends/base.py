"""What every backend gives to the inspector, and nothing about how it gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from vlad.untrusted import cleaned


@dataclass(frozen=True)
class Message:
    """One turn of a chat: texts and pictures uint8 (H, W, 3) RGB in reading order."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | np.ndarray, ...]

    @property
    def images(self) -> tuple[np.ndarray, ...]:
        """Its pictures, in order."""
        return tuple(part for part in self.parts if isinstance(part, np.ndarray))


@dataclass(frozen=True)
class Limits:
    """When a reply ends.

    Attributes:
        tokens: most tokens of a reply.
        seconds: most seconds for a reply; what has come by then is kept.
        stop: texts at which a reply ends; they are cut off.
    """

    tokens: int = 512
    seconds: float = 120.0
    stop: tuple[str, ...] = ()


Finish = Literal["stop", "length", "time"]


@dataclass(frozen=True)
class Reply:
    """What a VLM wrote: `finish` says why it ended, "stop" (by itself or at a stop text), "length" or "time". The text is `cleaned`."""

    text: str
    finish: Finish
    seconds: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", cleaned(self.text))


class VlmBackend(Protocol):
    """A vision-language model.

    Attributes:
        most_images: pictures that one chat may hold; None without limit.
    """

    most_images: int | None

    @property
    def name(self) -> str:
        """Names the model for people; every answer carries it."""
        ...

    def identify(self) -> str:
        """`name` once the model is known for sure; may ask a server.

        Raises:
            VlmError: the server does not tell.
        """
        ...

    def chat(
        self,
        messages: Sequence[Message],
        *,
        limits: Limits | None = None,
        schema: dict[str, Any] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Reply:
        """The model's reply.

        Args:
            messages: the chat so far; the last is the user's.
            limits: when the reply ends.
            schema: JSON schema that the reply should follow; a backend that cannot enforce one ignores it.
            on_text: called with each piece of text as it comes.

        Raises:
            VlmError: no reply came; the message says why and what to do.
        """
        ...

    def letters(self, messages: Sequence[Message], letters: Sequence[str], *, limits: Limits | None = None) -> dict[str, float] | None:
        """Probability in [0, 1] of each letter as the first thing the model would say, together 1; None where the backend cannot tell. Of
        the limits the seconds count, where the backend can stop; one pass of a model that runs here is never cut short.

        Raises:
            VlmError: as of `chat`.
        """
        ...
