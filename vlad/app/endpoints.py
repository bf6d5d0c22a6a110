"""The endpoints of `vlad.app.api` on the page: each a function on components that nobody sees.

`gr.api` would need no components, but it takes file paths as they come, also such as were never uploaded.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import gradio as gr

from vlad.app import wording
from vlad.app.api import ENDPOINTS
from vlad.app.service import AT_ONCE, MODEL_QUEUE, VLM_QUEUE, Service
from vlad.app.widgets import guarded, picture_input


def build(service: Service) -> None:
    """Every endpoint of the table, for gradio_client and for MCP."""
    with gr.Column(visible=False):
        inputs = _inputs()
        outputs = {"json": gr.JSON(label="result"), "picture": gr.Image(label="heat map", format="png")}
        trigger = gr.Button("run")
    for endpoint in ENDPOINTS:
        action = _bound(endpoint.action, service)
        queue = MODEL_QUEUE if endpoint.queue == VLM_QUEUE and service.vlm is None else endpoint.queue
        trigger.click(
            guarded(action),
            [inputs[name] for name in inspect.signature(action).parameters],
            outputs[endpoint.output],
            api_name=endpoint.name,
            concurrency_id=queue,
            concurrency_limit=AT_ONCE[queue],
        )


def _inputs() -> dict[str, Any]:
    """A component for each parameter that an endpoint may have, by its name."""
    return {
        "picture": picture_input(label="picture"),
        "clean": picture_input(label="clean"),
        "painted": picture_input(label="painted"),
        "pictures": gr.File(label="pictures", file_count="multiple"),
        "references": gr.File(label="references", file_count="multiple"),
        "class_name": gr.Textbox("", label="class name"),
        "question": gr.Textbox("What is wrong?", label="question"),
        "normal": gr.Textbox("\n".join(wording.NORMAL), label="normal"),
        "anomalous": gr.Textbox("\n".join(wording.ANOMALOUS), label="anomalous"),
        "threshold": gr.Number(None, label="threshold", minimum=0, maximum=1),
    }


def _bound(action: Callable[..., Any], service: Service) -> Callable[..., Any]:
    """The function without its first parameter, the service; clients read what is left of its signature."""

    @functools.wraps(action)
    def call(*arguments: Any) -> Any:
        return action(service, *arguments)

    _, *parameters = inspect.signature(action).parameters.values()
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call
