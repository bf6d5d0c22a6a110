"""vlad's warnings on a server: for the visitor they concern, or for nobody."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from vlad.app.names import for_visitors
from vlad.errors import VladWarning

_guard, _inside, _filters = threading.Lock(), 0, ExitStack()


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collects vlad's warnings for the visitor instead of the server's log. Warnings are a matter of the whole process: only within a turn,
    or one visitor would read another's."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VladWarning)
        yield notes
    notes += dict.fromkeys(for_visitors(str(item.message)) for item in caught if issubclass(item.category, VladWarning))


@contextmanager
def quietly() -> Iterator[None]:
    """Without vlad's warnings; entered and left only within a turn, as `noted`. Who steps aside in between leaves it as it is: the first in
    switches them off, the last out on again."""
    global _inside
    with _guard:
        if not _inside:
            _filters.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", VladWarning)
        _inside += 1
    try:
        yield
    finally:
        with _guard:
            _inside -= 1
            if not _inside:
                _filters.close()
