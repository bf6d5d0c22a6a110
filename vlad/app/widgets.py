"""What Gradio lacks: inputs that hand over the visitor's original bytes, and errors that say what to do and nothing about the server."""

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import gradio as gr
from gradio.components.image_editor import EditorData, EditorValue
from gradio.data_classes import ImageData

from vlad.errors import VladError

MODEL_QUEUE = "model"
WENT_WRONG = "Something went wrong on the server. It has been noted there; please try another picture or come again later."
_log = logging.getLogger("vlad.app")


class PictureInput(gr.Image):
    """A picture as the path of the uploaded bytes. Gradio's own would open it first, and an unreadable one would never reach the reader
    that says why. It has no constructor of its own, because Gradio tells the browser what it finds in its signature."""

    is_template = True

    def preprocess(self, payload: ImageData | None) -> str | None:
        """Path of the file in this server's cache, where Gradio has checked that it is."""
        if payload is None:
            return None
        if payload.path is None:
            raise gr.Error("This picture did not arrive; please upload it again.", print_exception=False)
        return payload.path


class PaintInput(gr.ImageEditor):
    """An editor whose unreadable background is a message, not an error of the server."""

    is_template = True

    def preprocess(self, payload: EditorData | None) -> EditorValue | None:
        """Background, layers and composite as arrays uint8 (H, W, 3)."""
        try:
            return super().preprocess(payload)
        except Exception as error:
            raise gr.Error("This picture cannot be painted on; please take a PNG or JPEG.", print_exception=False) from error


def guarded(action: Callable[..., Any]) -> Callable[..., Any]:
    """The action with errors for visitors: vlad's own are shown, anything else is logged and leaves generic words."""
    if inspect.isgeneratorfunction(action):

        @functools.wraps(action)
        def generate(*arguments: Any, **options: Any) -> Iterator[Any]:
            with _friendly():
                yield from action(*arguments, **options)

        return generate

    @functools.wraps(action)
    def call(*arguments: Any, **options: Any) -> Any:
        with _friendly():
            return action(*arguments, **options)

    return call


@contextlib.contextmanager
def _friendly() -> Iterator[None]:
    try:
        yield
    except VladError as error:  # Gradio shows messages as HTML
        raise gr.Error(escape(str(error), quote=False), title="Please check", print_exception=False, duration=12) from error
    except gr.Error:
        raise
    except Exception as error:
        _log.exception("an action of the demo failed")
        raise gr.Error(WENT_WRONG, title="Sorry", print_exception=False) from error


def say(notes: tuple[str, ...] | list[str]) -> None:
    """Notes as small messages that go away."""
    for note in notes[:3]:
        gr.Info(escape(note, quote=False), duration=8)
