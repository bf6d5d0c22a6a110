"""Results of `vlad detect`, written as they come: an interrupted run keeps what it did."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from vlad.disk import held
from vlad.errors import ImageReadError
from vlad.output.names import short_name, unique_stems
from vlad.output.rows import COLUMNS, details_of, details_of_error, read_rows
from vlad.output.tables import Cell, Row, TableWriter
from vlad.prediction import FILE_KINDS, FILES

if TYPE_CHECKING:
    from vlad.prediction import Prediction

_WAITING = 4  # results that the writer may be behind
_SHOWN: dict[str, Literal["left", "right"]] = {
    "picture": "left",
    "score": "right",
    "verdict": "left",
    "regions": "right",
    "seconds": "right",
}


class ResultWriter:
    """Prints results in one format and, given a folder, writes results.csv, results.jsonl and each picture's files there.

    A thread of its own writes, in order, so that the model need not wait for the disk: at most `_WAITING` results behind, which a kill
    loses and a run repeats; the end of the block, `flush` and an interruption wait for them.

    Args:
        paths: all pictures of the run, for the progress bar and for file names that do not collide; empty if they come one by one.
        out: folder for the files, made if missing; None writes none.
        output_format: "table" (printed at the end), "csv", "jsonl" or "json" (one array; all printed as they come), or "" to print nothing.
        model: named in the rows of pictures that could not be read.
        quiet: no progress bar.
        go_on: keep the rows that `out` has, and write the new ones behind them.
        kinds: files of each picture, of `vlad.prediction.FILES`.

    Attributes:
        earlier: "image_path" and "file" of the rows that were kept.
        errors: one line for each input that could not be read.
        anomalous, normal, undecided: number of pictures so far.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        out: Path | None,
        output_format: str,
        *,
        model: str,
        quiet: bool,
        go_on: bool = False,
        kinds: Collection[str] = FILES,
    ) -> None:
        self.earlier: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.anomalous = self.normal = self.undecided = 0
        self._stems = unique_stems(paths)
        self._taken = {stem.casefold() for stem in self._stems.values()}
        self._out, self._format, self._model, self._quiet, self._go_on = out, output_format, model, quiet, go_on
        self._kinds = kinds
        self._seconds = 0.0
        self._reasons: dict[str, None] = {}
        self._work: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="vlad-results", daemon=True)

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # what is open is closed again where the next cannot be opened
            self._open(stack)
            self._stack = stack.pop_all()
        self._thread.start()
        return self

    def _open(self, stack: ExitStack) -> None:
        if self._out is not None:
            stack.enter_context(held(self._out))
        self._table = stack.enter_context(TableWriter(COLUMNS))
        if self._out is not None:
            self._table.to_csv(self._out / "results.csv")
            if self._go_on:
                for row in read_rows(self._out / "results.jsonl"):
                    self._table.add(_as_cells(row))
                    self.earlier.append({key: row.get(key) for key in ("image_path", "file")})
                    if isinstance(row.get("files"), str):
                        self._stems.setdefault(Path(row["image_path"]), row["files"])
                        self._taken.add(row["files"].casefold())
            self._table.to_json_lines(self._out / "results.jsonl", append=self._go_on)
        if self._format == "csv":
            self._table.to_csv(sys.stdout)
        elif self._format == "jsonl":
            self._table.to_json_lines(sys.stdout)
        elif self._format == "json":
            self._table.to_json_array(sys.stdout)
        elif self._format == "table":
            self._table.to_terminal(_SHOWN, _cells, width=120)
        self._progress = stack.enter_context(self._progress_bar())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._work.put(None)
        self._thread.join()
        self._stack.close()
        if error is None:
            self._check()

    def flush(self) -> None:
        """Wait until all that was added is on disk.

        Raises:
            OutputError: as of `add`.
        """
        self._work.join()
        self._check()

    def _run(self) -> None:
        while (act := self._work.get()) is not None:
            try:
                if self._failed is None:
                    act()
            except BaseException as error:  # told to whoever adds the next, or ends the block
                self._failed = error
            finally:
                self._work.task_done()
        self._work.task_done()

    def _put(self, act: Callable[[], None]) -> None:
        self._check()
        self._work.put(act)

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _progress_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(total=len(self._stems), unit="picture", disable=self._quiet or not sys.stderr.isatty(), leave=False)

    def add(self, path: Path, result: Prediction | ImageReadError, *, file: Mapping[str, Any] | None = None) -> None:
        """Take the result of a picture, to be written after those before it.

        Args:
            path: of the picture, or its name in a stream.
            result: what came of it.
            file: what is known of the state of its file; it goes into the row.

        Raises:
            OutputError: a row before it could not be written.
        """
        self._put(partial(self._add, path, result, file))

    def add_error(self, image_path: str, error: ImageReadError, *, file: Mapping[str, Any] | None = None) -> None:
        """Take an input that is no readable picture."""
        self._put(partial(self._add_error, image_path, error, file))

    def _add(self, path: Path, result: Prediction | ImageReadError, file: Mapping[str, Any] | None) -> None:
        if isinstance(result, ImageReadError):
            self._add_error(str(path), result, file)
        else:
            self._add_prediction(path, result, file)
        self._progress.update()

    def _add_error(self, image_path: str, error: ImageReadError, file: Mapping[str, Any] | None) -> None:
        self.errors.append(str(error))
        row = details_of_error(image_path, self._model, error)
        self._table.add(row, row | ({} if file is None else {"file": dict(file)}))

    def _add_prediction(self, path: Path, result: Prediction, file: Mapping[str, Any] | None) -> None:
        problem = None
        if self._out is not None:
            self._table.check()  # else a folder that was removed would be made anew
            stem = self._stem(path, is_new=file is not None)
            try:
                result.save(self._out, stem=stem, kinds=self._kinds)
            except (OSError, ValueError) as error:  # one picture must not end the run for the others, nor lose its verdict
                problem = _cannot_save(path, error)
                self.errors.append(problem)
        self.anomalous += result.pred_label is True
        self.normal += result.pred_label is False
        if result.pred_label is None:
            self.undecided += 1
            self._reasons[result.undecided] = None
        self._seconds += result.seconds
        details = details_of(result, result.image_path or str(path), problem)
        if self._out is not None:
            details["files"] = stem
        if file is not None:
            details["file"] = dict(file)
        self._table.add(_as_cells(details), details)

    def _stem(self, path: Path, *, is_new: bool) -> str:
        """The beginning of a picture's output files; one that was not announced, or is there in a new state, gets the next free name."""
        if path in self._stems and not is_new:
            return self._stems[path]
        names = (self._stems[path],) if path in self._stems else (short_name(path.stem), short_name(path.name))
        choices = chain(names, (f"{names[-1]}~{number}" for number in count(2)))
        chosen = next(choice for choice in choices if self._is_free(choice))
        self._stems.setdefault(path, chosen)
        self._taken.add(chosen.casefold())
        return chosen

    def _is_free(self, stem: str) -> bool:
        out = self._out if self._go_on else None
        is_there = out is not None and any((out / f"{stem}{ending}").exists() for ending in FILE_KINDS.values())
        return not is_there and stem.casefold() not in self._taken

    @property
    def done(self) -> int:
        """So many pictures got a score."""
        return self.anomalous + self.normal + self.undecided

    def summary(self) -> str:
        """The run in one line."""
        done = self.done
        parts = [f"{self.anomalous} anomalous, {self.normal} normal"]
        if self.undecided:
            why = f": {next(iter(self._reasons))}" if len(self._reasons) == 1 else ", for the reasons in the results"
            parts.append(f"{self.undecided} undecided{why}")
        if self.errors:
            parts.append(f"{len(self.errors)} failed")
        if self.earlier:
            parts.append(f"{len(self.earlier)} recorded before")
        if done:
            parts.append(f"{self._seconds / done:.2f} s a picture")
        if self._out is not None:
            parts.append(f"results in {self._out}")
        return "; ".join(parts)


def _as_cells(details: Mapping[str, Any]) -> dict[str, Any]:
    return {column: details.get(column) for column in COLUMNS} | {"error": details.get("error") or ""}


def _cannot_save(path: Path, error: Exception) -> str:
    reason = f"{error.strerror} at {error.filename}" if isinstance(error, OSError) and error.strerror and error.filename else str(error)
    return str(error) if isinstance(error, ImageReadError) else f"{path}: its overlay, mask and map could not be written: {reason}"


def _cells(row: Row) -> tuple[Cell, ...]:
    if row.get("pred_score") is None:
        return row["image_path"], "", ("error", "yellow"), "", ""
    verdict = {True: ("anomalous", "bold red"), False: ("normal", "green"), None: ("undecided", "yellow")}[row["pred_label"]]
    n_regions = "-" if row["n_regions"] is None else str(row["n_regions"])
    return row["image_path"], f"{row['pred_score']:.3f}", verdict, n_regions, f"{row['seconds']:.2f}"
