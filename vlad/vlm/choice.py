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
    if shares := backend.letters(messages, list(options), limits=limits):
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


# A letter that stands for an option: a capital, or a small one that nothing follows; an article A is none ("the answer is A scratch").
_OPTION = (
    r"""["'(\[*]*((?:[B-E]|A(?!\s+(?!because|since|as|and|but|which|for|due|given|based|in|the\b)[a-z]))(?![\w'])"""
    r"""|[a-e](?=["')\]*]*\s*(?:[.,;:!?]|$)))"""
)
_STATED = (
    re.compile(
        r"(?i:\b(?:answer|option|choice)(?:\s+(?:is|would\s+be|must\s+be|should\s+be)\s*:?|\s*[:=])\s*"
        r"(?:(?:certainly|clearly|definitely|most\s+likely|probably|therefore|simply)\s+)?(?:(?:option|letter)\s+)?)" + _OPTION
    ),
    re.compile(r"\b(?i:(?:option|choice|answer|letter)\s+)?" + _OPTION + r"""["')\]*]*\s+(?:is|seems)\s+(?:the\s+)?(?:most\s+)?"""
               r"(?:correct|right|best|true|accurate|answer)"),
    re.compile(r"\bI(?:'d|\s+would|\s+will|'ll)?\s+(?:choose|pick|select|go\s+with|answer)\s+(?:(?i:option|letter)\s+)?" + _OPTION),
    re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*([A-E])"),
    re.compile(r"\*\*\s*(?:(?i:option)\s+)?([A-E])\s*[.):]?\s*\*\*(?!\s+is\s+(?:not|wrong|incorrect))"),
)  # fmt: skip
_ALONE = re.compile(r"""(?i:option|answer|choice|letter)?\s*["'(\[*]*([A-Ea-e])["')\]*]*\s*[.:,;!]?""")
_AT_LINE = re.compile(r"""^["'(\[*]*(?:(?i:option|answer)\s+)?([A-Ea-e])(?:[)\].:]|\s+[-–—])(?=[\s*]|$)""", re.MULTILINE)
_SEVERAL = re.compile(r"""\b[A-E]\.\s*[A-E]\.|\b[A-E]["')\]*]*\s*(?:,|/|or\b|and\b)\s*(?:(?i:option)\s+)?["'(\[*]*[A-E]\b(?!')""")
_SUPPOSED = re.compile(r"(?:^|(?<=[.!?\n]))\s*(?:If|Were|Suppose|Assuming)\b[^.!?\n]*[.!?\n]?")  # a sentence that states nothing
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


def read_strictly(reply: str, options: Mapping[str, str]) -> str | None:
    """The letter of an option that a reply plainly gives, None otherwise: it is all there is, or stands at the beginning as in "B.
    Scratch", or is stated to be the answer, or the reply is or begins with the text of one option. Where several letters are stated, none
    is given; a refusal gives none."""
    text = _SUPPOSED.sub("", _THOUGHT.sub("", reply)).strip()
    if match := _ALONE.fullmatch(text):
        return _of_options(match[1].upper(), options)
    if _SEVERAL.search(text):
        return None
    stated = {match[1].upper() for pattern in _STATED for match in pattern.finditer(text)}
    stated |= {match[1].upper() for match in _AT_LINE.finditer(text)}
    if stated:
        return _of_options(stated.pop(), options) if len(stated) == 1 else None
    named = [letter for letter, option in options.items() if _begins_with(text, option)]
    longest = max((len(options[letter]) for letter in named), default=0)
    best = [letter for letter in named if len(options[letter]) == longest]
    others = [option for letter, option in options.items() if letter not in named and _is_in(text, option)]
    return best[0] if len(best) == 1 and not others else None


def _of_options(letter: str, options: Mapping[str, str]) -> str | None:
    return letter if letter in options else None


def _begins_with(text: str, option: str) -> bool:
    wanted, found = option.strip(" .").casefold(), text.lstrip("\"'*( ").casefold()
    return bool(wanted) and found.startswith(wanted) and found[len(wanted) : len(wanted) + 1] in ("", *".,;:!\n\"')*")


def _is_in(text: str, option: str) -> bool:
    wanted = re.escape(option.strip(" .").casefold())
    return bool(wanted) and re.search(rf"(?<!\w){wanted}(?!\w)", text.casefold()) is not None
