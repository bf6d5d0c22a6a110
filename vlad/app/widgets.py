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

from vlad.app.names import for_visitors
from vlad.app.service import Limits
from vlad.app.uploads import read_upload
from vlad.errors import VladError

WENT_WRONG = "Something went wrong on the server. It has been noted there; please try another picture or come again later."
_log = logging.getLogger("vlad.app")


def picture_input(**settings: Any) -> gr.Image:
    """A picture as the path of the uploaded bytes. Gradio's own would open it first, and an unreadable one would never reach the reader
    that says why.

    The method is replaced on the object: of a subclass Gradio writes a stub file beside the module, into an installed package too.
    """
    component = gr.Image(type="filepath", image_mode=None, **settings)
    component.preprocess = _path_of  # type: ignore[method-assign]
    return component


def paint_input(value: EditorValue | None, *, pixels: int, **settings: Any) -> gr.ImageEditor:
    """An editor with arrays uint8 (H, W, 3) of at most `pixels`; a background that is larger or cannot be read is a message and no error of
    the server."""
    component = gr.ImageEditor(value, type="numpy", image_mode="RGB", **settings)
    read = component.preprocess

    def checked(payload: EditorData | None) -> EditorValue | None:
        for layer in () if payload is None else (payload.background, payload.composite):
            if layer is not None and layer.path is not None:
                with _friendly():  # Gradio decodes it in this process, so it is tried in another one first
                    read_upload(layer.path, Limits(pixels=pixels))
        try:
            return read(payload)
        except Exception as error:
            raise gr.Error("This picture cannot be painted on; please take a PNG or JPEG.", print_exception=False) from error

    component.preprocess = checked  # type: ignore[method-assign]
    return component


def _number_from_0_to_1(self: gr.Slider, payload: Any) -> float:
    """Beyond the slider's end too, which moves with what it is about: Gradio's own would refuse that."""
    if not isinstance(payload, (int, float)) or isinstance(payload, bool) or not 0 <= payload <= 1:
        raise gr.Error("Please write a number from 0 to 1.", title="Please check", print_exception=False)
    return payload


# An update of a component makes a new one of its class, so a method that is replaced on the object would be lost. Made past Gradio's
# metaclass, which writes a stub file beside the module of every subclass.
_Limit: Any = type.__new__(
    type(gr.Slider), "Limit", (gr.Slider,), {"preprocess": _number_from_0_to_1, "is_template": True, "__module__": __name__}
)


def limit_slider(**settings: Any) -> gr.Slider:
    """A slider from 0 to 1 whose box may be emptied: that is a message and no error of the server. It has no reset button, which would
    change the number and nothing else."""
    slider: gr.Slider = _Limit(0, 1, 0.5, buttons=[], **settings)
    return slider


def _path_of(payload: ImageData | None) -> str | None:
    """Path of the file in this server's cache; that it lies there Gradio has checked."""
    if payload is None:
        return None
    if payload.path is None:
        raise gr.Error("This picture did not arrive; please upload it again.", print_exception=False)
    return payload.path


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
    except VladError as error:
        raise gr.Error(in_words(error), title="Please check", print_exception=False, duration=12) from error
    except gr.Error:
        raise
    except Exception as error:
        _log.exception("an action of the demo failed")
        raise gr.Error(WENT_WRONG, title="Sorry", print_exception=False) from error


def in_words(error: VladError) -> str:
    """An error for visitors: without places on this server, and as HTML, which is what Gradio shows."""
    return escape(for_visitors(str(error)), quote=False)


def refuse(error: VladError) -> None:
    """Tell the visitor why something was not done, where the page is told how things are as well."""
    gr.Warning(in_words(error), title="Please check", duration=12)


def say(notes: tuple[str, ...] | list[str]) -> None:
    """Notes as small messages that go away."""
    for note in notes[:3]:
        gr.Info(escape(note, quote=False), duration=8)
