"""Draw a defect: paint on a good picture and see whether it is found."""

from html import escape
from typing import Any

import gradio as gr
import numpy as np
from gradio.components.image_editor import EditorValue

from vlad.app import show
from vlad.app.handlers import fitted_copy, places_of
from vlad.app.painting import Finding, look_for_paint
from vlad.app.service import MODEL_QUEUE, Service
from vlad.app.style import HEIGHT
from vlad.app.widgets import guarded, paint_input
from vlad.errors import ConfigError
from vlad.pictures.reading import read_image

_NOTHING = show.waiting_card("Nothing painted yet", "Paint on the part and press Look for it.")
_COLOURS: list[Any] = ["#2b2b2b", "#7c2d12", "#e5e5e5", "#b91c1c", "#1d4ed8"]


def build(service: Service) -> None:
    """The tab's components and events."""
    good = sorted((example for example in service.examples if example.path.stem.endswith("_good")), key=lambda example: example.product)
    names = [example.class_name.capitalize() for example in good]
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            gr.HTML('<p class="vlad-quiet">Paint a scratch, a spot or a stain on the good part, then let vlad look for it.</p>')
            choice = gr.Radio(names, value=names[0] if names else None, label="Paint on a good", visible=bool(names), elem_id="draw-part")
            editor = paint_input(
                _canvas(good[0].path) if good else None,
                pixels=service.limits.pixels,
                sources=["upload"],
                transforms=(),
                format="png",  # anything less exact changes pixels that nobody painted
                layers=False,
                brush=gr.Brush(default_size=7, colors=_COLOURS, default_color=_COLOURS[0], color_mode="fixed"),
                eraser=gr.Eraser(default_size=20),
                height=560,
                label="Paint here",
                buttons=[],
                elem_id="editor",
            )
            beside = gr.Checkbox(True, label="Compare with four good pictures of the same product", visible=bool(names))
            look = gr.Button("Look for it", variant="primary", elem_id="draw-look")
        with gr.Column(scale=5, min_width=320):
            verdict = gr.HTML(_NOTHING, elem_id="draw-verdict")
            pair = gr.ImageSlider(
                label="Painted | heat map: drag the line",
                height=HEIGHT,
                max_height=HEIGHT,
                interactive=False,
                slider_position=15,
                visible=False,  # no empty frame
                buttons=["fullscreen"],
                elem_id="draw-pair",
            )
            legend = gr.HTML(show.legend(0.5))

    def change(part: str) -> list[Any]:
        """Another part to paint on; what was found on the one before is put away."""
        canvas = _canvas(next(example.path for name, example in zip(names, good, strict=True) if name == part))
        return [canvas, _NOTHING, gr.ImageSlider(visible=False)]

    def find(value: dict[str, Any] | None, part: str | None, with_references: bool) -> list[Any]:
        if value is None or value.get("background") is None or value.get("composite") is None:
            raise ConfigError("There is no picture to paint on; choose a good part, or upload a picture.")
        background, composite = value["background"], value["composite"]
        chosen = next(
            (example for name, example in zip(names, good, strict=True) if name == part and _shows(example.path, background)), None
        )
        detector = fitted_copy(service, chosen if with_references else None)
        finding = look_for_paint(service, detector, background, composite, chosen.class_name if chosen else "")
        after = finding.after
        return [
            finding_card(finding),
            gr.ImageSlider(show.heat_pair(after, composite, 0.5), visible=True),
            show.legend(0.5 if after.mask_threshold is None else after.mask_threshold),
        ]

    choice.input(
        guarded(change), [choice], [editor, verdict, pair], api_visibility="private", concurrency_limit=None, show_progress="hidden"
    )
    look.click(
        guarded(find), [editor, choice, beside], [verdict, pair, legend],
        concurrency_id=MODEL_QUEUE, concurrency_limit=1, api_visibility="private", show_progress_on=[verdict, pair],
        scroll_to_output=True,
    )  # fmt: skip


def finding_card(finding: Finding) -> str:
    """Whether the paint was found, in words, with both verdicts."""
    kind, mark = ("good", "✓") if finding.found else ("none", "–")
    headline = "Found" if finding.found else "Not found"
    inside = "The hottest place is on the paint." if finding.peak_inside else "The hottest place is elsewhere."
    count = len(places_of(finding.after)[0])
    text = f"{finding.covered:.0%} of what you painted is marked. {inside}"
    before, after = (escape(show.verdict_line(prediction)) for prediction in (finding.before, finding.after))
    return (
        f'<section class="vlad-card vlad-{kind}" role="status"><div class="vlad-head">'
        f'<span class="vlad-mark" aria-hidden="true">{mark}</span>'
        f"<div><h2>{headline}</h2><p>{text}</p></div></div>{show.score_bar(finding.after.pred_score, finding.after.threshold)}"
        f'<p class="vlad-facts">Before: {before}<br>After: {after}, {count} marked place{"" if count == 1 else "s"} · '
        f"{escape(finding.after.model)}</p></section>"
    )


def _canvas(path: Any) -> EditorValue:
    picture = read_image(path)
    return {"background": picture, "layers": [], "composite": picture}


def _shows(path: Any, background: np.ndarray) -> bool:
    """Whether the background still is the chosen example and no upload; the browser may have rounded its pixels."""
    picture = read_image(path)
    return picture.shape == background.shape and float(np.abs(picture.astype(np.int16) - background).mean()) < 3
