"""Text from others (file names, models, servers) on a terminal, in a file and in a table."""

from __future__ import annotations

import re

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # the wide ones too, in some languages


def printable(text: str, *, one_line: bool = False) -> str:
    """Text with its control characters escaped: what others wrote must not steer the terminal. Line breaks stay, unless `one_line`."""
    return "".join(mark if mark.isprintable() or (mark == "\n" and not one_line) else _escape(mark) for mark in text)


def _escape(mark: str) -> str:
    return mark.encode("unicode_escape", "surrogatepass").decode()


def inert(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula: what somebody else wrote must not be run by whoever opens the table."""
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def as_utf8(text: str) -> str:
    """Text whose halves of surrogate pairs, as names that are no UTF-8 have them, are spelt out, so that every table takes it and two such
    names stay apart."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def cleaned(text: str) -> str:
    """Text without what could steer a terminal or break a file: control characters except line breaks and tabs, marks that turn the
    direction of writing, halves of surrogate pairs."""
    return _STEERING.sub("", text)
