"""`vlad fit`: remember normal pictures in a folder that `vlad detect --model FOLDER` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlad.cli import options
from vlad.errors import ConfigError, ImageReadError


@options.spread
def fit(
    references: Annotated[
        list[str], typer.Argument(metavar="REFERENCES...", help="Normal pictures, folders or quoted globs.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; a detector that is there already is replaced.", show_default=False)],
    *,
    made_of: options.DetectorOptions,
    quiet: options.Quiet = False,
) -> None:
    """Remember what good parts look like, and write it into a folder.

    1 to 16 pictures are usual, 1,000 are possible (--coreset 0.1). The folder holds settings, what the model saw, and thresholds; neither
    the model's weights nor the pictures.

    \b
    vlad fit good_parts/ --out models/nut --class-name "metal nut"
    vlad fit good_parts/ --out models/nut --model dinov2-small --rotations 8
    vlad detect new_parts/ --model models/nut --out results/

    Exit codes: 0 done; 2 usage; 3 some reference could not be read (the folder was written from the rest, unless there was none).
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out must be a folder, {out} is a file; choose another name")
    detector = made_of.load(quiet)
    try:
        failed = options.fit(detector, references, quiet)
    except ImageReadError as error:
        options.complain(error)
        raise typer.Exit(options.INPUT_UNREADABLE) from None
    detector.save(out)
    for line in failed:
        options.complain(f"left out: {line}")
    if not quiet:
        typer.echo(f"written: {out}", err=True)
    if failed:
        raise typer.Exit(options.INPUT_UNREADABLE)
