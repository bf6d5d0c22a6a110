"""vlad's warnings on a server: for the visitor they concern, or for nobody."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from vlad.errors import VladWarning


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collects vlad's warnings for the visitor instead of the server's log. Warnings are a matter of the whole process: only within a turn,
    or one visitor would read another's."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VladWarning)
        yield notes
    notes += dict.fromkeys(str(item.message) for item in caught if issubclass(item.category, VladWarning))


@contextmanager
def quietly() -> Iterator[None]:
    """Without vlad's warnings; only within a turn, as `noted`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VladWarning)
        yield
