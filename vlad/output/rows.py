"""The row of a picture in a table of results, written and read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlad.prediction import Prediction

COLUMNS = (
    "image_path", "time", "pred_score", "threshold", "threshold_source", "pred_label", "undecided", "n_regions", "model", "seconds",
    "error",
)  # fmt: skip


def details_of(result: Prediction, image_path: str, problem: str | None = None) -> dict[str, Any]:
    """The row of a picture, as results.jsonl has it: plain JSON values."""
    details = result.to_dict() | {"image_path": image_path, "time": _now(), "error": problem}
    return details | {"n_regions": None if result.anomaly_map is None else len(result.regions)}


def details_of_error(image_path: str, model: str, error: Exception) -> dict[str, Any]:
    """The row of what could not be read."""
    return {"image_path": image_path, "time": _now(), "model": model, "error": str(error)}


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The whole rows of results.jsonl, none if there is no such file; what is no row, as a kill leaves it, is left out."""
    with suppress(FileNotFoundError), path.open("rb") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and isinstance(row.get("image_path"), str):
                yield row


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
