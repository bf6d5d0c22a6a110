"""`vlad convert`: the results of a run in the form of another tool."""

from __future__ import annotations

import csv
import io
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlad.errors import ConfigError

if TYPE_CHECKING:
    from vlad.formats.records import Record


class Form(StrEnum):
    coco = "coco"
    label_studio = "label-studio"
    fiftyone = "fiftyone"
    boxes = "boxes"
    parquet = "parquet"


def convert(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A folder that `vlad detect --out` wrote.", show_default=False)],
    *,
    to: Annotated[Form, typer.Option(help="boxes is a CSV with a row for each marked place.")],
    out: Annotated[Path, typer.Option(help="The file to write; one that is there is replaced.", show_default=False)],
    prefix: Annotated[
        str, typer.Option(help="With label-studio: goes before each picture's path, as its storage wants it.")
    ] = "/data/local-files/?d=",
) -> None:
    """Write the results of a run in the form of another tool.

    \b
    vlad convert results/ --to coco --out marked.json              # boxes, run-length masks, scores
    vlad convert results/ --to label-studio --out tasks.json       # predictions to correct; eval reads the export again
    vlad convert results/ --to fiftyone --out dataset.json         # fiftyone.Dataset.from_json("dataset.json")
    vlad convert results/ --to boxes --out boxes.csv
    vlad convert results/ --to parquet --out results.parquet

    Exit codes: 0 done; 2 no results are there, or a package is missing; 74 the file cannot be written.
    """
    from vlad.disk import replace_bytes
    from vlad.formats.records import read_run

    records = read_run(results)
    if not records:
        raise ConfigError(f"{results}: no picture of it has a score")
    replace_bytes(out, _content(records, to, out, prefix))
    unmarked = sum(1 for record in records if record.mask_path is None and record.row["regions"])
    note = f"; {unmarked} without a mask file have boxes alone" if unmarked and to not in (Form.boxes, Form.parquet) else ""
    typer.echo(f"{len(records)} pictures written to {out}{note}", err=True)


def _content(records: list[Record], to: Form, out: Path, prefix: str) -> bytes:
    from vlad.formats.tables import BOX_COLUMNS, boxes, frame

    if to is Form.parquet:
        file = io.BytesIO()
        try:
            frame(record.row for record in records).to_parquet(file, index=False)
        except ImportError as error:
            raise ConfigError("Parquet needs pyarrow; pip install 'vlad-anomaly[formats]'") from error
        return file.getvalue()
    if to is Form.boxes:
        from vlad.untrusted import inert

        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, BOX_COLUMNS)
        writer.writeheader()
        writer.writerows({key: inert(value) if isinstance(value, str) else value for key, value in row.items()} for row in boxes(records))
        return text.getvalue().encode("utf-8", "surrogateescape")
    if to is Form.coco:
        from vlad.formats.coco import to_coco

        return _json(to_coco(records))
    if to is Form.fiftyone:
        from vlad.formats.fiftyone import to_fiftyone

        return _json(to_fiftyone(records, out.stem))
    from vlad.formats.label_studio import to_label_studio

    return _json(to_label_studio(records, prefix=prefix))


def _json(values: object) -> bytes:
    return (json.dumps(values, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
