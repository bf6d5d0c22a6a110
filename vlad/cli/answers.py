"""Answers of `vlad ask`, written as they come."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import typer

from vlad.disk import held
from vlad.errors import VladError
from vlad.output.names import unique_stems
from vlad.output.tables import Cell, Row, TableWriter
from vlad.untrusted import printable

if TYPE_CHECKING:
    from vlad.pictures.reading import Reader
    from vlad.vlm.answer import Answer

COLUMNS = ("image_path", "verdict", "score", "threshold", "defects", "agrees", "answer", "model", "seconds", "problems")
_SHOWN: dict[str, Literal["left", "right"]] = {"picture": "left", "verdict": "left", "score": "right", "defects": "left", "answer": "left"}


class AskFormat(StrEnum):
    text = "text"
    json = "json"
    csv = "csv"


class AnswerWriter:
    """Prints answers and, given a folder, writes answers.csv, answers.jsonl and each picture with its marked places.

    Args:
        paths: all pictures of the run, for file names that do not collide.
        question: what is asked of each.
        out: folder, made if missing; None writes none.
        output_format: what to print; text is the answer itself for one picture, a table for several.
        many: whether there are several pictures.
        read: how the detector reads them.
    """

    def __init__(self, paths: list[Path], question: str, out: Path | None, output_format: AskFormat, *, many: bool, read: Reader) -> None:
        self._stems = unique_stems(paths)
        self._question, self._out, self._format, self._many, self._read = question, out, output_format, many, read

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        if self._out is not None:
            self._stack.enter_context(held(self._out))
        self._table = self._stack.enter_context(TableWriter(COLUMNS))
        if self._out is not None:
            self._table.to_csv(self._out / "answers.csv")
            self._table.to_json_lines(self._out / "answers.jsonl")
        if self._format is AskFormat.csv:
            self._table.to_csv(sys.stdout)
        elif self._many and self._format is AskFormat.json:
            self._table.to_json_array(sys.stdout)
        elif self._many:
            self._table.to_terminal(_SHOWN, _cells, width=200)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, path: Path, answer: Answer) -> None:
        """Take an answer; it is on disk when this returns."""
        evidence = answer.evidence
        row = {
            "image_path": str(path),
            "verdict": answer.verdict,
            "score": f"{evidence.score:.4f}",
            "threshold": "" if evidence.threshold is None else f"{evidence.threshold:.4f}",
            "defects": "; ".join(f"{defect.type} ({defect.confidence:.2f}) at {defect.location}" for defect in answer.defects),
            "agrees": "" if answer.agrees is None else str(answer.agrees).lower(),
            "answer": answer.text,
            "model": answer.model,
            "seconds": f"{answer.seconds:.3f}",
            "problems": "; ".join(answer.problems),
        }
        if self._out is not None:
            self._draw(path, answer, self._out)
        self._write(row, answer.to_dict() | {"error": None})
        if self._format is AskFormat.text and not self._many:
            typer.echo(printable(answer.text))

    def add_error(self, path: Path, error: VladError) -> None:
        """Take a picture that could not be read."""
        row = {"image_path": str(path), "problems": str(error)}
        empty = {"question": self._question, "text": None, "verdict": None, "defects": [], "agrees": None, "problems": [str(error)]}
        self._write(row, empty | {"evidence": {"image_path": str(path)}, "error": str(error)})

    def _write(self, row: Row, details: Row) -> None:
        self._table.add(row, details)
        if self._format is AskFormat.json and not self._many:  # one object instead of an array
            typer.echo(json.dumps(details, ensure_ascii=False, indent=2))

    def _draw(self, path: Path, answer: Answer, out: Path) -> None:
        from PIL import Image

        from vlad.visualization import draw_places

        target = out / f"{self._stems[path]}_places.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        boxes = [(place.label, place.box) for place in answer.evidence.places]
        Image.fromarray(draw_places(self._read(path), boxes, max_side=1600)).save(target)


def _cells(row: Row) -> tuple[Cell, ...]:
    if "verdict" not in row:
        return row["image_path"], ("error", "yellow"), "", "", ""
    style = {"anomalous": "bold red", "normal": "green"}.get(row["verdict"], "")
    return row["image_path"], (row["verdict"], style), row["score"], row["defects"], row["answer"]
