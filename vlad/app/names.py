"""Names that visitors give: of files, made safe for a folder here and given back as the visitor knows them, and of what a picture shows."""

import re
from pathlib import Path

from vlad.errors import ConfigError

_MOST_CLASS_NAME = 100
_OWN = re.compile(r"_[0-9a-f]{8}(?=\.\w+$)")  # what tells two uploads of one name apart
_PLACE = re.compile(r"(?:/[^\s/'\"()\[\],;]+)+/([^\s/'\"()\[\],;]+)")
_CODE = re.compile(r" \(detector\..*?without it\)")


def own_name(name: str, number: str) -> str:
    """The name of an uploaded file, made safe and its own by a number; `shown_name` gives it back."""
    path = Path(name)
    stem = re.sub(r"[^\w.-]+", "_", path.stem).strip("._")[:60] or "picture"
    return f"{stem}_{number[:8]}{path.suffix.lower()[:6]}"


def shown_name(path: str | Path) -> str:
    """What the visitor called the file."""
    return _OWN.sub("", Path(path).name)


def for_visitors(text: str) -> str:
    """A note without places on this server and without code."""
    return _PLACE.sub(lambda found: shown_name(found[1]), _CODE.sub("", text))


def checked_class_name(class_name: str | None) -> str:
    """The class name without blanks around it.

    Raises:
        ConfigError: it is too long to be a noun.
    """
    text = (class_name or "").strip()
    if len(text) > _MOST_CLASS_NAME:
        raise ConfigError(f"The class name has {len(text)} letters, at most {_MOST_CLASS_NAME} are read; write a noun such as 'metal nut'.")
    return text
