"""Many pictures at once: scored one by one, sorted, counted; one bad file is named and ends nothing."""

from __future__ import annotations

import io
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlad.app.handlers import checked_class_name
from vlad.app.notes import quietly
from vlad.app.show import heat_pair, shrink
from vlad.app.uploads import uploads_of
from vlad.errors import ImageReadError
from vlad.output.tables import TableWriter
from vlad.pictures.reading import describe_source
from vlad.together import predict_together

if TYPE_CHECKING:
    from vlad.app.service import Service
    from vlad.app.visit import Visit
    from vlad.prediction import Prediction

COLUMNS = ("picture", "pred_score", "threshold", "threshold_source", "pred_label", "undecided", "n_regions", "model", "seconds", "error")
_THUMBNAIL = 360
_RUN = "of this run"  # in the source of a threshold that followed the batch
BY_EACH_OTHER = (
    "No good pictures were given, so {} pictures were judged by each other: most are taken to be good, and what stands out is called "
    "anomalous."
)


@dataclass(frozen=True)
class Row:
    """One picture of a batch: its result with a small heat map uint8 (h, w, 3), or why there is none."""

    name: str
    prediction: Prediction | None = None
    heat: np.ndarray | None = field(default=None, repr=False)
    error: str = ""


@dataclass
class Batch:
    """A batch so far.

    Attributes:
        total: pictures in it.
        rows: done so far, in the order given.
        cut_off: whether the time limit ended it.
    """

    total: int
    rows: list[Row] = field(default_factory=list)
    cut_off: bool = False

    @property
    def sorted_rows(self) -> list[Row]:
        """Those with a result, most anomalous first, and last those without a verdict, whose scores may be of another scale."""
        done = [row for row in self.rows if row.prediction is not None]
        return sorted(
            done, key=lambda row: (row.prediction.pred_label is None, -row.prediction.pred_score) if row.prediction else (True, 0.0)
        )

    @property
    def failed(self) -> list[Row]:
        """Those that could not be read."""
        return [row for row in self.rows if row.error]

    @property
    def scores(self) -> list[float]:
        """Of the pictures that were read."""
        return [row.prediction.pred_score for row in self.rows if row.prediction is not None]

    @property
    def threshold(self) -> float | None:
        """If it is the same for every picture; else None, as for pictures of several kinds that are judged by each other."""
        found = {row.prediction.threshold for row in self.rows if row.prediction is not None}
        return found.pop() if len(found) == 1 else None

    @property
    def by_each_other(self) -> int:
        """Pictures whose threshold comes from the other pictures."""
        return sum(row.prediction is not None and row.prediction.threshold_source == "mutual" for row in self.rows)

    @property
    def undecided(self) -> dict[str, int]:
        """How many pictures have no verdict, by the reason."""
        found = Counter(row.prediction.undecided for row in self.rows if row.prediction is not None and row.prediction.pred_label is None)
        return dict(found)

    def summary(self) -> str:
        """The batch in one line."""
        anomalous, undecided = sum(bool(row.prediction and row.prediction.pred_label) for row in self.rows), sum(self.undecided.values())
        parts = [f"{len(self.scores)} of {self.total} inspected"]
        if undecided < len(self.scores) or not undecided:
            parts += [f"{anomalous} anomalous", f"{len(self.scores) - anomalous - undecided} normal"]
        if undecided:
            parts.append(f"{undecided} undecided")
        if self.failed:
            parts.append(f"{len(self.failed)} could not be read")
        if self.cut_off:
            parts.append("stopped at the time limit")
        return ", ".join(parts)

    def remarks(self) -> list[str]:
        """What to know about the verdicts."""
        found = [f"{count} undecided: {reason}" for reason, count in self.undecided.items()]
        if moved := next((row.prediction for row in self.rows if row.prediction and _RUN in (row.prediction.threshold_source or "")), None):
            found.insert(0, f"The threshold comes from the {moved.threshold_source}; up to half of them may be bad.")
        if self.by_each_other:
            found.insert(0, BY_EACH_OTHER.format(self.by_each_other))
        return found

    def to_csv(self) -> str:
        """One line for each picture, most anomalous first, the unreadable last."""
        text = io.StringIO()
        with TableWriter(COLUMNS) as table:
            table.to_csv(text)
            for row in [*self.sorted_rows, *self.failed]:
                values = {} if row.prediction is None else row.prediction.to_dict() | {"n_regions": len(row.prediction.regions)}
                table.add(values | {"picture": row.name, "error": row.error})
        return text.getvalue()


def run_batch(
    service: Service,
    visit: Visit,
    paths: Sequence[str | Path],
    class_name: str = "",
    *,
    threshold: float | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[Batch]:
    """Inspect pictures and archives as `predict_together` does, with the visitor's references or by each other; yields the batch after each
    picture. The good pictures of an example are left aside. Between two pictures other visitors get their turn.

    Args:
        on_progress: where pictures are judged by each other, called while they are looked at and compared, before the first result.

    Raises:
        ConfigError: no pictures, too many, or an option is out of range.
        BusyError: the model is busy.
    """
    noun = checked_class_name(class_name) or None
    uploads = uploads_of(paths, service.limits)
    batch = Batch(len(uploads))
    turns = _Turns(service)

    def step(phase: str, done: int, of: int) -> None:
        turns.give_way()
        if on_progress is not None:
            on_progress(phase, done, of)

    # An example's good pictures show the example's product, and say nothing of what a batch shows.
    detector = (service.detector if visit.borrowed else visit.detector).copy(max_pixels=service.limits.pixels)
    failed: dict[int, ImageReadError] = {}
    sources: list[Any] = []
    try:
        for number, upload in enumerate(uploads):
            turns.check()
            if on_progress is not None:
                on_progress("read", number, len(uploads))
            try:
                sources.append(upload.as_source(visit.folder))
            except ImageReadError as error:
                failed[number] = error
        options: dict[str, Any] = {"class_name": noun, "threshold": threshold, "on_error": "return", "on_progress": step}
        results = predict_together(detector, sources, batch_size=1, **options)
        waiting = iter(sources)
        for number, upload in enumerate(uploads):
            if number in failed:
                batch.rows.append(Row(upload.name, error=str(failed[number])))
            else:
                with turns:
                    batch.rows.append(_row(upload.name, next(waiting), next(results)))
            yield batch
    except _OutOfTime:
        batch.cut_off = True
        yield batch
    finally:
        shutil.rmtree(visit.folder / "batch", ignore_errors=True)


class _OutOfTime(Exception):
    """The batch took longer than one may."""


class _Turns:
    """The turns of a batch at the model. In each of them vlad's warnings are kept quiet, and never between two."""

    def __init__(self, service: Service) -> None:
        self._service, self._stack = service, ExitStack()
        self._end = time.monotonic() + service.limits.batch_seconds

    def check(self) -> None:
        """
        Raises:
            _OutOfTime: there is no time left.
        """
        if time.monotonic() > self._end:
            raise _OutOfTime

    def __enter__(self) -> None:
        self.check()
        self._stack.enter_context(self._service.turn())
        self._stack.enter_context(quietly())

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def give_way(self) -> None:
        """Within a turn: end it, and wait for the next one behind those who wait already."""
        self.__exit__()
        self.__enter__()


def _row(name: str, source: Any, result: Prediction | ImageReadError) -> Row:
    try:
        if isinstance(result, ImageReadError):
            raise result
        picture = result.image
    except ImageReadError as error:  # it went while others were looked at
        return Row(name, error=f"{name}: {str(error).removeprefix(f'{describe_source(source)}: ')}")
    return Row(name, _without_arrays(result), shrink(heat_pair(result, picture, 0.5)[1], _THUMBNAIL))


def write_csv(visit: Visit, batch: Batch) -> Path:
    """The table for download, in the visitor's folder."""
    path = visit.folder / "results" / "vlad_batch.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(batch.to_csv(), encoding="utf-8")
    return path


def time_left(seconds: float, done: int, total: int) -> str:
    """The rest in words, judged by what was done in `seconds`."""
    left = seconds / max(done, 1) * (total - done)
    return f"about {left:.0f} s left" if left < 90 else f"about {left / 60:.0f} min left"


def _without_arrays(prediction: Prediction) -> Prediction:
    """With its regions counted, and without map and picture, which for a whole batch would fill the memory."""
    from dataclasses import replace

    light = replace(prediction, anomaly_map=None, embedding=None, _read=_gone)
    light.__dict__.update(regions=prediction.regions, pred_label=prediction.pred_label)
    return light


def _gone() -> np.ndarray:
    raise ImageReadError("the pictures of a batch are not kept; inspect this one alone")
