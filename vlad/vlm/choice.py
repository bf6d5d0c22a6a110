"""Multiple choice: by the likelihood of the option letters where a backend gives it, else by reading the letter out of what it writes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlad.errors import ConfigError
from vlad.vlm.backends.base import Limits, Message

if TYPE_CHECKING:
    from vlad.vlm.backends.base import VlmBackend

_LETTER = re.compile(r"\b([A-E])\b")


@dataclass(frozen=True)
class Choice:
    """What a VLM chose.

    Attributes:
        letter: of the option, or one that no option has; None if nothing could be made out.
        how: "likelihood", "letter" (the last one in the text), "text" (the closest option) or "none".
        reply: what it wrote; empty with "likelihood".
        shares: probability of each letter, with "likelihood".
    """

    letter: str | None
    how: str
    reply: str = ""
    shares: Mapping[str, float] | None = None


def choose(backend: VlmBackend, messages: Sequence[Message], options: Mapping[str, str], *, limits: Limits | None = None) -> Choice:
    """The option that a VLM takes for right.

    Raises:
        ConfigError: fewer than two options.
        VlmError: no answer came.
    """
    if len(options) < 2:
        raise ConfigError(f"expected at least two options to choose from, got {list(options)}; add the others")
    if shares := backend.letters(messages, list(options)):
        return Choice(max(shares, key=lambda letter: shares[letter]), "likelihood", shares=shares)
    reply = backend.chat(messages, limits=limits or Limits(tokens=64)).text
    letter, how = read_choice(reply, options)
    return Choice(letter, how, reply)


def read_choice(reply: str, options: Mapping[str, str]) -> tuple[str | None, str]:
    """The letter that a reply means, and how it was found: the last standalone capital A to E, else the option whose text is closest (the
    rule of MMAD, arXiv 2410.09453). So an article "A" counts as a letter where no other follows; that flaw is the published rule's."""
    if letters := _LETTER.findall(reply):
        return letters[-1], "letter"
    if not reply.strip():
        return None, "none"
    closest = difflib.get_close_matches(reply, list(options.values()), n=1, cutoff=0.0)
    return next(letter for letter, text in options.items() if text == closest[0]), "text"
