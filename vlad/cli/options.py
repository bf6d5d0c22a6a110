"""Options that several commands share, each declared once; a new setting of the detector is a field of `DetectorOptions`."""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from vlad.config import CALIBRATIONS, SPEEDS, TEXT_MAPS
from vlad.errors import ConfigError, ImageReadError, VladWarning
from vlad.scoring.methods import NAMES as SCORERS
from vlad.untrusted import printable

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.pictures.folders import Roles


INPUT_UNREADABLE = 3  # exit code
CHART = "calibration.png"  # in the folder of a detector


Model = Annotated[
    str,
    typer.Option(help="auto, a preset (see `vlad doctor`), ARCHITECTURE:TAG, ARCHITECTURE:FILE, a hub id or a folder, also of `vlad fit`."),
]
Prompts = Annotated[
    str | None,
    typer.Option(help="A prompt set (see `vlad prompts list`) or a YAML file.  [default: winclip]", show_default=False),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary; notes and errors still go to stderr.")]
Rarity = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1000,
        help="Without references: weight of how rare a place is in its own picture, beside the words; 0 leaves the words alone.  "
        "[default: the model's; lite 20, a CLIP 0]",
        show_default=False,
    ),
]
NormalNames = Annotated[
    str | None,
    typer.Option(
        "--normal",
        metavar="A,B",
        help="Names of the folders of normal pictures.  [default: good, ok, normal, negative, pass and the like]",
        show_default=False,
    ),
]
AnomalousNames = Annotated[
    str | None,
    typer.Option(
        "--anomalous", metavar="A,B", help="Names of the folders of anomalous pictures.  [default: all others]", show_default=False
    ),
]
References = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DIR",
        help="Normal pictures to compare with: a folder, file or quoted glob; may be repeated. They replace the references that the "
        "folder of --model holds.",
        show_default=False,
    ),
]


class Engine(StrEnum):
    """Where pictures are judged."""

    local = "local"
    ray = "ray"


Workers = Annotated[
    int | None,
    typer.Option(min=1, help="With --engine ray: so many detectors.  [default: one for each GPU, or each four cores]", show_default=False),
]


def _optional(*names: str, help: str, **settings: Any) -> Any:
    """An option that is None unless it is given; what then holds, the help says."""
    return typer.Option(*names, help=help, show_default=False, **settings)


def _one_of(names: Sequence[str]) -> Callable[[str | None], str | None]:
    """A check that a name is one of `names`, of which the help shows what a class of its own would."""

    def known(name: str | None) -> str | None:
        if name is not None and name not in names:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, names))}.")
        return name

    return known


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """What a command makes its detector of: each field is an option, in the order of the help, and unless it is one of `_OF_MODEL`, a
    setting of the detector's."""

    class_name: Annotated[
        str | None, _optional(help="What the pictures show, a noun: 'metal nut'. A CLIP finds more with better words.")
    ] = None
    model: Model = "auto"
    prompts: Prompts = None
    threshold: Annotated[
        float | None,
        _optional(min=0, max=1, help="A score above it is anomalous.  [default: the references', else the words', if they can tell]"),
    ] = None
    patch_backbone: Annotated[str | None, _optional(help="A patch backbone for the references beside the model, such as dinov2-small.")] = (
        None
    )
    resolution: Annotated[
        int | None, _optional(min=32, help="Side in pixels that a patch backbone sees; 672 for small defects.  [default: 448]")
    ] = None
    layers: Annotated[
        str | None,
        _optional(
            metavar="N,...|middle",
            help="Blocks of a patch backbone, from 0 or from the end (-1).  [default: the last; middle for subspace on a DINOv2]",
        ),
    ] = None
    merge: Annotated[
        str | None,
        _optional(
            metavar="mean|raw|concat", callback=_one_of(("mean", "raw", "concat")), help="How its blocks are joined.  [default: mean]"
        ),
    ] = None
    norm: Annotated[
        bool | None,
        _optional("--norm/--no-norm", help="Its final LayerNorm is applied to each block.  [default: yes, but not to middle]"),
    ] = None
    text_maps: Annotated[
        str | None,
        _optional(
            metavar="windows|coarse|dense",
            callback=_one_of(TEXT_MAPS),
            help="Where the words of a CLIP look: all windows, from coarse to fine, or dense patches in one pass.  [default: windows]",
        ),
    ] = None
    speed: Annotated[
        str | None,
        _optional(
            metavar="exact|balanced|fast",
            callback=_one_of(tuple(SPEEDS)),
            help="Of the words of a CLIP: balanced looks from coarse to fine, fast at dense patches.  [default: exact]",
        ),
    ] = None
    rarity: Rarity = None
    scorer: Annotated[
        str | None,
        _optional(
            metavar="|".join(SCORERS),
            callback=_one_of(SCORERS),
            help="How pictures are compared with references.  [default: the model's]",
        ),
    ] = None
    rotations: Annotated[
        int | None,
        _optional(min=1, help="Remember references at N angles; 1 where a turned part is a defect.  [default: 8 for up to 16 references]"),
    ] = None
    random_angles: Annotated[
        bool, typer.Option("--random-angles", help="Draw the angles of --rotations at random instead of evenly; SubspaceAD takes 30.")
    ] = False
    coreset: Annotated[float | None, _optional(min=0.001, max=1, help="Share of the normal tokens to keep, e.g. 0.1.  [default: all]")] = (
        None
    )
    search: Annotated[
        str | None,
        _optional(
            metavar="clusters|exact",
            callback=_one_of(("clusters", "exact")),
            help="How the nearest of many normal tokens is looked for.  [default: clusters, with the same scores but for rare cases]",
        ),
    ] = None
    foreground: Annotated[bool, typer.Option("--foreground", help="Look at the part alone where it stands out from its background.")] = (
        False
    )
    calibration: Annotated[
        str | None,
        _optional(
            metavar="|".join(CALIBRATIONS),
            callback=_one_of(CALIBRATIONS),
            help="How a threshold follows from references.  [default: shrinkage]",
        ),
    ] = None
    fpr_limit: Annotated[
        float | None,
        _optional(min=0.0001, max=0.5, help="False-positive rate that this threshold aims at.  [default: 0.05]"),
    ] = None
    text_weight: Annotated[
        float | None,
        _optional(
            min=0, max=1, help="Weight of the words beside references, or beside the other pictures (--mutual).  [default: the model's]"
        ),
    ] = None
    tile: Annotated[
        int | None,
        _optional(
            min=0,
            metavar="N",
            help="Look at pictures larger than N pixels in overlapping tiles of N; 0 never.  [default: line scans and the like alone]",
        ),
    ] = None
    roi: Annotated[
        str | None,
        _optional(
            metavar="X,Y,W,H|MASK",
            help="Look only there: a box in pixels (or shares of the picture, 0.1,0.1,0.8,0.5), or the file of a mask, white where to "
            "look; several with ';'.",
        ),
    ] = None
    ignore: Annotated[str | None, _optional(metavar="X,Y,W,H|MASK", help="Do not look there; as --roi.")] = None
    min_area: Annotated[
        int | None, _optional(min=1, metavar="PIXELS", help="A picture is anomalous only if a marked place has so many pixels.")
    ] = None
    adapt_to: Annotated[
        str | None,
        _optional(
            "--match",
            metavar="exposure",
            help="With references: multiply every picture so that its light is theirs, where lamps and exposure change.",
        ),
    ] = None
    mild_changes: Annotated[
        bool,
        typer.Option(
            "--mild-changes",
            help="Remember the references darker, brighter, blurred, compressed and moved as well: fewer false alarms after such changes, "
            "six times the time and memory of --references.",
        ),
    ] = False
    device: Device = "auto"
    dtype: Dtype = "auto"
    max_pixels: Annotated[int | None, _optional(min=1, help="Refuse larger pictures.  [default: 100,000,000]")] = None
    white_level: Annotated[
        str | None,
        _optional(
            "--white",
            metavar="LEVEL",
            help="White in pictures of 16 bits, as 4095 of a camera with 12; auto finds it from the references.  [default: 65535]",
        ),
    ] = None

    @property
    def settings(self) -> dict[str, Any]:
        """The detector's settings that were given, as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _OF_MODEL}
        values["adapt"] = values.pop("adapt_to")
        if self.tile is not None and 0 < self.tile < 32:
            raise ConfigError(f"--tile must be 0 or at least 32 pixels, got {self.tile}")
        if self.layers is not None and self.layers != "middle":
            try:
                values["layers"] = [int(word) for word in words(self.layers)]
            except ValueError:
                raise ConfigError(f"--layers must be 'middle' or whole numbers with commas, got {self.layers!r}") from None
        if self.white_level is not None:
            values["white_level"] = int(self.white_level) if self.white_level.isdecimal() else self.white_level
        return {
            key: value.value if isinstance(value, StrEnum) else value
            for key, value in values.items()
            if value is not None and (value is not False or key == "norm")
        }

    def load(self, quiet: bool, *, references: bool = False) -> AnomalyDetector:
        """The detector, ready to see `references` if there will be some, and a line that names its model."""
        from vlad.detector import AnomalyDetector

        detector = AnomalyDetector.from_pretrained(self.model, device=self.device, dtype=self.dtype, prompts=self.prompts, **self.settings)
        if references:
            detector.ready_for_references()
        if not quiet:
            backbone = detector.backbone
            typer.echo(f"model: {detector.model_name}, on {backbone.device} in {str(backbone.dtype).removeprefix('torch.')}", err=True)
        return detector


_OF_MODEL = frozenset({"model", "prompts", "device", "dtype"})


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each field of its parameter of type `DetectorOptions` as a parameter of its own, as typer looks for options."""
    own, shared = get_type_hints(command, include_extras=True), get_type_hints(DetectorOptions, include_extras=True)
    bundle = next(name for name, hint in own.items() if hint is DetectorOptions)
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name == bundle:
            parameters += [_parameter(field.name, field.default, shared[field.name]) for field in fields(DetectorOptions)]
        else:
            parameters.append(_parameter(name, parameter.default, own[name]))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        made_of = DetectorOptions(**{field.name: values.pop(field.name) for field in fields(DetectorOptions)})
        command(**values, **{bundle: made_of})

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(name: str, default: Any, hint: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def fit(detector: AnomalyDetector, references: list[str], quiet: bool, roles: Roles | None = None) -> list[str]:
    """Fit the detector to pictures, folders and globs; of a folder that is sorted into normal and anomalous ones, to the normal ones.

    Args:
        roles: what is known of the names of such folders.

    Returns:
        One line for each reference that could not be read; the others are used.

    Raises:
        ImageReadError: none could be read.
    """
    found, failed = find(_normal_ones(references, roles, quiet))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "left out of the references", VladWarning)  # said by the caller, after the results
        if not quiet:
            warnings.filterwarnings("ignore", ".*is a guess and can be far off", VladWarning)  # said below
        try:
            with progress(quiet) as show:
                detector.fit(found, on_progress=show)
        except ImageReadError as error:  # beside what was not found at all
            raise ImageReadError("; ".join([*failed, str(error)][:3])) from error
    if not quiet:
        typer.echo(describe(detector), err=True)
    return [*failed, *map(str, detector.fit_report.left_out)]


def _normal_ones(items: list[str], roles: Roles | None, quiet: bool) -> list[str]:
    """The items, a folder that is sorted into normal and anomalous pictures replaced by those of its folders that hold normal ones.

    Raises:
        ConfigError: a name was given, and no such folder is there.
    """
    from vlad.pictures.folders import Roles, listed, normal_pictures

    found: list[str] = []
    for item in items:
        folder = Path(item)
        normal, taken = normal_pictures(folder, roles or Roles()) if folder.is_dir() else ([], ())
        if roles is not None and roles.normal and not normal:
            raise ConfigError(f"{item}: expected a folder called {' or '.join(roles.normal)} in it; see --normal")
        there = {one.path.name.casefold() for one in taken}
        if roles is not None and (unknown := [name for name in roles.anomalous if name.casefold() not in there]):
            raise ConfigError(f"{item}: expected a folder called {unknown[0]} in it; see --anomalous")
        found += map(str, normal) if normal else [item]
        if normal and not quiet:
            for line in listed(taken, folder):
                typer.echo(printable(f"{item}: {line}", one_line=True), err=True)
    return found


def find(items: list[str]) -> tuple[list[Path], list[str]]:
    """Pictures, folders and globs as pictures, each once, and one line for each item that is none.

    Raises:
        ImageReadError: there is no picture at all.
    """
    from vlad.pictures.reading import find_images

    found: dict[Path, None] = {}
    failed: list[str] = []
    for item in items:
        try:
            found.update(dict.fromkeys(find_images([item])))
        except ImageReadError as error:
            failed.append(str(error))
    if not found:
        raise ImageReadError("; ".join(failed[:3]) or "no references were given")
    return list(found), failed


def compare_with(detector: AnomalyDetector, references: list[str] | None, quiet: bool) -> list[str]:
    """Fit to --references, if given; one line for each that could not be read. Where none could be, the command ends here."""
    if not references:
        if detector.memory is not None and not quiet:
            typer.echo(describe(detector), err=True)
        return []
    if detector.references:
        count = len(detector.references)
        shown = f"{count} references" if count > 1 else "one reference"
        typer.echo(f"note: --references {' '.join(references)} replaces the {shown} of the folder of --model", err=True)
    try:
        return fit(detector, references, quiet)
    except ImageReadError as error:
        complain(error)
        raise typer.Exit(INPUT_UNREADABLE) from None


def words(text: str | None) -> tuple[str, ...]:
    """The words of a list with commas."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def complain(problem: object) -> None:
    """A line on stderr; what a file's name holds cannot steer the terminal."""
    typer.echo(printable(f"vlad: {problem}", one_line=True), err=True)


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """What to call with the phase and how many of how many pictures are done, as `predict_mutual_iter` does: a bar with the time left on a
    terminal, else nothing."""
    from tqdm import tqdm

    phases = {"read": "reading", "look": "looking", "turn": "turning", "compare": "comparing"}
    bar: tqdm[Any] | None = None
    phase_shown = ""

    def show(phase: str, done: int, of: int) -> None:
        nonlocal bar, phase_shown
        if phase != phase_shown:  # each phase has a speed of its own, and so its own time left
            close()
            bar = tqdm(desc=phases[phase], total=of or None, unit="picture", disable=quiet or not sys.stderr.isatty(), leave=False)
            phase_shown = phase
        if bar is not None:
            bar.update(done - bar.n)

    def close() -> None:
        if bar is not None:
            bar.close()

    try:
        yield show
    finally:
        close()


def check_out(out: Path | None, found: Iterable[Path]) -> None:
    """Refuse a result folder that holds pictures of this run: results would overwrite them, or be taken for pictures."""
    if out is None:
        return
    folder = out.resolve()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out must be a folder, {out} is a file; choose another name")
    if inside := next((path for path in found if folder in path.resolve().parents), None):
        raise ConfigError(f"--out {out} holds {inside}, which is to be inspected; choose a folder that holds none of the pictures")


def describe(detector: AnomalyDetector) -> str:
    """What the detector compares with, on a line, and on another its threshold and what to expect of it."""
    memory, config, labels = detector.memory, detector.config, detector.labels
    lines = []
    if memory is None:
        lines.append("no references")
    else:
        count = len(memory.references)
        lines.append(f"references: {count} picture{'s' if count > 1 else ''}, scorer {memory.settings.scorer}")
        if memory.loss.tokens > memory.loss.kept:
            loss = memory.loss
            lines[0] += f"; coreset keeps {loss.kept:,} of {loss.tokens:,} tokens, at most {loss.radius:.3f} from the dropped ones"
    if config.threshold is not None:
        lines.append(f"threshold {config.threshold:.3f}, as given")
    elif labels is not None:
        lines.append(f"threshold {labels.threshold:.3f} {labels.promise()}")
    elif memory is not None and memory.calibration is not None:
        image = memory.calibration.image_threshold(config.calibration, config.fpr_limit)
        lines.append(f"threshold {image:.3f} {memory.calibration.promise(config.calibration, config.fpr_limit)}")
    return "\n".join(lines)


def draw_chart(detector: AnomalyDetector, folder: Path, chart: Path | None = None) -> Path | None:
    """Draw the labelled scores of a detector; without labels a chart of before goes."""
    from vlad.output.calibration_chart import draw_calibration

    path = chart or folder / CHART
    if detector.labels is None:
        if chart is None:
            path.unlink(missing_ok=True)
        return None
    return draw_calibration(detector.labels, path, model=detector.model_name)
