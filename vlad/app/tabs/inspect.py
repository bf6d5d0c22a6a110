"""Inspect: one picture, a verdict in words, the heat map, and a threshold that can be moved."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from vlad.app.service import AT_ONCE, MODEL_QUEUE, Service
from vlad.app.tabs.inspect_actions import Actions
from vlad.app.tabs.inspect_layout import FILES, GOOD, LOADED, RESULT, Updates, lay_out
from vlad.app.widgets import guarded

_ALONE: dict[str, Any] = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": AT_ONCE[MODEL_QUEUE], "api_visibility": "private"}
_QUICK: dict[str, Any] = {
    "concurrency_limit": None,
    "api_visibility": "private",
    "show_progress": "hidden",
    "trigger_mode": "always_last",
}


def build(service: Service, visit: gr.State) -> list[Any]:
    """The tab's components and events; returns what to run when the page opens: function, inputs and outputs."""
    layout, actions = lay_out(service, visit), Actions(service)

    def wired(action: Callable[..., Updates], inputs: Sequence[str], outputs: Sequence[str]) -> tuple[Any, list[Any], list[Any]]:
        """Function, inputs and outputs of an event."""
        return _listed(action, outputs), layout.parts(*inputs), layout.parts(*outputs)

    waiting: dict[str, Any] = {"show_progress_on": layout.parts("verdict", "pair"), **_ALONE}
    of_picture, of_example, limits = (
        ("visit", "picture", "class_name", "opacity"),
        ("visit", "with_references", "opacity"),
        ("visit", "threshold", "mask_threshold", "opacity"),
    )
    filled = (*RESULT, *GOOD)
    layout.picture.input(*wired(actions.arrived, of_picture, filled), scroll_to_output=True, **waiting)
    layout.again.click(*wired(actions.inspect, of_picture, filled), scroll_to_output=True, **waiting)
    layout.class_name.submit(*wired(actions.inspect, of_picture, filled), **waiting)
    layout.picture.clear(*wired(actions.forget_picture, ("visit", "picture"), RESULT), **_QUICK)
    layout.examples.select(*wired(actions.example, of_example, LOADED), scroll_to_output=True, trigger_mode="always_last", **waiting)
    layout.with_references.input(*wired(actions.again_beside, of_example, LOADED), **waiting)
    layout.add.upload(
        *wired(actions.add_references, ("visit", "add", "picture", "class_name", "opacity"), filled),
        show_progress_on=layout.parts("count", "verdict"),
        **_ALONE,
    )
    layout.clear.click(*wired(actions.clear_references, of_picture, filled), show_progress_on=layout.parts("verdict"), **_ALONE)
    for slider, move in ((layout.threshold, actions.move_threshold), (layout.mask_threshold, actions.move_mask_threshold)):
        moved = slider.input(*wired(move, limits, RESULT), **_QUICK)
        moved.then(*wired(actions.renew_files, ("visit",), FILES), **{**_QUICK, "concurrency_limit": 2})
    for button, action in ((layout.is_good, actions.mark_good), (layout.is_bad, actions.mark_bad)):
        button.click(*wired(action, ("visit", "opacity"), filled), show_progress_on=layout.parts("verdict"), **_ALONE)
    painted = ("visit", "where", "where_mode", "opacity")
    layout.where_take.click(*wired(actions.paint_on_it, ("visit",), ("where",)), **_QUICK)
    layout.where_use.click(*wired(actions.look_there, painted, (*filled, "where_said")), show_progress_on=layout.parts("verdict"), **_ALONE)
    layout.where_everywhere.click(
        *wired(actions.look_everywhere, ("visit", "opacity"), (*filled, "where", "where_said")),
        show_progress_on=layout.parts("verdict"),
        **_ALONE,
    )
    layout.opacity.input(*wired(actions.fade, ("visit", "opacity"), ("pair",)), **_QUICK)
    if not service.examples:
        return []
    return [*wired(actions.first, ("visit", "opacity"), LOADED), {**waiting, "show_progress": "minimal"}]


def _listed(action: Callable[..., Updates], outputs: Sequence[str]) -> Callable[..., Any]:
    """The action as Gradio calls it: one value for each output, or the value itself."""

    @functools.wraps(action)
    def call(*arguments: Any) -> Any:
        values = action(*arguments).values(outputs)
        return values if len(values) > 1 else values[0]

    return guarded(call)
