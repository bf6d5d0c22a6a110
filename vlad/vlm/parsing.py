"""Reading what a VLM wrote: the JSON that was asked for, or as much of it as can be made out. Failures are reported, never hidden."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlad.untrusted import cleaned
from vlad.vlm.answer import Defect, Place, Severity

_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.S | re.I)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_SEVERITIES: dict[str, Severity] = {
    "low": "low", "minor": "low", "mild": "low", "slight": "low",
    "medium": "medium", "moderate": "medium",
    "high": "high", "severe": "high", "major": "high", "critical": "high",
}  # fmt: skip
_MOST_DEFECTS, _MOST_WORDS = 20, 80  # a model that repeats itself must not fill the answer; characters of a type or place
_MOST_SEARCHED = 4000  # places at which an object may begin; keeps a reply of 100,000 braces from taking minutes
_THOUGHT = re.compile(r"<think>.*?(</think>|$)", re.S | re.I)
_ANSWER = re.compile(r'"answer"\s*:\s*"((?:[^"\\]|\\.)*)', re.S)
_JUDGEMENT = re.compile(r'"judgement"\s*:\s*"(anomalous|normal)"')

ANSWER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["answer", "judgement", "defects"],
    "properties": {
        "answer": {"type": "string"},
        "judgement": {"type": "string", "enum": ["anomalous", "normal", "unsure"]},
        "defects": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["type", "region", "location", "severity", "confidence"],
                "properties": {
                    "type": {"type": "string"},
                    "region": {"type": "string"},
                    "location": {"type": "string"},
                    "severity": {"type": "string", "enum": ["low", "medium", "high"]},
                    "confidence": {"type": "number"},
                },
            },
        },
    },
}


@dataclass(frozen=True)
class Parsed:
    """What could be read.

    Attributes:
        text: the answer in words; the whole reply where it was no JSON.
        judgement: the model's own, True for anomalous; None if it gave none.
        defects: what it named.
        failures: what could not be read, one line each.
    """

    text: str
    judgement: bool | None = None
    defects: tuple[Defect, ...] = ()
    failures: tuple[str, ...] = field(default=())


def parse_answer(reply: str, places: Sequence[Place], source: str) -> Parsed:
    """Read a reply that should follow `ANSWER_SCHEMA`. A region's letter gives a defect its box; without one it has none."""
    data = find_json(reply, ("answer", "judgement", "defects"))
    if data is None:
        return _salvaged(reply)
    failures = []
    answer = data.get("answer")
    if not isinstance(answer, str) or not answer.strip():
        failures.append("the reply has no text under 'answer'")
        answer = ""
    judgement = {"anomalous": True, "normal": False, "unsure": None}.get(word := str(data.get("judgement", "")).strip().lower())
    if word not in ("anomalous", "normal", "unsure"):
        failures.append(f"the judgement {word[:40]!r} is none of anomalous, normal, unsure")
    listed = data.get("defects")
    if not isinstance(listed, list):
        failures.append("the reply has no list under 'defects'")
        listed = []
    defects = []
    for item in listed[:_MOST_DEFECTS]:
        defect = _defect(item, places, source)
        if defect is None:
            failures.append("a defect has no type")
        else:
            defects.append(defect)
    if len(listed) > _MOST_DEFECTS:
        failures.append(f"the reply lists {len(listed)} defects, the first {_MOST_DEFECTS} were read")
    return Parsed(cleaned(answer.strip()), judgement, tuple(defects), tuple(failures))


def find_json(reply: str, keys: Sequence[str]) -> dict[str, Any] | None:
    """The JSON object of a reply with most of `keys`, the last of several, bare, in a code fence or between words; a trailing comma is
    forgiven, and what a model thinks aloud (<think>...</think>) is left out. None if there is none. An object inside one that is cut off
    has other keys, and is not mistaken for the whole."""
    reply = _THOUGHT.sub("", reply)
    found: list[dict[str, Any]] = []
    for text in (*_FENCE.findall(reply), reply):
        for candidate in (text, _TRAILING_COMMA.sub(r"\1", text)):
            found += [data for data in _objects(candidate) if any(key in data for key in keys)]
            if found:
                return max(reversed(found), key=lambda data: sum(key in data for key in keys))
    return None


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects that can be read."""
    decoder = json.JSONDecoder(strict=False)  # a line break inside a string is forgiven
    start = text.find("{")
    for _ in range(_MOST_SEARCHED):
        if start < 0:
            return
        try:
            data, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield data
        start = text.find("{", end)


def answer_so_far(reply: str) -> str:
    """The words for people in what a model has written so far, which is JSON as a rule and may stop anywhere; empty if there are none."""
    reply = _THOUGHT.sub("", reply)
    if not (found := _ANSWER.search(reply)):
        return "" if reply.lstrip()[:1] in ("{", "`", "<", "") else cleaned(reply)
    text = re.sub(r"\\u[0-9a-fA-F]{0,3}$|\\$", "", found[1])
    try:
        return cleaned(str(json.loads(f'"{text}"', strict=False)))
    except ValueError:
        return cleaned(text)


def _salvaged(reply: str) -> Parsed:
    """The answer of a reply whose JSON breaks off, else the whole reply."""
    reply = _THOUGHT.sub("", reply).strip()
    if not _ANSWER.search(reply):
        return Parsed(reply, failures=("the reply is no JSON object",))
    judgement = _JUDGEMENT.search(reply)
    failure = "the reply is broken JSON; its defects were not read"
    return Parsed(answer_so_far(reply).strip(), None if judgement is None else judgement[1] == "anomalous", failures=(failure,))


def _defect(item: Any, places: Sequence[Place], source: str) -> Defect | None:
    if not isinstance(item, dict) or not isinstance(item.get("type"), str) or not item["type"].strip():
        return None
    letter = str(item.get("region") or "").strip().upper()
    place = next((place for place in places if place.label == letter), None)
    location = cleaned(str(item.get("location") or "").strip()[:_MOST_WORDS])
    return Defect(
        type=cleaned(item["type"].strip()[:_MOST_WORDS]),
        location=place.location if place is not None else location or "unknown",
        box=None if place is None else place.box,
        severity=_SEVERITIES.get(str(item.get("severity", "")).strip().lower(), "medium"),
        confidence=_share(item.get("confidence")),
        region=None if place is None else place.label,
        shape="" if place is None else place.shape,
        share=None if place is None else place.share,
        source=source,
    )


def _share(value: Any) -> float:
    """A number in [0, 1], also from "80 %"; 0 where it is none."""
    try:
        number = float(str(value).strip().rstrip("%"))
    except ValueError:
        return 0.0
    if str(value).strip().endswith("%"):
        number /= 100
    return min(1.0, max(0.0, number)) if math.isfinite(number) else 0.0
