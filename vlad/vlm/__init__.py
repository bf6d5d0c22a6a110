"""Questions about a picture: the describer that needs no vision-language model, and the VLMs that may explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.vlm.backends.base import Limits, VlmBackend
    from vlad.vlm.inspector import Inspector


def inspector_for(
    detector: AnomalyDetector,
    *,
    vlm: str | VlmBackend | None = None,
    knowledge: str | Path = "",
    vocabulary: str | Path = "generic",
    limits: Limits | None = None,
) -> Inspector:
    """The inspector of a detector; asked again for the same, it is the same, so that no model is loaded twice. An edited file is another.

    Raises:
        VlmError: there is no such VLM.
        PromptError, ConfigError: vocabulary or knowledge cannot be read.
    """
    from vlad.vlm.backends import load_vlm
    from vlad.vlm.backends.base import Limits
    from vlad.vlm.inspector import Inspector, read_knowledge
    from vlad.vlm.vocabulary import DefectVocabulary

    notes, types = read_knowledge(knowledge), DefectVocabulary.load(vocabulary)
    last_vlm, last = detector._inspector or (object(), None)
    limits = limits or Limits()
    if last is None or not (last_vlm is vlm or (isinstance(vlm, (str, Path)) and last_vlm == vlm)):
        backend = load_vlm(vlm) if vlm is None or isinstance(vlm, (str, Path)) else vlm
    elif (last.detector, last.knowledge, last.describer.vocabulary, last.limits) == (detector, notes, types, limits):
        return last
    else:
        backend = last.backend
    inspector = Inspector(detector, backend, knowledge=notes, vocabulary=types, limits=limits)
    detector._inspector = vlm, inspector
    return inspector
