"""Results of `vlad detect`, written as they come: an interrupted run keeps what it did."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from vlad.errors import ImageReadError

if TYPE_CHECKING:
    from vlad.prediction import Prediction

COLUMNS = ("image_path", "pred_score", "threshold", "threshold_source", "pred_label", "n_regions", "model", "seconds", "error")


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
        anomalous, normal: number of pictures so far.
    """

    def __init__(self, paths: Sequence[Path], out: Path | None, output_format: str, *, model: str, quiet: bool) -> None:
        self.errors: list[str] = []
        self.anomalous = self.normal = 0
        self._rows: list[dict[str, Any]] = []
        self._stems = unique_stems(paths)
        self._taken = {stem.casefold() for stem in self._stems.values()}
        self._out, self._format, self._model, self._quiet = out, output_format, model, quiet
        self._seconds = 0.0

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._csv: list[tuple[IO[str], csv.DictWriter[str]]] = []
        self._jsonl: IO[str] | None = None
        if self._out is not None:
            self._out.mkdir(parents=True, exist_ok=True)
            self._add_csv(
                self._stack.enter_context((self._out / "results.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape"))
            )
            self._jsonl = self._stack.enter_context((self._out / "results.jsonl").open("w", encoding="utf-8", errors="surrogateescape"))
        if self._format == "csv":
            self._add_csv(sys.stdout)
        elif self._format == "json":
            sys.stdout.write("[")
        self._progress = self._stack.enter_context(self._progress_bar())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        if self._format == "json":
            sys.stdout.write("\n]\n")
        elif self._format == "table" and self._rows:
            _print_table(self._rows)

    def _progress_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(total=len(self._stems), unit="picture", disable=self._quiet or not sys.stderr.isatty(), leave=False)

    def _add_csv(self, file: IO[str]) -> None:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        self._csv.append((file, writer))

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
        row = {"image_path": image_path, "model": self._model, "error": str(error)}
        self._write(row, row)

    def _add_prediction(self, path: Path, result: Prediction) -> None:
        if self._out is not None:
            try:
                result.save(self._out, stem=self._stem(path))
            except (OSError, ValueError) as error:  # one picture must not end the run for the others
                self.add_error(str(path), _cannot_save(path, error))
                return
        self.anomalous += bool(result.pred_label)
        self.normal += not result.pred_label
        self._seconds += result.seconds
        details = result.to_dict() | {"image_path": result.image_path or str(path), "error": None}
        n_regions = None if result.anomaly_map is None else len(result.regions)
        row = {column: details.get(column) for column in COLUMNS} | {"n_regions": n_regions, "error": ""}
        self._write(row, details)

    def _stem(self, path: Path) -> str:
        """The beginning of a picture's output files; one that was not announced gets the next free name."""
        if path not in self._stems:
            choices = chain((path.stem, path.name), (f"{path.name}~{number}" for number in count(2)))
            self._stems[path] = next(stem for stem in choices if stem.casefold() not in self._taken)
            self._taken.add(self._stems[path].casefold())
        return self._stems[path]

    def _write(self, row: dict[str, Any], details: dict[str, Any]) -> None:
        line = json.dumps(details, ensure_ascii=False)
        if self._format == "json":
            sys.stdout.write(f"{',' if self._rows else ''}\n{line}")
            sys.stdout.flush()
        self._rows.append(row)
        for file, writer in self._csv:
            writer.writerow(row)
            file.flush()
        if self._jsonl is not None:
            self._jsonl.write(f"{line}\n")
            self._jsonl.flush()

    def summary(self) -> str:
        """The run in one line."""
        done = self.anomalous + self.normal
        parts = [f"{self.anomalous} anomalous, {self.normal} normal"]
        if self.errors:
            parts.append(f"{len(self.errors)} failed")
        if done:
            parts.append(f"{self._seconds / done:.2f} s a picture")
        if self._out is not None:
            parts.append(f"results in {self._out}")
        return "; ".join(parts)


def unique_stems(paths: Sequence[Path]) -> dict[Path, str]:
    """For each picture the beginning of its output files: its place below the folder common to all, without suffix unless two
    pictures differ in it alone."""
    if not paths:
        return {}
    parents = [Path(os.path.abspath(path)).parent for path in paths]  # noqa: PTH100  resolve() would follow links, absolute() keep `..`
    try:
        root = Path(os.path.commonpath(parents))
    except ValueError:  # several drives
        return {path: f"{number:05d}_{path.stem}" for number, path in enumerate(paths)}
    places = [parent.relative_to(root) for parent in parents]
    stems = [(place / path.stem).as_posix() for place, path in zip(places, paths, strict=True)]
    times = Counter(stem.casefold() for stem in stems)
    taken: set[str] = set()
    unique = {}
    for path, place, stem in zip(paths, places, stems, strict=True):
        wanted = stem if times[stem.casefold()] == 1 else (place / path.name).as_posix()
        chosen, number = wanted, 1
        while chosen.casefold() in taken or (chosen != stem and chosen.casefold() in times):
            number += 1
            chosen = f"{wanted}~{number}"
        taken.add(chosen.casefold())
        unique[path] = chosen
    return unique


def _cannot_save(path: Path, error: Exception) -> ImageReadError:
    return error if isinstance(error, ImageReadError) else ImageReadError(f"{path}: its results could not be written: {error}")


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, justify in (("picture", "left"), ("score", "right"), ("verdict", "left"), ("regions", "right"), ("seconds", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        if row["error"]:
            table.add_row(_shown(row), "", Text("error", style="yellow"), "", "")
            continue
        verdict = Text("anomalous", style="bold red") if row["pred_label"] else Text("normal", style="green")
        n_regions = "-" if row["n_regions"] is None else str(row["n_regions"])
        table.add_row(_shown(row), f"{row['pred_score']:.3f}", verdict, n_regions, f"{row['seconds']:.2f}")
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(width=max(120, *(len(row["image_path"]) + 60 for row in rows)))
    console.print(table)


def _shown(row: dict[str, Any]) -> str:
    """A path on one line, whatever its name holds."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape", "surrogatepass").decode() for mark in row["image_path"])
