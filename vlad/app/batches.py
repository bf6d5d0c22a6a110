"""Many pictures at once: scored one by one, sorted, counted; one bad file is named and ends nothing."""

from __future__ import annotations

import io
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from vlad.app.names import checked_class_name
from vlad.app.notes import quietly
from vlad.app.show import CLOSE, heat_of, is_close, shrink
from vlad.app.uploads import Upload
from vlad.errors import ImageReadError
from vlad.output.tables import TableWriter
from vlad.pictures.reading import describe_source
from vlad.together import predict_together

if TYPE_CHECKING:
    from vlad.app.service import Service
    from vlad.detector import AnomalyDetector
    from vlad.prediction import Prediction

COLUMNS = ("picture", "pred_score", "threshold", "threshold_source", "pred_label", "undecided", "n_regions", "model", "seconds", "error")
_THUMBNAIL, _MAP = 360, 600  # longest sides in pixels, of a thumbnail and of a map that is kept
PHASES = {"read": "reading", "look": "looking at", "turn": "turning", "compare": "comparing"}  # of `on_progress`, in words
OUT_OF_TIME, STOPPED = "stopped at the time limit", "stopped by you"
_RUN = "of this run"  # in the source of a threshold that followed the batch
BY_EACH_OTHER = (
    "No good pictures were given, so {} pictures were judged by each other: most are taken to be good, and what stands out is called "
    "anomalous."
)


@dataclass(frozen=True)
class Row:
    """One picture of a batch.

    Attributes:
        name: as the visitor knows it.
        prediction: its result, without the map; None if there is none.
        thumbnails: small heat maps where they are kept: without outlines, and with the outlines of what is anomalous.
        map_file: the map (h, w) float16, reduced, where it is kept.
        error: why there is no result.
    """

    name: str
    prediction: Prediction | None = None
    thumbnails: tuple[Path, Path] | None = field(default=None, repr=False)
    map_file: Path | None = field(default=None, repr=False)
    error: str = ""

    @property
    def thumbnail(self) -> Path | None:
        """That which fits the verdict."""
        if self.thumbnails is None or self.prediction is None:
            return None
        return self.thumbnails[self.prediction.pred_label is not False]

    @property
    def is_unsure(self) -> bool:
        """Whether the verdict may go either way, or there is none."""
        return self.prediction is not None and (self.prediction.pred_label is None or is_close(self.prediction))

    def at(self, threshold: float, source: str = "user") -> Row:
        """The row under another threshold, the visitor's own if nothing else is said."""
        if self.prediction is None or (self.prediction.threshold, self.prediction.threshold_source) == (threshold, source):
            return self
        moved = replace(self.prediction, threshold=threshold, threshold_source=source, undecided="")
        return replace(self, prediction=with_places(moved, self.prediction))

    def with_map(self) -> Prediction:
        """The result with the map that was kept, at the size of the picture.

        Raises:
            ImageReadError: it is gone, or none was kept.
        """
        if self.prediction is None or self.map_file is None:
            raise ImageReadError(self.error or "the maps of this batch are not kept; inspect this picture alone")
        try:
            small = np.load(self.map_file, allow_pickle=False).astype(np.float32)
        except OSError as error:
            raise ImageReadError(f"{self.name}: was deleted after a while; look at the pictures again") from error
        height, width = self.prediction.image_size
        whole = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        return with_places(replace(self.prediction, anomaly_map=np.clip(whole, 0, 1)), self.prediction)


@dataclass(eq=False)
class Batch:
    """A batch so far.

    Attributes:
        total: pictures in it.
        rows: done so far, in the order given.
        cut_off: what ended it before all were done, in words; empty if nothing did.
        beside: good pictures that it was compared with.
    """

    total: int
    rows: list[Row] = field(default_factory=list)
    cut_off: str = ""
    beside: int = 0

    def at(self, threshold: float, source: str = "user") -> Batch:
        """The batch under another threshold; the model does not run."""
        return replace(self, rows=[row.at(threshold, source) for row in self.rows])

    @property
    def order(self) -> list[int]:
        """Numbers of the rows with a result, most anomalous first, and last those without a verdict, whose scores may be of another
        scale."""
        done = [(number, row.prediction) for number, row in enumerate(self.rows) if row.prediction is not None]
        return [number for number, one in sorted(done, key=lambda item: (item[1].pred_label is None, -item[1].pred_score))]

    @property
    def sorted_rows(self) -> list[Row]:
        """The rows in that order."""
        return [self.rows[number] for number in self.order]

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
            parts.append(self.cut_off)
        return ", ".join(parts)

    def remarks(self) -> list[str]:
        """What to know about the verdicts."""
        results = [row.prediction for row in self.rows if row.prediction is not None]
        found = [BY_EACH_OTHER.format(self.by_each_other)] if self.by_each_other else []
        if moved := next((one for one in results if _RUN in (one.threshold_source or "")), None):
            found.append(f"The threshold comes from the {moved.threshold_source}; up to half of them may be bad.")
        if self.beside:
            found.append(f"Compared with {self.beside} good picture{'' if self.beside == 1 else 's'}.")
        if any(one.threshold_source == "user" for one in results):
            found.append("The threshold is set by you.")
        found += [f"{count} undecided: {reason}" for reason, count in self.undecided.items()]
        if close := sum(is_close(one) for one in results):
            found.append(f"{close} close call{'s' if close > 1 else ''}: within {CLOSE:.0%} of the threshold.")
        warned = Counter(warning for one in results for warning in one.warnings)
        found += [f"{'Every picture' if count == len(results) else f'{count} of them'}: {warning}" for warning, count in warned.items()]
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


def look_through(
    service: Service,
    detector: AnomalyDetector,
    uploads: Sequence[Upload],
    folder: Path,
    *,
    class_name: str = "",
    threshold: float | None = None,
    keep: Path | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Batch]:
    """Inspect pictures as `predict_together` does; yields the batch after each. Between two pictures other visitors get their turn.

    Args:
        folder: for copies while it lasts; deleted in the end.
        keep: folder for a thumbnail and a map of each picture, emptied first; None keeps none.
        on_progress: where pictures are judged by each other, called while they are looked at and compared, before the first result.
        should_stop: asked between two pictures; what is done by then is kept.
    """
    noun = checked_class_name(class_name) or None
    batch = Batch(len(uploads), beside=len(detector.references))
    turns = _Turns(service, should_stop)
    if keep is not None:
        shutil.rmtree(keep, ignore_errors=True)
        keep.mkdir(parents=True)

    def step(phase: str, done: int, of: int) -> None:
        turns.give_way()
        if on_progress is not None:
            on_progress(phase, done, of)

    detector = detector.copy(max_pixels=service.limits.pixels)
    failed: dict[int, ImageReadError] = {}
    sources: list[Any] = []
    try:
        for number, upload in enumerate(uploads):
            turns.check()
            if on_progress is not None:
                on_progress("read", number, len(uploads))
            try:
                sources.append(upload.as_source(folder))
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
                    place = None if keep is None else keep / f"{number:04d}"
                    batch.rows.append(_row(upload.name, next(waiting), next(results), place))
            yield batch
    except _Ended as end:
        batch.cut_off = str(end)
        yield batch
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Ended(Exception):
    """The batch took longer than one may, or the visitor wants no more of it."""


class _Turns:
    """The turns of a batch at the model. In each of them vlad's warnings are kept quiet, and never between two."""

    def __init__(self, service: Service, should_stop: Callable[[], bool]) -> None:
        self._service, self._stack, self._should_stop = service, ExitStack(), should_stop
        self._end = time.monotonic() + service.limits.batch_seconds

    def check(self) -> None:
        """
        Raises:
            _Ended: there is no time left, or the visitor wants no more.
        """
        if self._should_stop():
            raise _Ended(STOPPED)
        if time.monotonic() > self._end:
            raise _Ended(OUT_OF_TIME)

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


def _row(name: str, source: Any, result: Prediction | ImageReadError, place: Path | None) -> Row:
    """The row of a result; thumbnails and map go to files that begin with `place`."""
    try:
        if isinstance(result, ImageReadError):
            raise result
        if place is None:
            return Row(name, _without_arrays(result))
        picture = result.image
    except ImageReadError as error:  # it went while others were looked at
        return Row(name, error=f"{name}: {str(error).removeprefix(f'{describe_source(source)}: ')}")
    thumbnails = place.with_name(f"{place.name}_plain.webp"), place.with_name(f"{place.name}_marked.webp")
    for path, is_marked in zip(thumbnails, (False, True), strict=True):
        Image.fromarray(heat_of(result, picture, 0.5, marked=is_marked, max_side=_THUMBNAIL)).save(path, quality=85)
    map_file = None
    if result.anomaly_map is not None:
        map_file = place.with_suffix(".npy")
        np.save(map_file, shrink(result.anomaly_map, _MAP).astype(np.float16))
    return Row(name, _without_arrays(result), thumbnails, map_file)


def time_left(seconds: float, done: int, total: int) -> str:
    """The rest in words, judged by what was done in `seconds`."""
    left = seconds / max(done, 1) * (total - done)
    return f"about {left:.0f} s left" if left < 90 else f"about {left / 60:.0f} min left"


def _without_arrays(prediction: Prediction) -> Prediction:
    """With its regions counted, and without map and picture, which for a whole batch would fill the memory."""
    return with_places(replace(prediction, anomaly_map=None, embedding=None, _read=_gone), prediction)


def with_places(prediction: Prediction, looked_at: Prediction) -> Prediction:
    """The same with the places that were found when its map was there at full size, on which a verdict may hang."""
    places, label = looked_at._places, None if prediction.threshold is None else prediction.pred_score > prediction.threshold
    if label and prediction.min_area is not None:
        label = len(places) > 0
    prediction.__dict__.update(_places=places, pred_label=label)
    return prediction


def _gone() -> np.ndarray:
    raise ImageReadError("the pictures of a batch are not kept; inspect this one alone")
