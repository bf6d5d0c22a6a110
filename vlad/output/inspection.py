"""The report of a run of `vlad detect` for people: counts, scores, the pictures that matter most, and by what they were judged, in one file
that needs no other and prints on a page or two."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlad import __version__
from vlad.disk import replace_text
from vlad.output import charts
from vlad.output.rows import read_rows
from vlad.untrusted import as_utf8, cleaned

FILE = "report.html"
_MOST, _NEAREST, _FAILURES = 48, 12, 40  # anomalous pictures, normal ones near the threshold, and unreadable ones that are shown
_SIDE = 360  # pixels of the longer side of a thumbnail
_NEEDED = (
    "image_path", "time", "pred_score", "threshold", "threshold_source", "pred_label", "undecided", "class_name", "model", "files", "error",
    "n_regions", "differs", "image_size",
)  # fmt: skip
_BY_ANOMALOUS = {True: "anomalous", False: "normal", None: "open"}


@dataclass(frozen=True)
class Case:
    """One picture of the report: JPEG in base64 or "", its kind, and what is written below it."""

    image: str
    kind: str
    name: str
    numbers: str
    said: str


def write_inspection(out: Path, about: Sequence[tuple[str, str]]) -> Path:
    """Write report.html into the folder of a run.

    Args:
        out: holds results.jsonl and the overlays, of which thumbnails are made; where there are none, they are made of the pictures.
        about: settings and hashes by name, in the order in which they are shown.

    Raises:
        OutputError: it cannot be written.
    """
    found = [_slim(row) for row in read_rows(out / "results.jsonl")]
    scored = [row for row in found if row.get("pred_score") is not None]
    failed = [row for row in found if row.get("pred_score") is None]
    anomalous = sorted((row for row in scored if row["pred_label"] is True), key=_excess, reverse=True)
    normal = sorted((row for row in scored if row["pred_label"] is False), key=_excess, reverse=True)
    undecided = sorted((row for row in scored if row["pred_label"] is None), key=lambda row: row["pred_score"], reverse=True)
    thresholds = sorted({row["threshold"] for row in scored if row["threshold"] is not None})
    galleries = [
        (title, [_case(out, row) for row in some[:most]], len(some))
        for title, some, most in (
            ("Anomalous, the farthest above the threshold first", anomalous, _MOST),
            ("Undecided, the highest score first", undecided, _NEAREST),
            ("Normal, the nearest to the threshold first", normal, _NEAREST),
        )
        if some
    ]
    times = sorted(str(row["time"])[:16].replace("T", " ") for row in found if row.get("time"))
    counts = {"anomalous": len(anomalous), "normal": len(normal), "undecided": len(undecided), "failed": len(failed)}
    counts |= {"judged": len(anomalous) + len(normal), "outliers": sum(row["outlier"] for row in scored)}
    text = _template().render(
        headline=_headline(counts),
        where=_where([str(row["image_path"]) for row in found]),
        model=", ".join(dict.fromkeys(str(row.get("model")) for row in found)),
        first=times[0] if times else "",
        last=times[-1] if times else "",
        version=__version__,
        counts=counts,
        notes=_notes(scored),
        histogram=_histogram(normal, anomalous, thresholds),
        thresholds=len(thresholds),
        galleries=galleries,
        failures=[_plain(str(row.get("error"))) for row in failed[:_FAILURES]],
        settings=[(name, _plain(value)) for name, value in [*_judged_by(scored, thresholds), *about]],
    )
    replace_text(out / FILE, text.rstrip() + "\n", errors="backslashreplace")
    return out / FILE


def _slim(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the report needs of a row, so that a long run needs little memory."""
    scores = row.get("scores") or {}
    kept = {name: row.get(name) for name in _NEEDED}
    return kept | {"outlier": bool(scores.get("outlier")), "drift": bool(scores.get("drift"))}


def _headline(counts: Mapping[str, int]) -> str:
    if not counts["judged"]:
        return f"{counts['undecided']:,} pictures without a verdict" if counts["undecided"] else "No picture could be judged"
    return f"{counts['anomalous']:,} of {counts['judged']:,} pictures anomalous"


def _where(paths: Sequence[str]) -> str:
    folders = list(dict.fromkeys(str(Path(path).parent) for path in paths))
    return _plain(", ".join(folders[:3]) + (f" and {len(folders) - 3} more folders" if len(folders) > 3 else ""))


def _excess(row: Mapping[str, Any]) -> float:
    return float(row["pred_score"]) - float(row["threshold"])


def _notes(scored: Sequence[Mapping[str, Any]]) -> list[str]:
    """What somebody who reads the numbers must know."""
    notes = []
    drifted = [row for row in scored if row["drift"]]
    if drifted:
        notes.append(f"The stream had moved away at {len(drifted)} of {len(scored)} pictures, first at {drifted[0]['image_path']}.")
    differing = [row for row in scored if row.get("differs")]
    if differing:
        said = ", ".join(differing[0]["differs"])
        notes.append(f"{len(differing)} pictures differ as a whole from the references, such as {differing[0]['image_path']}: {said}.")
    reasons = list(dict.fromkeys(str(row["undecided"]) for row in scored if row.get("undecided")))
    notes += [f"Undecided: {reason}." for reason in reasons[:3]]
    return [_plain(note) for note in notes]


def _histogram(normal: Sequence[Mapping[str, Any]], anomalous: Sequence[Mapping[str, Any]], thresholds: Sequence[float]) -> str:
    if not (normal or anomalous):
        return ""
    few = thresholds if len(thresholds) <= 2 else (thresholds[0], thresholds[-1])
    return charts.histogram([row["pred_score"] for row in normal], [row["pred_score"] for row in anomalous], few)


def _judged_by(scored: Sequence[Mapping[str, Any]], thresholds: Sequence[float]) -> list[tuple[str, str]]:
    sources = ", ".join(dict.fromkeys(str(row["threshold_source"]) for row in scored if row.get("threshold_source")))
    value = f"{thresholds[0]:.4g}" + (f" to {thresholds[-1]:.4g}" if len(thresholds) > 1 else "") if thresholds else "none"
    nouns = ", ".join(dict.fromkeys(str(row["class_name"]) for row in scored if row.get("class_name")))
    return [("threshold", f"{value}{f', from {sources}' if sources else ''}"), ("class name", nouns or "none")]


def _case(out: Path, row: Mapping[str, Any]) -> Case:
    path = str(row["image_path"])
    numbers = f"score {row['pred_score']:.3f}"
    if row["threshold"] is not None:
        apart, side = abs(_excess(row)) / max(float(row["threshold"]), 1e-9), "above" if _excess(row) > 0 else "below"
        numbers += f", {apart:.0%} {side} the threshold"
    places = row["n_regions"] or 0
    said = f"{places} marked place{'' if places == 1 else 's'}" if row["pred_label"] else ""
    return Case(
        _thumbnail(out, row["files"] or "", path, row["image_size"]),
        _BY_ANOMALOUS[row["pred_label"]],
        _plain(Path(path).name),
        numbers,
        said,
    )


def _thumbnail(out: Path, stem: str, path: str, size: Sequence[int] | None) -> str:
    """Of the overlay without its legend, else of the picture of (H, W) pixels; "" where neither can be read."""
    import cv2

    from vlad.errors import ImageReadError
    from vlad.pictures.reading import read_image

    for ending in ("_overlay.png", "_overlay.jpg"):
        place = out / f"{stem}{ending}"
        if stem and (picture := _decoded(place)) is not None:
            if size:
                picture = picture[: round(picture.shape[1] * size[0] / max(1, size[1]))]
            break
    else:
        try:
            picture = read_image(path)[..., ::-1]
        except ImageReadError:
            return ""
    scale = min(1.0, _SIDE / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    is_done, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return base64.b64encode(data.tobytes()).decode("ascii") if is_done else ""


def _decoded(place: Path) -> np.ndarray | None:
    """uint8 (H, W, 3) in OpenCV's order; None where there is no such picture. From memory, because OpenCV crashes at names that are no
    UTF-8."""
    import cv2

    with suppress(OSError, cv2.error):
        return cv2.imdecode(np.frombuffer(place.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return None


def _plain(text: str) -> str:
    return cleaned(as_utf8(text))


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vlad.output"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("inspection.html")
