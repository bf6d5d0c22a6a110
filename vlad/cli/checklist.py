"""`vlad checklist`: missing, extra and swapped parts, by questions that a vision-language model writes from normal pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vlad.cli import options
from vlad.errors import ConfigError, ImageReadError
from vlad.untrusted import printable

NOT_ALL_CHECKED, INTERRUPTED = 3, 130

app = typer.Typer(
    help="Missing, extra and swapped parts: a checklist that a vision-language model writes from normal pictures.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Vlm = Annotated[str, typer.Option(metavar="NAME|URL", help="Who writes and answers it, as in `vlad ask`; the describer cannot.")]


@app.command()
def write(
    references: Annotated[list[str], typer.Argument(metavar="REFERENCES...", help="Normal pictures: files, folders or quoted globs.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The checklist, JSON that can be read and corrected.")],
    vlm: Vlm,
    class_name: Annotated[str, typer.Option(metavar="NAME", help="What the pictures show.")] = "object",
    knowledge: Annotated[str | None, typer.Option(metavar="TEXT|FILE", help="What is normal here; a .md or .txt file, or a text.")] = None,
    items: Annotated[int, typer.Option(min=1, help="Questions to ask for.")] = 8,
    wordings: Annotated[int, typer.Option(min=0, help="Further wordings of each question, which vote with it.")] = 4,
    accuracy: Annotated[float, typer.Option(help="Share of the normal pictures on which a question must hold, in (0, 1].")] = 0.8,
    recursive: Annotated[bool, typer.Option(help="Take folders with all their subfolders.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a checklist from normal pictures; questions that do not hold on them are dropped.

    \b
    vlad checklist write good_boxes/ --class-name "juice box" --vlm http://localhost:8000/v1 --out boxes.json
    """
    from vlad.pictures.reading import find_images
    from vlad.vlm.backends import load_vlm
    from vlad.vlm.checklist import write_checklist
    from vlad.vlm.inspector import read_knowledge

    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out must be a file in a folder that is there, got {out}; choose another name")
    try:
        found = find_images(references, recursive=recursive)
        notes = read_knowledge(knowledge or "")
        checklist = write_checklist(
            load_vlm(vlm),
            found,
            class_name=class_name,
            knowledge=notes,
            most_items=items,
            wordings=wordings,
            least_accuracy=accuracy,
            on_step=None if quiet else lambda line: typer.echo(printable(line, one_line=True), err=True),
        )
    except ImageReadError as error:
        typer.echo(f"vlad: {error}", err=True)
        raise typer.Exit(NOT_ALL_CHECKED) from None
    except KeyboardInterrupt:
        typer.echo("vlad: interrupted; no checklist was written", err=True)
        raise typer.Exit(INTERRUPTED) from None
    checklist.save(out)
    if not quiet:
        typer.echo(f"{len(checklist.items)} questions kept, {len(checklist.dropped)} dropped: {out}", err=True)


@app.command()
def check(
    image: Annotated[list[str], typer.Argument(metavar="IMAGE|DIR|GLOB...", help="Pictures to hold against the checklist.")],
    checklist: Annotated[Path, typer.Option(metavar="FILE", help="Of `vlad checklist write`.")],
    vlm: Vlm,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    fail_on_anomaly: Annotated[bool, typer.Option("--fail-on-anomaly", help="Exit with 1 if some picture fails an item.")] = False,
    recursive: Annotated[bool, typer.Option(help="Take folders with all their subfolders.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer a checklist on pictures and name the items that fail.

    \b
    vlad checklist check box.png --checklist boxes.json --vlm http://localhost:8000/v1

    Exit codes: 0 done; 1 some item failed and --fail-on-anomaly was given; 2 usage; 3 some picture could not be read or answered; 70 a bug;
    130 interrupted.
    """
    from vlad.errors import VlmError
    from vlad.pictures.reading import find_images
    from vlad.vlm.backends import load_vlm
    from vlad.vlm.checklist import Checklist
    from vlad.vlm.checklist import check as hold_against

    questions = Checklist.load(checklist)
    backend = load_vlm(vlm)
    complete, failed = True, False
    try:
        found = find_images(image, recursive=recursive)
    except ImageReadError as error:
        typer.echo(f"vlad: {error}", err=True)
        raise typer.Exit(NOT_ALL_CHECKED) from None
    if not quiet and backend is not None:
        typer.echo(printable(f"vlm: {backend.identify()}", one_line=True), err=True)
        if backend.name != questions.model:
            typer.echo(printable(f"note: {questions.model} wrote this checklist; what it can tell, another may not"), err=True)
    try:
        for path in found:
            try:
                result = hold_against(backend, questions, path)
            except (ImageReadError, VlmError) as error:
                if backend is None:
                    raise
                typer.echo(printable(f"vlad: {error}" if isinstance(error, ImageReadError) else f"vlad: {path}: {error}"), err=True)
                if as_json:
                    typer.echo(json.dumps({"image_path": str(path), "error": str(error)}, ensure_ascii=False))
                complete = False
                continue
            row: dict[str, Any] = result.to_dict() | {"error": None}
            typer.echo(json.dumps(row, ensure_ascii=False) if as_json else printable(f"{path}: {result}"))
            if result.unread:
                typer.echo(f"vlad: {path}: {result.unread} answers could not be read as yes or no", err=True)
            complete &= result.score is not None
            failed |= bool(result.failed)
    except KeyboardInterrupt:
        typer.echo("vlad: interrupted; what was answered is complete", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not complete:
        raise typer.Exit(NOT_ALL_CHECKED)
    if failed and fail_on_anomaly:
        raise typer.Exit(1)
