"""`vlad ask`: questions about a picture, or one question about every picture of a folder."""

from __future__ import annotations

import csv
import json
import os
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from vlad.cli import options
from vlad.errors import ConfigError, ImageReadError, VladError
from vlad.untrusted import inert, printable

if TYPE_CHECKING:
    from vlad.vlm.answer import Answer
    from vlad.vlm.inspector import Inspector

INTERRUPTED = 130
COLUMNS = ("image_path", "verdict", "score", "threshold", "defects", "agrees", "answer", "model", "seconds", "problems")


class AskFormat(StrEnum):
    text = "text"
    json = "json"
    csv = "csv"


@options.spread
def ask(
    image: Annotated[str, typer.Argument(metavar="IMAGE|DIR|GLOB", help="A picture; a folder or quoted glob asks about every picture.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask.")] = "What is wrong?",
    *,
    references: options.References = None,
    vlm: Annotated[
        str,
        typer.Option(
            metavar="NAME|URL|none",
            help="Who explains: none (the describer, which needs no VLM), the URL of an OpenAI-compatible server "
            "(http://localhost:8000/v1, with #MODEL where it serves several), or a model for transformers by hub id or folder.",
        ),
    ] = "none",
    interactive: Annotated[bool, typer.Option("--interactive", "-i", help="Ask further questions about the same picture.")] = False,
    knowledge: Annotated[
        str | None, typer.Option(metavar="TEXT|FILE", help="For a VLM: what is normal here and what is not; a file, or a text.")
    ] = None,
    vocabulary: Annotated[str, typer.Option(metavar="NAME|FILE", help="Types of defects of the describer.")] = "generic",
    time_limit: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="For one reply of a VLM; what has come by then is kept.")
    ] = 120.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one reply of a VLM.")] = 512,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with the evidence; short for --format json.")] = False,
    output_format: Annotated[AskFormat | None, typer.Option("--format", help="text, json or csv.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for answers.csv, answers.jsonl and each picture with its marked places.", show_default=False),
    ] = None,
    made_of: options.DetectorOptions,
    recursive: Annotated[bool, typer.Option(help="Take folders with all their subfolders.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """What is wrong with this picture?

    The detector decides whether and where something is wrong; the describer, or a vision-language model, says what. Where the VLM
    disagrees, the answer says so. A VLM that does not answer loses nothing: the describer's answer stands in.

    \b
    vlad ask part.png
    vlad ask part.png "How bad is it?" --references good_parts/ --json
    vlad ask photos/ "What is wrong?" --out answers/
    vlad ask part.png "Is the thread damaged?" --vlm http://localhost:8000/v1 --interactive

    Keys of servers come from the environment (VLAD_VLM_API_KEY), never from the command line.

    Exit codes: 0 done; 2 usage; 3 some picture could not be read, or the VLM did not answer (the report says which); 70 a bug; 130
    interrupted.
    """
    from vlad.vlm import inspector_for
    from vlad.vlm.backends import load_vlm
    from vlad.vlm.backends.base import Limits
    from vlad.vlm.inspector import checked_question

    chosen = AskFormat.json if as_json else output_format or AskFormat.text
    if as_json and output_format not in (None, AskFormat.json):
        raise ConfigError(f"--json and --format {output_format} exclude each other; leave one out")
    if os.path.exists(question):  # noqa: PTH110  Path's own fails where a question is too long for a file's name
        raise ConfigError(
            f"expected one picture and a question, got a second path {question}; ask about several as a folder or a quoted glob"
        )
    question = checked_question(question)
    found = _find(image, recursive)
    many = len(found) > 1 or Path(image).is_dir()
    if interactive and (many or chosen is not AskFormat.text):
        raise ConfigError("--interactive takes one picture and prints text; name a single picture and leave --json and --format out")
    if interactive and out is not None:
        raise ConfigError("--interactive writes no files; leave --out out")
    options.check_out(out, found)
    backend = load_vlm(vlm)  # before the detector, so that a mistyped name is told at once
    detector = made_of.load(quiet)
    failed = options.compare_with(detector, references, quiet)
    limits = Limits(tokens=max_tokens, seconds=time_limit)
    inspector = inspector_for(detector, vlm=backend, knowledge=knowledge or "", vocabulary=vocabulary, limits=limits)
    if not quiet and inspector.backend is not None:
        typer.echo(printable(f"vlm: {inspector.backend.name}", one_line=True), err=True)
    try:
        if interactive:
            complete = _converse(inspector, found[0], question)
        else:
            complete = _ask_each(inspector, found, question, chosen, out, many=many, quiet=quiet)
    except KeyboardInterrupt:
        typer.echo("vlad: interrupted; what was answered is complete", err=True)
        raise typer.Exit(INTERRUPTED) from None
    for line in failed:
        typer.echo(f"vlad: left out of the references: {line}", err=True)
    if failed or not complete:
        raise typer.Exit(options.INPUT_UNREADABLE)


def _find(image: str, recursive: bool) -> list[Path]:
    from vlad.pictures.reading import find_images

    try:
        return find_images([image], recursive=recursive)
    except ImageReadError as error:
        typer.echo(f"vlad: {error}", err=True)
        raise typer.Exit(options.INPUT_UNREADABLE) from None


def _converse(inspector: Inspector, path: Path, question: str) -> bool:
    """Questions from stdin until it ends or a line is empty; True if every one was answered as asked."""
    try:
        conversation = inspector.converse(path)
    except ImageReadError as error:
        typer.echo(f"vlad: {error}", err=True)
        return False
    complete = True
    while question:
        answer = conversation.ask(question)
        typer.echo(printable(answer.text))
        complete &= _note_problems(path, answer)
        typer.echo("? ", nl=False, err=True)
        question = sys.stdin.readline().strip()
    return complete


def _ask_each(
    inspector: Inspector, found: list[Path], question: str, chosen: AskFormat, out: Path | None, *, many: bool, quiet: bool
) -> bool:
    """Answers as they come, each on disk before the next; True if every picture was read and answered as asked."""
    from tqdm import tqdm

    complete = True
    with ExitStack() as stack:
        writer = stack.enter_context(AnswerWriter(found, question, out, chosen, many=many))
        for path in tqdm(found, unit="picture", disable=quiet or not many or not sys.stderr.isatty(), leave=False):
            try:
                answer = inspector.ask(path, question)
            except ImageReadError as error:
                typer.echo(f"vlad: {error}", err=True)
                writer.add_error(path, error)
                complete = False
                continue
            complete &= _note_problems(path, answer)
            writer.add(path, answer)
    return complete


def _note_problems(path: Path, answer: Answer) -> bool:
    for problem in answer.problems:
        typer.echo(printable(f"vlad: {path}: {problem}", one_line=True), err=True)
    return not answer.problems or answer.parse_failures == len(answer.problems)


class AnswerWriter:
    """Prints answers and, given a folder, writes answers.csv, answers.jsonl and each picture with its marked places.

    Args:
        paths: all pictures of the run, for file names that do not collide.
        question: what is asked of each.
        out: folder, made if missing; None writes none.
        output_format: what to print; text is the answer itself for one picture, a table for several.
        many: whether there are several pictures.
    """

    def __init__(self, paths: list[Path], question: str, out: Path | None, output_format: AskFormat, *, many: bool) -> None:
        from vlad.cli.results import unique_stems

        self._stems = unique_stems(paths)
        self._question, self._out, self._format, self._many = question, out, output_format, many
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> AnswerWriter:
        self._stack = ExitStack()
        self._csv: list[tuple[IO[str], csv.DictWriter[str]]] = []
        self._jsonl: IO[str] | None = None
        if self._out is not None:
            self._out.mkdir(parents=True, exist_ok=True)
            table = (self._out / "answers.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape")
            self._add_csv(self._stack.enter_context(table))
            lines = (self._out / "answers.jsonl").open("w", encoding="utf-8", errors="surrogateescape")
            self._jsonl = self._stack.enter_context(lines)
        if self._format is AskFormat.csv:
            self._add_csv(sys.stdout)
        elif self._format is AskFormat.json and self._many:
            sys.stdout.write("[")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self._format is AskFormat.json and self._many:
            sys.stdout.write("\n]\n")
        elif self._format is AskFormat.text and self._many and self._rows:
            _print_table(self._rows)

    def _add_csv(self, file: IO[str]) -> None:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        self._csv.append((file, writer))

    def add(self, path: Path, answer: Answer) -> None:
        """Take an answer; it is on disk when this returns."""
        evidence = answer.evidence
        row = {
            "image_path": str(path),
            "verdict": answer.verdict,
            "score": f"{evidence.score:.4f}",
            "threshold": "" if evidence.threshold is None else f"{evidence.threshold:.4f}",
            "defects": inert("; ".join(f"{defect.type} ({defect.confidence:.2f}) at {defect.location}" for defect in answer.defects)),
            "agrees": "" if answer.agrees is None else str(answer.agrees).lower(),
            "answer": inert(answer.text),
            "model": answer.model,
            "seconds": f"{answer.seconds:.3f}",
            "problems": inert("; ".join(answer.problems)),
        }
        if self._out is not None:
            self._draw(path, answer)
        self._write(row, answer.to_dict() | {"error": None})
        if self._format is AskFormat.text and not self._many:
            typer.echo(printable(answer.text))

    def add_error(self, path: Path, error: VladError) -> None:
        """Take a picture that could not be read."""
        row = {"image_path": str(path), "problems": str(error)}
        empty = {"question": self._question, "text": None, "verdict": None, "defects": [], "agrees": None, "problems": [str(error)]}
        self._write(row, empty | {"evidence": {"image_path": str(path)}, "error": str(error)})

    def _draw(self, path: Path, answer: Answer) -> None:
        from PIL import Image

        from vlad.pictures.reading import read_image
        from vlad.visualization import draw_places

        assert self._out is not None
        target = self._out / f"{self._stems[path]}_places.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        boxes = [(place.label, place.box) for place in answer.evidence.places]
        Image.fromarray(draw_places(read_image(path), boxes, max_side=1600)).save(target)

    def _write(self, row: dict[str, Any], details: dict[str, Any]) -> None:
        if self._format is AskFormat.json:
            if self._many:
                sys.stdout.write(f"{',' if self._rows else ''}\n{json.dumps(details, ensure_ascii=False)}")
            else:
                sys.stdout.write(json.dumps(details, ensure_ascii=False, indent=2) + "\n")
            sys.stdout.flush()
        self._rows.append(row)
        for file, writer in self._csv:
            writer.writerow(row)
            file.flush()
        if self._jsonl is not None:
            self._jsonl.write(json.dumps(details, ensure_ascii=False) + "\n")
            self._jsonl.flush()


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("picture", "verdict", "score", "defects", "answer"):
        table.add_column(column, justify="right" if column == "score" else "left", overflow="fold")
    for row in rows:
        if "verdict" not in row:
            table.add_row(Text(printable(row["image_path"], one_line=True)), Text("error", style="yellow"), "", "", "")
            continue
        style = {"anomalous": "bold red", "normal": "green"}.get(row["verdict"], "")
        cells = [Text(printable(row[key], one_line=True)) for key in ("image_path", "score", "defects", "answer")]
        table.add_row(cells[0], Text(row["verdict"], style=style), *cells[1:])
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(width=200, markup=False, highlight=False)
    console.print(table)
