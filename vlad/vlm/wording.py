"""How the describer words its findings: an answer to the question, as far as what was measured goes, and plainly no further.

What a question means, `vlad.vlm.intents` says; here each intent has a function that answers it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlad.prompts.nouns import indefinite_article
from vlad.vlm.answer import Defect, Evidence, Place
from vlad.vlm.intents import Intents
from vlad.vlm.places import list_in_words, size_in_words

UNKNOWN = "unknown"
_TYPE = re.compile(r"\b(types?|kinds?|sorts?)\b", re.IGNORECASE)
_CLEAR = 1.3  # times the next type's confidence from which the nearest type counts as clearly the nearest
_AGAINST = {
    "references": "the distance from the normal references, past what these show among themselves",
    "text": "how much nearer the picture is to the abnormal sentences than to the normal ones",
}


@dataclass(frozen=True)
class _Case:
    """What is known, and what is asked; see `describe`."""

    evidence: Evidence
    defects: Sequence[Defect]
    meant: frozenset[str]
    wheres: Sequence[str]
    asked: Sequence[str]
    types: Sequence[str]
    unnamed: Sequence[str]
    reliability: str
    asks_for_a_type: bool = False

    @property
    def pairs(self) -> list[tuple[Defect, Place]]:
        """Each defect with its place."""
        return list(zip(self.defects, self.evidence.places, strict=True))

    @property
    def has_types(self) -> bool:
        """Whether the model has ranked any, named or not."""
        return any(defect.type != UNKNOWN or defect.alternatives for defect in self.defects)

    @property
    def has_names(self) -> bool:
        """Whether the model has named any."""
        return any(defect.type != UNKNOWN for defect in self.defects)


def describe(
    evidence: Evidence,
    defects: Sequence[Defect],
    question: str,
    *,
    asked: Sequence[str] = (),
    types: Sequence[str] = (),
    unnamed: Sequence[str] = (),
    reliability: str = "",
) -> str:
    """The answer.

    Args:
        evidence: what the detector found.
        defects: one for each of the evidence's places, in order; none under a normal verdict.
        question: in words, English.
        asked: types that the question names.
        types: types that can occur on the thing.
        unnamed: types that the model has no words for.
        reliability: how often its names of types are right, in a few words; empty where that was not measured.
    """
    intents = Intents.load()
    wheres = intents.places_in(question)
    lines = [_verdict(evidence)]
    if intents.is_beyond(question, evidence.class_name, answerable=bool(asked or wheres)):
        return (
            f"{lines[0]} Asked in English, the describer can say what kind of defect this picture shows, where, how large, how bad, "
            "how many and why, and nothing else; for this question name a vision-language model (--vlm)."
        )
    meant = intents.meant_by(question, evidence.class_name)
    asks_type = _TYPE.search(question) is not None
    case = _Case(evidence, defects, meant, wheres, asked, types, unnamed, reliability or "accuracy not measured", asks_type)
    if "why" in meant:
        lines.append(_reason(evidence))
    answers = (_nothing,) if evidence.verdict == "normal" or not defects else _ANSWERS
    return " ".join([*lines, *(line for answer in answers for line in answer(case))])


def _verdict(evidence: Evidence) -> str:
    if evidence.threshold is None:
        why = f": {evidence.undecided}" if evidence.undecided else ""
        return f"Undecided{why}. Score {evidence.score:.2f}."
    digits = 2 if f"{evidence.score:.2f}" != f"{evidence.threshold:.2f}" else 4
    return (
        f"{evidence.verdict.capitalize()}: score {evidence.score:.{digits}f}, threshold {evidence.threshold:.{digits}f} "
        f"({evidence.threshold_source})."
    )


def _reason(evidence: Evidence) -> str:
    if evidence.threshold is None:
        return "Without a threshold there is no verdict to give reasons for, only places that stand out."
    side = "above" if evidence.verdict == "anomalous" else "below" if evidence.score < evidence.threshold else "at"
    against = _AGAINST.get(evidence.threshold_source or "", "the detector's measure of strangeness")
    heat = ""
    if evidence.verdict == "anomalous" and evidence.places:
        heat = f"; the heat is highest at the {evidence.places[0].location} ({evidence.places[0].peak:.2f})"
    return f"The score, {against}, is {side} the threshold{heat}. What caused it the detector cannot say."


def _nothing(case: _Case) -> Iterator[str]:
    if case.evidence.places:
        stays = "; the whole picture stays below the threshold" if case.evidence.verdict == "normal" else ""
        yield f"The warmest place is at the {case.evidence.places[0].location}{stays}."
    elif case.asked:
        yield f"No place stands out, so there is none to compare with {_quoted(case.asked)}."
    elif case.meant - {"verdict", "why"}:
        yield "No place stands out, so there is none to describe."


def _at_places(case: _Case) -> Iterator[str]:
    for where in case.wheres:
        if there := [str(defect.region) for defect in case.defects if defect.location == where]:
            yield f"At the {where}: {list_in_words(there)}."
        else:
            rest = list_in_words([f"{defect.region} is at the {defect.location}" for defect in case.defects])
            yield f"Nothing stands out at the {where}; {rest}."


def _count(case: _Case) -> Iterator[str]:
    if "count" in case.meant:
        count = len(case.defects) + case.evidence.places_left_out
        what = f"That counts places, not {_quoted(case.asked)}." if case.asked else "One defect can make several."
        yield f"{count} place{'s' if count != 1 else ''} stand{'s' if count == 1 else ''} out. {what}"


def _asked_types(case: _Case) -> Iterator[str]:
    """What the ranking of types says about those that were asked for."""
    listed = [type_ for type_ in case.asked if type_ in case.types or not case.types]
    if strange := [type_ for type_ in case.asked if type_ not in listed]:
        yield f"{_quoted(strange)}: not among the types listed for {case.evidence.class_name}."
    if (wordless := [type_ for type_ in listed if type_ in case.unnamed]) and case.has_types:
        yield f"This model has no words for {list_in_words(wordless)}, so it cannot tell whether it is one."
    comparable = [type_ for type_ in listed if type_ not in case.unnamed]
    if case.asked and (comparable or not case.has_types):
        yield from (f"{defect.region}, at the {defect.location}: {_ranked(defect, comparable)}." for defect in case.defects)
    if comparable and case.has_types:
        yield f"Types are hints ({case.reliability})."


def _ranked(defect: Defect, asked: Sequence[str]) -> str:
    if defect.type == UNKNOWN and not defect.alternatives:
        return "this model has no words for its type"
    ranking = dict(([] if defect.type == UNKNOWN else [(defect.type, defect.confidence)]) + list(defect.alternatives))
    first, *others = ranking.items()
    said = []
    if found := [f"'{type_}' {ranking[type_]:.2f}" for type_ in asked if type_ in ranking]:
        said.append(list_in_words(found))
    if missing := [type_ for type_ in asked if type_ not in ranking]:
        said.append(f"{_quoted(missing)} not among the {len(ranking)} nearest")
    if first[0] not in asked:
        said.append(f"nearest is {_with_value(*first)}")
    elif others and len(asked) == 1:
        said.append(f"the nearest, before {_with_value(*others[0])}")
    return "; ".join(said)


def _kinds(case: _Case) -> Iterator[str]:
    if "kind" not in case.meant or case.asked:
        return
    for defect, place in case.pairs:
        bad = "" if defect.severity == "unknown" else f", {defect.severity} severity"
        kind = f"; {_nearest(defect)}" if defect.type != UNKNOWN else ""
        yield (
            f"{defect.region}: {indefinite_article(defect.shape)} {defect.shape} mark at the {defect.location}, "
            f"{size_in_words(defect.share or 0.0)}{bad}{_unmarked(place)}{kind}."
        )
    if case.asks_for_a_type and not case.has_names:
        nearest = list_in_words([f"'{one}'" for one, _ in case.defects[0].alternatives[:2]])
        why = f"its names of types are too seldom right ({case.reliability}); the nearest are {nearest}"
        yield f"What type it is this model cannot tell: {why if nearest else 'it has no words for any'}."
    if case.has_names:
        yield f"Types are hints ({case.reliability}{f'; no words for {list_in_words(list(case.unnamed))}' if case.unnamed else ''})."


def _nearest(defect: Defect) -> str:
    own = _with_value(defect.type, defect.confidence)
    if not defect.alternatives:
        return f"closest to {own}"
    other, value = defect.alternatives[0]
    unclear = defect.confidence < _CLEAR * value
    return (
        f"of no clear type, between {own} and {_with_value(other, value)}"
        if unclear
        else f"closest to {own}, then {_with_value(other, value)}"
    )


def _measures(case: _Case) -> Iterator[str]:
    """Where, how large and how bad, as far as that was asked and the kinds do not say it."""
    wanted = [intent for intent in ("where", "size", "severity") if intent in case.meant]
    if not wanted or ("kind" in case.meant and not case.asked):
        return
    for defect, place in case.pairs:
        left, top, right, bottom = place.box
        parts = {
            "where": f"at the {defect.location} (x {left} to {right}, y {top} to {bottom} px)",
            "size": f"{size_in_words(place.share)}, {right - left} x {bottom - top} px around it",
            "severity": "how bad cannot be judged from one picture" if defect.severity == "unknown" else f"{defect.severity} severity",
        }
        yield f"{defect.region}: {', '.join(parts[intent] for intent in wanted)}{_unmarked(place)}."
    if "severity" in wanted and any(defect.severity != "unknown" for defect in case.defects):
        yield "Severity goes by area and heat alone; what it means to the part is for you to judge."


def _hottest(case: _Case) -> Iterator[str]:
    """What there is to say where no more than the verdict was asked for."""
    if not (case.asked or case.wheres or case.meant & {"kind", "where", "size", "severity", "count", "why"}):
        yield f"The hottest place is at the {case.evidence.places[0].location}, {size_in_words(case.evidence.places[0].share)}."


def _left_out(case: _Case) -> Iterator[str]:
    if "length" in case.meant:
        yield "How long a pixel is on the part is not known."
    if (more := case.evidence.places_left_out) and "count" not in case.meant:
        yield f"{more} further place{'s are' if more != 1 else ' is'} not described."


_ANSWERS = (_at_places, _count, _asked_types, _kinds, _measures, _hottest, _left_out)


def _quoted(types: Sequence[str]) -> str:
    return list_in_words([f"'{type_}'" for type_ in types])


def _with_value(type_: str, value: float) -> str:
    return f"'{type_}' ({value:.2f})"


def _unmarked(place: Place) -> str:
    return "" if place.marked else " (nothing passed the pixel threshold; this is the hottest place)"
