"""`vlad eval`: measure a detector on a dataset, compare two runs, search prompts, write a report again."""

from __future__ import annotations

import re
import sys
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

REGRESSION, INPUT_UNREADABLE, INTERRUPTED = 1, 3, 130
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
            help="mvtec, mvtec_ad2, loco, mvtec3d, visa, btad, mpdd, ksdd, ksdd2, dagm, realiad, mtd, folder, list, synthetic or mmad.  "
            "[default: found out]",
            show_default=False,
        ),
    ] = None,
    category: Annotated[str | None, typer.Option(metavar="A,B", help="Only these categories.", show_default=False)] = None,
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
        typer.Option(help="Keep embeddings here, 0.5 to 1 MB a picture; a second run with other prompts is then fast.", show_default=False),
    ] = None,
    maps: Annotated[bool, typer.Option(help="Measure maps; --no-maps measures picture scores alone, many times faster.")] = True,
    fpr_limit: Annotated[
        float | None, typer.Option(help="Of AUPRO and sPRO.  [default: 0.3; 0.05 for loco and mvtec_ad2]", show_default=False)
    ] = None,
    tile: Annotated[int | None, typer.Option(min=32, metavar="N", help="As in `vlad detect`.", show_default=False)] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="As in `vlad detect`.", show_default=False)] = None,
    rarity: shared.Rarity = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the confidence intervals.")] = 500,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that go through the model together.")] = 8,
    vlm: Annotated[
        str | None,
        typer.Option(metavar="NAME|URL", help="With --dataset mmad: who is asked, as in `vlad ask`.", show_default=False),
    ] = None,
    knowledge: Annotated[
        bool, typer.Option("--knowledge", help="With --dataset mmad: show the benchmark's notes on each product.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write report.html and report.md.")] = True,
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

    --out gets results.json, samples.jsonl, report.html, report.md and the counted pixels of each picture. A run that was interrupted or
    killed goes on with --resume.

    Exit codes: 0 done; 2 usage; 3 some picture, mask or category could not be read or run (the rest is done), or --check found errors;
    70 a bug; 130 interrupted.
    """
    options = dict(ctx.params)
    if config is not None:
        options |= _from_config(ctx, config)
    if options["dataset"] == "mmad":
        _evaluate_mmad(options)
        return
    for name in ("vlm", "knowledge"):
        if options[name]:
            raise ConfigError(f"--{name} belongs to --dataset mmad; leave it out")
    from vlad.evaluation.datasets import load_dataset

    names = options["category"]
    found = load_dataset(options["data_root"], options["dataset"], categories=_words(names) if names else None)
    if options["check"]:
        _check(found, quiet=options["quiet"])
        return
    _evaluate(found, options)


def _from_config(ctx: typer.Context, name: str) -> dict[str, Any]:
    """Options of a configuration that were not given on the command line."""
    from vlad.evaluation.shipped import load_config

    values = load_config(name)
    allowed = set(ctx.params) - {"data_root", "config", "check", "resume"}
    if unknown := sorted(set(values) - allowed):
        raise ConfigError(f"configuration {name}: unknown option {unknown[0]!r}; known are {', '.join(sorted(allowed))}")
    given = {key for key in ctx.params if getattr(ctx.get_parameter_source(key), "name", "") == "COMMANDLINE"}
    joined = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
    paths = {key: Path(value) for key, value in joined.items() if key in ("out", "cache") and value is not None}
    chosen = {key: value for key, value in {**joined, **paths}.items() if key not in given}
    for key in ("k_shot", "seeds"):
        if key in chosen:
            chosen[key] = str(chosen[key])
    return chosen


def _evaluate(dataset: Dataset, options: dict[str, Any]) -> None:
    from vlad.evaluation.results import summarise
    from vlad.evaluation.runner import EvalSettings, Processes, check_units, plan_units, run

    settings = EvalSettings(
        k_shots=_numbers("--k-shot", options["k_shot"]),
        seeds=_numbers("--seeds", options["seeds"]),
        maps=options["maps"],
        fpr_limit=options["fpr_limit"],
        bootstrap=options["bootstrap"],
    )
    check_units(plan_units(dataset, settings))
    processes = Processes.find(options["device"])
    detector = _detector(options, processes.device(options["device"]))
    quiet = options["quiet"] or not processes.is_first
    out = options["out"] or Path("runs") / _default_name(dataset, detector)
    if not quiet:
        typer.echo(
            f"model: {detector.backbone.name}; data: {dataset.layout.title}, {_counted(len(dataset.categories), 'category')}", err=True
        )
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
            quiet=quiet or not sys.stderr.isatty(),
        )
    except KeyboardInterrupt:
        typer.echo(f"vlad: interrupted; what was done is in {out}, go on with the same command and --resume", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not processes.is_first:
        return
    results = summarise(out, problems)
    if options["report"]:
        from vlad.evaluation.report import write_report

        write_report(out, dataset)
    if not quiet:
        _print_table(results)
    for problem in results["problems"]:
        typer.echo(f"vlad: {problem}", err=True)
    if not quiet:
        typer.echo(f"results in {out}" + (f", report in {out / 'report.html'}" if options["report"] else ""), err=True)
    if results["problems"]:
        raise typer.Exit(INPUT_UNREADABLE)


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
            typer.echo(f"  {kind:24s} {'-' if value is None else f'{100 * value:.1f}'}  ({n} questions)")
    if table["failures"]:
        typer.echo(f"vlad: {table['failures']} questions without an answer; see {out / 'answers.jsonl'}", err=True)
        raise typer.Exit(INPUT_UNREADABLE)


def _detector(options: dict[str, Any], device: str) -> AnomalyDetector:
    from vlad.detector import AnomalyDetector

    given = {key: options[key] for key in ("tile", "threshold", "rarity") if options[key] is not None}
    detector = AnomalyDetector.from_pretrained(options["model"], device=device, dtype=options["dtype"], prompts=options["prompts"], **given)
    if options["cache"] is not None:
        from vlad.evaluation.cache import use_cache

        use_cache(detector, options["cache"])
    return detector


def _default_name(dataset: Dataset, detector: AnomalyDetector) -> str:
    words = f"{dataset.root.resolve().stem}-{detector.backbone.source or detector.backbone.name}"
    return re.sub(r"[^\w.-]+", "_", words).strip("_")


def _check(dataset: Dataset, *, quiet: bool) -> None:
    """Print what is wrong with a dataset; exit 3 on errors."""
    from tqdm import tqdm

    from vlad.evaluation.datasets.check import check_dataset, dataset_size

    layout = dataset.layout
    typer.echo(f"{layout.title} ({layout.name}) in {dataset.root}")
    for label, text in (("get it", layout.url), ("licence", layout.licence), ("split", layout.split_note)):
        if text:
            typer.echo(f"  {label}: {text}")
    for category in dataset.categories:
        good = sum(not picture.is_anomalous for picture in category.test)
        counts = f"{_counted(len(category.references), 'reference')}, {good} good, {len(category.test) - good} anomalous"
        typer.echo(f"  {category.name}: {counts}{'; references come from good' if category.shared else ''}")
    with tqdm(total=dataset_size(dataset), unit="picture", disable=quiet or not sys.stderr.isatty(), leave=False) as bar:
        findings = check_dataset(dataset, progress=bar.update)
    for finding in findings:
        typer.echo(str(finding))
    levels = [finding.level for finding in findings]
    typer.echo(", ".join(_counted(levels.count(level), level) for level in ("error", "warning", "note")))
    if "error" in levels:
        raise typer.Exit(INPUT_UNREADABLE)


def _print_table(results: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = [name for name in _SHOWN if any(name in row["metrics"] for row in results["summary"])]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("category", overflow="fold")
    table.add_column("k", justify="right")
    for name in shown:
        table.add_column(name, justify="right")
    for row in results["categories"]:
        table.add_row(row["category"], str(row["k_shot"]), *(_cell(row["metrics"].get(name)) for name in shown))
    for row in results["summary"]:
        cells = (_cell(row["metrics"].get(name)) for name in shown)
        table.add_row(f"mean of {row['n_categories']}", str(row["k_shot"]), *cells, style="bold")
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(width=200, markup=False, highlight=False)
    console.print(table)


def _cell(value: dict[str, float | None] | None) -> str:
    """Mean and, over several seeds, standard deviation, in percent."""
    if value is None or value["mean"] is None:
        return "-"
    spread = "" if value["std"] is None else f" ± {100 * value['std']:.1f}"
    return f"{100 * value['mean']:.1f}{spread}"


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
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"model": detector.backbone.name, "categories": [one.to_dict() for one in outcomes]}, indent=2, ensure_ascii=False
        )
        out.write_text(text + "\n", encoding="utf-8")
    unreadable = [line for outcome in outcomes for line in outcome.problems]
    for line in unreadable:
        typer.echo(f"vlad: {line}", err=True)
    if unreadable:
        raise typer.Exit(INPUT_UNREADABLE)
