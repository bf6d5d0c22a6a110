"""How the describer words its findings: an answer to the question, as far as what was measured goes, and plainly no further."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from vlad.vlm.answer import Defect, Evidence, Place
from vlad.vlm.places import list_in_words, size_in_words

UNKNOWN = "unknown"
_CLEAR = 1.3  # times the next type's confidence from which the nearest type counts as clearly the nearest
_TOPICS = {  # what a question is about, by its words
    "why": r"\b(why|reason|because|how (do|can) you (know|tell)|how (sure|certain|confident)|explain)\b",
    "where": r"\b(where|location|located|place|position|side|corner)\b",
    "size": r"\b(size|large|larger|big|bigger|small|area|share|long|wide)\b",
    "severity": r"\b(bad|badly|severe|severity|serious|critical|harmless|grave)\b",
    "count": r"\b(how many|count|number of)\b",
    "what": (
        r"\b(what('s| is| are| do you see|\b.*\b(wrong|defects?|anomal\w*|damage\w*|fault\w*|kind|type|unusual))|which|kind|type|describe|"
        r"see|report|inspect)\b"
    ),
    "verdict": r"\b(wrong|defect\w*|anomal\w*|damage\w*|broken|fault\w*|ok|okay|good|normal|fine|intact|pass|reject|unusual)\b",
}
_CONTENT = r"\b(colou?r|brand|label|text|read|material|made of|shape|repair\w*|fix|cost)\b"  # nothing that a detector measures
_OTHERS = r"\b(yesterday|before|last|other|same|earlier|previous)\b"  # about further pictures


def describe(
    evidence: Evidence,
    defects: Sequence[Defect],
    question: str,
    *,
    types: Mapping[str, Sequence[str]],
    unnamed: Sequence[str] = (),
    reliability: str = "",
) -> str:
    """The answer.

    Args:
        evidence: what the detector found.
        defects: one for each of the evidence's places, in order; none under a normal verdict.
        question: in words.
        types: types of the vocabulary that can occur on the thing, each with its phrases; a question may ask for one of them.
        unnamed: types that the model has no words for.
        reliability: how often its names of types are right, in a few words; empty where that was not measured.
    """
    asked = types_in(question, types)
    topics = {topic for topic, words in _TOPICS.items() if re.search(words, question, re.I)}
    beyond = (topics <= {"what"} and re.search(_CONTENT, question, re.I)) or (
        topics <= {"what", "verdict"} and re.search(_OTHERS, question, re.I)
    )
    if not asked and (not topics or beyond):
        return (
            f"{_verdict(evidence)} The describer can say what kind of defect this picture shows, where, how large, how bad, how many and "
            "why, and nothing else; for this question name a vision-language model (--vlm)."
        )
    lines = [_verdict(evidence)]
    if "why" in topics:
        lines.append(_reason(evidence))
    if evidence.verdict == "normal":
        if evidence.places:
            lines.append(f"The warmest place is at the {evidence.places[0].location}; the whole picture stays below the threshold.")
        elif topics - {"verdict", "why"} or asked:
            lines.append("No place stands out, so there is none to describe.")
        return " ".join(lines)
    if not defects:
        return " ".join([*lines, "No place stands out in the map."])
    if "count" in topics:
        count = len(defects) + evidence.places_left_out
        lines.append(f"{count} place{'s' if count != 1 else ''} stand{'s' if count == 1 else ''} out; one defect can make several.")
    if asked:
        lines += [_on_types(defect, asked, unnamed) for defect in defects]
        missing = [type_ for type_ in asked if type_ in unnamed and defects[0].type != UNKNOWN]
        if missing:
            lines.append(f"This model has no words for {list_in_words(missing)}, so it cannot tell whether it is one.")
    pairs = list(zip(defects, evidence.places, strict=True))
    if "what" in topics and not asked:
        lines += [_whole(defect, place) for defect, place in pairs]
        if any(defect.type != UNKNOWN for defect in defects):
            wordless = f"; no words for {list_in_words(list(unnamed))}" if unnamed else ""
            lines.append(f"Types are hints ({reliability or 'accuracy not measured'}{wordless}).")
    elif wanted := [topic for topic in ("where", "size", "severity") if topic in topics]:
        lines += [_parts(defect, place, wanted) for defect, place in pairs]
        if "severity" in wanted:
            lines.append("Severity goes by area and heat alone; what it means to the part is for you to judge.")
    elif not asked and not topics & {"count", "why"}:
        lines.append(f"The hottest place is at the {evidence.places[0].location}, {size_in_words(evidence.places[0].share)}.")
    if evidence.places_left_out and "count" not in topics:
        more = evidence.places_left_out
        lines.append(f"{more} further place{'s are' if more != 1 else ' is'} not described.")
    return " ".join(lines)


def types_in(question: str, types: Mapping[str, Sequence[str]]) -> list[str]:
    """The types that a question names, by their own name or by a noun of their phrases, in the order of the vocabulary."""
    return [type_ for type_, phrases in types.items() if any(_mentions(question, words) for words in (type_, *phrases))]


def _mentions(question: str, words: str) -> bool:
    bare = re.sub(r"^(an?|the) ", "", words.strip().lower())
    return re.search(rf"\b{re.escape(bare)}(s|es)?\b", question.lower()) is not None


def _verdict(evidence: Evidence) -> str:
    if evidence.threshold is None:
        return f"Score {evidence.score:.2f}, no threshold."
    digits = 2 if f"{evidence.score:.2f}" != f"{evidence.threshold:.2f}" else 4
    return (
        f"{evidence.verdict.capitalize()}: score {evidence.score:.{digits}f}, threshold {evidence.threshold:.{digits}f} "
        f"({evidence.threshold_source})."
    )


def _reason(evidence: Evidence) -> str:
    if evidence.threshold is None:
        return "Without a threshold there is no verdict to give reasons for."
    side = "above" if evidence.verdict == "anomalous" else "below" if evidence.score < evidence.threshold else "at"
    against = {
        "references": "the distance from the normal references, past what these show among themselves",
        "text": "how much nearer the picture is to the abnormal sentences than to the normal ones",
    }.get(evidence.threshold_source or "", "the detector's measure of strangeness")
    reason = f"The score, {against}, is {side} the threshold"
    if evidence.verdict == "anomalous" and evidence.places:
        reason += f"; the heat is highest at the {evidence.places[0].location} ({evidence.places[0].peak:.2f})"
    return f"{reason}. What caused it the detector cannot say."


def _whole(defect: Defect, place: Place) -> str:
    """ "A: an elongated mark at the top, 1.2 % of the picture, medium severity; closest to 'scratch' (0.61), then 'crack' (0.22)." """
    article = "an" if defect.shape == "elongated" else "a"
    where = (
        f"{defect.region}: {article} {defect.shape} mark at the {defect.location}, {size_in_words(defect.share or 0.0)}, "
        f"{defect.severity} severity{_unmarked(place)}"
    )
    if defect.type == UNKNOWN:
        return f"{where}; this model knows no words, so its type is unknown."
    return f"{where}; {_nearest(defect)}."


def _nearest(defect: Defect) -> str:
    if not defect.alternatives:
        return f"closest to '{defect.type}' ({defect.confidence:.2f})"
    name, value = defect.alternatives[0]
    if defect.confidence < _CLEAR * value:
        return f"of no clear type, between '{defect.type}' ({defect.confidence:.2f}) and '{name}' ({value:.2f})"
    return f"closest to '{defect.type}' ({defect.confidence:.2f}), then '{name}' ({value:.2f})"


def _parts(defect: Defect, place: Place, wanted: Sequence[str]) -> str:
    left, top, right, bottom = place.box
    parts = {
        "where": f"at the {defect.location} (x {left} to {right}, y {top} to {bottom} px)",
        "size": f"{size_in_words(place.share)}, {right - left} x {bottom - top} px around it",
        "severity": f"{defect.severity} severity",
    }
    return f"{defect.region}: {', '.join(parts[topic] for topic in wanted)}{_unmarked(place)}."


def _on_types(defect: Defect, asked: Sequence[str], unnamed: Sequence[str]) -> str:
    """What the ranking says about the types that were asked for."""
    if defect.type == UNKNOWN:
        return f"{defect.region}, at the {defect.location}: this model knows no words, so its type is unknown."
    ranking = [(defect.type, defect.confidence), *defect.alternatives]
    values = dict(ranking)
    found = [f"'{type_}' {values[type_]:.2f}" for type_ in asked if type_ in values]
    missing = [f"'{type_}'" for type_ in asked if type_ not in values and type_ not in unnamed]
    said = []
    if found:
        said.append(list_in_words(found))
    if missing:
        said.append(f"{list_in_words(missing)} not among the {len(ranking)} nearest")
    if defect.type not in asked:
        said.append(f"nearest is '{defect.type}' ({defect.confidence:.2f})")
    elif defect.alternatives and len(asked) == 1:
        other, value = defect.alternatives[0]
        said.append(f"the nearest, before '{other}' ({value:.2f})")
    return f"{defect.region}, at the {defect.location}: {'; '.join(said)}."


def _unmarked(place: Place) -> str:
    return "" if place.marked else " (nothing passed the pixel threshold; this is the hottest place)"
