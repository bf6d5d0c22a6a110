"""Pictures that somebody has labelled, and the threshold that follows from their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from vlad.references.memory import Reference, conditions_from
from vlad.references.rates import ENOUGH_BAD, Rate, Rule, choose, lowered, pictures_needed
from vlad.scoring.pictures import Conditions
from vlad.untrusted.values import Values

ENOUGH_GOOD = 8  # labelled good pictures below which references stand among them, each scored against the others


@dataclass(frozen=True)
class Labelled:
    """One picture, what it is, and its score.

    Attributes:
        picture: where it came from.
        mask: file that says where it is defective; None if there is none.
    """

    picture: Reference
    is_anomalous: bool
    score: float
    mask: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.picture.to_dict() | {"is_anomalous": self.is_anomalous, "score": self.score, "mask": self.mask}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | Values) -> Labelled:
        """The inverse of `to_dict`."""
        entry = values if isinstance(values, Values) else Values(values, "a labelled picture")
        mask = entry.text("mask", optional=True)
        return cls(Reference.from_dict(entry), entry.flag("is_anomalous"), entry.number("score", 0, 1), mask)


@dataclass(frozen=True)
class Labels:
    """Labelled pictures under one rule.

    Attributes:
        pictures: each once.
        asked: what the threshold is to do.
        fpr_limit: false alarms to accept where nothing is asked for and few anomalous pictures are labelled.
        start: threshold of the references, from which it is then lowered; None without.
        own: scores of the references, each against the others.
        conditions: what all scores were made under.
        pixel: from masks, the threshold of the map with the highest F1 of pixels (and so the highest IoU); None without masks.
        pixel_f1: that F1.
    """

    pictures: tuple[Labelled, ...]
    asked: Rule
    fpr_limit: float
    own: tuple[float, ...]
    conditions: Conditions
    start: float | None = None
    pixel: float | None = None
    pixel_f1: float | None = None

    @cached_property
    def normal(self) -> tuple[float, ...]:
        """Scores of the good pictures, those of references among them where few others are labelled."""
        labelled = tuple(sorted(one.score for one in self.pictures if not one.is_anomalous))
        return labelled if len(labelled) >= ENOUGH_GOOD else tuple(sorted((*labelled, *self.own)))

    @cached_property
    def anomalous(self) -> tuple[float, ...]:
        """Scores of the others."""
        return tuple(sorted(one.score for one in self.pictures if one.is_anomalous))

    @cached_property
    def rule(self) -> Rule:
        """What holds."""
        return self.asked.settled(len(self.anomalous), self.fpr_limit)

    @property
    def is_lowered(self) -> bool:
        """Whether the threshold is that of the references, lowered to find what was missed: nothing is asked for, and few are labelled as
        anomalous."""
        return self.asked.is_open and self.start is not None and len(self.anomalous) < ENOUGH_BAD

    @cached_property
    def threshold(self) -> float:
        """In [0, 1]."""
        if self.is_lowered and self.start is not None:
            return lowered(self.start, self.normal, self.anomalous, self.fpr_limit)
        return choose(self.normal, self.anomalous, self.rule)

    @property
    def false_alarms(self) -> Rate:
        """Of the good pictures."""
        return Rate(sum(score > self.threshold for score in self.normal), len(self.normal))

    @property
    def misses(self) -> Rate:
        """Of the others."""
        return Rate(sum(score <= self.threshold for score in self.anomalous), len(self.anomalous))

    @property
    def missed(self) -> tuple[Labelled, ...]:
        """Anomalous pictures that the threshold calls normal, the lowest score first."""
        found = (one for one in self.pictures if one.is_anomalous and one.score <= self.threshold)
        return tuple(sorted(found, key=lambda one: one.score))

    def promise(self) -> str:
        """What to expect, on one line and in plain words."""
        good, bad = self.false_alarms, self.misses
        parts = [f"{good.count} of {good.of} good pictures called anomalous"] if good.of else []
        parts += [f"{bad.count} of {bad.of} bad ones missed"] if bad.of else []
        return f"from labels; {', '.join(parts)}"

    def report(self) -> list[str]:
        """Threshold, both rates with their intervals, and how many more pictures a promise needs; a line each."""
        good, bad, rule = self.false_alarms, self.misses, self.rule
        among = len(self.own) if good.of > sum(not one.is_anomalous for one in self.pictures) else 0
        what = f"that of the references, {self.start:.4f}, lowered as far as good pictures allow" if self.is_lowered else str(rule)
        lines = [f"threshold {self.threshold:.4f}: {what}"]
        if rule.cost_ratio is not None and not self.is_lowered:
            lines.append("the intervals are a little too narrow, because the threshold was chosen on the same scores of both groups")
        lines.append(f"false alarms: {good} (95 %){f'; {among} of these are references' if among else ''}")
        if bad.of:
            lines.append(f"misses: {bad} (95 %)")
        for limit, rate, kind in ((rule.max_false_alarms, good, "good"), (rule.max_misses, bad, "bad")):
            if limit and not self.is_lowered:
                lines.append(_needed(limit, rate, kind))
        if self.pixel is not None:
            lines.append(f"threshold of the map {self.pixel:.4f}: pixel F1 {self.pixel_f1 or 0.0:.3f} on the masks, the highest possible")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "pictures": [one.to_dict() for one in self.pictures],
            "asked": asdict(self.asked),
            "fpr_limit": self.fpr_limit,
            "own": list(self.own),
            "conditions": asdict(self.conditions),
            "start": self.start,
            "pixel": self.pixel,
            "pixel_f1": self.pixel_f1,
            "threshold": self.threshold,  # for people; made again from the scores
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Labels:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: something is missing, or has another type or range; the message names it.
        """
        entry = Values(values, "labels")
        asked = entry.object("asked")
        limits = {name: asked.number(name, 0, optional=True) for name in ("max_false_alarms", "max_misses", "cost_ratio")}
        return cls(
            tuple(map(Labelled.from_dict, entry.objects("pictures"))),
            Rule(**limits, bad_share=asked.number("bad_share", 0, 1)),
            entry.number("fpr_limit", 0, 1),
            entry.numbers("own", 0, 1),
            conditions_from(entry.object("conditions")),
            *(entry.number(name, 0, 1, optional=True) for name in ("start", "pixel", "pixel_f1")),
        )


def _needed(limit: float, rate: Rate, kind: str) -> str:
    needed = pictures_needed(limit, rate.count)
    if rate.of >= needed:
        return f"{limit:.1%} is promised with 95 % confidence"
    such = "without an error" if not rate.count else f"with {rate.count} errors" if rate.count > 1 else "with 1 error"
    return f"{needed} {kind} pictures {such} promise {limit:.1%} with 95 % confidence: {needed - rate.of} more"
