"""Which VLM a name means. A new kind of backend is one file here and one line in `load_vlm`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vlad.errors import VlmError

if TYPE_CHECKING:
    from vlad.vlm.backends.base import VlmBackend


def load_vlm(name: str | Path | None) -> VlmBackend | None:
    """A backend by name; None, "" and "none" are the describer alone, which is no backend.

    Raises:
        VlmError: nothing is known by that name, or what it needs is not installed.
    """
    if name is not None and not isinstance(name, (str, Path)):
        raise VlmError(f"expected the name of a vision-language model, a URL or None, got {type(name).__name__}")
    text = "" if name is None else str(name).strip()
    if text in ("", "none"):
        return None
    if re.match(r"[\w.-]+:\d+(/|$)", text):
        raise VlmError(f"expected a URL with its scheme, got {text!r}; write http://{text}")
    if re.match(r"https?://", text, re.I):
        from vlad.vlm.backends.server import ServerBackend

        return ServerBackend(text)
    from vlad.vlm.backends.local import LocalBackend

    return LocalBackend(text)
