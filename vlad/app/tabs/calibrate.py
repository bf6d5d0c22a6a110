"""Calibrate: drop good and bad pictures, move the threshold over their scores, keep it."""

from html import escape
from typing import Any

import gradio as gr

from vlad.app import labelling, show
from vlad.app.service import AT_ONCE, MODEL_QUEUE, Service
from vlad.app.visit import Visit
from vlad.app.widgets import guarded, limit_slider, say

_NOTHING = show.waiting_card("Nothing scored yet", "Drop pictures of which you know what they are, and press Score them.")
_HOW = (
    '<p class="vlad-quiet">Pictures of which you know what they are set the threshold. They are compared with the good pictures that you '
    "gave in the tab Inspect.</p>"
)


def build(service: Service, visit: gr.State) -> None:
    """The tab's components and events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            gr.HTML(_HOW)
            good = _files("Good ones", "label-good")
            bad = _files("Bad ones", "label-bad")
            rule = gr.Radio(list(labelling.RULES), value=next(iter(labelling.RULES)), label="What the threshold is to do", elem_id="rule")
            score = gr.Button("Score them", variant="primary", elem_id="label-score")
        with gr.Column(scale=6, min_width=320):
            found = gr.HTML(_NOTHING, elem_id="label-found")
            threshold = limit_slider(step=0.0001, label="Move the threshold", interactive=False, elem_id="label-threshold")
            advice = gr.HTML(elem_id="label-advice")
            with gr.Row():
                keep = gr.Button("Keep it", interactive=False, elem_id="label-keep")
                take = gr.DownloadButton("Detector (ZIP)", interactive=False, elem_id="label-detector")
            kept = gr.HTML(elem_id="label-kept")

    def scored(current: Visit | None, good_paths: list[str] | None, bad_paths: list[str] | None, chosen: str) -> list[Any]:
        current = current or Visit.begin(service)
        told = labelling.calibrate(service, current, good_paths or [], bad_paths or [], chosen)
        for reason in told.refused[:3]:
            gr.Warning(f"Left out: {escape(reason, quote=False)}", duration=10)
        say(list(told.notes))
        labels = labelling.labels_of(current)
        top = min(1.0, 1.1 * max((*labels.normal, *labels.anomalous, labels.threshold)))
        slider = gr.Slider(0, round(top, 3), round(labels.threshold, 4), interactive=True)
        return [
            current,
            labelling.card(labels, labels.threshold),
            slider,
            labelling.advice(labels, by_words=current.detector.memory is None),
            gr.Button(interactive=True),
            gr.DownloadButton(value=None, interactive=False),
            "",
        ]

    def moved(current: Visit | None, value: float) -> str:
        return labelling.card(labelling.labels_of(current), value)

    def taken(current: Visit | None, value: float) -> list[Any]:
        labels = labelling.labels_of(current)
        assert current is not None  # labels are a visitor's
        labelling.keep(current, value)
        said = f"From now on a score above {value:.4f} is anomalous, in all tabs of this page."
        name = '<p class="vlad-note">' + escape(said) + " The ZIP holds the detector for <code>vlad detect --model FOLDER</code>.</p>"
        file = gr.DownloadButton(value=str(labelling.packed(current)), interactive=True)
        return [current, name, file, labelling.card(labels, value)]

    outputs = [visit, found, threshold, advice, keep, take, kept]
    quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    score.click(
        guarded(scored),
        [visit, good, bad, rule],
        outputs,
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=AT_ONCE[MODEL_QUEUE],
        api_visibility="private",
        show_progress_on=[found],
    )
    threshold.input(guarded(moved), [visit, threshold], [found], concurrency_limit=None, trigger_mode="always_last", **quick)
    keep.click(guarded(taken), [visit, threshold], [visit, kept, take, found], concurrency_limit=2, **quick)


def _files(label: str, elem_id: str) -> gr.File:
    return gr.File(label=label, file_count="multiple", file_types=["image"], height=150, elem_id=elem_id)
