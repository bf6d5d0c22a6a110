"""What belongs to one visitor and to nobody else: references, the current picture, the conversation, files for download."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np

    from vlad.app.service import Service
    from vlad.detector import AnomalyDetector
    from vlad.prediction import Prediction
    from vlad.vlm.inspector import Conversation


@dataclass(eq=False)
class Visit:
    """One visitor.

    Attributes:
        detector: a copy that shares nothing but the weights.
        folder: of files for download.
        name: of the current picture, without suffix.
        picture: uint8 (H, W, 3) RGB, the current one.
        prediction: of the current picture, with its map, so that a threshold can be moved without the model.
        class_name: as typed.
        references: names of the good pictures.
        thumbnails: the good pictures, small.
        conversation: about the current picture.
        example: number of the example that is the current picture; None for one of the visitor's own.
        borrowed: whether the good pictures are an example's and not the visitor's.
        shown: how the browser calls the current picture: the last folder and the name of its file here.
        dropped: the same of the picture that was removed last, and when (of `time.monotonic`).
    """

    detector: AnomalyDetector
    folder: Path
    name: str = "picture"
    picture: np.ndarray | None = field(default=None, repr=False)
    prediction: Prediction | None = field(default=None, repr=False)
    class_name: str = ""
    references: tuple[str, ...] = ()
    thumbnails: tuple[np.ndarray, ...] = field(default=(), repr=False)
    conversation: Conversation | None = field(default=None, repr=False)
    example: int | None = None
    borrowed: bool = False
    shown: str | None = None
    dropped: tuple[str, float] | None = None

    @classmethod
    def begin(cls, service: Service) -> Self:
        """A visitor who has just come. The folder goes with the visitor, however Gradio lets go of it."""
        visit = cls(service.detector.copy(), Path(tempfile.mkdtemp(dir=service.folder)))
        weakref.finalize(visit, shutil.rmtree, visit.folder, ignore_errors=True)
        return visit

    def forget(self) -> None:
        """Delete everything of this visitor."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.picture = self.prediction = self.conversation = None
        self.detector.memory, self.references, self.thumbnails = None, (), ()
