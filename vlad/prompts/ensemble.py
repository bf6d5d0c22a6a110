"""Prompt ensembles: the sentences that describe a normal and an anomalous picture of something.

An ensemble is compositional, after WinCLIP (arXiv 2303.14814): every state ("flawless {class_name}") goes into every template
("a photo of a {state}."). The shipped sets are YAML files in `prompts/`, and so is your own; `prompts/README.md` has the layout.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vlad.errors import PromptError
from vlad.prompts import schema
from vlad.prompts.files import Problem, ProblemsFound, data_folder, read_yaml
from vlad.prompts.nouns import BOUNDARIES, DEFAULT_NOUN, insert, noun, takes_article
from vlad.prompts.vectors import PromptVectors, read_vectors

not_sets = ("class_names",)  # files of the prompts folder that hold no ensemble


@dataclass(frozen=True)
class PromptInfo:
    """What `vlad prompts list` shows; the numbers of sentences are for the set's default class name."""

    name: str
    description: str
    source: str
    version: int
    n_normal: int
    n_anomalous: int


@dataclass(frozen=True)
class Override:
    """Other states for one class: `normal` and `anomalous` replace the set's own, the extra ones follow after them."""

    class_name: str
    normal: tuple[str, ...] | None = None
    anomalous: tuple[str, ...] | None = None
    extra_normal: tuple[str, ...] = ()
    extra_anomalous: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PromptEnsemble:
    """States and templates for the two sides, and the sentences that come of them.

    name, description, source, version: where the set comes from; they do not touch the sentences.
    class_name: the noun for when the caller has none.
    normal, anomalous: the states, with `{class_name}` at most once; without templates they are finished sentences.
    templates: with `{state}` once; empty for finished sentences, which stay as they are, repetitions included.
    overrides: other states for single classes. The longest name that the noun ends with counts: "woven carpet" finds "carpet".
    vectors: text vectors (2, D), normal first, that stand for the sentences whatever the class; see `vlad.prompts.vectors`.

    Raises PromptError with all that is wrong when the parts do not make a set.
    """

    name: str
    description: str
    source: str
    version: int = 1
    class_name: str = DEFAULT_NOUN
    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    templates: tuple[str, ...]
    overrides: tuple[Override, ...] = ()
    vectors: PromptVectors | None = None

    def __post_init__(self) -> None:
        values = self.to_dict()
        values.pop("vectors", None)
        _raise_faults(schema.check(values, finished=not self.templates))

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """A shipped set by name, a YAML file by path (anything with a folder or a .yaml or .yml ending), or learned vectors
        (.safetensors; see `vlad.prompts.vectors`).

        Raises PromptError: unknown name, or a faulty file, as `path:line: what was expected, what came, what to do`.
        """
        if str(name_or_path).endswith(".safetensors"):
            return cls.from_vectors(read_vectors(Path(name_or_path)))
        path = _find(name_or_path)
        data, problems = _read_set(path)
        if problems:
            raise ProblemsFound(problems)
        return cls(**_fields(data))

    @classmethod
    def from_sentences(cls, *, normal: Sequence[str], anomalous: Sequence[str], class_name: str = DEFAULT_NOUN) -> Self:
        """Finished sentences, kept in order and with repetitions (given twice, it weighs twice); `{class_name}` may stand in them."""
        return cls(
            name="sentences",
            description="Finished sentences.",
            source="given by the caller",
            class_name=class_name,
            normal=_tuple(normal, "normal"),
            anomalous=_tuple(anomalous, "anomalous"),
            templates=(),
        )

    @classmethod
    def from_vectors(cls, vectors: PromptVectors) -> Self:
        """Learned vectors instead of sentences. They say nothing in words, so questions are answered as of an object and a damaged one."""
        return cls(
            name=vectors.name,
            description=f"Vectors learned with {vectors.model}.",
            source=vectors.source,
            normal=("{class_name}",),
            anomalous=("damaged {class_name}",),
            templates=(),
            vectors=vectors,
        )

    @classmethod
    def from_states(
        cls, *, normal: Sequence[str], anomalous: Sequence[str], templates: Sequence[str] | None = None, class_name: str = DEFAULT_NOUN
    ) -> Self:
        """States put into templates, WinCLIP's unless others are given. A state without `{class_name}` ignores the class."""
        chosen = cls.load("winclip").templates if templates is None else _tuple(templates, "templates")
        if not chosen:
            raise PromptError("expected at least one template, got none: leave templates out for WinCLIP's, or use from_sentences")
        return cls(
            name="states",
            description="States put into templates.",
            source="given by the caller",
            class_name=class_name,
            normal=_tuple(normal, "normal"),
            anomalous=_tuple(anomalous, "anomalous"),
            templates=chosen,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises PromptError with the place of every fault, such as `states.normal[2]`."""
        finished = isinstance(data, Mapping) and not data.get("templates", True)
        plain = {key: value for key, value in data.items() if key != "vectors"} if isinstance(data, Mapping) else data
        _raise_faults(schema.check(plain, finished=finished))
        vectors = data.get("vectors")
        return cls(**_fields(data), vectors=None if vectors is None else PromptVectors.from_dict(vectors))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON in the layout of the YAML files."""
        overrides: dict[str, dict[str, list[str]]] = {}
        for override in self.overrides:
            lists = {key: getattr(override, key) for key in schema.override_keys}
            given = {key: list(texts) for key, texts in lists.items() if texts or (texts is not None and not key.startswith("extra_"))}
            overrides[override.class_name] = given
        return {
            "name": self.name,
            "description": self.description,
            "source": self.source,
            "version": self.version,
            "class_name": self.class_name,
            "states": {"normal": list(self.normal), "anomalous": list(self.anomalous)},
            "templates": list(self.templates),
            "overrides": overrides,
            **({} if self.vectors is None else {"vectors": self.vectors.to_dict()}),
        }

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when the sentences can: parts, default class name, tables of nouns and articles; not name or source."""
        parts = {key: value for key, value in self.to_dict().items() if key not in ("name", "description", "source", "version")}
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode())
        digest.update(_grammar())
        return digest.hexdigest()[:16]

    @property
    def uses_class_name(self) -> bool:
        """Whether any sentence depends on the class name."""
        return self.vectors is None and self._in_sentences

    @property
    def _in_sentences(self) -> bool:
        return bool(self.overrides) or any("{class_name}" in text for text in self.normal + self.anomalous)

    def noun(self, class_name: str | None = None) -> str:
        """The noun that the sentences use for a raw class name; the set's own when there is none."""
        return noun("" if class_name is None else class_name, default=noun(self.class_name))

    def states(self, class_name: str | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The states (normal, anomalous) in force for a class, its override applied, placeholders still in them."""
        words = f" {self.noun(class_name)}"
        fitting = [override for override in self.overrides if words.lower().endswith(f" {noun(override.class_name).lower()}")]
        if not fitting:
            return self.normal, self.anomalous
        chosen = max(fitting, key=lambda override: len(noun(override.class_name)))
        normal = self.normal if chosen.normal is None else chosen.normal
        anomalous = self.anomalous if chosen.anomalous is None else chosen.anomalous
        return normal + chosen.extra_normal, anomalous + chosen.extra_anomalous

    def sentences(self, class_name: str | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The sentences (normal, anomalous), state by state, each once unless they were given finished.

        The raw class name is turned into a noun first. Raises PromptError when it cannot stand in a sentence.
        """
        thing = self.noun(class_name)
        normal, anomalous = self.states(class_name)
        return self._compose(normal, thing), self._compose(anomalous, thing)

    def _compose(self, states: tuple[str, ...], thing: str) -> tuple[str, ...]:
        filled = [(insert(state, "{class_name}", thing, singular=takes_article(thing)), _is_singular(state, thing)) for state in states]
        if not self.templates:
            return tuple(text for text, _ in filled)
        sentences = (insert(template, "{state}", text, singular=singular) for text, singular in filled for template in self.templates)
        return tuple(dict.fromkeys(sentences))


def available_prompts() -> list[PromptInfo]:
    """The shipped sets, by name."""
    return [_info(PromptEnsemble.load(name)) for name in _names()]


def check_prompts(path: str | Path) -> list[Problem]:
    """Everything that is wrong with a YAML file, each with its line; empty when it is sound. Raises PromptError for no such file."""
    return _read_set(Path(path))[1]


def _info(ensemble: PromptEnsemble) -> PromptInfo:
    normal, anomalous = ensemble.sentences()
    return PromptInfo(ensemble.name, ensemble.description, ensemble.source, ensemble.version, len(normal), len(anomalous))


def _names() -> list[str]:
    return sorted(path.stem for path in data_folder().glob("*.yaml") if path.stem not in not_sets)


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    names = _names()
    if text in names:
        return data_folder() / f"{text}.yaml"
    close = difflib.get_close_matches(text.lower(), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise PromptError(
        f"expected one of the prompt sets {', '.join(names)}, or a path to a .yaml file, got {text!r}: {hint}choose a name or a file"
    )


def _read_set(path: Path) -> tuple[Any, list[Problem]]:
    try:
        data, lines = read_yaml(path)
    except ProblemsFound as error:
        return None, error.problems
    problems = []
    for place, message in schema.check(data):
        while place not in lines:  # a missing key has no line: its mapping's is the nearest
            place = place[:-1]
        problems.append(Problem(str(path), lines[place], message))
    return data, sorted(problems, key=lambda problem: problem.line)


def _fields(data: Mapping[str, Any]) -> dict[str, Any]:
    fields = {key: data[key] for key in ("name", "description", "source", "version", "class_name") if key in data}
    overrides = [
        Override(name, **{key: tuple(texts) for key, texts in states.items()}) for name, states in (data.get("overrides") or {}).items()
    ]
    states = {side: tuple(data["states"][side]) for side in schema.sides}
    return {**fields, **states, "templates": tuple(data["templates"]), "overrides": tuple(overrides)}


def _raise_faults(faults: list[schema.Fault]) -> None:
    if faults:
        raise PromptError("; ".join(f"{schema.dotted(place) or 'prompts'}: {message}" for place, message in faults[:5]))


def _tuple(texts: Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise PromptError(f"{what}: expected a list of texts, got the single text {texts!r}: put it in a list")
    return tuple(texts)


def _is_singular(state: str, thing: str) -> bool:
    """Whether a template's "a" fits the state: its head noun decides, "scratch" in "scratch on {class_name}", else the class itself."""
    words = state.split()
    end = next((i for i, word in enumerate(words) if i and word.lower() in BOUNDARIES), len(words))
    return takes_article(thing) if any("{class_name}" in word for word in words[:end]) else takes_article(state)


def _grammar() -> bytes:
    """What the sentences depend on besides the set: raise the number when a rule in nouns.py changes."""
    return b"rules 1\n" + (data_folder() / "class_names.yaml").read_bytes()
