"""What a question asks for: `prompts/intents/*.yaml`, or a file of your own in the same layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vlad.errors import PromptError
from vlad.prompts.files import read_yaml
from vlad.vlm.places import LOCATIONS
from vlad.vlm.vocabulary import prompt_path

INTENTS = ("kind", "where", "size", "length", "severity", "count", "why", "verdict", "future")
_KEYS = ("name", "description", "version", "intents", "before", "places")


@dataclass(frozen=True)
class Intents:
    """What can be asked. A phrase is written as the head of `prompts/intents/english.yaml` says.

    Attributes:
        phrases: for each of `INTENTS`, what means it.
        unless: for some, words that ask for more than was measured.
        before: words before the name of a place.
        places: for each of `LOCATIONS` its names.
    """

    phrases: Mapping[str, tuple[str, ...]]
    unless: Mapping[str, tuple[str, ...]]
    before: tuple[str, ...]
    places: Mapping[str, tuple[str, ...]]

    @classmethod
    @lru_cache(maxsize=4)
    def load(cls, name_or_path: str | Path = "english") -> Intents:
        """A shipped file by name, or a YAML file by path; each is read once.

        Raises:
            PromptError: no such name, or a malformed file; the message names it.
        """
        path = prompt_path("intents", name_or_path)
        data = _keyed(read_yaml(path)[0], _KEYS, str(path))
        intents = _keyed(data["intents"], INTENTS, f"{path}: intents")
        parts = {name: _keyed(part, ("phrases",), f"{path}: intents.{name}", optional=("unless",)) for name, part in intents.items()}
        return cls(
            {name: _phrases(part["phrases"], f"{path}: intents.{name}.phrases") for name, part in parts.items()},
            {name: _phrases(part["unless"], f"{path}: intents.{name}.unless") for name, part in parts.items() if "unless" in part},
            _phrases(data["before"], f"{path}: before"),
            {
                place: _phrases(names, f"{path}: places.{place}")
                for place, names in _keyed(data["places"], LOCATIONS, f"{path}: places").items()
            },
        )

    def meant_by(self, question: str, class_name: str = "") -> frozenset[str]:
        """The intents of a question."""
        return frozenset(name for name, phrases in self.phrases.items() if _says(question, phrases, class_name))

    def is_beyond(self, question: str, class_name: str = "", *, answerable: bool = False) -> bool:
        """Whether a question asks for what was not measured. `answerable`: it names a type or a place, of which something can be said."""
        meant = self.meant_by(question, class_name)
        alone = not any(name not in self.unless or not _says(question, self.unless[name], class_name) for name in meant)
        return "future" in meant or (alone and not answerable)

    def places_in(self, question: str) -> tuple[str, ...]:
        """The ninths of the picture that a question names ("upper left", "middle", ...), each once, in the question's order."""
        longest_first = sorted(self.places, key=lambda place: -len(place.split()))  # "upper left" before "left"
        names = "|".join(f"(?P<at{LOCATIONS.index(place)}>{_any(self.places[place])})" for place in longest_first)
        found = re.finditer(rf"(?:{_any(self.before)})\W+(?:the\W+)?(?:{names})", _plain(question))
        return tuple(dict.fromkeys(LOCATIONS[int(match.lastgroup[2:])] for match in found if match.lastgroup))


def _says(question: str, phrases: tuple[str, ...], class_name: str) -> bool:
    return re.search(_any(phrases, class_name), _plain(question)) is not None


def _plain(question: str) -> str:
    return re.sub(r"['’]s\b", " is", question.lower())


@lru_cache(maxsize=256)
def _any(phrases: tuple[str, ...], class_name: str = "") -> str:
    """Phrases as one regular expression."""
    return "|".join(_pattern(phrase, class_name.lower()) for phrase in phrases)


def _pattern(phrase: str, class_name: str) -> str:
    if phrase.startswith("="):
        return rf"^\W*{_pattern(phrase[1:], class_name)}\W*$"
    pattern, gap = "", ""
    for token in phrase.split():
        if token == "..":
            gap = r"\b.*\b"
            continue
        words = re.escape(token.replace("{class_name}", class_name or "-")).replace(r"\|", "|").replace(r"\*", r"\w*")
        pattern += rf"{gap}\b(?:{words})\b"
        gap = r"\W+"
    return pattern


def _keyed(values: Any, names: tuple[str, ...], place: str, *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(values, dict) or not set(names) <= set(values) <= {*names, *optional}:
        got = ", ".join(sorted(values)) if isinstance(values, dict) else type(values).__name__
        raise PromptError(f"{place}: expected a mapping with {', '.join(names + optional)}, got {got}; see prompts/README.md")
    return values


def _phrases(values: Any, place: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise PromptError(f"{place}: expected a list of phrases, got {values!r}; put each on a line of its own")
    for phrase in values:
        if not re.fullmatch(r"=?[\w*{}|]+( (\.\. )?[\w*{}|]+)*", phrase) or "||" in phrase:
            raise PromptError(f"{place}: expected words with `|`, `*` and `..` between them, got {phrase!r}; correct it")
    return tuple(values)
