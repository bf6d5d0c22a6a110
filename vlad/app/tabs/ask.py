"""Ask: a conversation about the current picture."""

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr
import numpy as np

from vlad.app import chat
from vlad.app.service import MODEL_QUEUE, VLM_QUEUE, Service
from vlad.app.style import HEIGHT
from vlad.app.visit import Visit
from vlad.app.widgets import guarded
from vlad.errors import ConfigError
from vlad.prediction import Prediction
from vlad.visualization import draw_places

_QUESTIONS = ("What is wrong?", "Where is it?", "How large is it?", "How bad is it?", "How many defects are there?")


def build(service: Service, visit: gr.State) -> tuple[Any, list[Any], list[Any]]:
    """The tab's components and events; returns what to run when the tab is chosen: function, inputs and outputs."""
    who = "the describer, which needs no language model" if service.vlm is None else service.vlm_name
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            picture = gr.Image(
                label="The picture from the tab Inspect",
                height=HEIGHT,
                interactive=False,
                buttons=["fullscreen"],
                type="numpy",
                format="webp",
                alt_text="The current picture with its marked places as lettered boxes",
                elem_id="ask-picture",
            )
            gr.HTML(
                f'<p class="vlad-quiet">Answers come from {escape(who)}. The verdict is always the '
                "detector's; letters name the marked places.</p>"
            )
        with gr.Column(scale=6, min_width=320):
            talk = gr.Chatbot(
                label="Conversation",
                height=HEIGHT,
                render_markdown=False,
                sanitize_html=True,
                allow_tags=False,
                buttons=["copy"],
                feedback_options=None,
                placeholder="Ask about the picture, or press a question below.",
                elem_id="chat",
            )
            with gr.Row():
                suggestions = [gr.Button(question, size="sm", min_width=110, elem_classes="suggestion") for question in _QUESTIONS]
            with gr.Row():
                question = gr.Textbox(
                    show_label=False,
                    placeholder="Your question",
                    container=False,
                    max_lines=2,
                    scale=5,
                    elem_id="question",
                    label="Your question",
                )
                send = gr.Button("Ask", variant="primary", scale=1, min_width=90, elem_id="ask")

    def current_picture(current: Visit, history: list[Any]) -> list[Any]:
        if current.picture is None or current.prediction is None:
            return [None, []]
        keep = gr.skip() if current.conversation is not None else []
        return [_marked(current.picture, current.prediction), keep]

    def answer(current: Visit, text: str, history: list[Any]) -> Iterator[list[Any]]:
        asked = [] if current.conversation is None else [*history]
        asked.append({"role": "user", "content": escape(text, quote=False)})  # the chat shows HTML, sanitised, even with Markdown off
        picture, prediction, marked = current.picture, current.prediction, None
        for piece in chat.ask(service, current, text):
            said = piece if isinstance(piece, str) else chat.in_words(piece)
            if current.picture is not picture or picture is None or prediction is None:
                raise ConfigError("The picture was changed while the answer was on its way; ask again about the one that is there now.")
            marked = _marked(picture, prediction) if marked is None else marked
            yield [current, [*asked, {"role": "assistant", "content": escape(said, quote=False)}], "", marked]

    outputs = [visit, talk, question, picture]
    # A VLM takes its time, during which others may inspect.
    slow: dict[str, Any] = {
        "concurrency_id": MODEL_QUEUE if service.vlm is None else VLM_QUEUE,
        "concurrency_limit": 1,
        "api_visibility": "private",
        "show_progress_on": [talk],
    }
    send.click(guarded(answer), [visit, question, talk], outputs, **slow)
    question.submit(guarded(answer), [visit, question, talk], outputs, **slow)
    for button in suggestions:
        button.click(guarded(answer), [visit, button, talk], outputs, **slow)
    return guarded(current_picture), [visit, talk], [picture, talk]


def _marked(picture: np.ndarray, prediction: Prediction) -> np.ndarray:
    """A picture with the letters that answers use."""
    from vlad.vlm.places import find_places

    places, _ = find_places(prediction)
    return draw_places(picture, [(place.label, place.box) for place in places], max_side=900)
