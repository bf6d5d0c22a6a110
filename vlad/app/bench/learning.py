"""What a detector learns at the bench: good pictures, corrections, a threshold; each on a copy that nobody else has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlad.app.names import shown_name
from vlad.errors import ConfigError
from vlad.history import entry
from vlad.references.memory import fingerprint
from vlad.references.rates import Rule

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector
    from vlad.references.memory import Reference

RULES: dict[str, dict[str, Any]] = {
    "What vlad advises": {},  # with few bad ones that of the good ones, lowered to find them
    "Both errors weigh alike": {"cost_ratio": 1.0},
    "No false alarm": {"max_false_alarms": 0.0},
    "No miss": {"max_misses": 0.0},
    "A miss costs 20 times": {"cost_ratio": 20.0},
}


def own_threshold(detector: AnomalyDetector) -> float | None:
    """The threshold that it has for a single picture, by good or labelled ones or set; None without one."""
    if detector.config.threshold is not None:
        return detector.config.threshold
    if detector.labels is not None:
        return detector.labels.threshold
    calibration = None if detector.memory is None else detector.memory.calibration
    return None if calibration is None else calibration.image_threshold(detector.config.calibration, detector.config.fpr_limit)


def freed(detector: AnomalyDetector) -> AnomalyDetector:
    """Without a threshold of the visitor's own, which was set on what is about to change."""
    return detector if detector.config.threshold is None else detector.copy(threshold=None)


def under(detector: AnomalyDetector, threshold: float) -> AnomalyDetector:
    """With a threshold of the visitor's own."""
    fresh = detector.copy(threshold=threshold)
    fresh.history = (*fresh.history, entry("threshold", references=len(fresh.references), threshold=threshold))
    return fresh


def with_good(detector: AnomalyDetector, paths: Sequence[Path], class_name: str) -> AnomalyDetector:
    """With these good pictures beside those that it has."""
    if detector.memory is None:
        return detector.fit(list(paths), class_name=class_name or None)
    return detector.add_references(list(paths))


def corrected(
    detector: AnomalyDetector,
    good: Sequence[tuple[Path, bool]],
    bad: Sequence[Path],
    *,
    class_name: str,
    room: int,
) -> AnomalyDetector:
    """Told of good pictures, each with whether it was called anomalous, and of bad ones.

    Args:
        class_name: noun for the first good pictures; may be empty.
        room: so many more good ones may be remembered; the rest counts for the threshold alone.
    """
    by_hash: dict[str, Reference] = {one.sha256: one for one in detector.references}
    labelled = set() if detector.labels is None else {one.picture.sha256 for one in detector.labels.pictures}
    hashes = {path: fingerprint(detector.reader(path)) for path in [*(path for path, _ in good), *bad]}
    twice = {hashes[path] for path, _ in good} & {hashes[path] for path in bad}
    if twice:
        names = " and ".join(shown_name(path) for path in hashes if hashes[path] in twice)
        raise ConfigError(f"{names} are the same picture, and you call it good and bad; take one of them back.")
    if wrong := [by_hash[hashes[path]] for path in bad if hashes[path] in by_hash]:
        detector.remove_references(wrong)
    remembered = [path for path, was_wrong in good if was_wrong and hashes[path] not in by_hash][: max(0, room)]
    if remembered:
        detector = with_good(detector, remembered, class_name)
    counted = [path for path, _ in good if path not in remembered or hashes[path] in labelled]
    if counted or bad:
        detector.calibrate(counted, list(bad), add=True)
    return detector


def looking(base: AnomalyDetector, detector: AnomalyDetector, painted: np.ndarray | None, *, ignore: bool) -> AnomalyDetector:
    """A detector on the model of `base` that looks only where is painted, or anywhere but there, with the good pictures of `detector`.

    Raises:
        ConfigError: nothing is painted, or nothing would be left.
    """
    if painted is not None and not painted.any():
        raise ConfigError("Nothing is painted yet; paint over the picture where to look, or where not to.")
    where: dict[str, Any] = {"roi": None if ignore else painted, "ignore": painted if ignore else None}
    blank = base.copy()
    blank.memory, blank.labels = None, None
    fresh = blank.copy(**where)
    if detector.references:
        white = base.reader.white_level
        fresh.fit(
            [one.again(white) if one.path is None else one.path for one in detector.references], class_name=detector.config.class_name
        )
    return fresh


def seen_where(base: AnomalyDetector, detector: AnomalyDetector, painted: np.ndarray | None, *, ignore: bool) -> AnomalyDetector:
    """As `looking`, with what was labelled scored anew."""
    labelled = [] if detector.labels is None else [one for one in detector.labels.pictures if one.picture.path]
    asked = None if detector.labels is None else detector.labels.asked
    fresh = looking(base, detector, painted, ignore=ignore)
    if labelled and asked is not None:
        groups = [[str(one.picture.path) for one in labelled if one.is_anomalous is kind] for kind in (False, True)]
        fresh.calibrate(*groups)
        assert fresh.labels is not None  # as just calibrated
        fresh.labels = replace(fresh.labels, asked=asked)
    fresh.history = (*detector.history, entry("look", references=len(fresh.references), threshold=own_threshold(fresh)))
    return fresh


def following(detector: AnomalyDetector, rule: dict[str, Any]) -> AnomalyDetector:
    """With the threshold that follows from the labelled pictures by a rule, or, where none are labelled, from the good ones.

    Raises:
        ConfigError: the rule needs labelled pictures of a kind that are not there.
    """
    fresh = detector.copy(threshold=None)
    if rule and fresh.labels is None:
        raise ConfigError("This rule needs labelled pictures; correct some verdicts in step 3 and learn from them first.")
    if fresh.labels is not None:
        labels = replace(fresh.labels, asked=Rule(**rule))
        _ = labels.threshold  # refused here if the rule lacks a group
        fresh.labels = labels
    fresh.history = (*fresh.history, entry("rule", references=len(fresh.references), threshold=own_threshold(fresh)))
    return fresh
