"""Many pictures at once: scored one by one, sorted, counted; one bad file is named and ends nothing."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlad.app.handlers import checked_class_name
from vlad.app.notes import quietly
from vlad.app.show import heat_pair, shrink
from vlad.app.uploads import count_pictures, pictures_of
from vlad.errors import ImageReadError
from vlad.output.tables import TableWriter

if TYPE_CHECKING:
    from vlad.app.service import Service
    from vlad.app.visit import Visit
    from vlad.prediction import Prediction

COLUMNS = ("picture", "pred_score", "threshold", "threshold_source", "pred_label", "n_regions", "model", "seconds", "error")
_THUMBNAIL = 360


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
        """Those with a result, most anomalous first."""
        done = [row for row in self.rows if row.prediction is not None]
        return sorted(done, key=lambda row: -(row.prediction.pred_score if row.prediction else 0.0))

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
        """The same for every picture."""
        return next((row.prediction.threshold for row in self.rows if row.prediction is not None), None)

    def summary(self) -> str:
        """The batch in one line."""
        anomalous = sum(bool(row.prediction and row.prediction.pred_label) for row in self.rows)
        parts = [f"{len(self.scores)} of {self.total} inspected", f"{anomalous} anomalous", f"{len(self.scores) - anomalous} normal"]
        if self.failed:
            parts.append(f"{len(self.failed)} could not be read")
        if self.cut_off:
            parts.append("stopped at the time limit")
        return ", ".join(parts)

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
    service: Service, visit: Visit, paths: Sequence[str | Path], class_name: str = "", *, threshold: float | None = None
) -> Iterator[Batch]:
    """Inspect pictures and archives with the visitor's references; yields the batch after each picture. Between two pictures other visitors
    get their turn.

    Raises:
        ConfigError: no pictures, too many, or an option is out of range.
        BusyError: the model is busy.
    """
    noun = checked_class_name(class_name) or None
    pictures = pictures_of(paths, service.limits)
    batch = Batch(count_pictures(paths))
    end = time.monotonic() + service.limits.batch_seconds
    while True:
        if time.monotonic() > end:
            batch.cut_off = True
            yield batch
            return
        with service.turn(), quietly():
            found = next(pictures, None)
            if found is None:
                return
            name, picture = found
            if isinstance(picture, ImageReadError):
                batch.rows.append(Row(name, error=str(picture)))
            else:
                prediction = visit.detector.predict(picture, class_name=noun, threshold=threshold)
                batch.rows.append(Row(name, _without_arrays(prediction), shrink(heat_pair(prediction, picture, 0.5)[1], _THUMBNAIL)))
        yield batch


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
    light.__dict__["regions"] = prediction.regions
    return light


def _gone() -> np.ndarray:
    raise ImageReadError("the pictures of a batch are not kept; inspect this one alone")
