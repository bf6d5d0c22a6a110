"""Logical anomalies (missing, extra, swapped parts), which no patch score sees: a checklist that a VLM writes from normal pictures.

The idea is LogicQA's (arXiv 2503.20252): from normal pictures the model notes what they have in common, turns that into questions whose
answer on a normal picture is yes, and each question into several wordings. Questions that it does not answer right on the normal pictures
themselves are dropped. On a query the wordings of a question vote; a question that loses its vote names what is wrong. Which option is
"yes" changes from wording to wording, since models favour a letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlad.disk import replace_text
from vlad.errors import ConfigError, VlmError
from vlad.pictures.reading import DEFAULT_READER, ImageSource, Reader
from vlad.prompts.nouns import noun
from vlad.untrusted.values import parse_json
from vlad.vlm.backends.base import Limits, Message
from vlad.vlm.choice import choose
from vlad.vlm.exhibits import fit
from vlad.vlm.parsing import find_json
from vlad.vlm.templates import Templates

if TYPE_CHECKING:
    import numpy as np

    from vlad.vlm.backends.base import VlmBackend

FORMAT = "vlad-checklist-1"
_PLACEHOLDERS: dict[str, set[str]] = {
    "system": set(),
    "describe": {"class_name", "knowledge"},
    "write": {"class_name", "notes", "count"},
    "rephrase": {"question", "count"},
    "ask": {"class_name", "question", "options"},
}
_MAX_SIDE = 768
_LONGEST = 300  # characters of a question; a longer one is no question
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["questions"],
    "properties": {"questions": {"type": "array", "items": {"type": "string"}}},
}
_YES_NO = re.compile(r"\b(yes|no)\b", re.I)
_NUMBERED = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s*")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing to check.

    Attributes:
        question: its answer is yes on a normal picture.
        wordings: further ways to ask the same, which vote with it.
        accuracy: share in [0, 1] of the normal pictures on which the vote was yes; None for a question that was added by hand.

    Raises:
        ConfigError: a text is empty or no text, or the accuracy is out of range.
    """

    question: str
    wordings: tuple[str, ...] = ()
    accuracy: float | None = None

    def __post_init__(self) -> None:
        for text in (self.question, *self.wordings):
            if not isinstance(text, str) or not text.strip():
                raise ConfigError(f"expected a question in words, got {text!r}")
        if self.accuracy is not None and not (isinstance(self.accuracy, (int, float)) and 0 <= self.accuracy <= 1):
            raise ConfigError(f"expected an accuracy from 0 to 1, or none, got {self.accuracy!r}")


@dataclass(frozen=True, kw_only=True)
class Checklist:
    """What is true of every normal picture, as questions.

    Attributes:
        class_name: noun of the thing.
        items: what is checked.
        dropped: questions that the model answered wrong on too many normal pictures.
        references: number of normal pictures.
        model: the VLM that wrote it.
    """

    class_name: str
    items: tuple[Item, ...]
    dropped: tuple[Item, ...]
    references: int
    model: str

    def save(self, path: str | Path) -> None:
        """Write it as JSON, for people to read and correct.

        Raises:
            OutputError: the file cannot be written.
        """
        replace_text(Path(path), json.dumps({"format": FORMAT, **asdict(self)}, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Checklist:
        """Read what `save` wrote. Items may have been corrected, added (a question suffices) and removed.

        Raises:
            ConfigError: the file cannot be read or is no checklist; the message names the place and what is wrong.
        """
        try:
            data = parse_json(Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: expected a checklist as JSON, got: {error}; correct it, or write it anew") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ConfigError(f"{path}: expected a checklist of `vlad checklist write` ({FORMAT}), got something else; check the path")
        if unknown := sorted(set(data) - {"format", "class_name", "items", "dropped", "references", "model"}):
            raise ConfigError(f"{path}: unknown key {unknown[0]!r}; correct or remove it")
        for key, kind in (("class_name", str), ("references", int), ("model", str)):
            if not isinstance(data.get(key), kind):
                raise ConfigError(f"{path}: {key}: expected {kind.__name__}, got {data.get(key)!r}; correct it")
        items, dropped = (_read_items(path, key, data.get(key, [])) for key in ("items", "dropped"))
        if not items:
            raise ConfigError(f"{path}: items: expected at least one item to check, got none; add a question")
        return cls(class_name=data["class_name"], items=items, dropped=dropped, references=data["references"], model=data["model"])


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How one item came out.

    Attributes:
        question: of the item.
        no: share in [0, 1] of the votes for no; each wording votes with the probability that the backend gives "no", or with 0 or 1. None
            if no vote could be read.
        unread: votes that could not be read.
    """

    question: str
    no: float | None
    unread: int = 0

    @property
    def failed(self) -> bool:
        """Whether the vote was no."""
        return self.no is not None and self.no > 0.5


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A picture held against a checklist.

    Attributes:
        image_path: file of the picture, None if it came as data.
        score: in [0, 1], the largest share of votes for no over the items; None if no item could be answered.
        items: in the order of the checklist.
        model: the VLM that answered.
    """

    image_path: str | None
    score: float | None
    items: tuple[Checked, ...]
    model: str

    @property
    def failed(self) -> tuple[str, ...]:
        """Questions whose vote was no."""
        return tuple(item.question for item in self.items if item.failed)

    @property
    def unread(self) -> int:
        """Votes that could not be read."""
        return sum(item.unread for item in self.items)

    def __str__(self) -> str:
        answered = sum(item.no is not None for item in self.items)
        if not answered:
            return f"None of {len(self.items)} items could be answered."
        unread = f" {self.unread} votes could not be read." if self.unread else ""
        if not self.failed:
            return f"All of {answered} items are as on the normal pictures (score {self.score:.2f}).{unread}"
        lines = "".join(f"\n- {item.question} No ({item.no:.0%} of the votes)." for item in self.items if item.failed)
        return f"{len(self.failed)} of {answered} items are not as on the normal pictures (score {self.score:.2f}).{unread}{lines}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "image_path": self.image_path,
            "score": self.score,
            "failed": list(self.failed),
            "items": [asdict(item) for item in self.items],
            "unread": self.unread,
            "model": self.model,
        }


def write_checklist(
    backend: VlmBackend | None,
    references: Sequence[ImageSource],
    *,
    class_name: str = "object",
    knowledge: str = "",
    most_items: int = 8,
    wordings: int = 4,
    least_accuracy: float = 0.8,
    limits: Limits | None = None,
    on_step: Callable[[str], None] | None = None,
    read: Reader = DEFAULT_READER,
) -> Checklist:
    """A checklist from normal pictures.

    Args:
        backend: the VLM that writes and answers it.
        references: normal pictures, at least two; more make it surer which questions can be relied on.
        class_name: noun.
        knowledge: text on what is normal.
        most_items: questions asked for.
        wordings: further ways to ask each question; with the question itself an odd number of votes decides best.
        least_accuracy: share of the normal pictures in (0, 1] on which a question must be answered with yes to be kept.
        limits: of one reply.
        on_step: called with a line of text as the work goes on.
        read: how pictures are read.

    Raises:
        VlmError: there is no VLM, it does not answer, writes no questions, or none of them holds on the normal pictures. A question that
            alone gets no answer is left out.
        ImageReadError: a reference cannot be read.
        ConfigError: a number is out of range.
    """
    backend = _needed(backend)
    if len(references) < 2:
        raise ConfigError(f"expected at least two normal pictures for a checklist, got {len(references)}; add more")
    if most_items < 1 or wordings < 0 or not 0 < least_accuracy <= 1:
        raise ConfigError(
            f"expected most_items of at least 1, wordings of at least 0 and least_accuracy in (0, 1], got {most_items}, {wordings} and "
            f"{least_accuracy}"
        )
    say = on_step or (lambda _: None)
    templates = Templates.load("checklist", _PLACEHOLDERS)
    pictures = [fit(read(source), _MAX_SIDE) for source in references]
    thing = noun(class_name)
    say(f"looking at {len(pictures)} normal pictures")
    notes = _notes(backend, templates, pictures, thing, knowledge, limits)
    questions = _questions(backend, templates.fill("write", class_name=thing, notes=notes, count=str(most_items)), templates, limits)
    if not questions:
        raise VlmError(f"{backend.name}: expected questions for a checklist, it wrote none that could be read; try a larger model")
    kept: list[Item] = []
    dropped: list[Item] = []
    unanswered: list[VlmError] = []
    for number, question in enumerate(questions[:most_items], start=1):
        place = f"{number}/{min(len(questions), most_items)}"
        try:
            item = _tried(backend, templates, question, pictures, thing, wordings, limits)
        except VlmError as error:  # the other questions are not lost to it
            unanswered.append(error)
            say(f"{place} left out, no answer: {error}")
            continue
        right = item.accuracy or 0.0
        (kept if right >= least_accuracy else dropped).append(item)
        say(f"{place} right on {right:.0%} of the normal pictures: {question}")
    if unanswered and not kept:
        raise unanswered[-1]
    if not kept:
        raise VlmError(
            f"{backend.name}: expected questions that it answers right on the normal pictures, it answered none of {len(dropped)} right on "
            f"{least_accuracy:.0%}; try a larger model"
        )
    return Checklist(class_name=class_name, items=tuple(kept), dropped=tuple(dropped), references=len(pictures), model=backend.name)


def _tried(
    backend: VlmBackend,
    templates: Templates,
    question: str,
    pictures: Sequence[np.ndarray],
    thing: str,
    wordings: int,
    limits: Limits | None,
) -> Item:
    """A question with its wordings, and on how many of the normal pictures it holds."""
    ask = templates.fill("rephrase", question=question, count=str(wordings))
    others = _questions(backend, ask, templates, limits) if wordings else []
    item = Item(question=question, wordings=tuple(other for other in others if other != question)[:wordings])
    votes = [_vote(backend, templates, picture, item, thing) for picture in pictures]
    return replace(item, accuracy=sum(vote.no is not None and not vote.failed for vote in votes) / len(votes))


def check(backend: VlmBackend | None, checklist: Checklist, image: ImageSource, *, read: Reader = DEFAULT_READER) -> CheckResult:
    """Hold a picture, which is read as `read` says, against a checklist.

    Raises:
        VlmError: there is no VLM, or it does not answer.
        ImageReadError: the picture cannot be read.
    """
    backend = _needed(backend)
    templates = Templates.load("checklist", _PLACEHOLDERS)
    picture = fit(read(image), _MAX_SIDE)
    items = tuple(_vote(backend, templates, picture, item, noun(checklist.class_name)) for item in checklist.items)
    path = str(image) if isinstance(image, (str, Path)) else None
    score = max((item.no for item in items if item.no is not None), default=None)
    return CheckResult(image_path=path, score=score, items=items, model=backend.name)


def _needed(backend: VlmBackend | None) -> VlmBackend:
    if backend is None:
        raise VlmError(
            "the describer can't count parts or judge how they are arranged, so it neither writes nor answers a checklist; name a "
            "vision-language model (--vlm NAME|URL)"
        )
    return backend


def _notes(
    backend: VlmBackend, templates: Templates, pictures: Sequence[np.ndarray], thing: str, knowledge: str, limits: Limits | None
) -> str:
    """What the pictures have in common, in the model's words; several notes where it cannot take all pictures at once."""
    size = min(len(pictures), backend.most_images or len(pictures), 8)
    ask = templates.fill("describe", class_name=thing, knowledge=knowledge)
    found = []
    for start in range(0, len(pictures), size):
        messages = [Message("system", (templates.fill("system"),)), Message("user", (*pictures[start : start + size], ask))]
        found.append(backend.chat(messages, limits=limits).text.strip())
    if not any(found):
        raise VlmError(f"{backend.name}: expected a description of the normal pictures, it gave an empty answer; try a larger model")
    return "\n\n".join(text for text in found if text)


def _questions(backend: VlmBackend, ask: str, templates: Templates, limits: Limits | None) -> list[str]:
    """Questions of a reply, as JSON or as lines that end with a question mark, each once."""
    messages = [Message("system", (templates.fill("system"),)), Message("user", (ask,))]
    reply = backend.chat(messages, limits=limits, schema=_SCHEMA).text
    listed = (find_json(reply, ("questions",)) or {}).get("questions")
    lines = listed if isinstance(listed, list) else reply.splitlines()
    texts = [_NUMBERED.sub("", line).strip().strip('"') for line in lines if isinstance(line, str)]
    return list(dict.fromkeys(text for text in texts if text.endswith("?") and len(text) <= _LONGEST))


def _vote(backend: VlmBackend, templates: Templates, picture: np.ndarray, item: Item, thing: str) -> Checked:
    shares: list[float] = []
    unread = 0
    for number, question in enumerate((item.question, *item.wordings)):
        words = ("Yes", "No") if number % 2 == 0 else ("No", "Yes")
        options = dict(zip("AB", words, strict=True))
        listed = "\n".join(f"{letter}. {word}" for letter, word in options.items())
        ask = templates.fill("ask", class_name=thing, question=question, options=listed)
        choice = choose(backend, [Message("system", (templates.fill("system"),)), Message("user", (picture, ask))], options)
        no = "B" if number % 2 == 0 else "A"
        said = choice.shares[no] if choice.shares else _read_no(choice.reply, no)
        if said is None:
            unread += 1
        else:
            shares.append(said)
    return Checked(question=item.question, no=sum(shares) / len(shares) if shares else None, unread=unread)


def _read_no(reply: str, no: str) -> float | None:
    """1 for no, 0 for yes: the word that a reply begins with, else the only one of both in it, else a letter alone; None if it has none.
    MMAD's rule, by which an article "A" is a letter, need not apply here."""
    words = [word.lower() for word in _YES_NO.findall(reply)]
    if words and (len(set(words)) == 1 or re.match(r"\W*(yes|no)\b", reply, re.I)):
        return float(words[0] == "no")
    letter = re.search(r"(?:^|answer\W{1,3}|option\W{1,3}|is\W{1,3})\(?([AB])\W*$", reply.strip())
    return None if words or letter is None else float(letter[1] == no)


def _read_items(path: str | Path, key: str, listed: Any) -> tuple[Item, ...]:
    if not isinstance(listed, list):
        raise ConfigError(f"{path}: {key}: expected a list of items, got {type(listed).__name__}; correct it")
    items = []
    for number, data in enumerate(listed, start=1):
        place = f"{path}: {key}, item {number}"
        if not isinstance(data, dict) or "question" not in data:
            raise ConfigError(f'{place}: expected {{"question": ...}}, got {data!r}; correct it')
        if unknown := sorted(set(data) - {"question", "wordings", "accuracy"}):
            raise ConfigError(f"{place}: unknown key {unknown[0]!r}; correct or remove it")
        if not isinstance(data.get("wordings", []), list):
            raise ConfigError(f"{place}: wordings: expected a list of texts, got {data['wordings']!r}; correct it")
        try:
            items.append(Item(question=data["question"], wordings=tuple(data.get("wordings", ())), accuracy=data.get("accuracy")))
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}; correct it") from None
    return tuple(items)
