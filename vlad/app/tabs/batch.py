"""Batch: many pictures or an archive, sorted by score."""

import time
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import gradio as gr

from vlad.app import show
from vlad.app.batches import Batch, run_batch, time_left, write_csv
from vlad.app.service import BATCH_QUEUE, Service
from vlad.app.visit import Visit
from vlad.app.widgets import guarded
from vlad.errors import ConfigError

_MOST_NAMED = 10
_PHASES = {"read": "reading", "look": "looking at", "turn": "turning", "compare": "comparing"}
_HOW = (
    '<p class="vlad-quiet">Without good pictures, eight or more of one product are judged by each other. Good pictures given in the tab '
    "Inspect count here too.</p>"
)


def build(service: Service, visit: gr.State) -> None:
    """The tab's components and events."""
    limits = service.limits
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            files = gr.File(
                label=f"Up to {limits.pictures} pictures, or a zip file",
                file_count="multiple",
                file_types=["image", ".zip"],
                height=220,
                elem_id="batch-files",
            )
            class_name = gr.Textbox(label="What they show (optional)", placeholder="a noun, such as metal nut", max_lines=1)
            with gr.Row():
                start = gr.Button("Inspect all", variant="primary", elem_id="batch-start", min_width=120)
                try_examples = gr.Button(
                    f"Try {len(service.batch)} gears", visible=bool(service.batch), elem_id="batch-examples", min_width=120
                )
            gr.HTML(_HOW)
        with gr.Column(scale=6, min_width=320):
            summary = gr.HTML(_summary_html("No batch yet", "Choose files and press Inspect all."), elem_id="batch-summary")
            chart = gr.HTML('<div style="min-height:150px"></div>', elem_id="batch-histogram")
            table = gr.DownloadButton("Table (CSV)", size="sm", interactive=False, elem_id="batch-csv")
    gallery = gr.Gallery(
        label="Most anomalous first",
        show_label=False,
        columns=5,
        height=500,
        interactive=False,
        object_fit="contain",
        buttons=["fullscreen"],
        elem_id="batch-gallery",
    )

    def run(current: Visit | None, paths: list[str] | None, noun: str, progress: gr.Progress = gr.Progress()) -> Iterator[list[Any]]:
        if not paths:
            raise ConfigError("There are no files yet; choose pictures, or a zip file of pictures.")
        current = current or Visit.begin(service)
        batch, begun, shown = Batch(0), time.monotonic(), time.monotonic()

        def tell(phase: str, done: int, of: int) -> None:
            progress((done, of), desc=_PHASES[phase], unit="pictures")

        for batch in run_batch(service, current, paths, noun, on_progress=tell):
            done, now = len(batch.rows), time.monotonic()
            progress((done, batch.total), desc=time_left(now - begun, done, batch.total), unit="pictures")
            if now - shown > 1:
                shown = now
                yield [current, _summary(batch, f"{done} of {batch.total} done"), *[gr.skip()] * 3]
        cells = [(row.heat, _caption(row.name, row.prediction)) for row in batch.sorted_rows]
        path = write_csv(current, batch)
        yield [
            current,
            _summary(batch, "Done"),
            show.histogram(batch.scores, batch.threshold),
            gr.DownloadButton(value=str(path), interactive=True),
            cells,
        ]

    def run_examples(current: Visit | None, progress: gr.Progress = gr.Progress()) -> Iterator[list[Any]]:
        yield from run(current, [str(path) for path in service.batch], "", progress)

    outputs = [visit, summary, chart, table, gallery]
    alone: dict[str, Any] = {
        "concurrency_id": BATCH_QUEUE,
        "concurrency_limit": 2,
        "api_visibility": "private",
        "show_progress_on": [chart],
    }
    start.click(guarded(run), [visit, files, class_name], outputs, **alone)
    try_examples.click(guarded(run_examples), [visit], outputs, **alone)


def _caption(name: str, prediction: Any) -> str:
    verdict = {True: "anomalous", False: "normal", None: "undecided"}[prediction.pred_label]
    return f"{prediction.pred_score:.3f} {verdict} · {name}"


def _summary(batch: Batch, headline: str) -> str:
    return _summary_html(headline, batch.summary(), [row.error for row in batch.failed], batch.remarks())


def _summary_html(headline: str, text: str, failed: Sequence[str] = (), remarks: Sequence[str] = ()) -> str:
    items = "".join(f"<li>{escape(error)}</li>" for error in failed[:_MOST_NAMED])
    more = f"<li>and {len(failed) - _MOST_NAMED} more, named in the table</li>" if len(failed) > _MOST_NAMED else ""
    listed = f'<ul class="vlad-failed">{items}{more}</ul>' if failed else ""
    said = "".join(f'<p class="vlad-note">{escape(remark)}</p>' for remark in remarks)
    return f'<div class="vlad-summary" role="status"><b>{escape(headline)}</b><p>{escape(text)}</p>{said}{listed}</div>'
