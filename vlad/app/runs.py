"""Batches of one visitor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlad.app.batches import Batch, look_through
from vlad.app.uploads import uploads_of

if TYPE_CHECKING:
    from vlad.app.service import Service
    from vlad.app.visit import Visit


def run_batch(
    service: Service,
    visit: Visit,
    paths: Sequence[str | Path],
    class_name: str = "",
    *,
    threshold: float | None = None,
    keep: Path | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[Batch]:
    """Inspect pictures and archives with the visitor's references or by each other; yields the batch after each picture. The good pictures
    of an example are left aside, because they show the example's product and say nothing of what a batch shows.

    Args:
        keep, on_progress: see `look_through`.

    Raises:
        ConfigError: no pictures, too many, or an option is out of range.
        BusyError: the model is busy.
    """
    detector = service.detector if visit.borrowed else visit.detector
    uploads = uploads_of(paths, service.limits)
    options: dict[str, Any] = {"class_name": class_name, "threshold": threshold, "keep": keep, "on_progress": on_progress}
    yield from look_through(service, detector, uploads, visit.folder / "batch", **options)


def write_csv(visit: Visit, batch: Batch) -> Path:
    """The table for download, in the visitor's folder."""
    path = visit.folder / "results" / "vlad_batch.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(batch.to_csv(), encoding="utf-8")
    return path
