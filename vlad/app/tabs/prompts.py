"""Prompts: edit the normal and the abnormal sentences and see the map change."""

from html import escape
from typing import Any

import gradio as gr

from vlad.app import show, wording
from vlad.app.service import MODEL_QUEUE, Service
from vlad.app.visit import Visit
from vlad.app.widgets import guarded, say
from vlad.errors import ConfigError


def build(service: Service, visit: gr.State) -> None:
    """The tab's components and events."""
    gr.HTML(
        '<p class="vlad-quiet">Words alone decide here: what is nearer to the abnormal sentences is hot. The picture is that of the '
        "tab Inspect; <code>{class_name}</code> becomes what it shows. Rarity and good pictures are left out, to show "
        "what words do.</p>"
    )
    with gr.Row():
        normal = gr.Textbox("\n".join(wording.NORMAL), label="Normal sentences, one on a line", lines=5, max_lines=12, elem_id="normal")
        anomalous = gr.Textbox(
            "\n".join(wording.ANOMALOUS), label="Abnormal sentences, one on a line", lines=5, max_lines=12, elem_id="anomalous"
        )
    compare = gr.Button("Compare with the shipped sentences", variant="primary", elem_id="compare")
    with gr.Row(equal_height=True):
        with gr.Column(min_width=320):
            gr.Markdown("### Shipped sentences")
            shipped_text = gr.HTML('<p class="vlad-quiet">Press the button.</p>', elem_id="shipped-verdict")
            shipped = _map_image("Heat map with the shipped sentences", "shipped-map")
        with gr.Column(min_width=320):
            gr.Markdown("### Your sentences")
            own_text = gr.HTML('<p class="vlad-quiet">Press the button.</p>', elem_id="own-verdict")
            own = _map_image("Heat map with your sentences", "own-map")
    gr.HTML(show.legend(0.5))

    def run(current: Visit, good: str, bad: str) -> list[Any]:
        if current.picture is None:
            raise ConfigError("There is no picture yet; inspect one in the tab Inspect first.")
        found = wording.compare_words(service, current.picture, current.class_name, good, bad)
        say(found.notes)
        drawn = (gr.Image(show.heat_pair(one, current.picture, 0.5)[1], visible=True) for one in (found.shipped, found.own))
        return [_verdict(found.shipped), _verdict(found.own), *drawn]

    compare.click(
        guarded(run), [visit, normal, anomalous], [shipped_text, own_text, shipped, own],
        concurrency_id=MODEL_QUEUE, concurrency_limit=1, api_visibility="private",
    )  # fmt: skip


def _map_image(label: str, name: str) -> gr.Image:
    return gr.Image(label=label, height=380, visible=False, interactive=False, buttons=["fullscreen"], alt_text=label, elem_id=name)


def _verdict(prediction: Any) -> str:
    return f'<p><b>{escape(prediction.verdict)}</b></p><p class="vlad-quiet">{escape(prediction.model)}</p>'
