"""Questions about a picture: the describer that needs no vision-language model, and the VLMs that may explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.vlm.backends.base import VlmBackend
    from vlad.vlm.inspector import Inspector


def inspector_for(
    detector: AnomalyDetector, *, vlm: str | VlmBackend | None = None, knowledge: str | Path = "", vocabulary: str | Path = "generic"
) -> Inspector:
    """The inspector of a detector; asked again for the same, it is the same, so that no model is loaded twice.

    Raises:
        VlmError: there is no such VLM.
        PromptError, ConfigError: vocabulary or knowledge cannot be read.
    """
    from vlad.vlm.backends import load_vlm
    from vlad.vlm.inspector import Inspector

    key = (vlm, str(knowledge), str(vocabulary))
    last = detector._inspector
    if last is not None and last[0] == key and last[1].detector is detector:
        return last[1]
    backend = load_vlm(vlm) if vlm is None or isinstance(vlm, (str, Path)) else vlm
    inspector = Inspector(detector, backend, knowledge=knowledge, vocabulary=vocabulary)
    detector._inspector = key, inspector
    return inspector
