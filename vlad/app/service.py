"""What all visitors share: one model that nobody changes, one at a time at it, and the limits."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vlad.app.guard.storage import OwnFolder
from vlad.app.notes import quietly
from vlad.errors import VladError

if TYPE_CHECKING:
    from pathlib import Path

    from vlad.app.examples import Example
    from vlad.detector import AnomalyDetector
    from vlad.references import ReferenceMemory
    from vlad.vlm.backends.base import VlmBackend

MODEL_QUEUE, VLM_QUEUE, BATCH_QUEUE = "model", "vlm", "batch"
AT_ONCE = {
    MODEL_QUEUE: 1,
    VLM_QUEUE: 1,
    BATCH_QUEUE: 2,
}  # of a queue; between a batch's pictures others have a turn


KEPT_REFERENCES = 128  # good pictures of a part on a server with a workspace, whose visitors know each other


def without_address(text: str) -> str:
    """Text without the addresses of servers, as visitors may see it."""
    return re.sub(r" at https?://\S+?(?=[,;:]?(\s|$))", "", text)


_MINE = threading.local()  # .turn: the service whose turn this thread has


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """For what needs no model: let others have the turn that this thread has, if it has one, and stand in line again afterwards.

    Raises:
        BusyError: the turn did not come again in time.
    """
    service: Service | None = getattr(_MINE, "turn", None)
    if service is None:
        yield
        return
    _MINE.turn = None
    service._pass_on()
    try:
        yield
    finally:
        service._wait(patiently=True)
        _MINE.turn = service


class BusyError(VladError):
    """Too many want the model at once; the message says to come again."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one visitor may ask for.

    Attributes:
        file_bytes: of one uploaded file.
        pixels: of one picture.
        white_level: white in pictures of 16 bits; see `read_image`.
        pictures: in one batch.
        held_bytes: of all requests together that are being received or wait with what they sent; uploads go to the disk instead.
        stored_bytes: of all uploads and results together.
        unpacked_bytes: of all files in an archive together.
        references: good pictures.
        waiting: requests that wait for the model; more are sent away.
        seconds: that a request waits for its turn.
        reading_seconds: that decoding one picture may take; it is done in another process and holds up nobody at the model.
        batch_seconds: that a batch may take; what is done by then is kept.
        idle_seconds: after which a visitor's pictures, references and answers are deleted.
        visitors: of whom something is kept; the one unseen for longest goes first.
    """

    file_bytes: int = 20 * 2**20
    pixels: int = 25_000_000
    white_level: int | None = None
    pictures: int = 200
    held_bytes: int = 256 * 2**20
    stored_bytes: int = 4 * 2**30
    unpacked_bytes: int = 400 * 2**20
    references: int = 16
    waiting: int = 64
    seconds: float = 60.0
    reading_seconds: float = 30.0
    batch_seconds: float = 600.0
    idle_seconds: int = 1800
    visitors: int = 200


@dataclass
class Service:
    """The shared model and how visitors get at it.

    Attributes:
        detector: never fitted here and never changed; visitors work with copies of it.
        vlm: who explains in the Ask tab; None is the describer.
        limits: of one visitor.
        examples: pictures that can be tried with one click.
        batch: pictures of one product that can be tried as a batch.
        workspace: folder of the parts that all visitors share; None keeps each visitor's own while the visit lasts.
        folder: where files for download are written; deleted with the service.
    """

    detector: AnomalyDetector
    vlm: VlmBackend | None = None
    limits: Limits = field(default_factory=Limits)
    examples: tuple[Example, ...] = ()
    batch: tuple[Path, ...] = ()
    workspace: Path | None = None

    def __post_init__(self) -> None:
        self._guard = threading.Lock()
        self._busy = False
        self._line: deque[threading.Event] = deque()
        self._memories: dict[str, ReferenceMemory | None] = {}
        self._folder = OwnFolder("vlad-demo-")
        self.folder = self._folder.path

    @property
    def model(self) -> str:
        """Names the model, on every page."""
        return self.detector.model_name

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Be the only one at the model, in the order of coming: a batch that asks for its next turn stands behind those who wait.

        Raises:
            BusyError: too many are waiting, or the turn did not come in time.
        """
        self._wait()
        _MINE.turn = self
        try:
            yield
        finally:
            if getattr(_MINE, "turn", None) is self:  # None where stepping aside ended in a BusyError
                _MINE.turn = None
                self._pass_on()

    def _pass_on(self) -> None:
        with self._guard:
            if self._line:
                self._line.popleft().set()  # still busy: the next one has it
            else:
                self._busy = False

    def _wait(self, *, patiently: bool = False) -> None:
        with self._guard:
            if not self._busy:
                self._busy = True
                return
            if len(self._line) >= self.limits.waiting and not patiently:
                raise BusyError("Too many visitors want the model just now; please try again in a minute.")
            mine = threading.Event()
            self._line.append(mine)
        if mine.wait(self.limits.seconds):
            return
        with self._guard:
            if mine in self._line:
                self._line.remove(mine)
                raise BusyError(f"The model was busy for {self.limits.seconds:.0f} seconds; please try again in a minute.")

    def fit_example(self, detector: AnomalyDetector, example: Example) -> None:
        """Let a visitor's detector remember the example's good pictures. They are looked at once for all visitors: a memory is never
        changed in place, so that sharing it lets nobody see anything of anybody."""
        if example.product not in self._memories:
            with self.turn(), quietly():
                fitted = self.detector.copy().fit(list(example.references), class_name=example.class_name)
            self._memories[example.product] = fitted.memory
        detector.memory = self._memories[example.product]

    @property
    def vlm_name(self) -> str:
        """Names the VLM for visitors, without its address, which is no business of theirs; empty for the describer."""
        return "" if self.vlm is None else without_address(self.vlm.name)

    def close(self) -> None:
        """Delete what was written."""
        self._folder.close()
