"""Labelled pictures of a visitor: scored once, then a threshold can be moved over them without the model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlad.app import show
from vlad.app.handlers import clear_references, keep_uploads
from vlad.app.notes import noted
from vlad.errors import ConfigError
from vlad.references.rates import Rate

if TYPE_CHECKING:
    from vlad.app.service import Service
    from vlad.app.visit import Visit
    from vlad.references.labels import Labels

RULES = {
    "Both errors weigh alike": {"cost_ratio": 1.0},
    "No false alarm": {"max_false_alarms": 0.0},
    "No miss": {"max_misses": 0.0},
    "A miss costs 20 times": {"cost_ratio": 20.0},
}


@dataclass(frozen=True)
class Told:
    """What there is to say after a calibration: why pictures were left out, and what vlad notes."""

    refused: tuple[str, ...]
    notes: tuple[str, ...]


def calibrate(service: Service, visit: Visit, good: Sequence[str | Path], bad: Sequence[str | Path], rule: str) -> Told:
    """Score uploaded pictures, replacing those labelled before, and take the threshold from them.

    Raises:
        ConfigError: there are none, too many, or none of a kind that the rule needs.
        ImageReadError: none of one kind can be read.
        BusyError: the model is busy.
    """
    if not good and not bad:
        raise ConfigError("There are no pictures yet; drop good ones on the left and bad ones on the right.")
    if len(good) + len(bad) > service.limits.pictures:
        raise ConfigError(f"At most {service.limits.pictures} pictures are scored here; use vlad calibrate on the command line.")
    if visit.borrowed:  # an example's good pictures show the example's product
        clear_references(service, visit)
    folder = visit.folder / "labels"
    shutil.rmtree(folder, ignore_errors=True)
    refused: list[str] = []
    kept: list[list[Path]] = []
    for paths in (good, bad):
        found, _, unread = keep_uploads(service, folder, paths) if paths else ({}, [], [])
        kept.append(list(found))
        refused += unread
    options: dict[str, Any] = RULES[rule]
    detector = visit.detector.copy(threshold=None)
    with service.turn(), noted() as notes:
        detector.calibrate(kept[0], kept[1], **options)
    visit.detector, visit.conversation = detector, None
    return Told(tuple(refused), tuple(notes))


def labels_of(visit: Visit | None) -> Labels:
    """
    Raises:
        ConfigError: nothing is labelled.
    """
    if visit is None or visit.detector.labels is None:
        raise ConfigError("No pictures are labelled yet, or the page was idle for so long that they were deleted; drop some again.")
    return visit.detector.labels


def keep(visit: Visit, threshold: float) -> None:
    """Take this threshold from now on: that of the labels, or the visitor's own where it was moved.

    Raises:
        ConfigError: nothing is labelled.
    """
    labels = labels_of(visit)
    own = abs(threshold - labels.threshold) > 5.1e-5  # half of the last digit that a slider shows
    visit.detector = visit.detector.copy(threshold=threshold if own else None)


def packed(visit: Visit) -> Path:
    """The visitor's detector as a zip file, for `vlad detect --model` elsewhere."""
    folder = visit.folder / "detector"
    shutil.rmtree(folder, ignore_errors=True)
    visit.detector.save(folder)
    (visit.folder / "results").mkdir(parents=True, exist_ok=True)
    return Path(shutil.make_archive(str(visit.folder / "results" / "vlad_detector"), "zip", folder))


def card(labels: Labels, threshold: float) -> str:
    """Both rates of error at a threshold, with their intervals, and the scores of both groups."""
    false_alarms = Rate(sum(score > threshold for score in labels.normal), len(labels.normal))
    misses = Rate(sum(score <= threshold for score in labels.anomalous), len(labels.anomalous))
    rows = "".join(_row(name, rate) for name, rate in (("False alarms", false_alarms), ("Misses", misses)))
    return (
        f'<div class="vlad-table"><table><caption>What to expect of further pictures at {threshold:.4f}</caption><thead><tr>'
        '<th scope="col">error</th><th scope="col">of these</th><th scope="col">with 95 % confidence</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{show.two_groups(labels.normal, labels.anomalous, threshold)}"
    )


def advice(labels: Labels, *, by_words: bool) -> str:
    """What the numbers rest on, in words."""
    lines = ["Scored by words alone; good pictures to compare with, given in the tab Inspect, tell more"] if by_words else []
    lines += [line for line in labels.report() if "promise" in line or "pixel F1" in line]
    own = len(labels.normal) - sum(not one.is_anomalous for one in labels.pictures)
    if own:
        lines.append(f"{own} of the good ones are those that pictures are compared with, each scored against the others")
    return "".join(f'<p class="vlad-quiet">{escape(line[:1].upper() + line[1:])}.</p>' for line in lines)


def _row(name: str, rate: Rate) -> str:
    low, high = rate.interval
    seen = f"{rate.count} of {rate.of}" if rate.of else "no picture says"
    return f"<tr><th scope='row'>{name}</th><td>{seen}</td><td>{low:.1%} to {high:.1%}</td></tr>"
