"""What is on the bench in words and numbers, as HTML; everything that is not ours is escaped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from vlad.app import show
from vlad.app.batches import Batch
from vlad.app.bench.learning import own_threshold
from vlad.references.labels import Labels
from vlad.references.rates import Rate

if TYPE_CHECKING:
    from vlad.app.bench.parts import Card, Part
    from vlad.app.bench.state import Bench

_MOST_NAMED, _MOSTACTS = 10, 12
ACTS = {
    "fit": "good pictures given",
    "add": "good pictures added",
    "remove": "good pictures left out",
    "label": "verdicts corrected",
    "unlabel": "corrections taken back",
    "threshold": "threshold set by hand",
    "rule": "threshold by a rule",
    "look": "where to look changed",
    "undo": "last change taken back",
}
_SAME = 5.1e-5  # half of the last digit that is shown
_NO_PART = "No part yet. Name one, or just give good pictures: a part is made for them."


def head(bench: Bench) -> str:
    """The part and what was found with it, in two lines that stand above every step."""
    part = bench.part
    if part is None:
        return f'<section class="vlad-bench"><p><b>{escape(_NO_PART)}</b></p></section>'
    facts = [f"{len(part.detector.references)} good", f"{_corrected(part)} corrected"]
    if part.detector.config.look is not None:
        facts.append("a part of the picture counts")
    facts.append(_threshold(bench))
    noun = f" ({escape(part.class_name)})" if part.class_name and part.class_name != part.name else ""
    lines = [f"<p><b>{escape(part.name)}</b>{noun} · {escape(' · '.join(facts))}</p>"]
    if bench.shown is not None:
        found = [bench.shown.summary()]
        if marks := len(bench.open_marks):
            found.append(f"{marks} correction{'s' if marks > 1 else ''} to learn from")
        said = ". ".join(found) + "."
        if bench.is_stale:
            said += " The part has changed since: look again."
        lines.append(f'<p class="{"vlad-stale" if bench.is_stale else "vlad-quiet"}">{escape(said)}</p>')
    return f'<section class="vlad-bench" role="status">{"".join(lines)}</section>'


def _threshold(bench: Bench) -> str:
    """The part's own, and beside it the one that is being tried or that followed the pictures that were looked at."""
    own = None if bench.part is None else own_threshold(bench.part.detector)
    said = "no threshold yet" if own is None else f"threshold {own:.4f}"
    if bench.moved is not None:
        return f"{said}, {bench.moved:.4f} being tried"
    if bench.threshold is None or (own is not None and abs(bench.threshold - own) < _SAME):
        return said
    return f"{said}, for these pictures {bench.threshold:.4f}"


def _corrected(part: Part) -> int:
    return 0 if part.detector.labels is None else len(part.detector.labels.pictures)


def shelf(cards: Sequence[Card], *, is_shared: bool) -> str:
    """The list of parts."""
    kept = (
        "Parts are kept on this server, for everybody who uses it."
        if is_shared
        else "Parts are yours alone. They go when the page is closed, or was not used for half an hour; the last step gives you the folder "
        "to keep. A server that was started with --workspace keeps them."
    )
    if not cards:
        return f'<p class="vlad-quiet">{escape(kept)}</p>'
    rows = "".join(
        f"<tr><th scope='row'>{escape(one.name)}</th><td>{escape(one.class_name)}</td><td>{one.good}</td><td>{one.corrected}</td>"
        f"<td>{one.changed}</td></tr>"
        for one in cards
    )
    titles = ("part", "shows", "good", "corrected", "changed (UTC)")
    header = "".join(f'<th scope="col">{title}</th>' for title in titles)
    return (
        f'<div class="vlad-table"><table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="vlad-quiet">{escape(kept)}</p>'
    )


def good_ones(part: Part | None, *, most: int) -> str:
    """What to know about the good pictures."""
    count = 0 if part is None else len(part.detector.references)
    if not count:
        return f'<p class="vlad-quiet">Eight to {most} pictures of good parts are a start: as different as good ones get.</p>'
    text = f"{count} good picture{'s' if count > 1 else ''}. To leave one out, click it, then the button below."
    if count < 8:
        text += " With fewer than eight the threshold is a guess."
    return f'<p class="vlad-quiet">{text}</p>'


def summary(batch: Batch | None, headline: str = "") -> str:
    """What was found, what to know about it, and what could not be read."""
    if batch is None:
        return summary_html("Nothing looked at yet", "Choose pictures of the part, good and bad as they come, and press Look.")
    title = headline or ("Ended early" if batch.cut_off else "Done")
    return summary_html(title, batch.summary(), [row.error for row in batch.failed], batch.remarks())


def summary_html(headline: str, text: str, failed: Sequence[str] = (), remarks: Sequence[str] = ()) -> str:
    """A headline, a line, remarks, and a list of what failed."""
    items = "".join(f"<li>{escape(error)}</li>" for error in failed[:_MOST_NAMED])
    more = f"<li>and {len(failed) - _MOST_NAMED} more</li>" if len(failed) > _MOST_NAMED else ""
    listed = f'<ul class="vlad-failed">{items}{more}</ul>' if failed else ""
    said = "".join(f'<p class="vlad-note">{escape(remark)}</p>' for remark in remarks)
    return f'<div class="vlad-summary" role="status"><b>{escape(headline)}</b><p>{escape(text)}</p>{said}{listed}</div>'


def caption(name: str, score: float, label: bool | None, mark: bool | None = None) -> str:
    """Of a picture in a gallery, in two lines."""
    verdict = {True: "anomalous", False: "normal", None: "undecided"}[label]
    said = "" if mark is None else "→ good · " if mark else "→ bad · "
    return f"{score:.3f} {said}{verdict}\n{name}"


def charts(bench: Bench) -> str:
    """Scores of good and bad pictures with the threshold through both, and of what was looked at."""
    threshold, part, batch, top = bench.threshold, bench.part, bench.shown, max(bench.top, top_of(bench))
    drawn = []
    if part is not None and threshold is not None:
        labels, memory = part.detector.labels, part.detector.memory
        if labels is not None:
            groups = labels.normal, labels.anomalous
        else:
            calibration = None if memory is None else memory.calibration
            groups = () if calibration is None else calibration.image_scores, tuple(_marked(bench, is_good=False))
        if any(groups):
            drawn.append(show.two_groups(*groups, threshold, span=(0.0, top)))
    if batch is not None:
        drawn.append(show.histogram(batch.scores, threshold, what="score of what was looked at", top=top))
    return "".join(drawn) or show.waiting_card("No threshold yet", "Give good pictures, look at some more, and correct what is wrong.")


def promise(bench: Bench) -> str:
    """What to expect of the threshold, as far as pictures that somebody has labelled say."""
    threshold, part = bench.threshold, bench.part
    labels = None if part is None else part.detector.labels
    if labels is None or part is None or threshold is None:
        return (
            '<p class="vlad-quiet">Above the line are the good pictures, each scored against the others. Correct a few verdicts and learn '
            "from them, and numbers here say what to expect.</p>"
        )
    in_force = labels.report()[0].partition(": ")[2]
    said = f'<p class="vlad-quiet">The part\'s own threshold, {labels.threshold:.4f}: {escape(in_force)}.</p>'
    return rates(labels, threshold) + said + advice(labels, by_words=part.detector.memory is None)


def _marked(bench: Bench, *, is_good: bool) -> list[float]:
    rows = [] if bench.batch is None else bench.batch.rows
    results = [rows[number].prediction for number, said in bench.marks.items() if said is is_good and number < len(rows)]
    return [one.pred_score for one in results if one is not None]


def top_of(bench: Bench) -> float:
    """Where the slider ends: a little above the highest score."""
    scores = [] if bench.batch is None else list(bench.batch.scores)
    labels: Labels | None = None if bench.part is None else bench.part.detector.labels
    if labels is not None:
        scores += [*labels.normal, *labels.anomalous]
    return round(min(1.0, 1.1 * max([*scores, bench.threshold or 0.0, 0.05])), 3)


def usage(part: Part | None, *, is_shared: bool) -> str:
    """How to go on from here without the page."""
    if part is None:
        return '<p class="vlad-quiet">No part is open.</p>'
    name = part.folder.name
    place = shlex.quote(f"{part.folder}/detector") if is_shared else name
    lines = [] if is_shared else [f"unzip {name}.zip"]
    lines += [
        f"vlad detect PICTURES --model {place} --out found",
        f"vlad detect FOLDER --watch --model {place} --out found",
        f"vlad export {place} --out line",
    ]
    return f'<pre class="vlad-code">{escape(chr(10).join(lines))}</pre>'


def acts(part: Part | None) -> str:
    """What was done to the part, the last act first."""
    history = () if part is None else part.detector.history
    if not history:
        return '<p class="vlad-quiet">Nothing was done yet.</p>'
    rows = []
    for one in list(reversed(history))[:_MOSTACTS]:
        files = len(one.get("good", ())) + len(one.get("bad", ()))
        threshold = one.get("threshold")
        rows.append(
            f"<tr><td>{escape(str(one.get('time', ''))[:16].replace('T', ' '))}</td><td>{escape(ACTS.get(str(one.get('act')), 'change'))}"
            f"{f' ({files})' if files else ''}</td><td>{escape(str(one.get('references', 0)))}</td>"
            f"<td>{'' if threshold is None else format(float(threshold), '.4f')}</td></tr>"
        )
    header = "".join(f'<th scope="col">{title}</th>' for title in ("when (UTC)", "what", "good", "threshold"))
    return (
        f'<div class="vlad-table"><table><thead><tr>{header}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        '<p class="vlad-quiet">The last ten changes can be taken back, one after the other.</p>'
    )


def rates(labels: Labels, threshold: float) -> str:
    """Both rates of error at a threshold, with their intervals, as a table."""
    false_alarms = Rate(sum(score > threshold for score in labels.normal), len(labels.normal))
    misses = Rate(sum(score <= threshold for score in labels.anomalous), len(labels.anomalous))
    rows = "".join(_row(name, rate) for name, rate in (("False alarms", false_alarms), ("Misses", misses)))
    return (
        f'<div class="vlad-table"><table><caption>What to expect of further pictures at {threshold:.4f}</caption><thead><tr>'
        '<th scope="col">error</th><th scope="col">of these</th><th scope="col">with 95 % confidence</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def advice(labels: Labels, *, by_words: bool) -> str:
    """What the numbers rest on, in words."""
    lines = ["Scored by words alone; good pictures to compare with tell more"] if by_words else []
    lines += [line for line in labels.report() if "promise" in line or "pixel F1" in line]
    own = len(labels.normal) - sum(not one.is_anomalous for one in labels.pictures)
    if own:
        lines.append(f"{own} of the good ones are those that pictures are compared with, each scored against the others")
    return "".join(f'<p class="vlad-quiet">{escape(line[:1].upper() + line[1:])}.</p>' for line in lines)


def _row(name: str, rate: Rate) -> str:
    low, high = rate.interval
    seen = f"{rate.count} of {rate.of}" if rate.of else "no picture says"
    return f"<tr><th scope='row'>{name}</th><td>{seen}</td><td>{low:.1%} to {high:.1%}</td></tr>"
