"""`vlad eval`: measure a detector on a dataset, compare two runs, search prompts, write a report again."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vlad.cli import options as shared
from vlad.errors import ConfigError
from vlad.untrusted import printable

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.evaluation.datasets import Dataset
    from vlad.references.unlabelled import MutualSettings

REGRESSION, INPUT_UNREADABLE, INTERRUPTED = 1, 3, 130
_OPTIONS_OF_THEIR_OWN = {"name", "pretrained", "device", "dtype", "cache_dir", "prompts", "class_name"}  # of `from_pretrained`
_SHOWN = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_f1_max", "aupro", "spro", "recall", "false_alarms")


class _EvalGroup(TyperGroup):
    """`vlad eval DATA_ROOT` is the command `run`; the others are called by name (a folder of such a name is `./compare`)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return ("" if name == "run" else name), command, rest


app = typer.Typer(cls=_EvalGroup, help="Measure a detector on a dataset, compare runs, search prompts.", rich_markup_mode=None)


@app.command("run")
def run(
    ctx: typer.Context,
    data_root: Annotated[
        Path | None, typer.Argument(metavar="DATA_ROOT", help="The dataset's folder, or a list file.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="How the data lies on disk, a name of `vlad eval layouts`, or mmad.  [default: found out]",
            show_default=False,
        ),
    ] = None,
    category: Annotated[str | None, typer.Option(metavar="A,B", help="Only these categories.", show_default=False)] = None,
    normal: shared.NormalNames = None,
    anomalous: shared.AnomalousNames = None,
    white_is_good: Annotated[bool, typer.Option("--white-is-good", help="Masks are white where nothing is wrong.")] = False,
    k_shot: Annotated[str, typer.Option(metavar="K,...", help="Numbers of reference pictures; 0 is zero-shot.")] = "0",
    seeds: Annotated[str, typer.Option(metavar="S,...", help="Seed s takes the references sorted(files)[s*k:(s+1)*k].")] = "0",
    model: Annotated[str, typer.Option(help="auto, a preset (see `vlad doctor`), ARCHITECTURE:TAG, a hub id or a folder.")] = "auto",
    prompts: Annotated[str | None, typer.Option(help="A prompt set or a YAML file.  [default: winclip]", show_default=False)] = None,
    class_name: Annotated[
        str | None, typer.Option(help="A noun for all categories.  [default: each category's own]", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.  [default: runs/DATA-MODEL]", show_default=False)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that --out holds.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the dataset and measure nothing.")] = False,
    config: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Options from eval/configs or a YAML file; given ones go before.", show_default=False),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Keep embeddings here, 0.5 to 4 MB a picture; a run with other prompts or another scorer is then fast.", show_default=False
        ),
    ] = None,
    mutual: Annotated[
        bool,
        typer.Option("--mutual", help="Judge the test pictures of each category by each other (transductive), as `vlad detect --mutual`."),
    ] = False,
    maps: Annotated[bool, typer.Option(help="Measure maps; --no-maps measures picture scores alone, many times faster.")] = True,
    fpr_limit: Annotated[
        float | None, typer.Option(help="Of AUPRO and sPRO.  [default: as the dataset's authors do; 0.3]", show_default=False)
    ] = None,
    tile: Annotated[int | None, typer.Option(min=0, metavar="N", help="As in `vlad detect`.", show_default=False)] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="As in `vlad detect`.", show_default=False)] = None,
    rarity: shared.Rarity = None,
    white: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="White in pictures of 16 bits, as in `vlad detect`.", show_default=False)
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other setting of the detector, such as scorer=subspace, rotations=1, patch_backbone=dinov2-small; or mutual, with "
            "values 'mutual={share: 0.1}'; may be repeated.",
            show_default=False,
        ),
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the confidence intervals.")] = 500,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that go through the model together.")] = 8,
    engine: Annotated[
        shared.Engine,
        typer.Option(help="ray: categories go to a pool of detectors on a cluster of Ray, which all see the data and --out."),
    ] = shared.Engine.local,
    workers: shared.Workers = None,
    vlm: Annotated[
        str | None,
        typer.Option(metavar="NAME|URL", help="With --dataset mmad: who is asked, as in `vlad ask`.", show_default=False),
    ] = None,
    knowledge: Annotated[
        bool, typer.Option("--knowledge", help="With --dataset mmad: show the benchmark's notes on each product.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write report.html and report.md.")] = True,
    log: Annotated[
        str | None,
        typer.Option(metavar="mlflow|wandb", help="Log the finished run there, by the tracker's own environment.", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no tables.")] = False,
) -> None:
    """Measure a detector on a dataset.

    \b
    vlad eval data/mvtec --model winclip
    vlad eval data/VisA --dataset visa --k-shot 0,1,4 --seeds 0,1,2 --out runs/visa
    vlad eval my_pictures/                       # good/ and anything else, masks optional
    vlad eval --dataset synthetic --model lite   # needs no data
    vlad eval data/mvtec --check                 # is the dataset complete?
    accelerate launch --num_processes 2 -m vlad eval data/mvtec --out runs/mvtec
    vlad eval compare runs/a runs/b              # see `vlad eval compare --help`
    vlad eval prompts my_pictures/               # see `vlad eval prompts --help`
    vlad eval report runs/a                      # write the report again
    vlad eval table runs/a runs/b                # several runs as one Markdown table
    vlad eval layouts                            # the datasets that can be read, where to get them

    --out gets results.json, samples.jsonl, report.html, report.md and the counted pixels of each picture. A run that was interrupted or
    killed goes on with --resume.

    Exit codes: 0 done; 2 usage; 3 some picture, mask or category could not be read or run (the rest is done), or --check found errors;
    70 a bug; 130 interrupted.
    """
    options, variants = _options(ctx)
    if options["dataset"] == "mmad":
        _evaluate_mmad(options)
        return
    for name in ("vlm", "knowledge"):
        if options[name]:
            raise ConfigError(f"--{name} belongs to --dataset mmad; leave it out")
    from vlad.evaluation.datasets import load_dataset

    names = options["category"]
    found = load_dataset(
        options["data_root"],
        options["dataset"],
        categories=_words(names) if names else None,
        normal=shared.words(options["normal"]),
        anomalous=shared.words(options["anomalous"]),
        white_is_good=options["white_is_good"],
    )
    if options["check"]:
        _check(found, quiet=options["quiet"])
    elif not variants:
        if not _evaluate(found, options):
            raise typer.Exit(INPUT_UNREADABLE)
    else:
        _evaluate_variants(found, options, variants)


def _options(ctx: typer.Context) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The options of a run, those of its configuration beneath those that were given; and the configuration's variants by name, each the
    options in which it differs."""
    from vlad.evaluation.shipped import load_config

    options = dict(ctx.params)
    settings = options["setting"] = _settings(options["setting"])
    name = options["config"]
    if name is None:
        return options, {}
    values = load_config(name)
    variants = values.pop("variants", {})
    if not isinstance(variants, dict) or any(not re.fullmatch(r"[\w.-]+", str(key)) for key in variants):
        raise ConfigError(f"configuration {name}: expected variants by name (letters, digits, - and .), got {variants!r}")
    given = {key for key in ctx.params if getattr(ctx.get_parameter_source(key), "name", "") == "COMMANDLINE"} - {"setting"}
    configured = _configured(ctx, f"configuration {name}", values)
    options |= {key: value for key, value in configured.items() if key not in given}
    options["setting"] = configured.get("setting", {}) | settings
    return options, {str(key): _configured(ctx, f"configuration {name}, variant {key}", value) for key, value in variants.items()}


def _configured(ctx: typer.Context, where: str, values: Any) -> dict[str, Any]:
    """Options from a configuration as the command line would give them.

    Raises:
        ConfigError: an option is unknown, or one of several values is no list or mapping.
    """
    allowed = set(ctx.params) - {"data_root", "config", "check", "resume"}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected options by name, got {values!r}")
    if unknown := sorted(set(map(str, values)) - allowed):
        raise ConfigError(f"{where}: unknown option {unknown[0]!r}; known are {', '.join(sorted(allowed))}")
    settings = values.get("setting", {})
    if not isinstance(settings, dict):
        raise ConfigError(f"{where}: expected settings of the detector by name, got {settings!r}")
    texts = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
    texts |= {key: str(texts[key]) for key in ("k_shot", "seeds") if key in texts}
    texts |= {key: Path(texts[key]) for key in ("out", "cache") if texts.get(key) is not None}
    return texts | ({"setting": settings} if settings else {})


def _settings(given: list[str] | None) -> dict[str, Any]:
    """--setting NAME=VALUE by name; a value is read as YAML: 1 is a number, [8, 11] a list."""
    import yaml

    found = {}
    for text in given or ():
        name, mark, value = text.partition("=")
        if not mark and name.strip() == "mutual":
            value = "true"
        elif not mark:
            raise ConfigError(f"--setting must be NAME=VALUE, such as rotations=1, got {text!r}")
        try:
            found[name.strip().replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--setting {text}: {value!r} is no value ({error})") from error
    return found


def _how_mutual(given: Any) -> MutualSettings | None:
    """--setting mutual, or --setting 'mutual={share: 0.1, others: 16}'; None if it was not given or is false."""
    from vlad.references.unlabelled import MutualSettings

    if given is None or given is False:
        return None
    values = {} if given is True else given
    known = [field.name for field in fields(MutualSettings)]
    if not isinstance(values, dict) or not set(values) <= set(known):
        raise ConfigError(f"--setting mutual takes true, or {{NAME: VALUE}} of {', '.join(known)}; got {given!r}")
    return MutualSettings(**values)


def _evaluate_variants(dataset: Dataset, options: dict[str, Any], variants: dict[str, dict[str, Any]]) -> None:
    """One run for each variant in a folder of its name, then all in one table; exit 3 if one met a problem."""
    from vlad.evaluation.table import runs_table

    out = options["out"] or Path("runs") / _default_name(dataset, Path(options["config"]).stem)
    done = {}
    for name, changes in variants.items():
        if not options["quiet"]:
            typer.echo(f"variant {name}", err=True)
        setting = options["setting"] | changes.get("setting", {})
        done[out / name] = _evaluate(dataset, options | changes | {"out": out / name, "setting": setting})
    if not options["quiet"] and all((folder / "results.json").is_file() for folder in done):  # the first process alone writes them
        typer.echo(runs_table({folder.name: [folder] for folder in done}))
    if not all(done.values()):
        raise typer.Exit(INPUT_UNREADABLE)


def _evaluate(dataset: Dataset, options: dict[str, Any]) -> bool:
    """One run; False if something could not be read or run."""
    from vlad.evaluation.datasets.check import inverted_masks
    from vlad.evaluation.results import summarise
    from vlad.evaluation.runner import EvalSettings, Processes, check_units, plan_units, run
    from vlad.evaluation.trackers import check_tracker, log_run

    options = options | {"setting": dict(options["setting"])}
    how = _how_mutual(options["setting"].pop("mutual", None))
    settings = EvalSettings(
        k_shots=_numbers("--k-shot", options["k_shot"]),
        seeds=_numbers("--seeds", options["seeds"]),
        maps=options["maps"],
        fpr_limit=options["fpr_limit"],
        bootstrap=options["bootstrap"],
        mutual=options["mutual"] or how is not None,
        **({} if how is None else {"how_mutual": how}),
    )
    check_units(plan_units(dataset, settings))
    if options["log"] is not None:
        check_tracker(options["log"])
    pool = None
    if options["engine"] == shared.Engine.ray:
        from vlad.cluster.measure import RayPool
        from vlad.cluster.run import Cluster

        if options["cache"] is not None:
            raise ConfigError("--cache is for one process; leave it or --engine ray out")
        pool = RayPool(Cluster(workers=options["workers"], device=options["device"]))
    elif options["workers"] is not None:
        raise ConfigError("--workers: only with --engine ray")
    processes = Processes.find(options["device"])
    detector = _detector(options, processes.device(options["device"]))
    quiet = options["quiet"] or not processes.is_first
    out = options["out"] or Path("runs") / _default_name(dataset, detector.backbone.source or detector.backbone.name)
    if not quiet:
        typer.echo(f"model: {detector.model_name}; data: {dataset.title}, {_counted(len(dataset.categories), 'category')}", err=True)
        _tell_folders(dataset, indent="")
        for one in dataset.categories:
            if question := inverted_masks(one):
                typer.echo(f"note: {one.name}: {question}", err=True)
        if settings.mutual:
            typer.echo("transductive: compare with published rows that need the whole test set, such as MuSc's", err=True)
    try:
        problems = run(
            detector,
            dataset,
            out,
            settings,
            resume=options["resume"],
            batch_size=options["batch_size"],
            class_name=options["class_name"],
            processes=processes,
            pool=pool,
            quiet=quiet or not sys.stderr.isatty(),
        )
    except KeyboardInterrupt:
        typer.echo(f"vlad: interrupted; what was done is in {out}, go on with the same command and --resume", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not processes.is_first:
        return True
    results = summarise(out, problems)
    if options["report"]:
        from vlad.evaluation.report import write_report

        write_report(out, dataset)
    if not quiet:
        _print_table(results)
    for problem in results["problems"]:
        typer.echo(f"vlad: {problem}", err=True)
    if options["log"] is not None:
        typer.echo(f"logged: {log_run(options['log'], results, out)}", err=True)
    if not quiet:
        typer.echo(f"results in {out}" + (f", report in {out / 'report.html'}" if options["report"] else ""), err=True)
    return not results["problems"]


def _evaluate_mmad(options: dict[str, Any]) -> None:
    """Ask a VLM the questions of MMAD; exit 3 if some have no answer."""
    from vlad.evaluation.mmad import run_mmad
    from vlad.vlm.backends import load_vlm

    backend = load_vlm(options["vlm"])
    if backend is None or options["data_root"] is None:
        raise ConfigError("--dataset mmad needs DATA_ROOT and a vision-language model; add --vlm NAME|URL (the describer can't choose)")
    shots = _numbers("--k-shot", options["k_shot"])
    if len(shots) != 1:
        raise ConfigError(f"--dataset mmad takes one number of reference pictures, got --k-shot {options['k_shot']}")
    out = options["out"] or Path("runs") / "mmad"
    try:
        table = run_mmad(backend, options["data_root"], out, k_shot=shots[0], knowledge=options["knowledge"], resume=options["resume"])
    except KeyboardInterrupt:
        typer.echo(f"vlad: interrupted; what was answered is in {out}, go on with the same command and --resume", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not options["quiet"]:
        typer.echo(printable(f"vlm: {table['model']}", one_line=True))
        for kind, value in table["mean"].items():
            n = table["n"].get(kind, sum(table["n"].values()))
            strict, unread = table["strict"]["mean"].get(kind), table["unread"].get(kind)
            beside = "" if strict is None else f"; read strictly {100 * strict:.1f}"
            beside += "" if unread is None else f", no plain letter in {unread:.0%}"
            typer.echo(f"  {kind:24s} {'-' if value is None else f'{100 * value:.1f}'}  ({n} questions{beside})")
    if table["failures"]:
        typer.echo(f"vlad: {table['failures']} questions without an answer; see {out / 'answers.jsonl'}", err=True)
        raise typer.Exit(INPUT_UNREADABLE)


def _detector(options: dict[str, Any], device: str) -> AnomalyDetector:
    from vlad.detector import AnomalyDetector

    given = options["setting"] | {key: options[key] for key in ("tile", "threshold", "rarity") if options[key] is not None}
    if options["white"] is not None:
        given["white_level"] = int(options["white"]) if str(options["white"]).isdecimal() else options["white"]
    if own := sorted(given.keys() & _OPTIONS_OF_THEIR_OWN):
        raise ConfigError(f"--setting {own[0]} has an option of its own; give --{own[0].replace('_', '-')}")
    detector = AnomalyDetector.from_pretrained(options["model"], device=device, dtype=options["dtype"], prompts=options["prompts"], **given)
    if options["cache"] is None:
        return detector
    from vlad.evaluation.cache import on_cache

    return on_cache(detector, options["cache"])


def _default_name(dataset: Dataset, what: str) -> str:
    return re.sub(r"[^\w.-]+", "_", f"{dataset.root.resolve().stem}-{what}").strip("_")


def _check(dataset: Dataset, *, quiet: bool) -> None:
    """Print what is wrong with a dataset; exit 3 on errors."""
    from tqdm import tqdm

    from vlad.evaluation.datasets.check import check_dataset, dataset_size

    layout = dataset.layout
    typer.echo(f"{dataset.title} ({layout.name}) in {dataset.root}")
    for label, text in (("get it", layout.url), ("licence", layout.licence), ("split", layout.split_note)):
        if text and (dataset.is_published or label == "split"):
            typer.echo(f"  {label}: {text}")
    for category in dataset.categories:
        good = sum(not picture.is_anomalous for picture in category.test)
        counts = f"{_counted(len(category.references), 'reference')}, {good} good, {len(category.test) - good} anomalous"
        typer.echo(f"  {category.name}: {counts}{'; references come from good' if category.shared else ''}")
    _tell_folders(dataset, indent="  ", err=False)
    with tqdm(total=dataset_size(dataset), unit="picture", disable=quiet or not sys.stderr.isatty(), leave=False) as bar:
        findings = check_dataset(dataset, progress=bar.update)
    for finding in findings:
        typer.echo(str(finding))
    levels = [finding.level for finding in findings]
    typer.echo(", ".join(_counted(levels.count(level), level) for level in ("error", "warning", "note")))
    if "error" in levels:
        raise typer.Exit(INPUT_UNREADABLE)


_MOST_FOLDERS = 12  # lines


def _tell_folders(dataset: Dataset, *, indent: str, err: bool = True) -> None:
    """What each folder was taken for, where that was found out from its name."""
    from vlad.evaluation.datasets import listed

    lines = [line for category in dataset.categories for line in listed(category.folders, dataset.root)]
    if dataset.layout.counts.keys() & {category.name for category in dataset.categories}:
        return  # a published set, whose folders everybody knows
    for line in lines[:_MOST_FOLDERS]:
        typer.echo(printable(f"{indent}{line}", one_line=True), err=err)
    if len(lines) > _MOST_FOLDERS:
        typer.echo(f"{indent}... and {len(lines) - _MOST_FOLDERS} folders more", err=err)


def _print_table(results: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from vlad.evaluation.table import mean_and_spread

    shown = [name for name in _SHOWN if any(name in row["metrics"] for row in results["summary"])]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("category", overflow="fold")
    table.add_column("k", justify="right")
    for name in shown:
        table.add_column(name, justify="right")
    for row in results["categories"]:
        table.add_row(row["category"], str(row["k_shot"]), *(mean_and_spread(row["metrics"].get(name)) for name in shown))
    for row in results["summary"]:
        cells = (mean_and_spread(row["metrics"].get(name)) for name in shown)
        table.add_row(f"mean of {row['n_categories']}", str(row["k_shot"]), *cells, style="bold")
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(width=200, markup=False, highlight=False)
    console.print(table)


def _counted(count: int, noun: str) -> str:
    """Such as: 1 category, 2 categories."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise ConfigError(f"{option} must be whole numbers with commas between, such as 0,1,4; got {text!r}") from None


@app.command("report")
def report_again(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a run.", show_default=False)],
    data_root: Annotated[
        Path | None, typer.Option(help="The dataset, for pictures of the worst cases; without it their maps alone.", show_default=False)
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Its layout.  [default: the run's]", show_default=False)] = None,
) -> None:
    """Compute results.json and write report.html and report.md again from a run's samples; no model is loaded.

    \b
    vlad eval report runs/mvtec --data-root data/mvtec
    """
    from vlad.evaluation.datasets import load_dataset
    from vlad.evaluation.report import write_report
    from vlad.evaluation.results import read_results, summarise

    earlier = read_results(folder)["problems"] if (folder / "results.json").is_file() else []
    of_units = [problem for problem in earlier if "k=" in problem]  # those of pictures are in the samples
    results = summarise(folder, of_units)
    found = None if data_root is None else load_dataset(data_root, dataset or results["dataset"]["name"])
    for path in write_report(folder, found):
        typer.echo(str(path))


@app.command("compare")
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Folder of the run to compare with.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Folder of the new run.", show_default=False)],
    metric: Annotated[str, typer.Option(metavar="NAME,...", help="Metrics that must not fall.")] = "image_auroc,pixel_auroc,aupro,spro",
    tolerance: Annotated[float, typer.Option(min=0, help="A mean that falls by more than this is a regression.")] = 0.005,
    bootstrap: Annotated[int, typer.Option(min=100, help="Paired resamples.")] = 1000,
    output: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """How B differs from A on the pictures that both measured, with paired bootstrap confidence intervals and p-values.

    \b
    vlad eval compare runs/before runs/after --tolerance 0.005

    Exit codes: 0 no regression; 1 the mean of a metric fell by more than --tolerance; 2 the runs cannot be compared.
    """
    import json

    from vlad.evaluation.compare import compare_runs

    if output not in ("table", "json"):
        raise ConfigError(f"--format must be table or json, got {output!r}")
    comparison = compare_runs(a, b, metrics=_words(metric), tolerance=tolerance, n_resamples=bootstrap)
    if output == "json":
        typer.echo(json.dumps(comparison.to_dict(), indent=2, ensure_ascii=False))
    else:
        typer.echo(comparison.to_text())
    if comparison.regressions:
        raise typer.Exit(REGRESSION)


@app.command("table")
def table(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Folders of runs; NAME=RUN,RUN for some that belong together.", show_default=False),
    ],
    metric: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Columns.  [default: the usual ones that were measured]", show_default=False)
    ] = None,
) -> None:
    """Several runs as one Markdown table: percent, mean ± sample standard deviation over seeds, or over the runs of a name.

    \b
    vlad eval table runs/bottle/* runs/hazelnut/*
    vlad eval table lite=runs/lite "one head=runs/head0,runs/head1,runs/head2"
    """
    from vlad.evaluation.table import runs_table

    groups: dict[str, list[Path]] = {}
    for text in runs:
        name, mark, folders = text.partition("=")
        some = [Path(word) for word in _words(folders)] if mark and not Path(text).exists() else [Path(text)]
        label = name if mark and not Path(text).exists() else Path(text).name
        groups[label if label not in groups else text] = some
    typer.echo(runs_table(groups, None if metric is None else _words(metric)))


@app.command("layouts")
def layouts() -> None:
    """The datasets that `--dataset` names: what they are, where they come from, their licence, and how they lie on disk."""
    from vlad.evaluation.datasets import LAYOUTS

    for layout in LAYOUTS.values():
        typer.echo(f"{layout.name}: {layout.title}")
        limit = "" if layout.fpr_limit == 0.3 else f"AUPRO or sPRO up to {layout.fpr_limit:g}"
        for text in (f"{layout.url}  ({layout.licence})" if layout.url else layout.licence, layout.split_note, limit):
            if text:
                typer.echo(f"  {text}")
        typer.echo("".join(f"    {line}\n" for line in layout.expects.splitlines()))
    typer.echo("mmad: questions to a vision-language model (https://arxiv.org/abs/2410.09453); needs --vlm")


@app.command("prompts")
def search_prompts(
    data_root: Annotated[
        Path | None, typer.Argument(metavar="DATA_ROOT", help="The dataset's folder, or a list file.", show_default=False)
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Its layout.  [default: found out]", show_default=False)] = None,
    category: Annotated[str | None, typer.Option(metavar="A,B", help="Only these categories.", show_default=False)] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="NAME|FILE,...", help="Sets to try.  [default: all shipped ones]", show_default=False)
    ] = None,
    class_names: Annotated[
        str | None, typer.Option(metavar="NOUN,...", help="Wordings to try.  [default: the category's, 'object']", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="As in `vlad eval`.")] = "auto",
    folds: Annotated[int, typer.Option(min=2, help="Parts of the cross-validation.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Times it is repeated with other parts.")] = 10,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="A JSON file for all numbers.", show_default=False)] = None,
) -> None:
    """Which prompt set and which noun tell normal from anomalous pictures best, on labelled pictures of your own.

    The pictures are embedded once. The best of many candidates looks better than it is, so the choice is also made on some pictures and
    measured on others, again and again: what that gives is what to expect. Picture scores decide, not maps.

    \b
    vlad eval prompts my_pictures/ --class-names "metal nut,nut,hexagonal nut"
    """
    import json

    from vlad.evaluation.datasets import load_dataset
    from vlad.evaluation.search import search

    found = load_dataset(data_root, dataset, categories=_words(category) if category else None)
    from vlad.detector import AnomalyDetector

    detector = AnomalyDetector.from_pretrained(model, device=device, dtype=dtype)
    typer.echo(f"model: {detector.backbone.name}", err=True)
    outcomes = []
    for one in found.categories:
        outcome = search(
            detector,
            one,
            prompts=_words(prompts) if prompts else None,
            class_names=_words(class_names) if class_names else None,
            folds=folds,
            repeats=repeats,
        )
        outcomes.append(outcome)
        typer.echo(outcome.to_text())
    if out is not None:
        from vlad.disk import make_folder, replace_text

        make_folder(out.parent)
        text = json.dumps(
            {"model": detector.backbone.name, "categories": [one.to_dict() for one in outcomes]}, indent=2, ensure_ascii=False
        )
        replace_text(out, text + "\n")
    unreadable = [line for outcome in outcomes for line in outcome.problems]
    for line in unreadable:
        typer.echo(f"vlad: {line}", err=True)
    if unreadable:
        raise typer.Exit(INPUT_UNREADABLE)
