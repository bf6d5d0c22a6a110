"""How the describer words its findings: an answer to the question, as far as what was measured goes, and plainly no further."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vlad.vlm.answer import Defect, Evidence, Place
from vlad.vlm.places import LOCATIONS, list_in_words, size_in_words

UNKNOWN = "unknown"
_CLEAR = 1.3  # times the next type's confidence from which the nearest type counts as clearly the nearest
_TOPICS = {  # what a question is about, by its words
    "why": r"^\W*why\W*$|\bwhy\b.*\b(it|this|that|so|anomal\w*|normal|wrong|reject\w*|fail\w*|think|say)\b|how (do|can) you (know|tell)|"
    r"how (sure|certain|confident)|\bexplain\b",
    "where": r"\bwhere\b(?! (can|do|could|should|did) (i|we|you)\b)|\b(location|located|place|position)\b",
    "size": r"\b(size|large|larger|big|bigger|small|area|share|long|wide)\b",
    "severity": r"\b(bad|badly|severe|severity|serious|critical|harmless|grave)\b",
    "count": r"\b(how many|count|number of)\b",
    "what": r"\bwhat('s| is) (it|this|that|there|here)\b|\bwhat do you (see|find|think)\b|\b(kind|type)\b|\b(describe|report|inspect)\b|"
    r"\b(what|which)\b.*\b(wrong|defects?|anomal\w*|damage\w*|faults?|faulty|unusual)\b",
    "verdict": r"\b(score|threshold|wrong|defect\w*|anomal\w*|damage\w*|broken|fault\w*|ok|okay|good|normal|fine|intact|pass|reject|"
    r"unusual)\b",
}
_BEYOND = {  # what the describer cannot tell: topics that are no excuse for an answer, and the words that ask for more
    frozenset({"what"}): r"\b(colou?r|brand|label|text|read|material|made of|shape|repair\w*|fix|cost|code|number)\b",
    frozenset({"what", "verdict"}): r"\b(yesterday|before|last|other|same|earlier|previous|my code)\b",
    frozenset(_TOPICS): r"\b(will|soon|going to|still be used|how long (will|can|does))\b",
}
_SAME_PLACE = {
    "top left": "upper left",
    "top right": "upper right",
    "bottom left": "lower left",
    "bottom right": "lower right",
} | dict.fromkeys(("middle", "center"), "centre")
_LENGTHS = r"\b(mm|cm|millimet\w+|centimet\w+|micron\w*|inch(es)?)\b"


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
    topics = {topic for topic, words in _TOPICS.items() if re.search(words, question, re.I)}
    wheres = locations_in(question)
    if _is_beyond(question, topics, evidence.class_name, answerable=bool(asked or wheres)):
        return (
            f"{_verdict(evidence)} Asked in English, the describer can say what kind of defect this picture shows, where, how large, how "
            "bad, how many and why, and nothing else; for this question name a vision-language model (--vlm)."
        )
    lines = [_verdict(evidence)]
    if "why" in topics:
        lines.append(_reason(evidence))
    if evidence.verdict == "normal" or not defects:
        lines += _nothing(evidence, topics, asked)
    else:
        lines += _on_places(evidence, defects, question, topics, wheres, asked=asked, types=types, unnamed=unnamed, reliability=reliability)
    return " ".join(lines)


def locations_in(question: str) -> tuple[str, ...]:
    """The ninths of the picture that a question names ("upper left", "middle", ...), each once."""
    text = question.lower()
    for other, own in _SAME_PLACE.items():
        text = re.sub(rf"\b{other}\b", own, text)
    found = []
    for location in sorted(LOCATIONS, key=len, reverse=True):  # "upper left" before "left"
        if re.search(rf"\b(at|on|in|to|is|of) (the )?({location})\b", text):
            found.append(location)
            text = text.replace(location, "")
    return tuple(found)


def _is_beyond(question: str, topics: set[str], class_name: str, *, answerable: bool) -> bool:
    """Whether the question asks for what was not measured."""
    if re.search(_BEYOND[frozenset(_TOPICS)], question, re.I):
        return True
    whole = rf"\b(is|of) the (whole )?(picture|image|photo|part|object|{re.escape(class_name.lower())})\b"
    if topics == {"size"} and re.search(whole, question.lower()):
        return True
    if answerable:
        return False
    return not topics or any(topics <= excuse and re.search(words, question, re.I) for excuse, words in _BEYOND.items())


def _nothing(evidence: Evidence, topics: set[str], asked: Sequence[str]) -> list[str]:
    if evidence.places:
        return [f"The warmest place is at the {evidence.places[0].location}; the whole picture stays below the threshold."]
    if asked:
        return [f"No place stands out, so there is none to compare with {_quoted(asked)}."]
    return ["No place stands out, so there is none to describe."] if topics - {"verdict", "why"} else []


def _on_places(
    evidence: Evidence,
    defects: Sequence[Defect],
    question: str,
    topics: set[str],
    wheres: Sequence[str],
    *,
    asked: Sequence[str],
    types: Sequence[str],
    unnamed: Sequence[str],
    reliability: str,
) -> list[str]:
    lines = []
    pairs = list(zip(defects, evidence.places, strict=True))
    named = [defect for defect in defects if defect.type != UNKNOWN]
    hint = f"Types are hints ({reliability or 'accuracy not measured'}"
    lines += [_at(where, defects) for where in wheres]
    if "count" in topics:
        count = len(defects) + evidence.places_left_out
        what = f" That counts places, not {_quoted(asked)}." if asked else " One defect can make several."
        lines.append(f"{count} place{'s' if count != 1 else ''} stand{'s' if count == 1 else ''} out.{what}")
    if asked:
        listed = [type_ for type_ in asked if type_ in types or not types]
        comparable = [type_ for type_ in listed if type_ not in unnamed]
        if strange := [type_ for type_ in asked if type_ not in listed]:
            lines.append(f"{_quoted(strange)}: not among the types listed for {evidence.class_name}.")
        if (wordless := [type_ for type_ in listed if type_ in unnamed]) and named:
            lines.append(f"This model has no words for {list_in_words(wordless)}, so it cannot tell whether it is one.")
        if comparable or not named:
            lines += [_on_types(defect, comparable) for defect in defects]
        if comparable and named:
            lines.append(f"{hint}).")
    wanted = [topic for topic in ("where", "size", "severity") if topic in topics]
    if "what" in topics and not asked:
        lines += [_whole(defect, place) for defect, place in pairs]
        if named:
            lines.append(f"{hint}{f'; no words for {list_in_words(list(unnamed))}' if unnamed else ''}).")
    elif wanted:
        lines += [_parts(defect, place, wanted) for defect, place in pairs]
        if "severity" in wanted:
            lines.append("Severity goes by area and heat alone; what it means to the part is for you to judge.")
    elif not asked and not wheres and not topics & {"count", "why"}:
        lines.append(f"The hottest place is at the {evidence.places[0].location}, {size_in_words(evidence.places[0].share)}.")
    if re.search(_LENGTHS, question, re.I):
        lines.append("How long a pixel is on the part is not known.")
    if evidence.places_left_out and "count" not in topics:
        more = evidence.places_left_out
        lines.append(f"{more} further place{'s are' if more != 1 else ' is'} not described.")
    return lines


def _quoted(types: Sequence[str]) -> str:
    return list_in_words([f"'{type_}'" for type_ in types])


def _at(where: str, defects: Sequence[Defect]) -> str:
    there = [str(defect.region) for defect in defects if defect.location == where]
    if there:
        return f"At the {where}: {list_in_words(there)}."
    rest = list_in_words([f"{defect.region} is at the {defect.location}" for defect in defects])
    return f"Nothing stands out at the {where}; {rest}."


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
        return f"{where}; this model has no words for its type."
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


def _on_types(defect: Defect, asked: Sequence[str]) -> str:
    """What the ranking says about the types that were asked for."""
    if defect.type == UNKNOWN:
        return f"{defect.region}, at the {defect.location}: this model has no words for its type."
    ranking = [(defect.type, defect.confidence), *defect.alternatives]
    values = dict(ranking)
    found = [f"'{type_}' {values[type_]:.2f}" for type_ in asked if type_ in values]
    missing = [f"'{type_}'" for type_ in asked if type_ not in values]
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
