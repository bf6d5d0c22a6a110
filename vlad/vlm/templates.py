"""The wording of what a VLM is told: `prompts/vlm/*.yaml`, or a file of your own in the same layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlad.errors import PromptError
from vlad.prompts.files import read_yaml
from vlad.vlm.vocabulary import prompt_path

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_ABOUT = {"name", "description", "version"}


@dataclass(frozen=True)
class Templates:
    """Texts by key, each with its placeholders."""

    name: str
    texts: Mapping[str, str]

    @classmethod
    def load(cls, name_or_path: str | Path, placeholders: Mapping[str, set[str]]) -> Templates:
        """The texts of a shipped file by name, or of a YAML file by path.

        Args:
            name_or_path: which.
            placeholders: for each text that must be there, the placeholders it may use.

        Raises:
            PromptError: a text is missing, has a placeholder that is not among them, or is not known; the message names file and key.
        """
        path = prompt_path("vlm", name_or_path)
        data = read_yaml(path)[0]
        if not isinstance(data, dict):
            raise PromptError(f"{path}: expected a mapping of texts, got {type(data).__name__}; see prompts/README.md")
        texts = {key: value for key, value in data.items() if key not in _ABOUT}
        if missing := sorted(set(placeholders) - set(texts)):
            raise PromptError(f"{path}: expected the text {missing[0]!r}, found none; see prompts/README.md")
        for key, text in texts.items():
            if key not in placeholders:
                raise PromptError(f"{path}: expected the keys {', '.join(sorted(placeholders))}, got {key!r}; remove it or correct it")
            if not isinstance(text, str):
                raise PromptError(f"{path}: {key}: expected text, got {type(text).__name__}; put it in quotes")
            if wrong := sorted(set(_PLACEHOLDER.findall(text)) - placeholders[key]):
                allowed = ", ".join(sorted(placeholders[key])) or "none"
                raise PromptError(f"{path}: {key}: expected placeholders among {allowed}, got {{{wrong[0]}}}; correct it")
        return cls(str(data.get("name", path.stem)), texts)

    def fill(self, key: str, **values: str) -> str:
        """A text with its placeholders replaced, in one pass: braces in a value stay what they are."""
        return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), self.texts[key])
