"""Questions about a picture: the describer that needs no vision-language model, and the VLMs that may explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlad.vlm.backends.base import Limits, VlmBackend
    from vlad.vlm.inspector import Detector, Inspector

_last: tuple[str, VlmBackend | None] | None = None  # the backend that was named last, so that no model is loaded twice


def inspector_for(
    detector: Detector,
    *,
    vlm: str | VlmBackend | None = None,
    knowledge: str | Path = "",
    vocabulary: str | Path = "generic",
    limits: Limits | None = None,
    refute: bool = False,
) -> Inspector:
    """The inspector of a detector. A VLM named as before is the one that was loaded before.

    Raises:
        VlmError: there is no such VLM.
        PromptError, ConfigError: vocabulary or knowledge cannot be read, or `refute` lacks a VLM or references.
    """
    from vlad.vlm.backends.base import Limits
    from vlad.vlm.inspector import Inspector

    backend = _named(str(vlm)) if isinstance(vlm, (str, Path)) else vlm
    return Inspector(detector, backend, knowledge=knowledge, vocabulary=vocabulary, limits=limits or Limits(), refute=refute)


def _named(name: str) -> VlmBackend | None:
    from vlad.vlm.backends import load_vlm

    global _last
    if _last is None or _last[0] != name:
        _last = name, load_vlm(name)
    return _last[1]
