"""What the tab Inspect does: each action gets a visitor and what stands on the page, and says what is new on it."""

import time
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.processing_utils import hash_file

from vlad.app import handlers, show
from vlad.app.service import Service
from vlad.app.tabs.inspect_layout import NOT_THERE, Updates, count_of, looking_everywhere, nothing_yet
from vlad.app.visit import Visit
from vlad.app.widgets import say
from vlad.errors import ConfigError

_PAINTED = 8  # levels by which paint differs at least from what was under it
_ECHO = 3.0  # seconds in which the browser may still send the picture that was just taken away


class Actions:
    """The actions on a service. `current` is None for a visitor who has just come."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def inspect(self, current: Visit | None, path: str | None, noun: str, opacity: float) -> Updates:
        """Look at the picture that is there, again if need be."""
        current = current or Visit.begin(self.service)
        number = current.example
        if current.borrowed and number is None:
            handlers.clear_references(self.service, current)
        handlers.inspect(self.service, current, path, noun)
        current.example = number  # the same picture, looked at again
        current.shown = _called(path) if path else None
        return _result(current, opacity)

    def arrived(self, current: Visit | None, path: str | None, noun: str, opacity: float) -> Updates:
        """A picture of the visitor's own. Taking one away says so too, sometimes still with the old path."""
        dropped, when = (current.dropped if current else None) or ("", 0.0)
        is_echo = path is not None and dropped == _called(path) and time.monotonic() < when + _ECHO
        if path is None or is_echo:
            return self.forget_picture(current, path)
        if current is not None:
            if current.borrowed:
                gr.Info("The example's good pictures were put away.", duration=6)
            current.example = None
        return self.inspect(current, path, noun, opacity)

    def load(self, current: Visit | None, beside: bool, opacity: float, number: int = 0) -> Updates:
        """An example, on request beside its good pictures."""
        if not 0 <= number < len(self.service.examples):
            raise ConfigError("There is no such example.")
        chosen = self.service.examples[number]
        current = current or Visit.begin(self.service)
        if current.references and not current.borrowed:
            gr.Info(f"Your {len(current.references)} good pictures were put away; add them again for your own parts.", duration=8)
        handlers.inspect_example(self.service, current, chosen, with_references=beside)
        current.example = number
        current.shown = f"{hash_file(chosen.path)}/{chosen.path.name}"  # where the browser's copy will lie
        updates = _result(current, opacity)
        updates.picture, updates.class_name, updates.examples = str(chosen.path), chosen.class_name, gr.Gallery(selected_index=None)
        updates.where_said = looking_everywhere()
        return updates

    def example(self, current: Visit | None, beside: bool, opacity: float, event: gr.SelectData) -> Updates:
        """The example that was clicked."""
        return self.load(current, beside, opacity, int(event.index))

    def first(self, current: Visit | None, opacity: float) -> Updates:
        """The first example, when the page opens."""
        return self.load(current, not self.service.detector.decides_alone, opacity)

    def again_beside(self, current: Visit | None, beside: bool, opacity: float) -> Updates:
        """The example that is there, with or without its good pictures."""
        if current is None or current.example is None:
            return Updates(visit=current)
        return self.load(current, beside, opacity, current.example)

    def move_threshold(self, current: Visit | None, threshold: float, mask_threshold: float, opacity: float) -> Updates:
        """The score's threshold; where words decide alone, score and map have one scale, so the map's moves too."""
        if current is not None and current.detector.memory is None:
            mask_threshold = threshold
        return _adjusted(current, threshold, mask_threshold, opacity).stay("threshold")  # the slider in the visitor's hand

    def move_mask_threshold(self, current: Visit | None, threshold: float | None, mask_threshold: float, opacity: float) -> Updates:
        """The map's threshold alone; the slider of an undecided picture's score stands anywhere."""
        is_undecided = current is not None and current.prediction is not None and current.prediction.threshold is None
        threshold = None if is_undecided else threshold
        return _adjusted(current, threshold, mask_threshold, opacity).stay("threshold", "mask_threshold")

    def renew_files(self, current: Visit | None) -> Updates:
        """The files for download, which take their time with a large picture."""
        return Updates() if current is None or current.prediction is None else _files(current)

    def fade(self, current: Visit | None, opacity: float) -> Updates:
        """The heat more or less opaque."""
        if current is None or current.picture is None or current.prediction is None:
            return Updates()
        return Updates(pair=show.heat_pair(current.prediction, current.picture, opacity))

    def add_references(self, current: Visit | None, paths: list[str] | None, path: str | None, noun: str, opacity: float) -> Updates:
        """Good pictures of the visitor's; the picture that is there is looked at again."""
        current = current or Visit.begin(self.service)
        told = handlers.add_references(self.service, current, paths or [], noun)
        for reason in told.refused[:3]:
            gr.Warning(f"Left out: {escape(reason, quote=False)}", duration=10)
        say(list(told.notes))
        return self._with_references(current, path, noun, opacity)

    def clear_references(self, current: Visit | None, path: str | None, noun: str, opacity: float) -> Updates:
        """No good pictures any more."""
        current = current or Visit.begin(self.service)
        handlers.clear_references(self.service, current)
        return self._with_references(current, path, noun, opacity)

    def mark_good(self, current: Visit | None, opacity: float) -> Updates:
        """The picture that is there is good, whatever the verdict was."""
        return self._mark(current, opacity, is_good=True)

    def mark_bad(self, current: Visit | None, opacity: float) -> Updates:
        """The picture that is there is bad, whatever the verdict was."""
        return self._mark(current, opacity, is_good=False)

    def _mark(self, current: Visit | None, opacity: float, *, is_good: bool) -> Updates:
        current = _present_visit(current)
        say(handlers.mark(self.service, current, is_good=is_good))
        prediction = current.prediction
        if not is_good and prediction is not None and prediction.pred_label is False:
            gr.Warning("It is still called normal, because good pictures score as high. More good pictures, or a larger view, may help.")
        return _result(current, opacity)

    def paint_on_it(self, current: Visit | None) -> Updates:
        """The picture that is there, to paint on."""
        whole = _present_visit(current).picture
        assert whole is not None  # as just checked
        picture = show.shrink(whole)  # a mask is laid over a picture of any size
        return Updates(where={"background": picture, "layers": [], "composite": picture})

    def look_there(self, current: Visit | None, value: dict[str, Any] | None, mode: str, opacity: float) -> Updates:
        """Only the painted part of pictures, or all but that, counts from now on."""
        current = _present_visit(current)
        if value is None or value.get("background") is None or value.get("composite") is None:
            raise ConfigError("There is nothing to paint on yet; press 'Paint on this picture' first.")
        difference = np.abs(value["composite"].astype(np.int16) - value["background"]).max(axis=2)
        handlers.look_at(self.service, current, difference > _PAINTED, ignore=mode == NOT_THERE)
        handlers.look_again(self.service, current)
        updates = _result(current, opacity)
        updates.where_said = f'<p class="vlad-note"><b>{escape(mode)}</b>: the rest has no influence on any score, here and in Batch.</p>'
        return updates

    def look_everywhere(self, current: Visit | None, opacity: float) -> Updates:
        """All of a picture counts again."""
        current = _present_visit(current)
        handlers.look_at(self.service, current, None, ignore=False)
        handlers.look_again(self.service, current)
        updates = _result(current, opacity)
        updates.where, updates.where_said = None, looking_everywhere()
        return updates

    def _with_references(self, current: Visit, path: str | None, noun: str, opacity: float) -> Updates:
        if path is None:
            return _good(current)
        handlers.inspect(self.service, current, path, noun)
        return _result(current, opacity)

    def forget_picture(self, current: Visit | None, path: str | None = None) -> Updates:
        """The picture was taken away."""
        if current is not None:
            current.picture = current.prediction = current.conversation = current.example = None
            gone, current.shown = _called(path) if path else current.shown, None
            current.dropped = (gone, time.monotonic()) if gone else current.dropped
        off = gr.DownloadButton(interactive=False)
        return Updates(
            visit=current, verdict=nothing_yet(), pair=None, legend=show.legend(0.5), boxes=None, table="", png=off, as_json=off, raw=off
        )


def _called(path: str) -> str:
    """The last folder, which Gradio names by the content's hash, and the name of a file: the same however the browser came by it."""
    return "/".join(Path(path).parts[-2:])


def _present_visit(visit: Visit | None) -> Visit:
    """A visit with a picture.

    Raises:
        ConfigError: there is none.
    """
    if visit is None or visit.prediction is None or visit.picture is None:
        raise ConfigError("There is no picture here, or the page was idle for so long that it was deleted; inspect one.")
    return visit


def _result(visit: Visit, opacity: float) -> Updates:
    """Everything about the picture that was just inspected."""
    updates, files, good = _present(visit, opacity), _files(visit), _good(visit)
    updates.png, updates.as_json, updates.raw = files.png, files.as_json, files.raw
    updates.count, updates.gallery = good.count, good.gallery
    return updates


def _adjusted(visit: Visit | None, threshold: float | None, mask_threshold: float, opacity: float) -> Updates:
    visit = _present_visit(visit)
    handlers.adjust(visit, threshold, mask_threshold)
    return _present(visit, opacity)


def _present(visit: Visit, opacity: float) -> Updates:
    """Verdict, map, places and thresholds."""
    prediction, picture = visit.prediction, visit.picture
    assert prediction is not None and picture is not None  # a caller has just inspected it
    places, left_out = handlers.places_of(prediction)
    middle = 0.5 if prediction.mask_threshold is None else prediction.mask_threshold
    return Updates(
        visit=visit,
        verdict=show.verdict_card(prediction, note=_advice(visit)),
        pair=show.heat_pair(prediction, picture, opacity),
        legend=show.legend(middle),
        boxes=show.boxes_of(picture, places),
        table=show.place_table(places, left_out),
        threshold=0.5 if prediction.threshold is None else round(prediction.threshold, 4),
        mask_threshold=round(middle, 4),
    )


def _files(visit: Visit) -> Updates:
    buttons = {kind: gr.DownloadButton(value=str(path), interactive=True) for kind, path in handlers.write_files(visit).items()}
    return Updates(png=buttons["overlay"], as_json=buttons["json"], raw=buttons["map"])


def _good(visit: Visit) -> Updates:
    """How many good pictures there are, and what they look like."""
    return Updates(visit=visit, count=count_of(visit.references, borrowed=visit.borrowed), gallery=list(visit.thumbnails) or None)


def _advice(visit: Visit) -> str:
    """The next thing to know about this verdict."""
    if visit.prediction is not None and visit.prediction.undecided:
        return "A few good pictures of the same part make a verdict possible; the tab Batch judges a folder of them by itself."
    if visit.detector.memory is None:
        return "Words alone. A few good pictures of the same part make this verdict much better."
    count = len(visit.detector.references)
    as_high = 0 if visit.prediction is None else round(visit.prediction.scores.get("p_value", 0) * (count + 1)) - 1
    if count < 2 or as_high < 0:
        return f"Compared with {count} good picture{'' if count == 1 else 's'}."
    return f"Compared with {count} good pictures, of which {as_high or 'none'} score{'' if as_high > 1 else 's'} as high beside the others."
