"""`vlad detect`: score pictures, show where something is wrong, write results as they come."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlad.errors import ConfigError, ImageReadError

if TYPE_CHECKING:
    from vlad.cli.results import ResultWriter
    from vlad.detector import AnomalyDetector

ANOMALY_FOUND, INPUT_UNREADABLE, INTERRUPTED, PIPE_CLOSED = 1, 3, 130, 141


class OutputFormat(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"


def detect(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE|DIR|GLOB...", help="Pictures, folders or quoted globs.", show_default=False)
    ],
    class_name: Annotated[
        str | None, typer.Option(help="What the pictures show, a noun: 'metal nut'. A CLIP finds more with better words.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="auto, a preset (see `vlad doctor`), ARCHITECTURE:TAG, ARCHITECTURE:FILE, a hub id or a folder.")
    ] = "auto",
    prompts: Annotated[
        str | None, typer.Option(help="A prompt set (see `vlad prompts list`) or a YAML file.  [default: winclip]", show_default=False)
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="A score above it is anomalous.  [default: 0.5, the text's]", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results.csv, results.jsonl, and overlay, mask and raw map of each picture; replaces older tables there."
        ),
    ] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="What to print.")] = OutputFormat.table,
    tile: Annotated[
        int | None, typer.Option(min=32, metavar="N", help="Look at pictures larger than N pixels in overlapping tiles of N.")
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Take folders with all their subfolders.")] = False,
    maps: Annotated[bool, typer.Option(help="Compute maps; --no-maps gives the score alone, many times faster.")] = True,
    fail_on_anomaly: Annotated[bool, typer.Option("--fail-on-anomaly", help="Exit with 1 if a picture is anomalous.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that go through the model together.")] = 8,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse larger pictures.  [default: 100,000,000]", show_default=False)
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar and no summary; notes and errors still go to stderr.")
    ] = False,
) -> None:
    """Is something wrong with these pictures, and where?

    Needs no training and no normal pictures, only words: --class-name says what is shown.

    \b
    vlad detect part.png --class-name "metal nut"
    vlad detect photos/ --class-name hazelnut --out results/
    vlad detect "line_3/**/*.png" --format csv > scores.csv
    vlad detect board.tif --tile 1024 --out results/
    vlad detect part.png --model winclip --fail-on-anomaly

    Exit codes: 0 done; 1 an anomaly was found and --fail-on-anomaly was given; 2 usage; 3 some input could not be read (the rest was
    processed, and the report names the file); 70 a bug; 130 interrupted. Found anomalies go before unreadable inputs.
    """
    from vlad.images import find_images

    found: dict[Path, Path] = {}
    unreadable: dict[str, ImageReadError] = {}
    for item in images:
        try:
            for path in find_images([item], recursive=recursive):
                found.setdefault(path.parent.resolve() / path.name, path)
        except ImageReadError as error:
            unreadable[item] = error
    if not found:
        for problem in unreadable.values():
            typer.echo(f"vlad: {problem}", err=True)
        raise typer.Exit(INPUT_UNREADABLE)
    if out is not None:
        _check_out(out, found)

    from vlad.cli.results import ResultWriter

    paths = list(found.values())
    given = {"class_name": class_name, "threshold": threshold, "tile": tile, "max_pixels": max_pixels}
    settings = {key: value for key, value in given.items() if value is not None}
    detector = _load(model, prompts, device, dtype, settings, quiet)
    writer = ResultWriter(paths, out, output_format.value, model=detector.backbone.name, quiet=quiet)
    try:
        with writer:
            for item, problem in unreadable.items():
                writer.add_error(item, problem)
            results = detector.predict_iter(paths, batch_size=batch_size, maps=maps, on_error="return")
            for path, result in zip(paths, results, strict=True):
                writer.add(path, result)
    except KeyboardInterrupt:
        typer.echo(f"vlad: interrupted; what was done is complete: {writer.summary()}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
    _report(writer, quiet)
    if fail_on_anomaly and writer.anomalous:
        raise typer.Exit(ANOMALY_FOUND)
    if writer.errors:
        raise typer.Exit(INPUT_UNREADABLE)


def _check_out(out: Path, found: Iterable[Path]) -> None:
    """Refuse a result folder that holds pictures of this run: results would overwrite them, or be taken for pictures."""
    folder = out.resolve()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out must be a folder, {out} is a file; choose another name")
    inside = next((path for path in found if folder in path.parents), None)
    if inside is not None:
        raise ConfigError(f"--out {out} holds {inside}, which is to be inspected; choose a folder that holds none of the pictures")


def _load(model: str, prompts: str | None, device: str, dtype: str, settings: dict[str, Any], quiet: bool) -> AnomalyDetector:
    from vlad.detector import AnomalyDetector

    detector = AnomalyDetector.from_pretrained(model, device=device, dtype=dtype, prompts=prompts, **settings)
    if not quiet:
        backbone = detector.backbone
        typer.echo(f"model: {backbone.name}, on {backbone.device} in {str(backbone.dtype).removeprefix('torch.')}", err=True)
    return detector


def _report(writer: ResultWriter, quiet: bool) -> None:
    for line in writer.errors:
        typer.echo(f"vlad: {line}", err=True)
    if not quiet:
        typer.echo(writer.summary(), err=True)
