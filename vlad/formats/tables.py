"""Results as tables: a row for each marked place, or for each picture; and as data frames."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vlad.errors import ConfigError
from vlad.formats.records import Record
from vlad.output.rows import details_of
from vlad.untrusted import as_utf8

if TYPE_CHECKING:
    import pandas

    from vlad.prediction import Prediction

BOX_COLUMNS = (
    "image_path", "image_width", "image_height", "pred_label", "pred_score", "threshold", "left", "top", "right", "bottom", "area", "peak",
    "mean",
)  # fmt: skip


def boxes(records: Iterable[Record]) -> list[dict[str, Any]]:
    """A row for each marked place; a picture without one has a row with an empty box."""
    rows = []
    for record in records:
        height, width = record.size
        own = {"image_path": record.path, "image_width": width, "image_height": height}
        own |= {key: record.row.get(key) for key in ("pred_label", "pred_score", "threshold")}
        for region in record.row["regions"] or [None]:
            box = dict(zip(("left", "top", "right", "bottom"), region["box"], strict=True)) if region else {}
            rows.append(own | box | ({key: region[key] for key in ("area", "peak", "mean")} if region else {}))
    return rows


def to_pandas(predictions: Sequence[Prediction]) -> pandas.DataFrame:
    """A data frame with a row for each prediction: the values of `Prediction.to_dict`, partial scores as columns "scores.NAME".

    Raises:
        ConfigError: pandas is not installed.
    """
    return frame(details_of(one, one.image_path or "") for one in predictions)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return as_utf8(value)
    return json.dumps(value) if isinstance(value, list) else value


def frame(rows: Iterable[dict[str, Any]]) -> pandas.DataFrame:
    """A data frame of rows of results.jsonl.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("data frames need pandas; pip install 'vlad-anomaly[formats]'") from error
    flat = []
    for row in rows:
        values = {key: value for key, value in row.items() if key not in ("scores", "regions", "image_size", "file")}
        values |= {f"scores.{name}": value for name, value in (row.get("scores") or {}).items()}
        size = row.get("image_size") or (None, None)
        values |= {"image_height": size[0], "image_width": size[1], "regions": json.dumps(row.get("regions") or [])}
        flat.append({key: _cell(value) for key, value in values.items()})
    return pandas.DataFrame(flat)
