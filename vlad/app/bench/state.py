"""What one visitor has on the bench: a part, what was found in pictures, corrections, and a threshold that is being tried."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlad.app.batches import Batch, Row
from vlad.app.bench.learning import own_threshold
from vlad.app.bench.parts import Part, Shelf
from vlad.app.uploads import Upload
from vlad.errors import ConfigError

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.references.memory import Reference

ALL, ANOMALOUS, UNSURE, MARKED = "All", "Anomalous", "Unsure", "Corrected"
FILTERS = (ALL, ANOMALOUS, UNSURE, MARKED)
_BUSY = "The bench is still at work; wait until that is done, or press Stop."


@dataclass(eq=False)
class Bench:
    """What one visitor has on the bench.

    Attributes:
        shelf: where parts are kept.
        folder: of the pictures that are looked at, with thumbnails and maps.
        part: the one that is open.
        uploads: the pictures that were looked at last.
        batch: what was found in them.
        judged_by: the detector that found it; another one than the part's means that the part has changed since.
        marks: by the number of a row, whether the visitor calls it good.
        learned: the same of those that the part has learned from.
        picked: number of the row that is shown large.
        moved: the threshold while it is being tried, None for that of the part.
        only: which rows are shown, one of `FILTERS`.
        top: where the slider of the threshold ends.
        leaving: beginning of the hash of the good picture that may be left out.
        packed: a zip file, and the detector that is in it.
        drops: counts how often good pictures were given.
        telling: held while the browser is told what is there.
        sent: number of the last sending to the browser.
        sent_keys: what each piece of the page that was sent depends on.
    """

    shelf: Shelf
    folder: Path
    part: Part | None = None
    uploads: list[Upload] = field(default_factory=list)
    batch: Batch | None = None
    judged_by: AnomalyDetector | None = None
    marks: dict[int, bool] = field(default_factory=dict)
    learned: dict[int, bool] = field(default_factory=dict)
    picked: int | None = None
    moved: float | None = None
    only: str = ALL
    top: float = 0.0
    leaving: str | None = None
    packed: tuple[AnomalyDetector, Path] | None = None
    drops: int = 0
    telling: threading.Lock = field(default_factory=threading.Lock, repr=False)
    sent: int = 0
    sent_keys: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._one = threading.Lock()
        self._stop = threading.Event()

    @contextmanager
    def act(self) -> Iterator[None]:
        """One act at a time.

        Raises:
            ConfigError: another one is at work.
        """
        if not self._one.acquire(blocking=False):
            raise ConfigError(_BUSY)
        self._stop.clear()
        try:
            yield
        finally:
            self._one.release()

    def stop(self) -> None:
        """End the look that is going on after the picture it is at."""
        self._stop.set()

    @property
    def is_at_work(self) -> bool:
        """Whether an act is going on."""
        return self._one.locked()

    @property
    def is_stopping(self) -> bool:
        """Whether the look that is going on is to end."""
        return self._stop.is_set()

    @property
    def shown(self) -> Batch | None:
        """What was found, under the threshold that is being tried."""
        return self.batch if self.batch is None or self.moved is None else self.batch.at(self.moved)

    @property
    def threshold(self) -> float | None:
        """The one that `shown` is under; None if there is none, or several."""
        if self.moved is not None:
            return self.moved
        if self.batch is not None and self.batch.rows:
            return self.batch.threshold
        return None if self.part is None else own_threshold(self.part.detector)

    @property
    def is_stale(self) -> bool:
        """Whether the part has changed since the pictures were looked at."""
        return self.batch is not None and self.part is not None and self.judged_by is not self.part.detector

    @property
    def large(self) -> str:
        """Names the row that is shown large, among all that were ever; empty if none is."""
        return "" if self.batch is None or self.picked is None else f"{self.folder.name}/{self.picked}"

    @property
    def leaving_out(self) -> Reference | None:
        """The good picture that may be left out."""
        if self.part is None or not self.leaving:
            return None
        return next((one for one in self.part.detector.references if one.sha256.startswith(self.leaving)), None)

    @property
    def open_marks(self) -> dict[int, bool]:
        """Corrections that nothing was learned from yet."""
        done = 0 if self.batch is None else len(self.batch.rows)
        return {number: said for number, said in self.marks.items() if number < done and self.learned.get(number) is not said}

    def order(self) -> list[int]:
        """The rows that are shown, most anomalous first."""
        batch = self.shown
        if batch is None:
            return []
        keep: dict[str, Callable[[int, Row], bool]] = {
            ALL: lambda number, row: True,
            ANOMALOUS: lambda number, row: bool(row.prediction and row.prediction.pred_label),
            UNSURE: lambda number, row: row.is_unsure,
            MARKED: lambda number, row: number in self.marks,
        }
        return [number for number in batch.order if keep[self.only](number, batch.rows[number])]

    def clear_looks(self) -> None:
        """Nothing was looked at."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.uploads, self.batch, self.judged_by, self.picked, self.moved = [], None, None, None, None
        self.marks, self.learned = {}, {}
