"""`vlad calibrate`: the threshold of a saved detector, from pictures of which is known what they are."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from vlad.cli import options
from vlad.errors import ConfigError, VladWarning
from vlad.untrusted import printable


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A folder of `vlad fit`.", show_default=False)],
    *,
    good: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Good pictures: a folder, file or quoted glob; may be repeated.", show_default=False),
    ] = None,
    bad: Annotated[list[str] | None, typer.Option(metavar="DIR", help="Bad pictures, likewise.", show_default=False)] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Masks of the bad ones, STEM_mask.png or STEM.png, also in subfolders of their folders' names; for the map.",
            show_default=False,
        ),
    ] = None,
    max_false_alarms: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.99, metavar="SHARE", help="Accept so many false alarms, and miss as few as possible.", show_default=False
        ),
    ] = None,
    max_misses: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.99, metavar="SHARE", help="Accept so many misses, and give as few false alarms as possible.", show_default=False
        ),
    ] = None,
    cost_ratio: Annotated[
        float | None,
        typer.Option(min=0, metavar="N", help="A miss costs N times a false alarm; the sum is made smallest.", show_default=False),
    ] = None,
    bad_share: Annotated[float, typer.Option(min=0, max=1, help="With --cost-ratio: so many of the pictures to come are bad.")] = 0.5,
    add: Annotated[bool, typer.Option("--add", help="Keep the pictures that were labelled before, and their rule.")] = False,
    chart: Annotated[
        Path | None, typer.Option(help="Where to draw the scores: PNG or SVG.  [default: MODEL/calibration.png]", show_default=False)
    ] = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Set the threshold of a fitted detector by labelled pictures, and say how certain its errors are.

    Without a limit both kinds of error weigh alike, from ten bad pictures on; fewer are found as far as the good ones allow.

    \b
    vlad calibrate models/nut --good good/ --bad scratched/ --bad bent/
    vlad calibrate models/nut --good good/ --bad bad/ --max-false-alarms 0.02
    vlad calibrate models/nut --good good/ --bad bad/ --max-misses 0
    vlad calibrate models/nut --good good/ --bad bad/ --cost-ratio 20 --bad-share 0.01
    vlad calibrate models/nut --good test/good --bad test/scratch --masks ground_truth/

    Exit codes: 0 done; 2 usage; 3 some picture could not be read (the threshold comes from the others).
    """
    from vlad.detector import AnomalyDetector
    from vlad.history import locked

    if not good and not bad:
        raise ConfigError("expected labelled pictures, got none; give --good DIR and --bad DIR")
    failed: list[str] = []
    found: list[list[Path]] = []
    for given in (good, bad):
        some, problems = options.find(given) if given else ([], [])
        found.append(some)
        failed += problems
    with locked(model) as folder:
        detector = AnomalyDetector.load(folder, device=device)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", VladWarning)
            detector.calibrate(
                found[0],
                found[1],
                masks=masks,
                max_false_alarms=max_false_alarms,
                max_misses=max_misses,
                cost_ratio=cost_ratio,
                bad_share=bad_share,
                add=add,
            )
        detector.save(folder)
    if detector.labels is not None:
        for line in detector.labels.report():
            typer.echo(line)
        for one in detector.labels.missed:
            typer.echo(printable(f"missed: {one.score:.4f}  {one.picture.place}", one_line=True))
    drawn = options.draw_chart(detector, folder, chart)
    if not quiet:
        typer.echo(f"written: {folder}" + ("" if drawn is None else f", chart: {drawn}"), err=True)
    for warning in said:
        message = str(warning.message)
        if message.startswith("left out of the labels"):
            failed.append(message)
        elif issubclass(warning.category, VladWarning):
            typer.echo(printable(f"note: {message}", one_line=True), err=True)
    for line in failed:
        options.complain(line)
    if failed:
        raise typer.Exit(options.INPUT_UNREADABLE)
