"""The command `vlad`: one file per command; nothing heavy is imported before a command needs it."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from typing import Annotated

import typer

from vlad import __version__
from vlad.cli import ask, calibrate, checklist, convert, demo, detect, doctor, eval, export, fit, prompts, references, serve
from vlad.disk import FULL, cannot_write
from vlad.errors import OutputError, VladError, VladWarning
from vlad.untrusted import printable

USAGE_ERROR, CRASH, NOT_WRITTEN = 2, 70, 74

# Read by OpenMP when torch is loaded. Threads that wait by spinning take the cores from whoever they wait for: beside another torch
# program a picture took `lite` 2.3 s instead of 0.07 s; alone it makes no difference (eval/bench/busy.py). A value of yours is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    help="Zero-shot and few-shot detection of visual anomalies: is something wrong with a picture, and where.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="detect")(detect.detect)
app.command(name="fit")(fit.fit)
app.command(name="export")(export.export)
app.command(name="convert")(convert.convert)
app.command(name="calibrate")(calibrate.calibrate)
app.add_typer(references.app, name="references")
app.command(name="ask")(ask.ask)
app.add_typer(checklist.app, name="checklist")
app.add_typer(eval.app, name="eval")
app.command(name="demo")(demo.demo)
app.command(name="serve")(serve.serve)
app.add_typer(prompts.app, name="prompts")
app.command(name="doctor")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vlad {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. Errors that vlad raises on purpose become one line and exit code 2, or 74 where something could not be
    written; a crash shows its traceback and exits with 70, never with the 1 of a found anomaly."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names need not be valid UTF-8
            stream.reconfigure(errors="backslashreplace")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends like Ctrl-C: what was done is complete
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_note
            app()
    except (VladError, OSError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            error = cannot_write(error.filename or "the output", error)
        print(printable(f"vlad: {error}"), file=sys.stderr)
        sys.exit(NOT_WRITTEN if isinstance(error, OutputError) else USAGE_ERROR)
    except Exception:
        traceback.print_exc()
        print("vlad: this is a bug; please report it with the lines above", file=sys.stderr)
        sys.exit(CRASH)
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_note(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None, line: str | None = None
) -> None:
    """vlad's warnings as notes without a place in the code; those of libraries are no business of a user of the command."""
    if issubclass(category, VladWarning):
        print(printable(f"note: {message}"), file=sys.stderr)
