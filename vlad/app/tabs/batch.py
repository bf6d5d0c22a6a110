"""Batch: many pictures or an archive, judged together, sorted by score, under a threshold that can be moved."""

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from vlad.app import show
from vlad.app.batches import PHASES, Batch, time_left
from vlad.app.bench.view import caption, summary_html
from vlad.app.runs import run_batch, write_csv
from vlad.app.service import BATCH_QUEUE, Service
from vlad.app.visit import Visit
from vlad.app.widgets import guarded, limit_slider
from vlad.errors import ConfigError

_SAME = 5.1e-4  # half of the last digit that the slider shows
_HOW = (
    '<p class="vlad-quiet">Without good pictures, eight or more of one product are judged by each other. Good pictures given in the tab '
    "Inspect count here too. To correct verdicts and keep what was learned, take the tab Bench.</p>"
)


def build(service: Service, visit: gr.State) -> None:
    """The tab's components and events."""
    limits = service.limits
    with gr.Row(equal_height=False, elem_id="batch-row"):
        with gr.Column(scale=3, min_width=280):
            files = gr.File(
                label=f"Up to {limits.pictures} pictures, or a zip file",
                file_count="multiple",
                file_types=["image", ".zip"],
                height=140,
                elem_id="batch-files",
            )
            class_name = gr.Textbox(label="What they show (optional)", placeholder="a noun, such as metal nut", max_lines=1)
            with gr.Row():
                start = gr.Button("Inspect all", variant="primary", elem_id="batch-start", min_width=120)
                try_examples = gr.Button(
                    f"Try {len(service.batch)} gears", visible=bool(service.batch), elem_id="batch-examples", min_width=120
                )
            summary = gr.HTML(summary_html("No batch yet", "Choose files and press Inspect all."), elem_id="batch-summary")
            gr.HTML(_HOW)
        with gr.Column(scale=7, min_width=320):
            with gr.Row(equal_height=False):
                with gr.Column(scale=6, min_width=260):
                    chart = gr.HTML(elem_id="batch-histogram")
                with gr.Column(scale=4, min_width=220):
                    threshold = limit_slider(step=0.001, label="Threshold", interactive=False, elem_id="batch-threshold")
                    table = gr.DownloadButton("Table (CSV)", size="sm", interactive=False, elem_id="batch-csv")
            gallery = gr.Gallery(
                label="Most anomalous first",
                show_label=False,
                columns=4,
                height=500,
                interactive=False,
                object_fit="contain",
                buttons=["fullscreen"],
                visible=False,  # no empty frame
                elem_id="batch-gallery",
                elem_classes="vlad-grid",
            )

    def run(current: Visit, paths: list[str] | None, noun: str, progress: gr.Progress = gr.Progress()) -> Iterator[list[Any]]:
        if not paths:
            raise ConfigError("There are no files yet; choose pictures, or a zip file of pictures.")
        batch, begun, shown = Batch(0), time.monotonic(), time.monotonic()

        def tell(phase: str, done: int, of: int) -> None:
            progress((done, of), desc=PHASES[phase], unit="pictures")

        current.batch = None  # what is found takes its place; until then no threshold moves
        for batch in run_batch(service, current, paths, noun, keep=current.folder / "batch_found", on_progress=tell):
            done, now = len(batch.rows), time.monotonic()
            progress((done, batch.total), desc=time_left(now - begun, done, batch.total), unit="pictures")
            if now - shown > 1:
                shown = now
                yield [current, _summary(batch, f"{done} of {batch.total} done"), *[gr.skip()] * 4]
        current.batch = batch
        yield [current, *_found(batch), _slider(batch), _table(current, batch)]

    def run_examples(current: Visit, progress: gr.Progress = gr.Progress()) -> Iterator[list[Any]]:
        yield from run(current, [str(path) for path in service.batch], "", progress)

    def move(current: Visit, value: float) -> list[Any]:
        batch = under(_present(current), value)
        return [*_found(batch), _slider(batch) if value > _top(_present(current)) else gr.skip()]

    def renew(current: Visit, value: float) -> Any:
        return gr.skip() if current.batch is None else _table(current, under(current.batch, value))

    outputs = [visit, summary, chart, gallery, threshold, table]
    alone: dict[str, Any] = {
        "concurrency_id": BATCH_QUEUE,
        "concurrency_limit": 2,
        "api_visibility": "private",
        "show_progress_on": [summary],
    }
    quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}
    start.click(guarded(run), [visit, files, class_name], outputs, **alone)
    try_examples.click(guarded(run_examples), [visit], outputs, **alone)
    moved = threshold.input(guarded(move), [visit, threshold], [summary, chart, gallery, threshold], concurrency_limit=None, **quick)
    moved.then(guarded(renew), [visit, threshold], [table], concurrency_limit=2, **quick)


def _present(current: Visit) -> Batch:
    if current.batch is None:
        raise ConfigError("There is no batch here, or it is not done yet, or the page was idle for so long that it was deleted.")
    return current.batch


def under(batch: Batch, threshold: float) -> Batch:
    """The batch under the slider's threshold; under its own where the slider stands there."""
    own = batch.threshold
    return batch if own is not None and abs(threshold - own) < _SAME else batch.at(threshold)


def _found(batch: Batch) -> list[Any]:
    """Summary, chart and gallery."""
    cells = [
        (str(row.thumbnail), caption(row.name, row.prediction.pred_score, row.prediction.pred_label))
        for row in batch.sorted_rows
        if row.prediction is not None
    ]
    return [_summary(batch, "Done"), show.histogram(batch.scores, batch.threshold), gr.Gallery(value=cells, visible=bool(cells))]


def _slider(batch: Batch) -> gr.Slider:
    limit = 0.5 if batch.threshold is None else round(batch.threshold, 3)
    return gr.Slider(minimum=0, maximum=max(_top(batch), limit), value=limit, interactive=bool(batch.scores))


def _top(batch: Batch) -> float:
    """Where the slider ends."""
    return round(min(1.0, 1.1 * max([*batch.scores, 0.5 if batch.threshold is None else batch.threshold])), 2)


def _table(current: Visit, batch: Batch) -> gr.DownloadButton:
    return gr.DownloadButton(value=str(write_csv(current, batch)), interactive=True)


def _summary(batch: Batch, headline: str) -> str:
    return summary_html(headline, batch.summary(), [row.error for row in batch.failed], batch.remarks())
