"""Inspect: one picture, a verdict in words, the heat map, and a threshold that can be moved.

What is sent to the browser carries a seal, which comes back with every event: what the picture's result rests on, and the number of the
sending. So an event that was meant for another result than the one that is there does nothing but show that one, and a page on which two
answers arrived in another order than they were sent is told anew.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from vlad.app.service import AT_ONCE, MODEL_QUEUE, Service
from vlad.app.tabs.inspect_actions import Actions, again, whole
from vlad.app.tabs.inspect_layout import STATE, Updates, lay_out
from vlad.app.visit import Visit
from vlad.app.widgets import guarded, refuse
from vlad.errors import VladError

_ALONE: dict[str, Any] = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": AT_ONCE[MODEL_QUEUE], "api_visibility": "private"}
_QUICK: dict[str, Any] = {
    "concurrency_limit": None,
    "api_visibility": "private",
    "show_progress": "hidden",
    "trigger_mode": "always_last",
}
_CONTROLS = ("with_references", "threshold", "mask_threshold")  # what the visitor moves, and a refused action leaves moved


def build(service: Service, visit: gr.State) -> tuple[list[Any], tuple[Any, list[Any], list[Any]]]:
    """The tab's components and events; returns what to run when the page opens, and when a picture of the bench is opened here: function,
    inputs and outputs."""
    layout, actions = lay_out(service, visit), Actions(service)
    told, sealed = layout.parts(*STATE), layout.parts("visit", "opacity", "seal")

    def on(event: Any, action: Callable[..., Updates], inputs: Sequence[str], *, of_result: bool = False, **options: Any) -> None:
        """The action as an event, after which the page is looked over."""
        call = _sealed(action, is_quick=options.get("concurrency_id") is None, of_result=of_result)
        done = event(call, layout.parts("visit", *inputs, "opacity", "seal"), told, **options)
        done.then(_sealed(actions.look_over, is_quick=True), sealed, told, **_QUICK)

    waiting: dict[str, Any] = {"show_progress_on": layout.parts("verdict", "pair"), **_ALONE}
    of_verdict: dict[str, Any] = {"show_progress_on": layout.parts("verdict"), **_ALONE}
    of_picture = ("picture", "class_name")
    on(layout.picture.input, actions.arrived, of_picture, scroll_to_output=True, **waiting)
    on(layout.again.click, actions.inspect, of_picture, scroll_to_output=True, **waiting)
    on(layout.class_name.submit, actions.inspect, of_picture, **waiting)
    on(layout.picture.clear, lambda current, path, opacity: actions.forget_picture(current, path), ("picture",), **_ALONE)
    on(layout.examples.select, actions.example, ("with_references",), scroll_to_output=True, trigger_mode="always_last", **waiting)
    on(layout.with_references.input, actions.again_beside, ("with_references",), trigger_mode="always_last", **waiting)
    on(layout.add.upload, actions.add_references, ("add", *of_picture), show_progress_on=layout.parts("count", "verdict"), **_ALONE)
    on(layout.clear.click, actions.clear_references, of_picture, **of_verdict)
    for slider, name, move in (
        (layout.threshold, "threshold", actions.move_threshold),
        (layout.mask_threshold, "mask_threshold", actions.move_mask_threshold),
    ):
        moved = slider.input(_sealed(move, is_quick=True), layout.parts("visit", name, "opacity", "seal"), told, **_QUICK)
        moved.then(_sealed(actions.renew_files, is_quick=True), sealed, told, **{**_QUICK, "concurrency_limit": 2})
    for button, action in ((layout.is_good, actions.mark_good), (layout.is_bad, actions.mark_bad)):
        on(button.click, action, (), of_result=True, **of_verdict)
    on(layout.where_take.click, actions.paint_on_it, (), **_QUICK)
    on(layout.where_use.click, actions.look_there, ("where", "where_mode"), **of_verdict)
    on(layout.where_everywhere.click, actions.look_everywhere, (), **of_verdict)
    on(layout.opacity.input, actions.fade, (), **_QUICK)
    opening: list[Any] = []
    if service.examples:
        opening = [_sealed(actions.first, is_quick=False), sealed, told, {**waiting, "show_progress": "minimal"}]
    return opening, (_sealed(actions.take_over, is_quick=False), sealed, told)


def _sealed(action: Callable[..., Updates], *, is_quick: bool, of_result: bool = False) -> Callable[..., Any]:
    """The action as Gradio calls it, with opacity and seal as its last inputs: one value for each output.

    A quick one is passed over while one at the model is at work, which then tells the page all there is. A quick one, or one that is about
    the result that is shown, does nothing where that is no longer the result that is there. One that fails changes nothing.
    """

    def call(current: Visit, *values: Any) -> list[Any]:
        *given, seal = values
        opacity = next(value for value in reversed(given) if isinstance(value, (int, float)) and not isinstance(value, bool))
        if is_quick and current.at_work:
            current.passed_over = True
            return Updates().values(STATE)
        current.lock.acquire()
        current.at_work, current.passed_over = not is_quick, False
        try:
            in_step = seal == current.seal or not (seal or current.sent)  # a page that was just opened was told nothing
            if (is_quick or of_result) and seal and seal.partition(".")[0] != str(current.basis):
                updates = Updates(visit=current)
            else:
                updates = _carried_out(action, current, given, opacity)
            if not in_step or current.passed_over:
                updates = updates.over(again(current, opacity))
            if updates.is_something:
                current.sent += 1
                updates.seal = current.seal
        finally:
            current.at_work = False
            current.lock.release()
        return updates.values(STATE)

    call.__annotations__ = dict(getattr(action, "__annotations__", {}))  # by which Gradio knows what else to hand over
    parameters = [*inspect.signature(action).parameters.values(), inspect.Parameter("seal", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return guarded(call)


def _carried_out(action: Callable[..., Updates], current: Visit, given: Sequence[Any], opacity: float) -> Updates:
    try:
        with current.as_before_if_it_fails():
            return action(current, *given)
    except VladError as error:
        refuse(error)
        now = whole(current, opacity, is_new=False)
        return Updates(visit=current, **{name: getattr(now, name) for name in _CONTROLS})
