"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector


class Scorer(StrEnum):
    winclip = "winclip"
    nearest = "nearest"
    subspace = "subspace"


class Calibration(StrEnum):
    student = "student"
    quantile = "quantile"
    conformal = "conformal"


ClassName = Annotated[str | None, typer.Option(help="What the pictures show, a noun: 'metal nut'. A CLIP finds more with better words.")]
Model = Annotated[
    str,
    typer.Option(help="auto, a preset (see `vlad doctor`), ARCHITECTURE:TAG, ARCHITECTURE:FILE, a hub id or a folder, also of `vlad fit`."),
]
Prompts = Annotated[
    str | None,
    typer.Option(help="A prompt set (see `vlad prompts list`) or a YAML file.  [default: winclip]", show_default=False),
]
Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="A score above it is anomalous.  [default: the references', else 0.5, the text's]", show_default=False),
]
PatchBackbone = Annotated[
    str | None, typer.Option(help="A patch backbone for the references beside the model, such as dinov2-small.", show_default=False)
]
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
Resolution = Annotated[
    int | None,
    typer.Option(min=32, help="Side in pixels that a patch backbone sees; 672 for small defects.  [default: 448]", show_default=False),
]
ScorerOption = Annotated[
    Scorer | None,
    typer.Option("--scorer", help="How pictures are compared with references.  [default: the model's]", show_default=False),
]
Rotations = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Remember references at N angles; 1 where a turned part is a defect.  [default: 8 for up to 16 references]",
        show_default=False,
    ),
]
Coreset = Annotated[
    float | None, typer.Option(min=0.001, max=1, help="Share of the normal tokens to keep, e.g. 0.1.  [default: all]", show_default=False)
]
Foreground = Annotated[bool, typer.Option("--foreground", help="Look at the part alone where it stands out from its background.")]
CalibrationOption = Annotated[
    Calibration | None,
    typer.Option("--calibration", help="How a threshold follows from references.  [default: student]", show_default=False),
]
FprLimit = Annotated[
    float | None,
    typer.Option(min=0.0001, max=0.5, help="False-positive rate that this threshold aims at.  [default: 0.05]", show_default=False),
]
Tile = Annotated[int | None, typer.Option(min=32, metavar="N", help="Look at pictures larger than N pixels in overlapping tiles of N.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
MaxPixels = Annotated[int | None, typer.Option(min=1, help="Refuse larger pictures.  [default: 100,000,000]", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary; notes and errors still go to stderr.")]


def given(**settings: Any) -> dict[str, Any]:
    """Those settings that were given on the command line, as plain values."""
    return {key: value.value if isinstance(value, StrEnum) else value for key, value in settings.items() if value not in (None, False)}


def load(model: str, prompts: str | None, device: str, dtype: str, settings: dict[str, Any], quiet: bool) -> AnomalyDetector:
    """The detector, and a line that names its model."""
    from vlad.detector import AnomalyDetector

    detector = AnomalyDetector.from_pretrained(model, device=device, dtype=dtype, prompts=prompts, **settings)
    if not quiet:
        backbone = detector.backbone
        typer.echo(f"model: {detector.model_name}, on {backbone.device} in {str(backbone.dtype).removeprefix('torch.')}", err=True)
    return detector


def fit(detector: AnomalyDetector, references: list[str], quiet: bool) -> list[str]:
    """Fit the detector to pictures, folders and globs.

    Returns:
        One line for each reference that could not be read; the others are used.

    Raises:
        ImageReadError: none could be read.
    """
    from vlad.errors import ImageReadError
    from vlad.pictures.reading import find_images, read_image

    found: dict[Path, None] = {}
    failed: list[str] = []
    for item in references:
        try:
            found.update(dict.fromkeys(find_images([item])))
        except ImageReadError as error:
            failed.append(str(error))
    readable = []
    for path in found:
        try:
            read_image(path, max_pixels=detector.config.max_pixels)
            readable.append(path)
        except ImageReadError as error:
            failed.append(str(error))
    if not readable:
        raise ImageReadError("; ".join(failed[:3]) or "no references were given")
    detector.fit(readable)
    if not quiet:
        typer.echo(describe(detector), err=True)
    return failed


def describe(detector: AnomalyDetector) -> str:
    """The references and their thresholds in a line or two."""
    memory, config = detector.memory, detector.config
    if memory is None or memory.calibration is None:
        return "no references"
    calibration = memory.calibration
    count = len(memory.references)
    image = calibration.image_threshold(config.calibration, config.fpr_limit)
    pixel = calibration.pixel_threshold(config.calibration, config.fpr_limit)
    lines = [f"references: {count} picture{'s' if count > 1 else ''}, scorer {memory.settings.scorer}"]
    if memory.loss.tokens > memory.loss.kept:
        loss = memory.loss
        lines[0] += f"; coreset keeps {loss.kept:,} of {loss.tokens:,} tokens, at most {loss.radius:.3f} from the dropped ones"
    lines.append(f"threshold {image:.3f}, of pixels {pixel:.3f}; {calibration.promise(config.calibration, config.fpr_limit)}")
    return "\n".join(lines)
