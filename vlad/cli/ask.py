"""`vlad ask`: questions about a picture, or one question about every picture of a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlad.cli import options
from vlad.cli.answers import AnswerWriter, AskFormat
from vlad.errors import ConfigError, ImageReadError
from vlad.untrusted import printable

if TYPE_CHECKING:
    from vlad.vlm.answer import Answer
    from vlad.vlm.inspector import Inspector

INTERRUPTED = 130


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
    refute: Annotated[
        bool,
        typer.Option(
            "--refute", help="Show a VLM each marked place beside the same place of a reference, and say where it sees no difference."
        ),
    ] = False,
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
    if refute and vlm in (None, "none"):
        raise ConfigError("--refute asks a vision-language model about each marked place; name one with --vlm")
    backend = load_vlm(vlm)  # before the detector, so that a mistyped name is told at once
    detector = made_of.load(quiet, references=bool(references))
    failed = options.compare_with(detector, references, quiet)
    limits = Limits(tokens=max_tokens, seconds=time_limit)
    inspector = inspector_for(detector, vlm=backend, knowledge=knowledge or "", vocabulary=vocabulary, limits=limits, refute=refute)
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
        options.complain(f"left out of the references: {line}")
    if failed or not complete:
        raise typer.Exit(options.INPUT_UNREADABLE)


def _find(image: str, recursive: bool) -> list[Path]:
    from vlad.pictures.reading import find_images

    try:
        return find_images([image], recursive=recursive)
    except ImageReadError as error:
        options.complain(error)
        raise typer.Exit(options.INPUT_UNREADABLE) from None


def _converse(inspector: Inspector, path: Path, question: str) -> bool:
    """Questions from stdin until it ends or a line is empty; True if every one was answered as asked."""
    try:
        conversation = inspector.converse(path)
    except ImageReadError as error:
        options.complain(error)
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
    with AnswerWriter(found, question, out, chosen, many=many, read=inspector.detector.reader) as writer:
        for path in tqdm(found, unit="picture", disable=quiet or not many or not sys.stderr.isatty(), leave=False):
            try:
                answer = inspector.ask(path, question)
            except ImageReadError as error:
                options.complain(error)
                writer.add_error(path, error)
                complete = False
                continue
            complete &= _note_problems(path, answer)
            writer.add(path, answer)
    return complete


def _note_problems(path: Path, answer: Answer) -> bool:
    for problem in answer.problems:
        options.complain(f"{path}: {problem}")
    return not answer.problems or answer.parse_failures == len(answer.problems)
