"""`vlad references`: look into a saved detector, correct it, see what was done, go back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlad.cli import options
from vlad.errors import ConfigError, VladWarning
from vlad.untrusted import printable

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.references.labels import Labelled
    from vlad.references.memory import Reference

app = typer.Typer(
    help="Good pictures that a saved detector compares with, and pictures that were labelled: correct them, see what was done, go back.",
    no_args_is_help=True,
)
_Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="Pictures, folders or quoted globs.", show_default=False)]


@app.callback()
def _model(
    context: typer.Context, model: Annotated[Path, typer.Argument(metavar="MODEL", help="A folder of `vlad fit`.", show_default=False)]
) -> None:
    context.obj = model


@app.command(name="list")
def list_(context: typer.Context) -> None:
    """What the detector remembers: its references, each with its score against the others, and labelled pictures.

    \b
    vlad references models/nut list
    """
    detector = _load(context.obj)
    typer.echo(options.describe(detector))
    memory = detector.memory
    if memory is not None:
        if memory.calibration is not None:
            typer.echo(memory.calibration.guarantee(detector.config.calibration, detector.config.fpr_limit))
        for number, reference in memory.references.items():
            score = f"{memory.scores[number][0]:.4f}" if number in memory.scores else "     -"
            _row(f"#{number + 1:<4}", score, reference)
    labelled = () if detector.labels is None else detector.labels.pictures
    for one in sorted(labelled, key=lambda one: (one.is_anomalous, -one.score)):
        _row("bad  " if one.is_anomalous else "good ", f"{one.score:.4f}", one.picture)
    for line in () if detector.labels is None else detector.labels.report():
        typer.echo(line)


@app.command()
def add(
    context: typer.Context,
    files: _Files,
    bad: Annotated[
        bool, typer.Option("--bad", help="They are bad: the threshold comes to lie below them, as far as the good ones allow.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """These are good: remember them, so that their like is no false alarm again. Or, with --bad, these were missed.

    \b
    vlad references models/nut add false_alarm.png
    vlad references models/nut add --bad missed.png
    """
    found, failed = options.find(files)

    def change(detector: AnomalyDetector) -> None:
        if bad:
            detector.calibrate(bad=found, add=True)
        else:
            detector.add_references(found)

    _change(context.obj, change, failed, quiet)


@app.command()
def remove(
    context: typer.Context,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE|#NUMBER...", help="As `list` names them; the files need not be there.", show_default=False)
    ],
    quiet: options.Quiet = False,
) -> None:
    """Forget references or labelled pictures.

    \b
    vlad references models/nut remove good/007.png "#12"
    """

    def change(detector: AnomalyDetector) -> None:
        references, labelled = _named(detector, files)
        if labelled:
            detector.remove_labels(labelled)
        if references:
            detector.remove_references(references)

    _change(context.obj, change, [], quiet)


@app.command()
def log(context: typer.Context) -> None:
    """What was done to the detector, and when; the last act last.

    \b
    vlad references models/nut log
    """
    from vlad.history import in_words
    from vlad.persistence import read_state

    for one in read_state(context.obj).history:
        typer.echo(printable(in_words(one), one_line=True))


@app.command()
def undo(context: typer.Context, quiet: options.Quiet = False) -> None:
    """Go back to the state before the last act; again, for a further step.

    \b
    vlad references models/nut undo
    """
    from vlad.history import locked
    from vlad.history import undo as step_back

    with locked(context.obj) as folder:
        step_back(folder)
        detector = _load(folder)
        options.draw_chart(detector, folder)
    if not quiet:
        typer.echo(options.describe(detector), err=True)


def _load(folder: Path) -> AnomalyDetector:
    from vlad.detector import AnomalyDetector

    return AnomalyDetector.load(folder)


def _change(model: Path, change: Callable[[AnomalyDetector], None], failed: list[str], quiet: bool) -> None:
    """Load, change, save, and say what came of it."""
    from vlad.history import locked

    with locked(model) as folder:
        detector = _load(folder)
        before = len(detector.history)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", VladWarning)
            change(detector)
        detector.save(folder)
        options.draw_chart(detector, folder)
    for one in said:
        message = str(one.message)
        if message.startswith("left out of the"):
            failed.append(message)
        elif issubclass(one.category, VladWarning):
            typer.echo(printable(f"note: {message}", one_line=True), err=True)
    if not quiet:
        if len(detector.history) == before:
            typer.echo("nothing has changed", err=True)
        typer.echo(options.describe(detector), err=True)
        for missed in () if detector.labels is None else detector.labels.missed:
            line = f"still missed: {missed.score:.4f}  {missed.picture.place}: it looks like the good ones"
            typer.echo(printable(line, one_line=True), err=True)
    for line in failed:
        options.complain(line)
    if failed:
        raise typer.Exit(options.INPUT_UNREADABLE)


def _named(detector: AnomalyDetector, names: list[str]) -> tuple[list[Reference], list[Labelled]]:
    """References and labelled pictures by path or number.

    Raises:
        ConfigError: there is none of that name.
    """
    numbered = {} if detector.memory is None else {f"#{number + 1}": one for number, one in detector.memory.references.items()}
    labels = () if detector.labels is None else detector.labels.pictures
    references: list[Reference] = []
    labelled: list[Labelled] = []
    for name in names:
        path = os.path.abspath(name)  # noqa: PTH100  as references keep it, without following links
        found = [one for number, one in numbered.items() if number == name or (one.path is not None and one.place == path)]
        marked = [one for one in labels if one.picture.path is not None and one.picture.place == path]
        if not found and not marked:
            raise ConfigError(f"{name} is neither a reference nor a labelled picture of this detector; `list` shows all")
        references += found
        labelled += marked
    return references, labelled


def _row(kind: str, score: str, picture: Reference) -> None:
    gone = "" if picture.path is None or Path(picture.place).is_file() else "  (not there any more)"
    typer.echo(printable(f"{kind} {score}  {picture.place}{gone}", one_line=True))
