"""Tables written row by row, so that an interrupted run keeps what it did: as CSV, as JSON lines, as a JSON array, or on the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from vlad.disk import LineFile
from vlad.untrusted import inert, printable

Row = Mapping[str, Any]
Cell = str | tuple[str, str]  # a text, or a text and its style


class TableWriter:
    """Writes each row to every place that was asked for; it has left this process when `add` returns. Of a line that a full disk does
    not take nothing stays, and OutputError is raised.

    ::

        with TableWriter(("image_path", "pred_score")) as table:
            table.to_csv(Path("scores.csv"))
            table.to_json_array(sys.stdout)
            table.add({"image_path": "a.png", "pred_score": 0.5}, {"image_path": "a.png", "pred_score": 0.5, "regions": []})

    Args:
        columns: of CSV, in order; a cell that a row lacks stays empty, one without a column is left out.

    Attributes:
        rows: so many were added.
    """

    def __init__(self, columns: Sequence[str] = ()) -> None:
        self.columns = tuple(columns)
        self.rows = 0
        self._sinks: list[Callable[[Row, Row], None]] = []
        self._files: list[LineFile] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def to_csv(self, target: Path | IO[str]) -> None:
        """A file, which is replaced, or an open one, with a header. No text of it is a formula, whoever wrote it; file names that are no
        UTF-8 keep their bytes."""
        put = self._lines(target, errors="surrogateescape")
        line = io.StringIO(newline="")
        writer = csv.DictWriter(line, self.columns, extrasaction="ignore")

        def write(cells: Row, details: Row) -> None:
            writer.writerow({key: inert(value) if isinstance(value, str) else value for key, value in cells.items()})
            put(line.getvalue())
            line.seek(0)
            line.truncate()

        writer.writeheader()
        put(line.getvalue())
        line.seek(0)
        line.truncate()
        self._sinks.append(write)

    def to_json_lines(self, target: Path | IO[str], *, append: bool = False) -> None:
        """The details of each row on a line: UTF-8 that gives every text back, also half characters and names that are no UTF-8."""
        put = self._lines(target, errors="backslashreplace", append=append)  # a surrogate becomes its JSON escape
        self._sinks.append(lambda cells, details: put(json_line(details)))

    def to_json_array(self, file: IO[str]) -> None:
        """All details as one array, each printed as it comes."""
        file.write("[")
        self._stack.callback(file.write, "\n]\n")

        first = self.rows

        def write(cells: Row, details: Row) -> None:
            file.write(f"{',' if self.rows > first else ''}\n{json_line(details).rstrip()}")
            file.flush()

        self._sinks.append(write)

    def to_terminal(self, columns: Mapping[str, Literal["left", "right"]], cells: Callable[[Row], Sequence[Cell]], *, width: int) -> None:
        """A table on stdout when all rows are there, unless there are none.

        Args:
            columns: headings, and the side that each is aligned to.
            cells: of one row.
            width: in letters, where stdout is no terminal; a long first column makes it wider.
        """
        shown: list[Sequence[Cell]] = []
        self._sinks.append(lambda row, details: shown.append(cells(row)))
        self._stack.callback(lambda: _print_table(columns, shown, width) if shown else None)

    def add(self, cells: Row, details: Row | None = None) -> None:
        """Take a row: cells for people and spreadsheets, details for programs (the same if None)."""
        for write in self._sinks:
            write(cells, cells if details is None else details)
        self.rows += 1

    def check(self) -> None:
        """
        Raises:
            OutputError: a file that rows were written to has been removed or replaced.
        """
        for file in self._files:
            file.check()

    def _lines(self, target: Path | IO[str], *, errors: str, append: bool = False) -> Callable[[str], None]:
        """What takes whole lines."""
        if isinstance(target, Path):
            file = LineFile(target, append=append)
            self._files.append(file)
            self._stack.callback(file.close)
            return lambda text: file.write(text.encode("utf-8", errors))

        def put(text: str) -> None:
            target.write(text)
            target.flush()

        return put


def json_line(values: Row) -> str:
    """Values as JSON on one line, with its end."""
    return json.dumps(values, ensure_ascii=False) + "\n"


def _print_table(columns: Mapping[str, Literal["left", "right"]], rows: Sequence[Sequence[Cell]], width: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, side in columns.items():
        table.add_column(name, justify=side, overflow="fold")
    for row in rows:
        styled = [(cell, "") if isinstance(cell, str) else cell for cell in row]
        table.add_row(*[Text(printable(text, one_line=True), style) for text, style in styled])
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        longest = max(len(printable(row[0] if isinstance(row[0], str) else row[0][0], one_line=True)) for row in rows)
        console = Console(width=max(width, longest + 60), markup=False, highlight=False)
    console.print(table)
