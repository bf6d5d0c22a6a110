"""`vlad detect`: score pictures, show where something is wrong, write results as they come."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlad.cli import options
from vlad.config import DetectorConfig
from vlad.errors import ConfigError, ImageReadError, OutputError
from vlad.untrusted import printable

if TYPE_CHECKING:
    from vlad.cli.results import ResultWriter
    from vlad.cli.watch import Watching
    from vlad.detector import AnomalyDetector
    from vlad.together import Adapting

ANOMALY_FOUND, INTERRUPTED, PIPE_CLOSED = 1, 130, 141


class GroupBy(StrEnum):
    folder = "folder"
    none = "none"


class Results(StrEnum):
    parquet = "parquet"
    csv = "csv"


class OutputFormat(StrEnum):
    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


@options.spread
def detect(
    ctx: typer.Context,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE|DIR|GLOB...", help="Pictures, folders or quoted globs.", show_default=False)
    ] = None,
    *,
    made_of: options.DetectorOptions,
    references: options.References = None,
    mutual: Annotated[
        bool | None,
        typer.Option(
            "--mutual/--no-mutual",
            help="Judge the pictures by each other, beside references if there are some: for 8 or more pictures of one product, most of "
            "them good; or by the words.  [default: by the words, unless the model's cannot tell]",
            show_default=False,
        ),
    ] = None,
    group_by: Annotated[
        GroupBy, typer.Option(help="Where pictures are judged by each other: those of each folder for themselves, or all together.")
    ] = GroupBy.folder,
    expect_anomalous: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            help="Where pictures are judged by each other: the share of anomalous ones to find.  [default: the scores decide]",
            show_default=False,
        ),
    ] = None,
    adapt: Annotated[
        bool | None,
        typer.Option(
            "--adapt/--no-adapt",
            help="With references: let their threshold follow the scores of these pictures, of which half may be bad; or keep it.  "
            "[default: follow 20 pictures or more]",
            show_default=False,
        ),
    ] = None,
    adapt_limit: Annotated[
        float | None, typer.Option(min=1, help="The factor by which it moves at most, up or down.  [default: 2]", show_default=False)
    ] = None,
    adapt_memory: Annotated[
        int | None, typer.Option(min=8, help="With --watch: so many last pictures count.  [default: 1000]", show_default=False)
    ] = None,
    watch: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|VIDEO|CAMERA",
            help="Score new pictures of a folder, frames of a video file, or of a camera (its number or URL) as they come, say when they "
            "have moved away from the references or from the first ones, and which are unlike the others. SIGUSR1 pauses, SIGUSR2 goes on.",
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
    reconnect_for: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="With --watch: try a camera that broke off again for so long.  [default: for ever]",
            show_default=False,
        ),
    ] = None,
    outlier_window: Annotated[
        int | None,
        typer.Option(min=4, help="With --watch: an outlier is unlike the last N ordinary pictures.  [default: 200]", show_default=False),
    ] = None,
    outlier_percentile: Annotated[
        float | None,
        typer.Option(
            min=0.5, max=0.9999, help="With --watch: share of them that lies nearer to their mean.  [default: 0.99]", show_default=False
        ),
    ] = None,
    save_video: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --watch: a video of every picture with its heat and verdict, .mp4, .mkv, .avi or .webm; outliers have a frame.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results.csv, results.jsonl, and overlay, mask and raw map of each picture; replaces older tables there, "
            "--watch goes on with them, and adds where marked places concentrate (marked.png)."
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,...",
            help="Of each picture write only these into --out: overlay (or overlay-jpeg), mask, map (or map-deflate, map-float16), json.  "
            "[default: overlay,mask,map,json]",
            show_default=False,
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Keep what the model saw here, 0.5 to 4 MB a picture: going on after an interruption, or with other settings, is fast.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        options.Engine,
        typer.Option(
            help="ray: a pool of detectors on a cluster of Ray (RAY_ADDRESS, else this machine) for pictures by the million: folders, "
            "lists (.txt, .parquet) and URLs that fsspec reads; rows go into --out/parts, and the same command goes on."
        ),
    ] = options.Engine.local,
    workers: options.Workers = None,
    results: Annotated[
        Results | None, typer.Option(help="With --engine ray: form of the parts.  [default: parquet]", show_default=False)
    ] = None,
    report: Annotated[bool, typer.Option(help="Write report.html into --out: counts, scores, the pictures that matter.")] = True,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="What to print.")] = OutputFormat.table,
    recursive: Annotated[bool, typer.Option(help="Take folders with all their subfolders.")] = False,
    maps: Annotated[bool, typer.Option(help="Compute maps; --no-maps gives the score alone, many times faster.")] = True,
    fail_on_anomaly: Annotated[bool, typer.Option("--fail-on-anomaly", help="Exit with 1 if a picture is anomalous.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that go through the model together.")] = 8,
    quiet: options.Quiet = False,
) -> None:
    """Is something wrong with these pictures, and where?

    Needs no training: the pictures of a folder are judged by each other or, with a CLIP, by words (--class-name says what is shown), and
    all of them better with a few normal pictures (--references).

    \b
    vlad detect photos_of_one_product/ --out results/
    vlad detect part.png --model winclip --class-name "metal nut"
    vlad detect "line_3/**/*.png" --format csv > scores.csv
    vlad detect board.tif --tile 1024 --out results/
    vlad detect part.png --model winclip --fail-on-anomaly
    vlad detect new_parts/ --references good_parts/ --out results/
    vlad detect photos_of_one_product/ --model winclip --mutual --out results/
    vlad detect --watch incoming/ --model models/nut --out results/
    vlad detect --watch rtsp://camera/line --model models/nut --out results/ --save-video line.mkv

    Exit codes: 0 done; 1 an anomaly was found and --fail-on-anomaly was given; 2 usage; 3 some input could not be read (the rest was
    processed, and the report names the file) or a stream broke off; 70 a bug; 74 results could not be written; 130 interrupted. Found
    anomalies go before unreadable inputs.
    """
    if bool(images) == bool(watch):
        raise ConfigError("expected pictures to inspect or --watch, " + ("got both" if images else "got neither; see vlad detect --help"))
    if mutual and (watch or made_of.tile):
        other = "--watch" if watch else "--tile"
        raise ConfigError(f"--mutual judges pictures by each other as they are; leave {other} out, or --mutual")
    of_watch = {"--stop-after": stop_after, "--reconnect-for": reconnect_for, "--save-video": save_video}
    of_watch |= {"--outlier-window": outlier_window, "--outlier-percentile": outlier_percentile}
    if not watch and (given := [name for name, value in of_watch.items() if value is not None]):
        raise ConfigError(f"{', '.join(given)}: only with --watch")
    of_ray = {"--workers": workers, "--results": results}
    if engine is options.Engine.local and (given := [name for name, value in of_ray.items() if value is not None]):
        raise ConfigError(f"{', '.join(given)}: only with --engine ray")
    if engine is options.Engine.ray:
        unfit: dict[str, Any] = {"--watch": watch, "--save": save, "--cache": cache, "--adapt-memory": adapt_memory}
        unfit |= {"--format": None if output_format is OutputFormat.table else output_format}
        if given := [name for name, value in unfit.items() if value is not None]:
            raise ConfigError(f"{', '.join(given)}: not with --engine ray, whose results are the parts in --out")
        if out is None:
            raise ConfigError("--engine ray writes its results in parts; name a folder with --out")
    found, unreadable = ([], {}) if engine is options.Engine.ray else _find(images or [], recursive)
    if images and not found and engine is options.Engine.local:
        for problem in unreadable.values():
            options.complain(problem)
        raise typer.Exit(options.INPUT_UNREADABLE)
    options.check_out(out, found)

    from vlad.cli.results import ResultWriter
    from vlad.deploy.spec import is_exported
    from vlad.prediction import FILE_KINDS, FILES
    from vlad.references.adapting import ENOUGH, FEWEST, LIMIT, MEMORY
    from vlad.together import Adapting

    kinds = FILES if save is None else options.words(save)
    if unknown := sorted(set(kinds) - set(FILE_KINDS)):
        raise ConfigError(f"--save takes {', '.join(FILE_KINDS)}, got {unknown[0]!r}")
    if save is not None and out is None:
        raise ConfigError("--save says what goes into --out; name a folder with --out")
    if not kinds or (save is not None and not maps and "json" not in kinds):
        without = "" if maps else " without maps"
        raise ConfigError(f"--save {save!r} leaves nothing to write{without}; name json or others of {', '.join(FILE_KINDS)}")
    as_lines = watch is not None and output_format is OutputFormat.table  # a table has no end while pictures come
    watching = None
    if watch:
        from vlad.cli.watch import Watching, listening
        from vlad.cli.watch import watch as watch_stream
        from vlad.streams.outliers import PERCENTILE, WINDOW

        watching = Watching(
            source=watch,
            out=out,
            video=save_video,
            warm_up=warm_up,
            outlier_window=outlier_window or WINDOW,
            outlier_percentile=outlier_percentile or PERCENTILE,
            stop_after=stop_after,
            reconnect_for=reconnect_for,
            maps=maps,
            as_lines=as_lines,
            quiet=quiet,
        )
        ctx.with_resource(listening(watching.switch))
    failed: list[str] = []
    follow = None
    if is_exported(made_of.model):
        fixed: dict[str, Any] = {
            "--references": references,
            "--mutual": mutual,
            "--expect-anomalous": expect_anomalous,
            "--adapt": adapt,
        }
        fixed |= {"--adapt-limit": adapt_limit, "--adapt-memory": adapt_memory, "--cache": cache}
        named = [name for name, value in fixed.items() if value is not None]
        named += [_OPTIONS.get(name, f"--{name.replace('_', '-')}") for name in sorted(set(made_of.settings) - {"threshold"})]
        if named:
            raise ConfigError(f"{made_of.model} is an exported detector, which is as it was exported; leave {', '.join(named)} out")
        if engine is options.Engine.ray:
            raise ConfigError("--engine ray runs detectors with torch; give the folder or model that the export was made of")
        judge, name, about = _exported(
            Path(made_of.model), found, made_of.threshold, watching, maps=maps, batch_size=batch_size, keep_images=out is not None
        )
    else:
        detector = made_of.load(quiet, references=bool(references))
        if cache is not None:
            from vlad.evaluation.cache import on_cache

            detector = on_cache(detector, cache)
        failed = options.compare_with(detector, references, quiet)
        if expect_anomalous is not None and (watch or mutual is False or (mutual is None and detector.memory is not None)):
            raise ConfigError("--expect-anomalous is for pictures that are judged by each other; leave it out, or add --mutual")
        if adapt and (detector.memory is None or detector.labels is not None or detector.config.threshold is not None or mutual):
            raise ConfigError(
                "--adapt moves the threshold of references; give --references or a fitted --model, and no labels, --threshold or --mutual"
            )
        if adapt is not False:
            follow = Adapting(limit=adapt_limit or LIMIT, memory=adapt_memory or MEMORY, fewest=FEWEST if adapt else ENOUGH)
        name, about = detector.model_name, _about(detector)
        if engine is options.Engine.ray and out is not None:
            from vlad.cli.many import Many, detect_many, tell
            from vlad.cluster.run import Summary

            many = Many(
                inputs=images or [],
                recursive=recursive,
                out=out,
                kind=(results or Results.parquet).value,
                workers=workers,
                device=made_of.device,
                maps=maps,
                batch_size=batch_size,
                mutual=mutual,
                expect_anomalous=expect_anomalous,
                quiet=quiet,
            )
            summary = Summary()
            try:
                detect_many(detector, follow, many, summary)
            except KeyboardInterrupt:
                kept = summary.written + summary.before
                typer.echo(f"vlad: interrupted; the rows of {kept:,} pictures in {out} are kept, and the same command goes on", err=True)
                raise typer.Exit(INTERRUPTED) from None
            tell(summary, many)
            if fail_on_anomaly and summary.verdicts["anomalous"]:
                raise typer.Exit(ANOMALY_FOUND)
            if summary.verdicts["failed"] or failed:
                raise typer.Exit(options.INPUT_UNREADABLE)
            return

        def judge(writer: ResultWriter) -> None:
            if watching is not None:
                watch_stream(detector, writer, follow, watching)
                return
            how: dict[str, Any] = {"maps": maps, "batch_size": batch_size, "quiet": quiet, "keep_images": out is not None}
            _detect(detector, found, writer, follow, mutual, group_by, expect_anomalous, **how)

    printed = "" if as_lines else output_format.value
    writer = ResultWriter(found, out, printed, model=name, quiet=quiet, go_on=watch is not None, kinds=kinds)
    try:
        with writer:
            for item, problem in unreadable.items():
                writer.add_error(item, problem)
            judge(writer)
    except KeyboardInterrupt:
        typer.echo(f"vlad: interrupted; what was done is complete: {writer.summary()}", err=True)
        _inspected(out if report else None, about)
        raise typer.Exit(INTERRUPTED) from None
    except OutputError as error:
        if writer.done:
            typer.echo(f"vlad: until then {writer.summary()}", err=True)
        raise error from None
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
    for line in failed:
        options.complain(f"left out of the references: {line}")
    if follow is not None and not quiet and (note := follow.note()):
        typer.echo(f"note: {note}; --no-adapt keeps it", err=True)
    _inspected(out if report else None, about)
    _report(writer, quiet)
    if fail_on_anomaly and writer.anomalous:
        raise typer.Exit(ANOMALY_FOUND)
    if writer.errors or failed:
        raise typer.Exit(options.INPUT_UNREADABLE)


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


def _detect(
    detector: AnomalyDetector,
    found: list[Path],
    writer: ResultWriter,
    follow: Adapting | None,
    mutual: bool | None,
    group_by: GroupBy,
    expect_anomalous: float | None,
    *,
    maps: bool,
    batch_size: int,
    quiet: bool,
    keep_images: bool,
) -> None:
    """Judge the pictures folder by folder, or all of them together; see `predict_together`."""
    from vlad.references.unlabelled import MutualSettings
    from vlad.together import by_each_other, predict_together

    groups: dict[Path | None, list[Path]] = {}
    for path in found:
        groups.setdefault(path.parent if group_by is GroupBy.folder else None, []).append(path)
    chosen = True if mutual is None and expect_anomalous is not None else mutual
    if not chosen and detector.decides_alone:
        groups = {None: found}
    settings = MutualSettings(expect_anomalous=expect_anomalous)
    for folder, paths in groups.items():
        if chosen is None and not quiet and by_each_other(detector, len(paths)):
            typer.echo(printable(_note(folder, len(paths)), one_line=True), err=True)
        with options.progress(quiet) as show:
            results = predict_together(
                detector,
                paths,
                mutual=chosen,
                settings=settings,
                adapt=follow or False,
                batch_size=batch_size,
                maps=maps,
                on_error="return",
                on_progress=show,
                keep_images=keep_images,
            )
            for path, result in zip(paths, results, strict=True):
                writer.add(path, result)


_OPTIONS = {"adapt": "--match", "white_level": "--white"}  # of settings that are called otherwise


def _exported(
    folder: Path, found: list[Path], threshold: float | None, watching: Watching | None, **how: Any
) -> tuple[Callable[[ResultWriter], None], str, list[tuple[str, str]]]:
    """What judges pictures with an exported detector, which needs no torch, its name, and what decides its verdicts."""
    from vlad.deploy.runtime import ExportedDetector

    exported = ExportedDetector(folder)

    def judge(writer: ResultWriter) -> None:
        if watching is not None:
            from vlad.cli.watch import watch

            watch(exported, writer, None, watching, threshold=threshold)
            return
        results = exported.predict_iter(found, threshold=threshold, on_error="return", **how)
        for path, result in zip(found, results, strict=True):
            writer.add(path, result)

    spec = exported.spec
    about = [("model", exported.model_name), *((f"hash of {file}", sha256) for file, sha256 in spec.sha256.items())]
    return judge, exported.model_name, [*about, ("prompts", spec.prompts)]


def _note(folder: Path | None, count: int) -> str:
    where = "" if folder is None else f" of {folder}"
    return f"note: no references, so the {count} pictures{where} are judged by each other, as if most were good; --no-mutual: by the words"


def _inspected(out: Path | None, about: list[tuple[str, str]]) -> None:
    """Write the report for people."""
    if out is not None:
        from vlad.output.inspection import write_inspection

        write_inspection(out, about)


def _about(detector: AnomalyDetector) -> list[tuple[str, str]]:
    """What decides the verdicts, for the report."""
    config, changed = detector.config, []
    for name, value in config.to_dict().items():
        if value is not None and value != DetectorConfig().to_dict().get(name):
            changed.append(f"{name} {value}")
    backbones = [one for one in (detector.backbone, getattr(detector, "patch_backbone", None)) if one is not None]
    memory = detector.memory
    return [
        ("model", " + ".join(f"{one.name} (weights {one.fingerprint})" for one in backbones)),
        ("references", "none" if memory is None else f"{len(memory.references)} pictures"),
        ("prompts", f"{detector.prompts.name} ({detector.prompts.fingerprint})"),
        ("settings", ", ".join(changed) or "the defaults"),
    ]


def _report(writer: ResultWriter, quiet: bool) -> None:
    for line in writer.errors:
        options.complain(line)
    if not quiet:
        typer.echo(writer.summary(), err=True)
