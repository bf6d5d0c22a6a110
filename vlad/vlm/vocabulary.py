"""Vocabularies of defect types: `prompts/defects/*.yaml`, or a file of your own in the same layout."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from vlad.errors import PromptError
from vlad.prompts.files import data_folder, read_yaml
from vlad.prompts.nouns import insert, noun, takes_article

_KEYS = {"name", "description", "source", "version", "templates", "types", "categories", "also"}


@dataclass(frozen=True, kw_only=True)
class DefectVocabulary:
    """Types of defects, by the words that people use for them.

    Attributes:
        name, description, source, version: where it comes from.
        templates: sentences with `{class_name}` and `{defect}` once each.
        types: for each type the phrases that stand for it.
        also: for a type further words by which a question may mean it, such as "bent" for a deformation; never compared with pictures.
        categories: for a noun the types that can occur on it; the longest that a class name ends with counts, others get all types.

    Raises:
        PromptError: it is malformed; the message names the key.
    """

    name: str
    templates: tuple[str, ...]
    types: Mapping[str, tuple[str, ...]]
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    description: str = ""
    source: str = ""
    version: int = 1

    def __post_init__(self) -> None:
        if len(self.types) < 2:
            raise PromptError(f"types: expected at least two types of defects, got {len(self.types)}; add what else can be wrong")
        if not self.templates:
            raise PromptError("templates: expected at least one sentence with {class_name} and {defect}, got none")
        for template in self.templates:
            if template.count("{class_name}") != 1 or template.count("{defect}") != 1:
                raise PromptError(f"templates: expected {{class_name}} and {{defect}} once each, got {template!r}; add or remove one")
        for type_, phrases in self.types.items():
            if not phrases or not all(phrase.strip() for phrase in phrases):
                raise PromptError(f"types.{type_}: expected phrases such as 'a scratch', got {list(phrases)!r}; write at least one")
        if unknown := [type_ for type_ in self.also if type_ not in self.types]:
            raise PromptError(f"also.{unknown[0]}: expected the name of a type; add it to types or correct it")
        for thing, types in self.categories.items():
            if unknown := [type_ for type_ in types if type_ not in self.types]:
                raise PromptError(f"categories.{thing}: expected names of types, got {unknown[0]!r}; add it to types or correct it")
            if not types:
                raise PromptError(f"categories.{thing}: expected names of types, got none; leave the category out")

    @classmethod
    def load(cls, name_or_path: str | Path = "generic") -> DefectVocabulary:
        """A shipped vocabulary by name, or a YAML file by path.

        Raises:
            PromptError: no such name, or a malformed file; the message names it.
        """
        path = prompt_path("defects", name_or_path)
        with contextlib.suppress(OSError):
            return _read(path, path.stat().st_mtime_ns)
        return _read(path, 0)  # it says why it cannot be read

    def asked_for(self, question: str) -> tuple[str, ...]:
        """The types that a question names, by their own name, a phrase without its article or a word of `also`."""
        return tuple(type_ for type_, phrases in self.types.items() if _names(question, (type_, *phrases, *self.also.get(type_, ()))))

    def types_for(self, class_name: str) -> tuple[str, ...]:
        """The types that can occur on a thing."""
        words = f" {noun(class_name).lower()}"
        fitting = [thing for thing in self.categories if words.endswith(f" {noun(thing).lower()}")]
        return self.categories[max(fitting, key=len)] if fitting else tuple(self.types)

    def sentences(self, class_name: str, type_: str, phrases: Sequence[str] | None = None) -> tuple[str, ...]:
        """Every phrase of a type (or the given ones of them) in every template, each sentence once."""
        chosen = self.types[type_] if phrases is None else phrases
        return tuple(dict.fromkeys(self._sentence(class_name, phrase, template) for template in self.templates for phrase in chosen))

    def _sentence(self, class_name: str, phrase: str, template: str) -> str:
        thing = noun(class_name)
        return insert(template, "{class_name}", thing, singular=takes_article(thing)).replace("{defect}", phrase)


@lru_cache(maxsize=8)
def _read(path: Path, modified: int) -> DefectVocabulary:
    """A file's vocabulary, read once until it is `modified`: reading takes a third of the time that inspecting a picture does."""
    data = read_yaml(path)[0]
    if not isinstance(data, dict) or (unknown := set(data) - _KEYS) or not {"name", "templates", "types"} <= set(data):
        got = f"the unknown key {min(unknown)!r}" if isinstance(data, dict) and unknown else "something else"
        raise PromptError(f"{path}: expected a mapping with name, templates and types, got {got}; see prompts/README.md")
    try:
        return DefectVocabulary(
            **{key: data[key] for key in ("name", "description", "source", "version") if key in data},
            templates=_texts(data["templates"], "templates"),
            types=_lists(data["types"], "types"),
            categories=_lists(data.get("categories") or {}, "categories"),
            also=_lists(data.get("also") or {}, "also"),
        )
    except PromptError as error:
        raise PromptError(f"{path}: {error}") from None


def _names(question: str, phrases: Sequence[str]) -> bool:
    bare = (re.escape(re.sub(r"^(an?|the) ", "", phrase.strip().lower())) for phrase in phrases)
    return re.search(rf"\b({'|'.join(bare)})(s|es)?\b", question.lower()) is not None


def prompt_path(folder: str, name_or_path: str | Path) -> Path:
    """A file of a subfolder of the shipped prompts by name, or one of the caller's by path (with a folder or a .yaml ending).

    Raises:
        PromptError: no such name.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    home = data_folder() / folder
    if not (home / f"{text}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in home.glob("*.yaml")))
        raise PromptError(f"expected one of {known}, or a path to a .yaml file, got {text!r}: choose a name or a file")
    return home / f"{text}.yaml"


def _texts(values: Any, place: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise PromptError(f"{place}: expected a list of texts, got {values!r}; put each on a line of its own")
    return tuple(values)


def _lists(values: Any, place: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(values, dict):
        raise PromptError(f"{place}: expected a mapping of names to lists of texts, got {values!r}; see prompts/README.md")
    return {key: _texts(texts, f"{place}.{key}") for key, texts in values.items()}
