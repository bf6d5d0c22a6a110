"""What the tab Inspect does: each action gets a visitor and what stands on the page, and says what is new on it."""

import time
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.processing_utils import hash_file
from PIL import Image

from vlad.app import handlers, show
from vlad.app.bench import acts
from vlad.app.bench.thumbnails import thumbnails_of
from vlad.app.names import checked_class_name
from vlad.app.service import Service
from vlad.app.tabs.inspect_layout import NOT_THERE, Updates, count_of, looking, nothing_yet
from vlad.app.visit import Visit
from vlad.app.widgets import refuse, say
from vlad.errors import ConfigError, VladError

_PAINTED = 8  # levels by which paint differs at least from what was under it
_ECHO = 3.0  # seconds in which the browser may still send the picture that was just taken away


class Actions:
    """The actions on a service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def inspect(self, current: Visit, path: str | None, noun: str, opacity: float) -> Updates:
        """Look at the picture that is there, again if need be."""
        example = current.example if path is not None and _called(path) == current.shown else None
        try:
            with current.as_before_if_it_fails():
                if current.borrowed and example is None:
                    handlers.clear_references(self.service, current)
                handlers.inspect(self.service, current, path, noun)
        except VladError as error:
            if path is None or _called(path) == current.shown:  # what was found in it before still holds
                raise
            return self._not_inspected(current, path, error)
        assert path is not None  # or there would have been an error
        current.example = example  # the same picture, looked at again
        current.shown, current.source = _called(path), path
        return whole(current, opacity)

    def arrived(self, current: Visit, path: str | None, noun: str, opacity: float) -> Updates:
        """A picture of the visitor's own. Taking one away says so too, sometimes still with the old path."""
        dropped, when = current.dropped or ("", 0.0)
        is_echo = path is not None and dropped == _called(path) and time.monotonic() < when + _ECHO
        if path is None or is_echo:
            return self.forget_picture(current, path)
        if current.borrowed:
            gr.Info("The example's good pictures were put away.", duration=6)
        current.example = None
        return self.inspect(current, path, noun, opacity)

    def load(self, current: Visit, beside: bool, opacity: float, number: int = 0) -> Updates:
        """An example, on request beside its good pictures."""
        if not 0 <= number < len(self.service.examples):
            raise ConfigError("There is no such example.")
        chosen = self.service.examples[number]
        if current.references and not current.borrowed:
            gr.Info(f"Your {len(current.references)} good pictures were put away; add them again for your own parts.", duration=8)
        handlers.inspect_example(self.service, current, chosen, with_references=beside)
        current.example = number
        current.shown = f"{hash_file(chosen.path)}/{chosen.path.name}"  # where the browser's copy will lie
        current.source = str(chosen.path)
        updates = whole(current, opacity)
        updates.picture, updates.class_name, updates.examples = str(chosen.path), chosen.class_name, gr.Gallery(selected_index=None)
        return updates

    def example(self, current: Visit, beside: bool, opacity: float, event: gr.SelectData) -> Updates:
        """The example that was clicked."""
        return self.load(current, beside, opacity, int(event.index))

    def first(self, current: Visit, opacity: float) -> Updates:
        """The first example, when the page opens."""
        return self.load(current, not self.service.detector.decides_alone, opacity)

    def take_over(self, current: Visit, opacity: float) -> Updates:
        """The picture that is shown large on the bench, with the good pictures and the threshold of the part."""
        part, path = acts.picked_file(current.bench)
        current.detector, current.borrowed = part.detector.copy(), False
        current.references = tuple(one.name for one in part.good)
        current.thumbnails = tuple(np.asarray(Image.open(file)) for file, _ in thumbnails_of(self.service, current))
        handlers.inspect(self.service, current, path, part.class_name)
        current.shown, current.source = f"{hash_file(path)}/{path.name}", str(path)
        updates = whole(current, opacity)
        updates.picture, updates.class_name = str(path), part.class_name
        current.taken = True
        return updates

    def again_beside(self, current: Visit, beside: bool, opacity: float) -> Updates:
        """The example that is there, with or without its good pictures."""
        if current.example is None:
            return Updates(visit=current)
        return self.load(current, beside, opacity, current.example)

    def move_threshold(self, current: Visit, threshold: float, opacity: float) -> Updates:
        """The score's threshold; where words decide alone, score and map have one scale, so the map's moves too."""
        prediction = _present_visit(current).prediction
        of_map = threshold if current.detector.memory is None else prediction.mask_threshold if prediction is not None else None
        handlers.adjust(current, threshold, 0.5 if of_map is None else of_map)
        return _present(current, opacity).stay("threshold")  # the slider in the visitor's hand

    def move_mask_threshold(self, current: Visit, mask_threshold: float, opacity: float) -> Updates:
        """The map's threshold alone."""
        _present_visit(current)
        handlers.adjust(current, None, mask_threshold)
        return _present(current, opacity).stay("threshold", "mask_threshold")

    def renew_files(self, current: Visit, opacity: float) -> Updates:
        """The files for download, which take their time with a large picture."""
        return Updates() if current.prediction is None else _files(current)

    def fade(self, current: Visit, opacity: float) -> Updates:
        """The heat more or less opaque."""
        if current.picture is None or current.prediction is None:
            return Updates()
        current.opacity = opacity
        return Updates(pair=show.heat_pair(current.prediction, current.picture, opacity))

    def look_over(self, current: Visit, opacity: float) -> Updates:
        """After an action: the opacity may have been moved while it was at work."""
        return Updates() if opacity == current.opacity else self.fade(current, opacity)

    def add_references(self, current: Visit, paths: list[str] | None, path: str | None, noun: str, opacity: float) -> Updates:
        """Good pictures of the visitor's; the picture that is there is looked at again."""
        told = handlers.add_references(self.service, current, paths or [], noun)
        for reason in told.refused[:3]:
            gr.Warning(f"Left out: {escape(reason, quote=False)}", duration=10)
        say(list(told.notes))
        return self._with_references(current, path, noun, opacity)

    def clear_references(self, current: Visit, path: str | None, noun: str, opacity: float) -> Updates:
        """No good pictures any more."""
        handlers.clear_references(self.service, current)
        return self._with_references(current, path, noun, opacity)

    def mark_good(self, current: Visit, opacity: float) -> Updates:
        """The picture that is there is good, whatever the verdict was."""
        return self._mark(current, opacity, is_good=True)

    def mark_bad(self, current: Visit, opacity: float) -> Updates:
        """The picture that is there is bad, whatever the verdict was."""
        return self._mark(current, opacity, is_good=False)

    def _mark(self, current: Visit, opacity: float, *, is_good: bool) -> Updates:
        current = _present_visit(current)
        say(handlers.mark(self.service, current, is_good=is_good))
        prediction = current.prediction
        if not is_good and prediction is not None and prediction.pred_label is False:
            gr.Warning("It is still called normal, because good pictures score as high. More good pictures, or a larger view, may help.")
        return whole(current, opacity)

    def paint_on_it(self, current: Visit, opacity: float) -> Updates:
        """The picture that is there, to paint on."""
        picture = _present_visit(current).picture
        assert picture is not None  # as just checked
        small = show.shrink(picture)  # a mask is laid over a picture of any size
        return Updates(where={"background": small, "layers": [], "composite": small})

    def look_there(self, current: Visit, value: dict[str, Any] | None, mode: str, opacity: float) -> Updates:
        """Only the painted part of pictures, or all but that, counts from now on."""
        current = _present_visit(current)
        if value is None or value.get("background") is None or value.get("composite") is None:
            raise ConfigError("There is nothing to paint on yet; press 'Paint on this picture' first.")
        difference = np.abs(value["composite"].astype(np.int16) - value["background"]).max(axis=2)
        handlers.look_at(self.service, current, difference > _PAINTED, ignore=mode == NOT_THERE)
        handlers.look_again(self.service, current)
        return whole(current, opacity)

    def look_everywhere(self, current: Visit, opacity: float) -> Updates:
        """All of a picture counts again."""
        current = _present_visit(current)
        handlers.look_at(self.service, current, None, ignore=False)
        handlers.look_again(self.service, current)
        updates = whole(current, opacity)
        updates.where = None
        return updates

    def _with_references(self, current: Visit, path: str | None, noun: str, opacity: float) -> Updates:
        if current.picture is None:
            return whole(current, opacity) if path is None else self.inspect(current, path, noun, opacity)
        current.class_name = checked_class_name(noun)
        handlers.look_again(self.service, current)
        return whole(current, opacity)

    def _not_inspected(self, current: Visit, path: str, error: VladError) -> Updates:
        """A picture that stands on the page and could not be looked at."""
        refuse(error)
        updates = self.forget_picture(current, None)
        current.shown = _called(path)
        updates.verdict = show.waiting_card("This picture was not inspected", str(error))
        return updates

    def forget_picture(self, current: Visit, path: str | None = None) -> Updates:
        """The picture was taken away."""
        current.picture = current.prediction = current.conversation = current.example = None
        gone, current.shown, current.source = _called(path) if path else current.shown, None, None
        current.dropped = (gone, time.monotonic()) if gone else current.dropped
        current.basis += 1
        return _nothing(current).over(_good(current))


def whole(visit: Visit, opacity: float, *, is_new: bool = True) -> Updates:
    """All that the page shows of a visitor.

    Args:
        is_new: whether the result rests on something else than what was sent before.
    """
    visit.basis += is_new
    if visit.prediction is None or visit.picture is None:
        return _nothing(visit).over(_good(visit))
    return _files(visit).over(_good(visit)).over(_present(visit, opacity))


def again(visit: Visit, opacity: float) -> Updates:
    """The same with what stands in its inputs, for a page that shows something else."""
    updates = whole(visit, opacity, is_new=False)
    updates.picture = visit.source
    if visit.prediction is not None:
        updates.class_name = visit.class_name
    return updates


def _called(path: str) -> str:
    """The last folder, which Gradio names by the content's hash, and the name of a file: the same however the browser came by it."""
    return "/".join(Path(path).parts[-2:])


def _present_visit(visit: Visit) -> Visit:
    """A visit with a picture.

    Raises:
        ConfigError: there is none.
    """
    if visit.prediction is None or visit.picture is None:
        raise ConfigError("There is no picture here, or the page was idle for so long that it was deleted; inspect one.")
    return visit


def _nothing(visit: Visit) -> Updates:
    """No picture."""
    off = gr.DownloadButton(interactive=False)
    return Updates(
        visit=visit, verdict=nothing_yet(), pair=None, legend=show.legend(0.5), boxes=None, table="", png=off, as_json=off, raw=off
    )


def _present(visit: Visit, opacity: float) -> Updates:
    """Verdict, map, places and thresholds."""
    prediction, picture = visit.prediction, visit.picture
    assert prediction is not None and picture is not None  # a caller has just inspected it
    visit.opacity = opacity
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
    """How many good pictures there are, what they look like, and what is looked at."""
    config = visit.detector.config
    updates = Updates(visit=visit, count=count_of(visit.references, borrowed=visit.borrowed), gallery=list(visit.thumbnails) or None)
    updates.where_said = looking(only=config.roi is not None, but=config.roi is None and config.ignore is not None)
    if visit.example is not None:
        updates.with_references = visit.borrowed
    return updates


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
