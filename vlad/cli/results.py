"""Results of `vlad detect`, written as they come: an interrupted run keeps what it did."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from vlad.errors import ImageReadError
from vlad.output.names import unique_stems
from vlad.output.tables import Cell, Row, TableWriter

if TYPE_CHECKING:
    from vlad.prediction import Prediction

COLUMNS = ("image_path", "pred_score", "threshold", "threshold_source", "pred_label", "undecided", "n_regions", "model", "seconds", "error")
_SHOWN: dict[str, Literal["left", "right"]] = {
    "picture": "left",
    "score": "right",
    "verdict": "left",
    "regions": "right",
    "seconds": "right",
}


class ResultWriter:
    """Prints results in one format and, given a folder, writes results.csv, results.jsonl and each picture's files there.

    Args:
        paths: all pictures of the run, for the progress bar and for file names that do not collide; empty if they come one by one.
        out: folder for the files, made if missing; None writes none.
        output_format: "table" (printed at the end), "csv" or "json" (one array; both printed as they come), or "" to print nothing.
        model: named in the rows of pictures that could not be read.
        quiet: no progress bar.

    Attributes:
        errors: one line for each input that could not be read.
        anomalous, normal, undecided: number of pictures so far.
    """

    def __init__(self, paths: Sequence[Path], out: Path | None, output_format: str, *, model: str, quiet: bool) -> None:
        self.errors: list[str] = []
        self.anomalous = self.normal = self.undecided = 0
        self._stems = unique_stems(paths)
        self._taken = {stem.casefold() for stem in self._stems.values()}
        self._out, self._format, self._model, self._quiet = out, output_format, model, quiet
        self._seconds = 0.0
        self._reasons: dict[str, None] = {}

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._table = self._stack.enter_context(TableWriter(COLUMNS))
        if self._out is not None:
            self._out.mkdir(parents=True, exist_ok=True)
            self._table.to_csv(self._out / "results.csv")
            self._table.to_json_lines(self._out / "results.jsonl")
        if self._format == "csv":
            self._table.to_csv(sys.stdout)
        elif self._format == "json":
            self._table.to_json_array(sys.stdout)
        elif self._format == "table":
            self._table.to_terminal(_SHOWN, _cells, width=120)
        self._progress = self._stack.enter_context(self._progress_bar())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _progress_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(total=len(self._stems), unit="picture", disable=self._quiet or not sys.stderr.isatty(), leave=False)

    def add(self, path: Path, result: Prediction | ImageReadError) -> None:
        """Take the result of a picture; it is on disk when this returns."""
        if isinstance(result, ImageReadError):
            self.add_error(str(path), result)
        else:
            self._add_prediction(path, result)
        self._progress.update()

    def add_error(self, image_path: str, error: ImageReadError) -> None:
        """Take an input that is no readable picture."""
        self.errors.append(str(error))
        self._table.add({"image_path": image_path, "model": self._model, "error": str(error)})

    def _add_prediction(self, path: Path, result: Prediction) -> None:
        if self._out is not None:
            try:
                result.save(self._out, stem=self._stem(path))
            except (OSError, ValueError) as error:  # one picture must not end the run for the others
                self.add_error(str(path), _cannot_save(path, error))
                return
        self.anomalous += result.pred_label is True
        self.normal += result.pred_label is False
        if result.pred_label is None:
            self.undecided += 1
            self._reasons[result.undecided] = None
        self._seconds += result.seconds
        details = result.to_dict() | {"image_path": result.image_path or str(path), "error": None}
        n_regions = None if result.anomaly_map is None else len(result.regions)
        row = {column: details.get(column) for column in COLUMNS} | {"n_regions": n_regions, "error": ""}
        self._table.add(row, details)

    def _stem(self, path: Path) -> str:
        """The beginning of a picture's output files; one that was not announced gets the next free name."""
        if path not in self._stems:
            choices = chain((path.stem, path.name), (f"{path.name}~{number}" for number in count(2)))
            self._stems[path] = next(stem for stem in choices if stem.casefold() not in self._taken)
            self._taken.add(self._stems[path].casefold())
        return self._stems[path]

    def summary(self) -> str:
        """The run in one line."""
        done = self.anomalous + self.normal + self.undecided
        parts = [f"{self.anomalous} anomalous, {self.normal} normal"]
        if self.undecided:
            why = f": {next(iter(self._reasons))}" if len(self._reasons) == 1 else ", for the reasons in the results"
            parts.append(f"{self.undecided} undecided{why}")
        if self.errors:
            parts.append(f"{len(self.errors)} failed")
        if done:
            parts.append(f"{self._seconds / done:.2f} s a picture")
        if self._out is not None:
            parts.append(f"results in {self._out}")
        return "; ".join(parts)


def _cannot_save(path: Path, error: Exception) -> ImageReadError:
    return error if isinstance(error, ImageReadError) else ImageReadError(f"{path}: its results could not be written: {error}")


def _cells(row: Row) -> tuple[Cell, ...]:
    if row["error"]:
        return row["image_path"], "", ("error", "yellow"), "", ""
    verdict = {True: ("anomalous", "bold red"), False: ("normal", "green"), None: ("undecided", "yellow")}[row["pred_label"]]
    n_regions = "-" if row["n_regions"] is None else str(row["n_regions"])
    return row["image_path"], f"{row['pred_score']:.3f}", verdict, n_regions, f"{row['seconds']:.2f}"
