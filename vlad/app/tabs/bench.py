"""Bench: one flow from good pictures of a part to a detector that is kept.

What is sent to the browser carries a seal, the number of the sending, and comes back with every event. So it is known whether a browser
shows what was sent last: if it does, only what is new is sent; if not, everything.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gradio as gr
import numpy as np

from vlad.app import show
from vlad.app.batches import PHASES, Batch, time_left
from vlad.app.bench import acts, view
from vlad.app.bench.state import Bench
from vlad.app.bench.thumbnails import thumbnails_of
from vlad.app.names import shown_name
from vlad.app.service import AT_ONCE, BATCH_QUEUE, MODEL_QUEUE, Service
from vlad.app.tabs.bench_layout import Layout, lay_out
from vlad.app.tabs.inspect_layout import NOT_THERE
from vlad.app.uploads import read_upload
from vlad.app.visit import Visit
from vlad.app.widgets import guarded, refuse, say
from vlad.errors import ConfigError, ImageReadError, VladError

_PAINTED = 8  # levels by which paint differs at least from what was under it
_NEAR = 3  # pictures on either side of the threshold
_CONTROLS = ("parts", "only", "threshold")  # what the visitor moves and the bench may refuse
SHOWN = (
    "head", "parts", "cards", "good_files", "good_said", "good", "leave", "summary", "only", "gallery", "large", "verdict", "pair", "learn",
    "threshold", "found", "rates", "near", "export", "usage", "acts", "undo",
)  # fmt: skip
_QUICK: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}
_MODEL: dict[str, Any] = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": AT_ONCE[MODEL_QUEUE], "api_visibility": "private"}
_LONG: dict[str, Any] = {"concurrency_id": BATCH_QUEUE, "concurrency_limit": AT_ONCE[BATCH_QUEUE], "api_visibility": "private"}


class Desk:
    """Tells a browser what is on its visitor's bench."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def tell(self, visit: Visit, seal: float | None, *anew: str, in_hand: Mapping[str, Any] = MappingProxyType({})) -> list[Any]:
        """What is new since the sending `seal`, in the order of visit, seal and `SHOWN`.

        Args:
            anew: what is sent in any case.
            in_hand: what the visitor has just moved, and whereto; sent only if it stands elsewhere now.
        """
        bench = visit.bench
        with bench.telling:
            in_step = seal == bench.sent
            pieces = self._pieces(visit)
            stands = {"threshold": pieces["threshold"][0][0], "only": pieces["only"][0], "parts": pieces["parts"][0][1]}
            moved_on = [name for name, value in in_hand.items() if not _is_same(stands[name], value)]
            if "threshold" in in_hand and pieces["threshold"][0][1:] != bench.sent_keys.get("threshold", ())[1:]:
                moved_on.append("threshold")
            anew = (*anew, *moved_on)
            held = [name for name in in_hand if name not in moved_on]
            had = bench.sent_keys if in_step else {}
            values = [
                gr.skip() if name in held or (name in had and had[name] == key and name not in anew) else make()
                for name, (key, make) in pieces.items()
            ]
            if all(name in had and had[name] == pieces[name][0] for name in pieces) and not anew:
                return [visit, gr.skip(), *values]
            bench.sent += 1
            bench.sent_keys = {name: key for name, (key, _) in pieces.items()}
        return [visit, bench.sent, *values]

    def _pieces(self, visit: Visit) -> dict[str, tuple[Any, Callable[[], Any]]]:
        """By name, what a piece depends on, and what makes it."""
        bench = visit.bench
        part, order, batch = bench.part, bench.order(), bench.shown
        is_shared = self.service.workspace is not None
        cards = bench.shelf.cards()
        names = [card.name for card in cards]
        known = None if part is None else part.detector
        found = None if batch is None else (bench.batch, bench.moved)
        marks = tuple(sorted(bench.marks.items()))
        open_marks = len(bench.open_marks)
        near = _near(bench)
        leaving = bench.leaving_out
        packed = bench.packed if bench.packed is not None and bench.packed[0] is (part and part.detector) else None
        limit = 0.5 if bench.threshold is None else round(bench.threshold, 4)
        # A slider that ends lower than what was typed into it takes its end for that, and tells nobody: it never ends lower than before.
        top = bench.top = max(bench.top, view.top_of(bench), limit if bench.moved is not None else 0.0)
        pieces: dict[str, tuple[Any, Callable[[], Any]]] = {}
        head = view.head(bench)
        pieces["head"] = head, lambda: head
        chosen = None if part is None else part.name
        pieces["parts"] = (tuple(names), chosen), lambda: gr.Dropdown(choices=names, value=chosen)
        shelf = view.shelf(cards, is_shared=is_shared)
        pieces["cards"] = shelf, lambda: shelf
        pieces["good_files"] = bench.drops, lambda: None  # what was dropped was taken, or named as left out
        good = view.good_ones(part, most=self.service.limits.references)
        pieces["good_said"] = good, lambda: good
        pieces["good"] = known, lambda: thumbnails_of(self.service, visit)
        leave = "Leave one out" if leaving is None else f"Leave out {shown_name(leaving.place)}"
        pieces["leave"] = leave, lambda: gr.Button(leave, interactive=leaving is not None)
        summary = view.summary(batch)
        pieces["summary"] = summary, lambda: summary
        pieces["only"] = bench.only, lambda: bench.only
        cells = _cells(bench, batch, order)
        framed = order.index(bench.picked) if bench.picked in order else None
        pieces["gallery"] = (tuple(cells), framed), lambda: gr.Gallery(value=cells, selected_index=framed)
        pieces["large"] = bench.large, lambda: bench.large
        large = self._large_key(bench, batch)
        card, pair = (large, marks), large[:4] if large else None
        pieces["verdict"] = card, lambda: self._verdict(bench)
        pieces["pair"] = pair, lambda: self._pair(bench)
        learn = f"Learn from {open_marks} correction{'s' if open_marks > 1 else ''}" if open_marks else "Learn from corrections"
        pieces["learn"] = learn, lambda: gr.Button(learn, interactive=open_marks > 0)
        can_move = part is not None and (batch is not None or bench.threshold is not None)
        pieces["threshold"] = (
            (limit, top, can_move),
            lambda: gr.Slider(minimum=0, maximum=max(top, limit), value=limit, interactive=can_move),
        )
        pieces["found"] = (known, found, marks), lambda: view.charts(bench)
        promise = view.promise(bench)
        pieces["rates"] = promise, lambda: promise
        close = _cells(bench, batch, near)
        pieces["near"] = tuple(close), lambda: close
        file = None if packed is None else str(packed[1])
        pieces["export"] = file, lambda: gr.DownloadButton(value=file, interactive=file is not None)
        used = view.usage(part, is_shared=is_shared)
        pieces["usage"] = used, lambda: used
        done = view.acts(part)
        pieces["acts"] = done, lambda: done
        can_undo = part is not None and part.can_undo
        pieces["undo"] = can_undo, lambda: gr.Button(interactive=can_undo)
        return {name: pieces[name] for name in SHOWN}

    def _large_key(self, bench: Bench, batch: Batch | None) -> tuple[Any, ...]:
        if batch is None or bench.picked is None or bench.picked >= len(batch.rows):
            return ()
        one = batch.rows[bench.picked].prediction
        assert one is not None  # only rows with a result are shown
        return (bench.judged_by, str(bench.folder), bench.picked, one.pred_label, one.threshold, one.threshold_source)

    def _verdict(self, bench: Bench) -> str:
        found = acts.picked_result(bench)
        if found is None:
            return show.waiting_card("No picture yet", "Look at some, then click one.")
        mark = bench.marks.get(bench.picked) if bench.picked is not None else None
        said = "" if mark is None else f"You call it {'good' if mark else 'bad'}."
        return show.verdict_card(found, note=said)

    def _pair(self, bench: Bench) -> Any:
        try:
            found = acts.picked(self.service, bench)
        except ImageReadError as error:
            refuse(error)
            return None
        return None if found is None else show.heat_pair(*found, 0.5)


def _clicked(value: Any) -> tuple[str, str]:
    """File of the thumbnail, without suffix, and last line of the caption of an item of a gallery."""
    try:
        return Path(value["image"]["path"]).stem, str(value["caption"]).splitlines()[-1]
    except (TypeError, KeyError, IndexError) as error:
        raise ConfigError("This picture is no longer there; choose another one.") from error


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)):
        return abs(one - other) < 1e-4  # the last digit that a slider shows
    return bool(one == other)


def _cells(bench: Bench, batch: Batch | None, numbers: Sequence[int]) -> list[tuple[str, str]]:
    """Thumbnails and captions of rows."""
    if batch is None:
        return []
    found = []
    for number in numbers:
        row = batch.rows[number]
        assert row.prediction is not None  # only rows with a result are shown
        said = view.caption(row.name, row.prediction.pred_score, row.prediction.pred_label, bench.marks.get(number))
        found.append((str(row.thumbnail), said))
    return found


def _near(bench: Bench) -> list[int]:
    """The rows next to the threshold, the highest score first."""
    batch, threshold = bench.shown, bench.threshold
    if batch is None or threshold is None:
        return []
    above = [number for number in batch.order if batch.rows[number].prediction.pred_score > threshold]  # type: ignore[union-attr]
    below = [number for number in batch.order if number not in set(above)]
    return [*above[-_NEAR:], *below[:_NEAR]]


def build(service: Service, visit: gr.State) -> tuple[tuple[Any, list[Any], list[Any]], gr.Button]:
    """The tab's components and events; returns what to run when the tab is chosen: function, inputs and outputs; and the button that opens
    a picture in the tab Inspect."""
    desk, layout = Desk(service), lay_out(service, visit)
    told = [layout.visit, layout.seal, *layout.named(*SHOWN)]
    sealed = [layout.visit, layout.seal]

    def acting(action: Callable[..., Any], *, in_hand: str = "") -> Callable[..., Any]:
        """The act as an event: what it says are notes, what is refused is a message, and then the page is told how things are."""

        def call(current: Visit, seal: float | None, *values: Any) -> list[Any]:
            anew: tuple[str, ...] = ()
            try:
                notes = action(current, *values)
                say(notes if isinstance(notes, list) else [])
            except VladError as error:
                refuse(error)
                anew = _CONTROLS
            return desk.tell(current, seal, *anew, in_hand={in_hand: values[0]} if in_hand else {})

        return guarded(call)

    def of_list(action: Callable[[Bench, str, str], Any]) -> Callable[..., Any]:
        """A click into a list. What was clicked is known by its thumbnail's file and its caption, not by its place, so that it is the right
        one where the list has changed meanwhile."""

        def call(current: Visit, seal: float | None, event: gr.SelectData) -> list[Any]:
            try:
                action(current.bench, *_clicked(event.value))
            except VladError as error:
                refuse(error)
            return desk.tell(current, seal)

        return guarded(call)

    def long(begin: Callable[..., Iterator[Any]]) -> Callable[..., Any]:
        """An act that looks at many pictures and tells how far it is."""

        def call(current: Visit, seal: float | None, value: Any, progress: gr.Progress = gr.Progress()) -> Iterator[list[Any]]:
            begun = shown = time.monotonic()

            def tell(phase: str, done: int, of: int) -> None:
                progress((done, of), desc=PHASES[phase], unit="pictures")

            anew: tuple[str, ...] = ()
            try:
                for found in begin(current, value, tell):
                    if not isinstance(found, Batch):
                        say(found)
                        continue
                    done, now = len(found.rows), time.monotonic()
                    progress((done, found.total), desc=time_left(now - begun, done, found.total), unit="pictures")
                    if now - shown > 1:
                        shown = now
                        line = view.summary(found, f"{done} of {found.total} done")
                        yield [gr.skip(), gr.skip(), *(line if name == "summary" else gr.skip() for name in SHOWN)]
                        current.bench.sent_keys.pop("summary", None)
            except VladError as error:
                refuse(error)
                anew = _CONTROLS
            yield desk.tell(current, seal, *anew)

        return guarded(call)

    def settle(current: Visit, seal: float | None) -> list[Any]:
        """After each event: what came in another order than it was sent is sent again."""
        if current.bench.is_at_work:
            return [gr.skip()] * len(told)
        return desk.tell(current, seal)

    def on(event: Any, action: Callable[..., Any], inputs: Sequence[str] = (), **options: Any) -> None:
        done = event(action, [*sealed, *layout.named(*inputs)], told, **options)
        done.then(guarded(settle), sealed, told, **_QUICK)

    _of_parts(service, layout, on, acting, of_list)
    _of_looks(service, layout, on, acting, of_list, long)
    _of_thresholds(service, layout, on, acting)
    return (guarded(lambda current, seal: desk.tell(current, seal, "parts")), sealed, told), layout.take


def _of_parts(service: Service, layout: Layout, on: Any, acting: Any, of_list: Any) -> None:
    """Events of the steps Part and Good pictures."""

    def paint_on(current: Visit) -> Any:
        part = current.bench.part
        path = next((one.path for one in part.good if one.path is not None), None) if part is not None else None
        if path is None:
            raise ConfigError("There is no good picture to paint on yet; give some first.")
        picture = show.shrink(read_upload(path, service.limits))
        return {"background": picture, "layers": [], "composite": picture}

    def look_there(current: Visit, value: dict[str, Any] | None, mode: str) -> list[str]:
        if value is None or value.get("background") is None or value.get("composite") is None:
            raise ConfigError("There is nothing to paint on yet; press 'Paint on a good picture' first.")
        difference = np.abs(value["composite"].astype(np.int16) - value["background"]).max(axis=2)
        return acts.look_where(service, current.bench, difference > _PAINTED, ignore=mode == NOT_THERE)

    model: dict[str, Any] = {"show_progress_on": [layout.head], **_MODEL}
    on(layout.parts.input, acting(lambda current, name: acts.open_part(service, current.bench, name), in_hand="parts"), ("parts",), **model)
    make = acting(lambda current, name, noun: acts.make_part(service, current.bench, name, noun))
    on(layout.make.click, make, ("name", "noun"), **_QUICK)
    on(layout.name.submit, make, ("name", "noun"), **_QUICK)

    def add_good(current: Visit, paths: list[str] | None) -> list[str]:
        current.bench.drops += 1
        return acts.add_good(service, current.bench, paths or [])

    add = acting(add_good)
    on(layout.good_files.upload, add, ("good_files",), **model)
    on(layout.good.select, of_list(acts.choose_to_leave), trigger_mode="always_last", **_QUICK)
    on(layout.leave.click, acting(lambda current: acts.leave_out(service, current.bench)), **model)
    layout.where_take.click(guarded(paint_on), [layout.visit], [layout.where], **_QUICK)
    on(layout.where_use.click, acting(look_there), ("where", "where_mode"), **model)
    on(layout.where_everywhere.click, acting(lambda current: acts.look_where(service, current.bench, None, ignore=False)), **model)


def _of_looks(service: Service, layout: Layout, on: Any, acting: Any, of_list: Any, long: Any) -> None:
    """Events of the step Look and correct."""
    slow: dict[str, Any] = {"show_progress_on": [layout.summary], **_LONG}

    def look(current: Visit, paths: list[str] | None, tell: Any) -> Iterator[Any]:
        if not paths:
            raise ConfigError("There are no files yet; choose pictures, or a zip file of pictures.")
        return acts.look(service, current.bench, paths, on_progress=tell)

    on(layout.look.click, long(look), ("files",), **slow)
    on(layout.again.click, long(lambda current, _, tell: acts.look(service, current.bench, None, on_progress=tell)), ("files",), **slow)
    on(layout.learn.click, long(lambda current, _, tell: acts.learn(service, current.bench, on_progress=tell)), ("files",), **slow)
    layout.stop.click(lambda current: current.bench.stop(), [layout.visit], [], **_QUICK)
    on(layout.only.input, acting(lambda current, only: acts.filter_rows(current.bench, only), in_hand="only"), ("only",), **_QUICK)
    on(layout.gallery.select, of_list(acts.pick), trigger_mode="always_last", **_QUICK)
    for button, is_good in ((layout.is_good, True), (layout.is_bad, False), (layout.unmark, None)):
        mark = acting(lambda current, large, said=is_good: acts.correct(current.bench, said, large))
        on(button.click, mark, ("large",), trigger_mode="multiple", **_QUICK)
    for button, is_good in ((layout.all_good, True), (layout.all_bad, False)):
        on(button.click, acting(lambda current, said=is_good: acts.correct_all(current.bench, said)), **_QUICK)


def _of_thresholds(service: Service, layout: Layout, on: Any, acting: Any) -> None:
    """Events of the steps Threshold and Keep."""

    def keep(current: Visit) -> None:
        threshold = acts.keep(current.bench)
        gr.Info(f"From now on a score above {threshold:.4f} is anomalous, for this part.", duration=6)

    def undo(current: Visit) -> None:
        gr.Info(f"Taken back: {view.ACTS.get(acts.undo(service, current.bench), 'the last change')}.", duration=6)

    model: dict[str, Any] = {"show_progress_on": [layout.head], **_MODEL}
    moved = acting(lambda current, value: acts.move(current.bench, value), in_hand="threshold")
    on(layout.threshold.input, moved, ("threshold",), trigger_mode="always_last", **_QUICK)
    on(layout.keep.click, acting(keep), **_QUICK)
    on(layout.follow.click, acting(lambda current, rule: acts.follow_rule(current.bench, rule)), ("rule",), **_QUICK)
    on(layout.pack.click, acting(lambda current: acts.export(current.bench, current.folder / "results")), **_QUICK)
    on(layout.undo.click, acting(undo), **model)
