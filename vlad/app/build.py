"""The page: header, tabs, endpoints, and when a visitor's things are deleted."""

import functools
import logging
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from vlad.app import endpoints
from vlad.app.guard.errors import in_short
from vlad.app.guard.streams import Sessions
from vlad.app.guard.tasks import Begun
from vlad.app.service import MODEL_QUEUE, Service
from vlad.app.tabs import about, ask, batch, bench, draw, inspect, prompts
from vlad.app.visit import Newcomer, Visit

UNFIT = "This request does not fit the endpoint: upload files first, and give what /gradio_api/info says that it takes."
_log = logging.getLogger("vlad.app")
_SWEEP = 600  # seconds between two looks at the cache


def build_page(service: Service) -> gr.Blocks:
    """The page of a service. It starts nothing; `vlad.app.server` serves it."""
    limits = service.limits
    with gr.Blocks(
        title="vlad: is something wrong, and where?", analytics_enabled=False, delete_cache=(_SWEEP, limits.idle_seconds)
    ) as page:
        visit = gr.State(None, time_to_live=limits.idle_seconds, delete_callback=_forget)
        visit.value = Newcomer(service)  # set here, because a state copies what it is made with
        gr.HTML(
            '<header class="vlad-top"><h1>Is something wrong with this picture, and where?</h1>'
            "<p>vlad finds defects without training. Click an example or drop a picture: you get a verdict and a heat map. Better still: "
            f'add a few good pictures.</p><p class="vlad-model">Model: <b>{escape(service.model)}</b></p></header>'
        )
        with gr.Tabs(overflow_behavior="wrap", elem_id="tabs") as tabs:
            with gr.Tab("Inspect", id="inspect"):
                opening, take_over = inspect.build(service, visit)
            with gr.Tab("Bench", id="bench") as benching:
                lay_bench, take = bench.build(service, visit)
            with gr.Tab("Batch", id="batch"):
                batch.build(service, visit)
            with gr.Tab("Draw", id="draw"):
                draw.build(service)
            with gr.Tab("Ask", id="ask") as asking:
                show_picture = ask.build(service, visit)
            with gr.Tab("Prompts", id="prompts"):
                prompts.build(service, visit)
            with gr.Tab("About", id="about"):
                about.build(service)
        endpoints.build(service)
        for tab, chosen in ((benching, lay_bench), (asking, show_picture)):
            tab.select(*chosen, api_visibility="private", concurrency_limit=None, show_progress="hidden")
        action, needed, filled = take_over
        taken = take.click(action, needed, filled, api_visibility="private", concurrency_id=MODEL_QUEUE, concurrency_limit=1)
        taken.then(_show_what_was_taken, visit, tabs, api_visibility="private", show_progress="hidden")
        if opening:
            action, needed, filled, options = opening
            page.load(action, needed, filled, **options)
        page.unload(_leave(page))
    page.queue(max_size=limits.waiting, api_open=False, default_concurrency_limit=1)
    page.state_session_capacity = limits.visitors
    # Gradio looks whether a file was uploaded only on pages that `launch` started: on a mounted one a client could name any file of the
    # server and have it read.
    page.has_launched = True
    page.process_api = _worded(page.process_api)
    page._queue.pending_event_ids_session = Sessions()
    run = page._queue.process_events
    page._queue.process_events = lambda *arguments, **options: Begun(run(*arguments, **options))
    return page


def _worded(process: Callable[..., Any]) -> Callable[..., Any]:
    """Gradio's work on one request, every error of which has words: what does not fit the endpoint's inputs fails before `guarded` sees it,
    and would be answered with null and logged with its traceback."""

    @functools.wraps(process)
    async def worded(*arguments: Any, **options: Any) -> Any:
        try:
            return await process(*arguments, **options)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            _log.warning("a request that cannot be carried out: %s", in_short(error))
            raise gr.Error(UNFIT, title="Please check", print_exception=False) from error

    return worded


def _leave(page: gr.Blocks) -> Any:
    def leave(request: gr.Request) -> None:
        """Delete at once what Gradio would keep for an hour."""
        if request.session_hash:
            page.state_holder.delete_state(request.session_hash)

    return leave


def _show_what_was_taken(current: Visit) -> Any:
    """Go to the tab Inspect, if the picture of the bench was opened there."""
    was_taken, current.taken = current.taken, False
    return gr.Tabs(selected="inspect") if was_taken else gr.skip()


def _forget(value: Any) -> None:
    if isinstance(value, Visit):
        value.forget()
