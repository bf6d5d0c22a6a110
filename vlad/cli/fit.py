"""`vlad fit`: remember normal pictures in a folder that `vlad detect --model FOLDER` takes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlad.cli import options
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.untrusted import printable

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector


@options.spread
def fit(
    references: Annotated[
        list[str], typer.Argument(metavar="REFERENCES...", help="Normal pictures, folders or quoted globs.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; a detector that is there already is replaced.", show_default=False)],
    *,
    made_of: options.DetectorOptions,
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--unlabelled",
            help="The pictures are of one product, 8 or more, most of them good, and unsorted: those that stand out from the others are "
            "left out, listed, and shown in OUT/left_out.html.",
        ),
    ] = False,
    expect_anomalous: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            help="With --unlabelled: the share of pictures to leave out.  [default: the scores decide]",
            show_default=False,
        ),
    ] = None,
    normal: options.NormalNames = None,
    anomalous: options.AnomalousNames = None,
    quiet: options.Quiet = False,
) -> None:
    """Remember what good parts look like, and write it into a folder.

    Of a folder that is sorted, as good/ and scratch/, the normal pictures are taken, those for training if there are some. 1 to 16 pictures
    are usual, 1,000 are possible (--coreset 0.1). What is written holds settings, what the model saw, and thresholds; neither the model's
    weights nor the pictures.

    \b
    vlad fit good_parts/ --out models/nut --class-name "metal nut"
    vlad fit good_parts/ --out models/nut --model dinov2-small --rotations 8
    vlad fit unsorted_parts/ --unlabelled --out models/nut
    vlad detect new_parts/ --model models/nut --out results/

    Exit codes: 0 done; 2 usage; 3 some reference could not be read (the folder was written from the rest, unless there was none).
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out must be a folder, {out} is a file; choose another name")
    if expect_anomalous is not None and not unlabelled:
        raise ConfigError("--expect-anomalous belongs to --unlabelled; add it, or leave it out")
    if unlabelled and (normal or anomalous):
        raise ConfigError("--unlabelled is for pictures that nobody has sorted; leave --normal and --anomalous out")
    from vlad.disk import held
    from vlad.history import LOCK_SECONDS

    with held(out, wait=LOCK_SECONDS):  # before anything is computed that could not be written
        detector = made_of.load(quiet, references=True)
        page = None
        try:
            if unlabelled:
                failed = _fit_unlabelled(detector, references, expect_anomalous, quiet)
                from vlad.output.left_out import left_out_page

                page = left_out_page(detector.fit_report, len(detector.references), detector.model_name, read=detector.reader)
            else:
                from vlad.pictures.folders import Roles

                roles = Roles(options.words(normal), options.words(anomalous))
                failed = options.fit(detector, references, quiet, roles)
        except ImageReadError as error:
            options.complain(error)
            raise typer.Exit(options.INPUT_UNREADABLE) from None
        detector.save(out, page=page)
        options.draw_chart(detector, out)  # that of a detector that was there before goes
    for line in failed:
        options.complain(f"left out: {line}")
    if not quiet:
        typer.echo(f"written: {out}", err=True)
    if failed:
        raise typer.Exit(options.INPUT_UNREADABLE)


def _fit_unlabelled(detector: AnomalyDetector, pictures: list[str], expect_anomalous: float | None, quiet: bool) -> list[str]:
    """Fit the detector to what does not stand out, and list the rest on stdout, one line of score and picture each.

    Returns:
        One line for each picture that could not be read.

    Raises:
        ImageReadError: there is no picture.
        ConfigError: there are too few, or of several kinds.
    """
    from vlad.pictures.reading import describe_source
    from vlad.references.report import STOOD_OUT
    from vlad.references.unlabelled import MutualSettings

    found, failed = options.find(pictures)
    settings = MutualSettings(expect_anomalous=expect_anomalous)
    with warnings.catch_warnings(), options.progress(quiet) as show:
        warnings.filterwarnings("ignore", "left out of the references", VladWarning)  # said by the caller, after the results
        warnings.filterwarnings("ignore", f".*{STOOD_OUT}", VladWarning)  # all are listed below
        detector.fit_unlabelled(found, settings=settings, on_progress=show)
    report = detector.fit_report
    if not quiet:
        count = len(report.stood_out)
        limit = f" (scores above {report.stood_out[0].threshold:.3f}); look at them in left_out.html" if count else ""
        typer.echo(f"stood out and left out: {count} of {count + len(detector.references)}{limit}", err=True)
        typer.echo(options.describe(detector), err=True)
    for one, score in report.scored():
        typer.echo(printable(f"{score:.3f}  {describe_source(one.source)}", one_line=True))
    return [*failed, *map(str, report.left_out)]
