"""Results of a large run in parts, one for each block of pictures, as Parquet or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlad.disk import make_folder, replace_bytes, replace_text
from vlad.errors import ConfigError
from vlad.output.rows import COLUMNS
from vlad.output.tables import TableWriter
from vlad.untrusted import as_utf8

_RUN = "run.json"
_TEXTS = ("regions", "scores", "image_size", "warnings")  # kept as JSON in a column of their own


class Parts:
    """The folder of a run: run.json says of what, and parts/ holds the block of each number as part-0000000.parquet or .csv. A part
    comes into being in one instant, so that what is there is whole.

    Args:
        out: the folder, made if missing.
        kind: "parquet" or "csv".
        identity: what decides the rows, as plain JSON values; a run that is there must be of the same.

    Raises:
        ConfigError: the folder holds another run.
        OutputError: it cannot be written to.
    """

    def __init__(self, out: Path, kind: str, identity: Mapping[str, Any]) -> None:
        self.folder, self._kind = out / "parts", kind
        make_folder(self.folder)
        text = json.dumps({**identity, "results": kind}, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        place = out / _RUN
        if place.exists():
            before = _read(place)
            now = json.loads(text)
            for key in sorted({*before, *now}):
                if before.get(key) != now.get(key):
                    raise ConfigError(f"{out} holds a run with {_other(key, before.get(key), now.get(key))}; choose another --out")
        else:
            replace_text(place, text)

    def place(self, number: int) -> Path:
        """Where the part of a block is, or will be."""
        return self.folder / f"part-{number:07d}.{self._kind}"

    def verdicts(self, number: int) -> list[tuple[bool | None, bool]] | None:
        """Of each row of a block that is there its verdict and whether it failed; None where it is not there, or cannot be read."""
        place = self.place(number)
        if not place.is_file():
            return None
        try:
            return _verdicts_of(place)
        except Exception:  # a damaged file makes its reader throw exceptions of many kinds; it is written again
            return None

    def write(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a block, in the order of its pictures.

        Raises:
            OutputError: it could not be written.
        """
        replace_bytes(self.place(number), _parquet(rows) if self._kind == "parquet" else _csv(rows))


def _other(key: str, before: Any, now: Any) -> str:
    """What is another, down to the setting."""
    if isinstance(before, dict) and isinstance(now, dict):
        name = next(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))
        return _other(f"{key}.{name}", before.get(name), now.get(name))
    return f"another {key}: {str(before)[:80]}, now {str(now)[:80]}"


def _verdicts_of(place: Path) -> list[tuple[bool | None, bool]]:
    if place.suffix == ".parquet":
        import pyarrow.parquet as parquet

        rows = parquet.read_table(place, columns=["pred_label", "pred_score"]).to_pylist()
        return [(row["pred_label"], row["pred_score"] is None) for row in rows]
    with place.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        known = {"True": True, "False": False}
        return [(known.get(row["pred_label"]), not row["pred_score"]) for row in csv.DictReader(file)]


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    text, number = pa.string(), pa.float64()
    types = dict.fromkeys((*COLUMNS, *_TEXTS), text)
    types |= {"pred_score": number, "threshold": number, "mask_threshold": number, "seconds": number, "pred_label": pa.bool_()}
    types |= {"n_regions": pa.int64()}
    flat = [{name: _flat(row, name) for name in types} for row in rows]
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(flat, pa.schema(list(types.items()))), file, compression="zstd")
    return file.getvalue()


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    file = io.StringIO(newline="")
    with TableWriter((*COLUMNS, *_TEXTS)) as table:
        table.to_csv(file)
        for row in rows:
            table.add({name: _flat(row, name) for name in table.columns})
    return file.getvalue().encode("utf-8", "surrogateescape")


def _flat(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    if name in _TEXTS:
        return None if value is None else as_utf8(json.dumps(value, ensure_ascii=False))
    return as_utf8(value) if isinstance(value, str) else value


def _read(place: Path) -> dict[str, Any]:
    try:
        before = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place}: damaged ({error}); choose another folder") from error
    if not isinstance(before, dict):
        raise ConfigError(f"{place}: damaged; choose another folder")
    return before
