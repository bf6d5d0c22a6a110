"""The errors and warnings that vlad raises on purpose. Each message says what was expected, what came, and what to do."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType

_PACKAGE = f"{Path(__file__).parent}{os.sep}"


class VladError(Exception):
    """Base of every error that vlad raises on purpose; catch it to catch them all."""


class VladWarning(UserWarning):
    """Base of every warning that vlad gives on purpose; the command line shows these as notes, and no library's."""


class ImageReadError(VladError, ValueError):
    """A picture could not be read; the message names the picture and the reason."""


class StreamLostError(ImageReadError):
    """What was watched has gone: a folder, a camera, a connection."""


class OutputError(VladError):
    """Results could not be written, or the place they were written to has gone; the message names it and the reason. What was written
    before is kept."""


class PromptError(VladError, ValueError):
    """A prompt set is missing or malformed; the message names the file and the line where there is one."""


class ConfigError(VladError, ValueError):
    """A setting is unknown or outside its range."""


class BackboneError(VladError, ValueError):
    """A model cannot serve as a backbone: unknown name, or an architecture that allows no windows."""


class WeightsNotFoundError(VladError, FileNotFoundError):
    """The weights of a model are neither in the cache nor at the given place; the message gives the command that fetches them."""


class MetricError(VladError, ValueError):
    """Labels, scores, maps or masks do not fit each other; the message gives both shapes."""


class DatasetError(VladError, ValueError):
    """A dataset is not what its layout expects; the message names the file or folder, what was expected, and what to do."""


class VlmError(VladError):
    """A vision-language model gave no answer; the message names the model, the reason, and what to do."""


_listening: ContextVar[tuple[list[str], ...]] = ContextVar("_listening", default=())


@contextmanager
def noting() -> Iterator[list[str]]:
    """A list that takes what `warn` says inside, beside giving the warning: for results, which reach those who see no terminal."""
    notes: list[str] = []
    token = _listening.set((*_listening.get(), notes))
    try:
        yield notes
    finally:
        _listening.reset(token)


def warn(message: str) -> None:
    """Give a `VladWarning` that points at the line outside of vlad from which it all started, however deep inside it was found."""
    for notes in _listening.get():
        notes.append(message)
    frame: FrameType | None = sys._getframe(1)
    depth = inside = 1
    while frame is not None:  # up to the outermost frame of ours: a decorator of torch may lie between two of them
        if frame.f_code.co_filename.startswith(_PACKAGE):
            inside = depth
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, VladWarning, stacklevel=inside + 2)
