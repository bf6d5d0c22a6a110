"""What belongs to one visitor and to nobody else: references, the current picture, the conversation, files for download."""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vlad.app.bench.parts import Shelf
from vlad.app.bench.state import Bench

if TYPE_CHECKING:
    import numpy as np

    from vlad.app.batches import Batch
    from vlad.app.service import Service
    from vlad.detector import AnomalyDetector
    from vlad.prediction import Prediction
    from vlad.vlm.inspector import Conversation


_OF_OTHERS = ("bench", "batch", "sent", "at_work", "passed_over", "lock")  # what no action of the tab Inspect takes back


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
        batch: what was found in the tab Batch, under its own threshold.
        bench: what is on the bench.
        source: path of the current picture's file in this server's cache.
        opacity: with which its heat was drawn last.
        basis: counts what the current result rests on: pictures, good pictures, where to look.
        sent: counts what was sent to the browser of the tab Inspect.
        taken: whether a picture of the bench has just been opened in the tab Inspect.
        at_work: whether an action at the model is going on.
        passed_over: whether another one was passed over meanwhile.
        lock: held by whoever changes what the tab Inspect shows.
    """

    detector: AnomalyDetector
    folder: Path
    bench: Bench = field(repr=False)
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
    batch: Batch | None = field(default=None, repr=False)
    source: str | None = None
    opacity: float | None = None
    basis: int = 0
    sent: int = 0
    taken: bool = False
    at_work: bool = False
    passed_over: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def begin(cls, service: Service) -> Self:
        """A visitor who has just come. The folder goes with the visitor, however Gradio lets go of it."""
        folder = Path(tempfile.mkdtemp(dir=service.folder))
        shelf = Shelf(folder / "parts" if service.workspace is None else service.workspace)
        visit = cls(service.detector.copy(), folder, Bench(shelf, folder / "looked"))
        weakref.finalize(visit, shutil.rmtree, visit.folder, ignore_errors=True)
        return visit

    @property
    def seal(self) -> str:
        """By which a browser is known to show what was sent last."""
        return f"{self.basis}.{self.sent}"

    @contextmanager
    def as_before_if_it_fails(self) -> Iterator[None]:
        """What an action that fails half-way has changed is taken back."""
        before = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _OF_OTHERS}
        try:
            yield
        except BaseException:
            for name, value in before.items():
                setattr(self, name, value)
            raise

    def forget(self) -> None:
        """Delete everything of this visitor."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.bench.stop()
        self.bench.part = self.bench.batch = self.batch = None
        self.picture = self.prediction = self.conversation = None
        self.detector.memory, self.references, self.thumbnails = None, (), ()


class Newcomer:
    """The state of a page that nobody has used yet: the copy that Gradio makes of it for each browser is a `Visit`, one and the same for
    all that this browser asks for, be it at once."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __deepcopy__(self, memo: dict[int, Any]) -> Visit:
        return Visit.begin(self._service)
