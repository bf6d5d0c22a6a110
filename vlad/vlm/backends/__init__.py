"""Which VLM a name means. A new kind of backend is one file here and one line in `load_vlm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlad.vlm.backends.base import VlmBackend


def load_vlm(name: str | None) -> VlmBackend | None:
    """A backend by name; None, "" and "none" are the describer alone, which is no backend.

    Raises:
        VlmError: nothing is known by that name, or what it needs is not installed.
    """
    text = "" if name is None else str(name).strip()
    if text in ("", "none"):
        return None
    if text.startswith(("http://", "https://")):
        from vlad.vlm.backends.server import ServerBackend

        return ServerBackend(text)
    from vlad.vlm.backends.local import LocalBackend

    return LocalBackend(text)
