"""The row of a picture in a table of results."""

from __future__ import annotations

from datetime import UTC, datetime
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
