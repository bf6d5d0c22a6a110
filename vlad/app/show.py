"""Results as a visitor sees them: words and numbers as HTML, everything that is not ours escaped, and pictures of a size for the screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from html import escape

import cv2
import numpy as np

from vlad.prediction import Prediction
from vlad.visualization import absolute_scale, colourise, draw_heat
from vlad.vlm.answer import Place
from vlad.vlm.places import size_in_words

MAX_SIDE = 1200  # of a picture on the page
_SOURCES = {
    "text": "the default for words alone",
    "references": "from the good pictures",
    "labels": "from labelled pictures",
    "mutual": "from the pictures of the batch",
    "user": "set by you",
}
_BARS = 24


CLOSE = 0.05  # share of the threshold within which a verdict is called close


def verdict_card(prediction: Prediction, *, note: str = "") -> str:
    """The verdict in words, the score on its scale, and who says so."""
    kind, headline, mark = {
        True: ("bad", "Something looks wrong", "!"),
        False: ("good", "Nothing looks wrong", "✓"),
        None: ("none", "Undecided", "?"),
    }[prediction.pred_label]
    numbers = verdict_line(prediction).partition(": ")[2] or prediction.verdict
    count = len(prediction.regions)
    places = "no place is marked" if not count else f"{count} marked place{'s' if count > 1 else ''}"
    name = [escape(prediction.image_path)] if prediction.image_path else []
    facts = " · ".join([*name, places, f"{prediction.seconds:.2f} s", escape(prediction.model)])
    if is_close(prediction):
        note = f"A close call: the score is within {CLOSE:.0%} of the threshold. {note}".rstrip()
    note = " ".join([note, *(f"{warning[:1].upper()}{warning[1:]}." for warning in prediction.warnings)]).strip()
    extra = f'<p class="vlad-note">{escape(note)}</p>' if note else ""
    return (
        f'<section class="vlad-card vlad-{kind}" role="status" aria-live="polite"><div class="vlad-head">'
        f'<span class="vlad-mark" aria-hidden="true">{mark}</span><div><h2>{headline}</h2>'
        f"<p>{escape(numbers[:1].upper() + numbers[1:])}</p></div></div>"
        f'{score_bar(prediction.pred_score, prediction.threshold)}<p class="vlad-facts">{facts}</p>{extra}</section>'
    )


def is_close(prediction: Prediction) -> bool:
    """Whether the score is so near to the threshold that the verdict may go either way."""
    return prediction.threshold is not None and abs(prediction.pred_score - prediction.threshold) <= CLOSE * prediction.threshold


def verdict_line(prediction: Prediction) -> str:
    """The verdict with its numbers, and where the threshold comes from in words for visitors."""
    found = re.fullmatch(r"(.*threshold \S+) \((.*?)\)(; as a whole .*)?", prediction.verdict)
    return f"{found[1]}, {_SOURCES.get(found[2], found[2])}{found[3] or ''}" if found else prediction.verdict


def waiting_card(headline: str, text: str) -> str:
    """What stands where a verdict will be; as high as one, so that nothing jumps."""
    return (
        '<section class="vlad-card vlad-none" role="status"><div class="vlad-head"><span class="vlad-mark" aria-hidden="true">?</span>'
        f"<div><h2>{escape(headline)}</h2><p>{escape(text)}</p></div></div></section>"
    )


def score_bar(score: float, threshold: float | None) -> str:
    """Where the score lies on the colour scale, whose middle is the threshold, or 0.5 without one."""
    middle = 0.5 if threshold is None else threshold
    named = "no threshold" if threshold is None else f"threshold {threshold:.3g}"
    place = 100 * float(absolute_scale(np.array([score]), middle)[0])
    return (
        f'<div class="vlad-bar" style="background:{_gradient()}" role="img" aria-label="score {score:.3f}, {named}">'
        f'<i style="left:{place:.1f}%"></i></div>'
        f'<div class="vlad-scale" aria-hidden="true"><span>0 normal</span><span>{named}</span><span>anomalous 1</span></div>'
    )


def legend(threshold: float | None) -> str:
    """What the colours of a map mean."""
    middle = 0.5 if threshold is None else threshold
    return (
        '<div class="vlad-legend" role="img" '
        f'aria-label="Colour scale: dark violet is normal, yellow is anomalous, the middle is {middle:.3f}">'
        f'<div class="vlad-bar vlad-thin" style="background:{_gradient()}"></div><div class="vlad-scale"><span>0</span>'
        f"<span>{middle:.3g}, outlined above</span><span>1</span></div></div>"
    )


def place_table(places: Sequence[Place], left_out: int) -> str:
    """Marked places, hottest first."""
    if not places:
        return '<p class="vlad-quiet">No place is above the threshold of the map.</p>'
    title = "Marked places, hottest first" if places[0].marked else "The hottest place; nothing is above the threshold of the map"
    rows = "".join(
        f"<tr><th scope='row'>{place.label}</th><td>{escape(place.location)}</td><td>{escape(place.shape)}</td>"
        f"<td>{escape(size_in_words(place.share).removesuffix(' of the picture'))}</td><td>{place.peak:.2f}</td>"
        f"<td>{', '.join(map(str, place.box))}</td></tr>"
        for place in places
    )
    more = f'<p class="vlad-quiet">{left_out} smaller places are not shown.</p>' if left_out else ""
    return (
        '<div class="vlad-table"><table><caption>' + title + '</caption><thead><tr><th scope="col">place</th>'
        '<th scope="col">where</th><th scope="col">shape</th><th scope="col">area</th><th scope="col">peak</th>'
        f'<th scope="col">box (left, top, right, bottom)</th></tr></thead><tbody>{rows}</tbody></table></div>{more}'
    )


def heat_pair(prediction: Prediction, picture: np.ndarray, opacity: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture and the same with its heat, both uint8 (h, w, 3) and small enough for the page."""
    small = shrink(picture)
    if prediction.anomaly_map is None:
        return small, small
    heat = heat_of(prediction, picture, opacity, marked=prediction.pred_label is not False)
    if heat.shape != small.shape:  # a thumbnail was enlarged for its outlines
        small = cv2.resize(small, (heat.shape[1], heat.shape[0]), interpolation=cv2.INTER_CUBIC)
    return small, heat


def heat_of(prediction: Prediction, picture: np.ndarray, opacity: float, *, marked: bool, max_side: int = MAX_SIDE) -> np.ndarray:
    """The picture with its heat, uint8 (h, w, 3), with or without the outlines of what is above the map's threshold."""
    if prediction.anomaly_map is None:
        return shrink(picture, max_side)
    threshold = 0.5 if prediction.mask_threshold is None else prediction.mask_threshold
    mask = None
    if marked and prediction.mask_threshold is not None:
        mask = replace(prediction, threshold=None).pred_mask  # that of the map alone, whatever the score says
    look = None if prediction.roi is None else prediction.roi.mask(prediction.image_size)
    return draw_heat(picture, prediction.anomaly_map, threshold=threshold, mask=mask, look=look, opacity=opacity, max_side=max_side)


def boxes_of(picture: np.ndarray, places: Sequence[Place]) -> tuple[np.ndarray, list[tuple[tuple[int, int, int, int], str]]]:
    """The picture and its places as boxes with letters, as an annotated image takes them."""
    small = shrink(picture)
    scale = small.shape[1] / picture.shape[1]
    boxes = []
    for place in places:
        left, top, right, bottom = (round(scale * value) for value in place.box)
        boxes.append(((left, top, max(right, left + 1), max(bottom, top + 1)), place.label))
    return small, boxes


def shrink(picture: np.ndarray, max_side: int = MAX_SIDE) -> np.ndarray:
    """The picture, reduced where it is larger."""
    height, width = picture.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return picture
    return cv2.resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)


def histogram(scores: Sequence[float], threshold: float | None, *, what: str = "score", top: float | None = None) -> str:
    """How many pictures have which score, with the threshold on it, as a drawing that follows light and dark."""
    if not scores:
        return '<p class="vlad-quiet">No picture could be inspected.</p>'
    top = top or max(*scores, threshold or 0.0) * 1.05 or 1.0
    counts, edges = np.histogram(scores, bins=_BARS, range=(0.0, min(1.0, top)))
    span, highest = float(edges[-1]), int(counts.max())
    bars = []
    for number, count in enumerate(counts):
        if not count:
            continue
        height = 100 * count / highest
        hot = threshold is not None and (edges[number] + edges[number + 1]) / 2 > threshold
        bars.append(
            f'<rect class="{"vlad-hot" if hot else "vlad-cold"}" x="{number * 600 / _BARS + 1:.1f}" y="{110 - height:.1f}" '
            f'width="{600 / _BARS - 2:.1f}" height="{height:.1f}">'
            f"<title>{count} from {edges[number]:.3f} to {edges[number + 1]:.3f}</title></rect>"
        )
    line = ""
    if threshold is not None and threshold <= span:
        x = 600 * threshold / span
        side = ("end", -6) if x > 420 else ("start", 6)
        line = (
            f'<line class="vlad-limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="110"/>'
            f'<text x="{x + side[1]:.1f}" y="11" text-anchor="{side[0]}">threshold {threshold:.3g}</text>'
        )
    above = sum(score > threshold for score in scores) if threshold is not None else 0
    label = f"Histogram of {len(scores)} scores from 0 to {span:.2f}, {above} above the threshold"
    return (
        f'<svg class="vlad-histogram" viewBox="0 0 600 130" role="img" aria-label="{label}">{"".join(bars)}{line}'
        f'<line class="vlad-axis" x1="0" x2="600" y1="110.5" y2="110.5"/><text x="0" y="126">0</text>'
        f'<text x="300" y="126" text-anchor="middle">{escape(what)}</text><text x="600" y="126" text-anchor="end">{span:.2f}</text></svg>'
    )


def two_groups(normal: Sequence[float], anomalous: Sequence[float], threshold: float, *, span: tuple[float, float] | None = None) -> str:
    """How many good and bad pictures have which score, the bad ones below the axis, with the threshold through both."""
    every = (*normal, *anomalous, threshold)
    low, high = min(every), max(every)
    pad = 0.06 * (high - low) or 0.06 * high or 0.01
    low, high = span or (max(0.0, low - pad), min(1.0, high + pad))
    groups = [np.histogram(scores, bins=_BARS, range=(low, high)) for scores in (normal, anomalous)]
    highest = max(1, *(int(counts.max()) for counts, _ in groups))
    width, bars = 600 / _BARS, []
    for (counts, edges), kind, below in zip(groups, ("good", "bad"), (False, True), strict=True):
        for number, count in enumerate(counts):
            if count:
                height = 62 * count / highest
                bars.append(
                    f'<rect class="vlad-{kind}-bar" x="{number * width + 1:.1f}" y="{73 if below else 71 - height:.1f}" '
                    f'width="{width - 2:.1f}" height="{height:.1f}"><title>{count} {kind} from {edges[number]:.3f} to '
                    f"{edges[number + 1]:.3f}</title></rect>"
                )
    x = 600 * (threshold - low) / (high - low)
    side = ("end", -6) if x > 420 else ("start", 6)
    label = f"Scores of {len(normal)} good pictures, above the axis, and {len(anomalous)} bad ones, below it; threshold {threshold:.3f}"
    return (
        f'<svg class="vlad-histogram" viewBox="0 0 600 160" role="img" aria-label="{label}">{"".join(bars)}'
        f'<line class="vlad-axis" x1="0" x2="600" y1="72" y2="72"/><line class="vlad-limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="140"/>'
        f'<text x="{x + side[1]:.1f}" y="12" text-anchor="{side[0]}">threshold {threshold:.3g}</text>'
        f'<text x="0" y="156">{low:.3f}</text><text x="300" y="156" text-anchor="middle">score: {len(normal)} good above the line, '
        f'{len(anomalous)} bad below</text><text x="600" y="156" text-anchor="end">{high:.3f}</text></svg>'
    )


@cache
def _gradient() -> str:
    colours = colourise(np.linspace(0, 1, 9)[None], 0.5)[0]
    return f"linear-gradient(90deg,{','.join('#%02x%02x%02x' % tuple(colour) for colour in colours)})"  # noqa: UP031  shorter than f-string
