"""MMAD (arXiv 2410.09453): multiple-choice questions of seven types about industrial pictures.

DATA_ROOT/mmad.json             picture -> questions, reference pictures; paths are below DATA_ROOT
DATA_ROOT/domain_knowledge.json dataset -> product -> kind of defect -> text (optional)
OUT/answers.jsonl               one line a question, written as it comes; --resume goes on after it
OUT/mmad.json                   the table
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlad.disk import held, replace_text
from vlad.errors import ConfigError, DatasetError, ImageReadError, VlmError
from vlad.output.tables import TableWriter
from vlad.pictures.reading import read_image
from vlad.untrusted.values import parse_json
from vlad.vlm.backends.base import Message
from vlad.vlm.choice import choose, read_strictly
from vlad.vlm.exhibits import fit
from vlad.vlm.templates import Templates

if TYPE_CHECKING:
    from vlad.vlm.backends.base import VlmBackend

DETECTION = "Anomaly Detection"
TYPES = (
    DETECTION,
    "Defect Classification",
    "Defect Localization",
    "Defect Description",
    "Defect Analysis",
    "Object Classification",
    "Object Analysis",
)
_SAME_TYPE = {"Object Structure": "Object Analysis", "Object Details": "Object Analysis"}  # as the published table joins them
_NORMAL = "good"  # in the path of a normal picture
_MOST_FAILURES = 10  # questions in a row without an answer, after which a run ends: the server is gone
_MAX_SIDE = 512  # of the pictures shown, as published
_PLACEHOLDERS: dict[str, set[str]] = {
    "system": set(),
    "reference": set(),
    "knowledge": {"knowledge"},
    "query": set(),
    "question": {"question", "options"},
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question: `options` by letter, `answer` the right letter, `references` normal pictures; paths are below the root."""

    image_path: str
    number: int
    type: str
    question: str
    options: dict[str, str]
    answer: str
    references: tuple[str, ...]

    @property
    def dataset(self) -> str:
        """The first folder of the picture's path."""
        return self.image_path.split("/")[0]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a model chose: `chosen` is None where no letter could be made out, then `error` or an empty `reply` says why."""

    image_path: str
    number: int
    type: str
    answer: str
    chosen: str | None
    how: str
    reply: str = ""
    error: str | None = None


def load_questions(root: Path) -> list[Question]:
    """All questions of DATA_ROOT/mmad.json, in its order.

    Raises:
        DatasetError: no such file, or an entry is malformed; the message names it.
    """
    path = root / "mmad.json"
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: expected the benchmark's questions as JSON, got: {error}; check the folder") from error
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: expected a mapping of pictures to questions, got {type(data).__name__}; check the file")
    return [question for image_path, entry in data.items() for question in _questions(path, image_path, entry)]


def _questions(path: Path, image_path: str, entry: Any) -> Iterator[Question]:
    try:
        listed = entry.get("similar_templates") or entry.get("random_templates") or ()
        references = tuple(map(str, [listed] if isinstance(listed, str) else listed))
        for place in (image_path, *references):
            if Path(place).is_absolute() or ".." in Path(place).parts:
                raise DatasetError(f"{path}: expected paths below its folder, got {place!r}; correct it")
        for number, item in enumerate(entry["conversation"]):
            options = {str(letter): str(text) for letter, text in item["Options"].items()}
            if len(options) < 2:
                raise DatasetError(f"{path}: {image_path}, question {number}: expected at least two options, got {list(options)}")
            if item["Answer"] not in options:
                raise DatasetError(f"{path}: {image_path}, question {number}: the answer {item['Answer']!r} is none of {list(options)}")
            kind = _SAME_TYPE.get(item["type"], item["type"])
            if kind not in TYPES:
                raise DatasetError(f"{path}: {image_path}, question {number}: expected one of {', '.join(TYPES)}, got {kind!r}")
            yield Question(
                image_path=image_path,
                number=number,
                type=kind,
                question=str(item["Question"]),
                options=options,
                answer=item["Answer"],
                references=references,
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: {image_path}: expected 'conversation' with Question, Options, Answer and type; {error!r}") from error


def run_mmad(
    backend: VlmBackend, root: Path, out: Path, *, k_shot: int = 1, knowledge: bool = False, resume: bool = False
) -> dict[str, Any]:
    """Ask every question that `out` does not hold yet, alone with its picture, and write the table.

    Args:
        backend: who is asked.
        root: folder of the benchmark.
        out: folder of the run, made if missing.
        k_shot: normal pictures shown beside; the benchmark's own most similar ones.
        knowledge: show the product's text of domain_knowledge.json.
        resume: go on with the run that `out` holds.

    Returns:
        The table; see `score`.

    Raises:
        DatasetError: the benchmark's files are missing or malformed.
        ConfigError: `out` holds another run, or one without `resume`.
        VlmError: ten questions in a row got no answer; what was answered before is kept.
    """
    if k_shot < 0:
        raise ConfigError(f"expected k_shot of at least 0, got {k_shot}")
    questions = load_questions(root)
    notes = _load_knowledge(root) if knowledge else {}
    templates = Templates.load("mmad", _PLACEHOLDERS)
    answers = out / "answers.jsonl"
    about = {"model": backend.identify(), "k_shot": k_shot, "knowledge": knowledge, "questions": len(questions)}
    about["files"] = _hash_of(root / "mmad.json", *([root / "domain_knowledge.json"] if knowledge else []))
    failed = 0
    with held(out), TableWriter() as written:
        done = _claim(out, about, resume)
        written.to_json_lines(answers, append=True)
        for question in questions:
            if (question.image_path, question.number) in done:
                continue
            answered = _ask(backend, question, root, templates, k_shot, notes)
            failed = failed + 1 if answered.error else 0
            written.add(asdict(answered))
            if failed == _MOST_FAILURES:
                raise VlmError(f"{failed} questions in a row got no answer, the last because: {answered.error}; go on with --resume")
        table = {**about, **score(read_answers(answers), questions)}
        replace_text(out / "mmad.json", json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    return table


def score(answered: Sequence[Answered], questions: Sequence[Question] = ()) -> dict[str, Any]:
    """Accuracies in [0, 1], by the published rules: per dataset and type, with detection as the mean of the accuracies on normal and on
    anomalous pictures (a side without a picture counts 0); the dataset's average over its types; the mean over datasets. A question without
    a letter is left out and counted.

    The published reading of a reply finds a letter in nearly everything, in refusals too. With the questions, the same accuracies are given
    by a strict reading, in which a reply that gives no letter plainly is wrong; see `vlad.vlm.choice.read_strictly`.

    Returns:
        "datasets" (accuracy by dataset and type), "mean" (by type, and "Average"), "n" (by type), "failures" (questions without a letter);
        with `questions` also "strict" (the same "datasets" and "mean") and "unread" (by type, the share of replies without a plain letter).
    """
    counted = [item for item in answered if item.chosen is not None]
    found = {**_accuracies(counted), "failures": len(answered) - len(counted)}
    if not questions:
        return found
    options = {(question.image_path, question.number): question.options for question in questions}
    read = [replace(item, chosen=_strict(item, options.get((item.image_path, item.number), {})) or "") for item in counted]
    unread = {kind: sum(not item.chosen for item in read if item.type == kind) / count for kind, count in found["n"].items() if count}
    strict = _accuracies(read)
    return {**found, "strict": {"datasets": strict["datasets"], "mean": strict["mean"]}, "unread": unread}


def _strict(item: Answered, options: Mapping[str, str]) -> str | None:
    return item.chosen if item.how == "likelihood" else read_strictly(item.reply, options)


def _accuracies(counted: Sequence[Answered]) -> dict[str, Any]:
    datasets: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(item.image_path.split("/")[0] for item in counted):
        own = [item for item in counted if item.image_path.split("/")[0] == name]
        row = {kind: _accuracy([item for item in own if item.type == kind]) for kind in TYPES if any(item.type == kind for item in own)}
        row["Average"] = sum(row.values()) / len(row)
        datasets[name] = row
    mean = {}
    for kind in (*TYPES, "Average"):
        values = [row[kind] for row in datasets.values() if kind in row]
        mean[kind] = sum(values) / len(values) if values else None
    n = {kind: sum(item.type == kind for item in counted) for kind in TYPES}
    return {"datasets": datasets, "mean": mean, "n": n}


def _accuracy(items: Sequence[Answered]) -> float:
    if items[0].type != DETECTION:
        return sum(item.chosen == item.answer for item in items) / len(items)
    sides = [[item for item in items if (_NORMAL in item.image_path) is normal] for normal in (True, False)]
    return sum(sum(item.chosen == item.answer for item in side) / len(side) if side else 0.0 for side in sides) / 2


def _ask(backend: VlmBackend, question: Question, root: Path, templates: Templates, k_shot: int, notes: dict[str, Any]) -> Answered:
    common: dict[str, Any] = {
        "image_path": question.image_path,
        "number": question.number,
        "type": question.type,
        "answer": question.answer,
    }
    try:
        parts: list[Any] = []
        for reference in question.references[:k_shot]:
            parts += [templates.fill("reference"), fit(read_image(root / reference), _MAX_SIDE)]
        if text := _notes_for(question, notes):
            parts.append(templates.fill("knowledge", knowledge=text))
        options = "\n".join(f"{letter}. {text}" for letter, text in question.options.items())
        parts += [templates.fill("query"), fit(read_image(root / question.image_path), _MAX_SIDE)]
        parts.append(templates.fill("question", question=question.question, options=options))
        choice = choose(backend, [Message("system", (templates.fill("system"),)), Message("user", tuple(parts))], question.options)
    except (VlmError, ImageReadError) as error:
        return Answered(**common, chosen=None, how="none", error=str(error))
    return Answered(**common, chosen=choice.letter, how=choice.how, reply=choice.reply)


def _load_knowledge(root: Path) -> dict[str, Any]:
    path = root / "domain_knowledge.json"
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: expected domain knowledge as JSON, got: {error}; leave --knowledge out or add the file") from error
    return data if isinstance(data, dict) else {}


def _notes_for(question: Question, notes: dict[str, Any]) -> str:
    """All texts on the picture's product; which kind of defect it has is not given away."""
    folders = question.image_path.split("/")
    product: Any = notes
    for folder in folders[:2]:
        product = product.get(folder, {}) if isinstance(product, dict) else product
    return "\n".join(str(text) for text in product.values()) if isinstance(product, dict) else str(product)


def read_answers(path: Path) -> list[Answered]:
    """The lines of answers.jsonl that can be read; one that a kill cut off is left out, so that its question is asked again."""
    if not path.exists():
        return []
    answered = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        with contextlib.suppress(ValueError, TypeError):
            answered.append(Answered(**json.loads(line)))
    return answered


def _claim(out: Path, about: dict[str, Any], resume: bool) -> set[tuple[str, int]]:
    """The questions that are done, failed ones excepted; the file is cut back to them, so that those are asked again."""
    path, run = out / "answers.jsonl", out / "run.json"
    if run.exists():
        if not resume:
            raise ConfigError(f"{out} holds a run already; add --resume to go on with it, or choose another folder")
        try:
            before = json.loads(run.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{run}: expected what a run says of itself, got: {error}; choose another folder") from error
        if before != about:
            raise ConfigError(f"{out} holds a run of {before}, now it is {about}; choose another folder")
    replace_text(run, json.dumps(about) + "\n")
    kept = [item for item in read_answers(path) if item.error is None]
    partial = path.with_suffix(".partial")
    with TableWriter() as written:
        written.to_json_lines(partial)
        for item in kept:
            written.add(asdict(item))
    partial.replace(path)
    return {(item.image_path, item.number) for item in kept}


def _hash_of(*paths: Path) -> str:
    """SHA-256 of the files' bytes, its first 16 digits; equal only for the same questions."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
