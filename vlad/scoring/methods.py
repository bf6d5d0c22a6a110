"""The registry of scoring methods. A new one is a file beside this one with an object `METHOD`, and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vlad.errors import ConfigError

if TYPE_CHECKING:
    from vlad.scoring.base import Method

_HOMES = {  # named, not imported: the command line lists the methods without waiting for torch
    "winclip": "vlad.scoring.association",
    "nearest": "vlad.scoring.nearest",
    "subspace": "vlad.scoring.subspace",
    "gaussian": "vlad.scoring.gaussian",
    "positioned": "vlad.scoring.positioned",
    "histogram": "vlad.scoring.histogram",
}
NAMES = tuple(_HOMES)


def find_method(name: str) -> Method:
    """The scoring method of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _HOMES:
        raise ConfigError(f"scorer must be {listed()}, got {name!r}")
    method: Method = import_module(_HOMES[name]).METHOD
    return method


def listed(*, without_windows: bool = False) -> str:
    """The names in words: 'winclip', 'nearest' or 'subspace'; those that need no windows alone if asked for."""
    names = [repr(name) for name in NAMES if not (without_windows and find_method(name).needs_windows)]
    return f"{', '.join(names[:-1])} or {names[-1]}"
