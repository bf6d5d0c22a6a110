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
    """The inspector of a detector; asked again for the same, it is the same, so that no model is loaded twice. An edited file is another.

    Raises:
        VlmError: there is no such VLM.
        PromptError, ConfigError: vocabulary or knowledge cannot be read.
    """
    from vlad.vlm.backends import load_vlm
    from vlad.vlm.inspector import Inspector, read_knowledge
    from vlad.vlm.vocabulary import DefectVocabulary

    notes, types = read_knowledge(knowledge), DefectVocabulary.load(vocabulary)
    last_vlm, last = detector._inspector or (object(), None)
    if last is None or not (last_vlm is vlm or (isinstance(vlm, (str, Path)) and last_vlm == vlm)):
        backend = load_vlm(vlm) if vlm is None or isinstance(vlm, (str, Path)) else vlm
    elif last.detector is detector and last.knowledge == notes and last.describer.vocabulary == types:
        return last
    else:
        backend = last.backend
    inspector = Inspector(detector, backend, knowledge=notes, vocabulary=types)
    detector._inspector = vlm, inspector
    return inspector
