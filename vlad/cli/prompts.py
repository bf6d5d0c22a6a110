"""`vlad prompts`: which prompt sets there are, what they say, and whether your own is sound. Works without a model."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from vlad.prompts.vectors import PromptVectors

app = typer.Typer(help="Prompt sets: list the shipped ones, show their sentences, check your own.", no_args_is_help=True)


class Format(StrEnum):
    text = "text"
    json = "json"


@app.command("list")
def list_prompts() -> None:
    """List the shipped prompt sets.

    The numbers are the sentences of the normal and of the anomalous side for the set's default class name.
    """
    from rich.console import Console
    from rich.table import Table

    from vlad.prompts import available_prompts

    table = Table("name", "description")
    table.add_column("normal", justify="right")
    table.add_column("anomalous", justify="right")
    table.add_column("source")
    for info in available_prompts():
        table.add_row(info.name, info.description, str(info.n_normal), str(info.n_anomalous), info.source)
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


@app.command("show")
def show_prompts(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped set, a YAML file, or learned vectors (.safetensors).")],
    class_name: Annotated[str | None, typer.Option(help="What the pictures show, such as 'metal nut' or a folder name.")] = None,
    output: Annotated[Format, typer.Option("--format", help="Plain lines, or one JSON object.")] = Format.text,
) -> None:
    """Print every sentence of both sides.

    Example: vlad prompts show electronics --class-name pcb1
    """
    from vlad.errors import PromptError
    from vlad.prompts import PromptEnsemble

    try:
        ensemble = PromptEnsemble.load(name)
        normal, anomalous = ensemble.sentences(class_name)
        thing = ensemble.noun(class_name)
    except PromptError as error:
        _fail(str(error))
    if ensemble.vectors is not None:
        learned = ensemble.vectors
        about = {"name": learned.name, "model": learned.model, "source": learned.source, "layers": learned.layers, "width": learned.width}
        typer.echo(json.dumps(about, indent=2, ensure_ascii=False) if output is Format.json else _of_vectors(learned))
        return
    if output is Format.json:
        shown = {
            "name": ensemble.name,
            "class_name": class_name,
            "noun": thing,
            "fingerprint": ensemble.fingerprint,
            "normal": normal,
            "anomalous": anomalous,
        }
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    typer.echo("\n".join([f"# normal: {len(normal)} sentences", *normal, "", f"# anomalous: {len(anomalous)} sentences", *anomalous]))


@app.command("check")
def check_file(file: Annotated[Path, typer.Argument(metavar="FILE", help="The YAML file of a prompt set, or learned vectors.")]) -> None:
    """Check a prompt set of your own: every problem with its line, or what the set says.

    Exit code 2 when there is a problem. Example: vlad prompts check my_prompts.yaml
    """
    from vlad.errors import PromptError
    from vlad.prompts import PromptEnsemble, check_prompts

    try:
        if file.suffix == ".safetensors" and (learned := PromptEnsemble.load(file).vectors) is not None:
            typer.echo(f"{file}: sound; {_of_vectors(learned)}")
            return
        if problems := check_prompts(file):
            _fail("\n".join(map(str, problems)))
        normal, anomalous = PromptEnsemble.load(file).sentences()
    except PromptError as error:
        _fail(str(error))
    typer.echo(f"{file}: sound; {len(normal)} normal and {len(anomalous)} anomalous sentences, such as\n  {normal[0]}\n  {anomalous[0]}")


def _of_vectors(learned: PromptVectors) -> str:
    layers = "" if learned.layers == 1 else f" for each of the last {learned.layers} blocks"
    return f"no sentences, but two vectors of {learned.width} numbers{layers}, learned with {learned.model}; source: {learned.source}"


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)
