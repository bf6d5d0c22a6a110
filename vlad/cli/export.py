"""`vlad export`: a detector as an ONNX or OpenVINO model that runs without torch."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vlad.cli import options
from vlad.errors import ConfigError
from vlad.untrusted import printable

VERDICTS_FLIP = 1


class Kind(StrEnum):
    onnx = "onnx"
    openvino = "openvino"


class Precision(StrEnum):
    float32 = "float32"
    float16 = "float16"


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder of `vlad fit`, or a model by name for words alone.", show_default=False)
    ],
    *,
    out: Annotated[
        Path, typer.Option(help="Folder for the model and detector.json; an earlier export there is replaced.", show_default=False)
    ],
    kind: Annotated[Kind, typer.Option("--format", help="What to write.")] = Kind.onnx,
    precision: Annotated[Precision, typer.Option(help="Of the weights; float16 with openvino.")] = Precision.float32,
    class_name: Annotated[
        str | None, typer.Option(help="What the pictures show, a noun; fixed from then on.  [default: the detector's]", show_default=False)
    ] = None,
    made_for: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Shape of the pictures, for a patch backbone, which keeps their aspect.  [default: that of the references]",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(metavar="PICTURES", help="Compare on these beside the references; may be repeated.", show_default=False),
    ] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not compare the export with the detector.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a detector with everything that it scores by as one model, and compare both.

    `vlad detect --model DIR` runs it with onnxruntime or OpenVINO, without torch. The comparison goes into check.json: the largest
    difference of a score and of a map, and every picture whose verdict flips.

    \b
    vlad export models/nut --out exported/nut --check more_pictures/
    vlad export models/nut --out exported/nut --format openvino --precision float16
    vlad export ViT-B-16-plus-240:laion400m_e31 --class-name "metal nut" --out exported/words

    Exit codes: 0 done; 1 a verdict flips; 2 usage, or something that cannot be exported; 74 it could not be written.
    """
    from vlad.deploy.check import compare
    from vlad.deploy.exporting import export as write
    from vlad.deploy.runtime import ExportedDetector
    from vlad.deploy.spec import is_exported
    from vlad.detector import AnomalyDetector

    if check and no_check:
        raise ConfigError("--check and --no-check exclude each other; leave one out")
    if is_exported(model):
        raise ConfigError(f"{model} is an export already; export the detector that it was made of")
    found, failed = options.find(check) if check else ([], [])
    detector = AnomalyDetector.from_pretrained(model, dtype="float32", device="cpu")
    about: dict[str, Any] = {"kind": kind.value, "precision": precision.value, "class_name": class_name, "made_for": _size(made_for)}
    folder = write(detector, out, **about)
    if not quiet:
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6
        typer.echo(f"written: {folder} ({size:.0f} MB)", err=True)
    if no_check or not (found or detector.references):
        if not quiet and not no_check:
            typer.echo("note: there are no pictures to compare on; --check PICTURES compares both", err=True)
        return
    exported = ExportedDetector(folder)
    same = detector if class_name is None else detector.copy(class_name=class_name)
    result = compare(same, exported, found)
    result.write(folder)
    for line in (*failed, *result.left_out):
        options.complain(line)
    typer.echo(printable(result.in_words(), one_line=True))
    if result.flipped:
        raise typer.Exit(VERDICTS_FLIP)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if found is None or "0" in found.groups():
        raise ConfigError(f"--made-for takes WIDTHxHEIGHT in pixels, such as 1280x960, got {text!r}")
    return int(found[2]), int(found[1])
