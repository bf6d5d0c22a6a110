"""Untrusted text on a terminal."""

from __future__ import annotations


def printable(text: str, *, one_line: bool = False) -> str:
    """Text without control characters: what a model wrote must not steer the terminal. Line breaks stay, unless `one_line`."""
    return "".join(mark if mark.isprintable() or (mark == "\n" and not one_line) else f"\\x{ord(mark):02x}" for mark in text)
