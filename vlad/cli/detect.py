"""`vlad detect`: score pictures, show where something is wrong, write results as they come."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlad.cli import options
from vlad.errors import ConfigError, ImageReadError

if TYPE_CHECKING:
    from vlad.cli.results import ResultWriter
    from vlad.detector import AnomalyDetector
    from vlad.pictures.reading import ImageSource

ANOMALY_FOUND, INPUT_UNREADABLE, INTERRUPTED, PIPE_CLOSED = 1, 3, 130, 141


class OutputFormat(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"


def detect(
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE|DIR|GLOB...", help="Pictures, folders or quoted globs.", show_default=False)
    ] = None,
    class_name: options.ClassName = None,
    model: options.Model = "auto",
    references: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="Normal pictures to compare with: a folder, file or quoted glob; may be repeated. They replace the references that the "
            "folder of --model holds.",
            show_default=False,
        ),
    ] = None,
    patch_backbone: options.PatchBackbone = None,
    resolution: options.Resolution = None,
    prompts: options.Prompts = None,
    rarity: options.Rarity = None,
    threshold: options.Threshold = None,
    scorer: options.ScorerOption = None,
    rotations: options.Rotations = None,
    coreset: options.Coreset = None,
    foreground: options.Foreground = False,
    calibration: options.CalibrationOption = None,
    fpr_limit: options.FprLimit = None,
    watch: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|VIDEO|CAMERA",
            help="Score new pictures of a folder, frames of a video file, or of a camera (its number or URL) as they come, and say when "
            "they have moved away from the references or from the first ones.",
            show_default=False,
        ),
    ] = None,
    warm_up: Annotated[int, typer.Option(min=4, help="With --watch: the first N pictures stand for how it should be.")] = 20,
    stop_after: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="With --watch: stop when nothing new has come for so long.  [default: never]", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results.csv, results.jsonl, and overlay, mask and raw map of each picture; replaces older tables there."
        ),
    ] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="What to print.")] = OutputFormat.table,
    tile: options.Tile = None,
    recursive: Annotated[bool, typer.Option(help="Take folders with all their subfolders.")] = False,
    maps: Annotated[bool, typer.Option(help="Compute maps; --no-maps gives the score alone, many times faster.")] = True,
    fail_on_anomaly: Annotated[bool, typer.Option("--fail-on-anomaly", help="Exit with 1 if a picture is anomalous.")] = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that go through the model together.")] = 8,
    max_pixels: options.MaxPixels = None,
    quiet: options.Quiet = False,
) -> None:
    """Is something wrong with these pictures, and where?

    Needs no training, only words (--class-name says what is shown), or words and a few normal pictures (--references).

    \b
    vlad detect part.png --class-name "metal nut"
    vlad detect photos/ --class-name hazelnut --out results/
    vlad detect "line_3/**/*.png" --format csv > scores.csv
    vlad detect board.tif --tile 1024 --out results/
    vlad detect part.png --model winclip --fail-on-anomaly
    vlad detect new_parts/ --references good_parts/ --out results/
    vlad detect --watch incoming/ --model models/nut --out results/

    Exit codes: 0 done; 1 an anomaly was found and --fail-on-anomaly was given; 2 usage; 3 some input could not be read (the rest was
    processed, and the report names the file); 70 a bug; 130 interrupted. Found anomalies go before unreadable inputs.
    """
    settings = options.given(
        class_name=class_name,
        rarity=rarity,
        threshold=threshold,
        tile=tile,
        max_pixels=max_pixels,
        patch_backbone=patch_backbone,
        resolution=resolution,
        scorer=scorer,
        rotations=rotations,
        coreset=coreset,
        foreground=foreground,
        calibration=calibration,
        fpr_limit=fpr_limit,
    )
    if bool(images) == bool(watch):
        raise ConfigError("expected pictures to inspect or --watch, " + ("got both" if images else "got neither; see vlad detect --help"))
    found, unreadable = _find(images or [], recursive)
    if images and not found:
        for problem in unreadable.values():
            typer.echo(f"vlad: {problem}", err=True)
        raise typer.Exit(INPUT_UNREADABLE)
    if out is not None:
        _check_out(out, found)

    from vlad.cli.results import ResultWriter

    detector = options.load(model, prompts, device, dtype, settings, quiet)
    failed = _fit(detector, references, quiet)
    as_lines = watch is not None and output_format is OutputFormat.table  # a table has no end while pictures come
    writer = ResultWriter(found, out, "" if as_lines else output_format.value, model=detector.model_name, quiet=quiet)
    try:
        with writer:
            for item, problem in unreadable.items():
                writer.add_error(item, problem)
            if watch:
                _watch(detector, watch, writer, out, warm_up=warm_up, stop_after=stop_after, maps=maps, as_lines=as_lines)
            else:
                results = detector.predict_iter(found, batch_size=batch_size, maps=maps, on_error="return")
                for path, result in zip(found, results, strict=True):
                    writer.add(path, result)
    except KeyboardInterrupt:
        typer.echo(f"vlad: interrupted; what was done is complete: {writer.summary()}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
    for line in failed:
        typer.echo(f"vlad: left out of the references: {line}", err=True)
    _report(writer, quiet)
    if fail_on_anomaly and writer.anomalous:
        raise typer.Exit(ANOMALY_FOUND)
    if writer.errors or failed:
        raise typer.Exit(INPUT_UNREADABLE)


def _find(images: list[str], recursive: bool) -> tuple[list[Path], dict[str, ImageReadError]]:
    """Pictures, each once, and the inputs that are none."""
    from vlad.pictures.reading import find_images

    found: dict[Path, Path] = {}
    unreadable: dict[str, ImageReadError] = {}
    for item in images:
        try:
            for path in find_images([item], recursive=recursive):
                found.setdefault(path.parent.resolve() / path.name, path)
        except ImageReadError as error:
            unreadable[item] = error
    return list(found.values()), unreadable


def _fit(detector: AnomalyDetector, references: list[str] | None, quiet: bool) -> list[str]:
    """Fit to the references, if any; one line for each that could not be read."""
    if not references:
        if detector.memory is not None and not quiet:
            typer.echo(options.describe(detector), err=True)
        return []
    if detector.references:
        count = len(detector.references)
        shown = f"{count} references" if count > 1 else "one reference"
        typer.echo(f"note: --references {' '.join(references)} replaces the {shown} of the folder of --model", err=True)
    try:
        return options.fit(detector, references, quiet)
    except ImageReadError as error:
        typer.echo(f"vlad: {error}", err=True)
        raise typer.Exit(INPUT_UNREADABLE) from None


def _watch(
    detector: AnomalyDetector,
    source: str,
    writer: ResultWriter,
    out: Path | None,
    *,
    warm_up: int,
    stop_after: float | None,
    maps: bool,
    as_lines: bool,
) -> None:
    """Score what comes, and say when drift begins and ends."""
    from vlad.pictures.streams import frames, new_pictures

    if Path(source).is_dir():
        folder = Path(source)
        if out is not None and (folder.resolve() == out.resolve() or folder.resolve() in out.resolve().parents):
            raise ConfigError(f"--out {out} lies in the watched folder, where results would be taken for pictures; choose another folder")
        stream: Iterator[tuple[Path, ImageSource]] = ((path, path) for path in new_pictures(folder, stop_after=stop_after))
    else:
        stream = ((name, frame) for name, frame in frames(source, stop_after=stop_after))
    monitor = detector.monitor(warm_up=warm_up)
    before: tuple[str, ...] = ()
    for path, picture in stream:
        try:
            seen = monitor.update(picture, maps=maps)
        except ImageReadError as error:
            writer.add(path, error)
            continue
        writer.add(path, seen.prediction)
        if as_lines:
            typer.echo(f"{path}  {seen.prediction.verdict}")
        if bool(seen.reasons) != bool(before):
            typer.echo(f"drift at {path}: {'; '.join(seen.reasons)}" if seen.reasons else f"no drift any more at {path}", err=True)
        before = seen.reasons


def _check_out(out: Path, found: Iterable[Path]) -> None:
    """Refuse a result folder that holds pictures of this run: results would overwrite them, or be taken for pictures."""
    folder = out.resolve()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out must be a folder, {out} is a file; choose another name")
    inside = next((path for path in found if folder in path.parents), None)
    if inside is not None:
        raise ConfigError(f"--out {out} holds {inside}, which is to be inspected; choose a folder that holds none of the pictures")


def _report(writer: ResultWriter, quiet: bool) -> None:
    for line in writer.errors:
        typer.echo(f"vlad: {line}", err=True)
    if not quiet:
        typer.echo(writer.summary(), err=True)
