"""The inspector: gathers the evidence for a picture, lets the describer and a VLM explain it, and keeps the verdict the detector's."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vlad.errors import ConfigError, ImageReadError, VlmError, warn
from vlad.pictures.reading import ImageSource, Reader
from vlad.vlm.answer import Answer, Defect, Evidence
from vlad.vlm.backends.base import Limits, Message, Reply, VlmBackend
from vlad.vlm.describer import Describer
from vlad.vlm.exhibits import make_exhibits
from vlad.vlm.parsing import ANSWER_SCHEMA, parse_answer
from vlad.vlm.places import find_places, list_in_words, size_in_words
from vlad.vlm.refute import check_places, in_words
from vlad.vlm.templates import Templates
from vlad.vlm.vocabulary import DefectVocabulary

if TYPE_CHECKING:
    from vlad.backbones.encoder import Encoder
    from vlad.config import DetectorConfig
    from vlad.prediction import Prediction
    from vlad.references.memory import ReferenceMemory

DEFAULT_QUESTION = "What is wrong?"
_MAX_KNOWLEDGE = 64 * 1024  # bytes of a file of domain knowledge
_PLACEHOLDERS: dict[str, set[str]] = {
    "system": set(),
    "knowledge": {"knowledge"},
    "evidence": {"exhibits", "class_name", "score", "threshold", "threshold_source", "places"},
    "question": {"question"},
    "describe": {"labels"},
    "format": set(),
    "follow_up": {"question"},
}


class Detector(Protocol):
    """What an inspector needs of an `AnomalyDetector`."""

    config: DetectorConfig
    encoder: Encoder

    @property
    def reader(self) -> Reader:
        """How pictures are read."""
        ...

    @property
    def memory(self) -> ReferenceMemory | None:
        """The references, None without."""
        ...

    @property
    def model_name(self) -> str:
        """Names the models."""
        ...

    def predict(self, images: ImageSource, *, class_name: str | None = ..., threshold: float | None = ...) -> Prediction:
        """One picture's prediction."""
        ...


@dataclass(frozen=True)
class Case:
    """One examined picture: what the detector and the describer say of it, before any question."""

    prediction: Prediction
    evidence: Evidence
    defects: tuple[Defect, ...]
    unnamed: tuple[str, ...]  # types that the model has no words for
    seconds: float
    picture: np.ndarray
    reference: np.ndarray | None


class Inspector:
    """Answers questions about pictures with the evidence of a detector.

    Args:
        detector: whose verdict counts.
        backend: a VLM that explains; None leaves it to the describer.
        knowledge: text about what is normal and what is not on this kind of part, or the path of a .txt or .md file with it.
        vocabulary: defect types for the describer: a shipped name, a YAML file or a `DefectVocabulary`.
        prompts: wording for the VLM: a shipped name of `prompts/vlm`, or a YAML file.
        most_places: regions that are shown and described, the hottest ones.
        max_side: longest side in pixels of a picture that a VLM is shown; larger ones are reduced.
        limits: of one reply.
        refute: show the VLM each marked place beside the same place of the nearest reference, and say where it sees no difference.

    Raises:
        PromptError: vocabulary or prompts are malformed.
        ConfigError: the knowledge file cannot be read; or `refute` without a VLM, or without references.
    """

    def __init__(
        self,
        detector: Detector,
        backend: VlmBackend | None = None,
        *,
        knowledge: str | Path = "",
        vocabulary: str | Path | DefectVocabulary = "generic",
        prompts: str | Path = "inspect",
        most_places: int = 3,
        max_side: int = 768,
        limits: Limits | None = None,
        refute: bool = False,
    ) -> None:
        if refute and (backend is None or detector.memory is None):
            missing = "a vision-language model" if backend is None else "references"
            raise ConfigError(f"refute shows a vision-language model each marked place beside a reference; give it {missing}")
        self.refute = refute
        if not 1 <= most_places <= 26 or max_side < 64:
            raise ConfigError(f"expected most_places from 1 to 26 and max_side of at least 64, got {most_places} and {max_side}")
        self.detector = detector
        self.backend = backend
        self.knowledge = read_knowledge(knowledge)
        if self.knowledge and backend is None:
            warn("domain knowledge is for a vision-language model; the describer does not read it")
        self.templates = Templates.load(prompts, _PLACEHOLDERS)
        self.describer = Describer(
            detector.encoder.joint, vocabulary if isinstance(vocabulary, DefectVocabulary) else DefectVocabulary.load(vocabulary)
        )
        self.most_places, self.max_side, self.limits = most_places, max_side, limits or Limits()

    @property
    def model(self) -> str:
        """Names who writes and who measures."""
        return f"{'describer' if self.backend is None else self.backend.name}, detector {self.detector.model_name}"

    def examine(self, image: ImageSource, *, class_name: str | None = None, threshold: float | None = None) -> Case:
        """Run the detector and the describer on one picture; no VLM is asked.

        Raises:
            ImageReadError, PromptError, ConfigError: as of `AnomalyDetector.predict`.
        """
        start = time.perf_counter()
        picture = self.detector.reader(image)
        prediction = self.detector.predict(picture, class_name=class_name, threshold=threshold)
        path = str(image) if isinstance(image, (str, Path)) else None
        prediction = replace(prediction, image_path=path)
        places, left_out = find_places(prediction, most=self.most_places)
        reference, shown = self._reference(prediction)
        evidence = Evidence(
            image_path=path,
            image_size=prediction.image_size,
            class_name=prediction.class_name,
            score=prediction.pred_score,
            threshold=prediction.threshold,
            threshold_source=prediction.threshold_source,
            places=places,
            places_left_out=left_out,
            reference=shown,
            knowledge=self.knowledge,
            detector=self.detector.model_name,
            undecided=prediction.undecided,
            is_anomalous=prediction.pred_label,
        )
        defects = () if prediction.pred_label is False else self.describer.describe(prediction, picture, places)
        if self.backend is not None:
            exhibits = make_exhibits(prediction, picture, places, reference, max_side=self.max_side)
            evidence = replace(evidence, exhibits=exhibits[: self.backend.most_images])
        return Case(
            prediction, evidence, defects, self.describer.unnamed(prediction.class_name), time.perf_counter() - start, picture, reference
        )

    def ask(
        self,
        image: ImageSource,
        question: str = DEFAULT_QUESTION,
        *,
        class_name: str | None = None,
        threshold: float | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """One question about one picture; see `AnomalyDetector.ask`."""
        return Conversation(self, self.examine(image, class_name=class_name, threshold=threshold)).ask(question, on_text=on_text)

    def converse(self, image: ImageSource, *, class_name: str | None = None, threshold: float | None = None) -> Conversation:
        """Several questions about one picture, each with the earlier ones in mind."""
        return Conversation(self, self.examine(image, class_name=class_name, threshold=threshold))

    def _reference(self, prediction: Prediction) -> tuple[np.ndarray | None, str | None]:
        """The reference most like the picture that can still be read, and its name."""
        memory = self.detector.memory
        if memory is None or self.backend is None:
            return None, None
        numbers = list(memory.references)
        if prediction.embedding is not None and all(number in memory.embeddings for number in numbers):
            numbers.sort(key=lambda number: -float(memory.embeddings[number].cpu().numpy() @ prediction.embedding))
        for number in numbers[:8]:
            reference = memory.references[number]
            try:
                picture = reference.again(self.detector.reader.white_level)
            except ImageReadError:  # it has moved or changed since; the next one will do
                continue
            return picture, reference.path or "a picture"
        return None, None

    def opening(self, evidence: Evidence, question: str) -> list[Message]:
        """The chat that asks a first question: the rules, then pictures, findings and question."""
        parts: list[str | np.ndarray] = []
        for number, exhibit in enumerate(evidence.exhibits, start=1):
            parts += [f"Picture {number}: {exhibit.caption}.", exhibit.image]
        texts = []
        if self.knowledge:
            texts.append(self.templates.fill("knowledge", knowledge=self.knowledge))
        threshold = "none" if evidence.threshold is None else f"{evidence.threshold:.2f}"
        texts.append(
            self.templates.fill(
                "evidence",
                exhibits=list_in_words([f"{number} {exhibit.caption}" for number, exhibit in enumerate(evidence.exhibits, start=1)]),
                class_name=evidence.class_name,
                score=f"{evidence.score:.2f}",
                threshold=threshold,
                threshold_source=evidence.threshold_source or "none",
                places=_places_in_words(evidence),
            )
        )
        if evidence.places:
            texts.append(self.templates.fill("describe", labels=list_in_words([place.label for place in evidence.places])))
        texts += [self.templates.fill("question", question=question), self.templates.fill("format")]
        return [Message("system", (self.templates.fill("system"),)), Message("user", (*parts, "\n\n".join(texts)))]


@dataclass
class Conversation:
    """A picture and the questions about it so far."""

    inspector: Inspector
    case: Case
    messages: list[Message] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def ask(self, question: str = DEFAULT_QUESTION, *, on_text: Callable[[str], None] | None = None) -> Answer:
        """The answer to the next question. A question that a VLM could not answer leaves no trace in the chat, so it can be asked again.

        Args:
            question: in words.
            on_text: called with each piece of the VLM's reply as it comes, unparsed.

        Raises:
            ConfigError: the question is empty.
        """
        question = checked_question(question)
        start = time.perf_counter()
        before = 0.0 if self.answers else self.case.seconds
        answer = self._described(question)
        if self.inspector.backend is not None:
            answer = self._explained(self.inspector.backend, question, answer, on_text)
        if self.inspector.refute and not self.answers:
            answer = self._checked(answer)
        answer = replace(answer, seconds=before + time.perf_counter() - start)
        self.answers.append(answer)
        return answer

    def _described(self, question: str) -> Answer:
        case = self.case
        return Answer(
            text=self.inspector.describer.write(case.evidence, case.defects, question, case.unnamed),
            verdict=case.evidence.verdict,
            defects=case.defects,
            evidence=case.evidence,
            agrees=None,
            model=f"describer, detector {case.evidence.detector}",
            question=question,
        )

    def _checked(self, answer: Answer) -> Answer:
        """The answer, and what the VLM says of each marked place beside the same place of a good part."""
        inspector, case, backend = self.inspector, self.case, self.inspector.backend
        if backend is None or not case.evidence.places:
            return answer
        problem = None
        if case.reference is None:
            problem = "no reference can be read any more, so no place was checked beside one"
        elif backend.most_images is not None and backend.most_images < 2:
            problem = f"{backend.name} takes one picture at a time, so no place was checked beside a reference"
        if problem is not None or case.reference is None:
            return replace(answer, problems=(*answer.problems, *([problem] if problem else [])))
        checks = check_places(
            backend, case.picture, case.reference, case.evidence.places, case.evidence.class_name, limits=inspector.limits
        )
        failed = tuple(f"place {check.label} was not checked: {check.why}" for check in checks if check.differs is None)
        left_out = case.evidence.places_left_out
        text = "\n\n".join(part for part in (answer.text, in_words(checks, backend.name, left_out)) if part)
        return replace(answer, text=text, checks=checks, problems=(*answer.problems, *failed))

    def _explained(self, backend: VlmBackend, question: str, described: Answer, on_text: Callable[[str], None] | None) -> Answer:
        """The VLM's answer; where none comes, the describer's with the reason."""
        inspector, evidence = self.inspector, self.case.evidence
        if self.messages:
            asked = "\n\n".join([inspector.templates.fill("follow_up", question=question), inspector.templates.fill("format")])
            messages = [*self.messages, Message("user", (asked,))]
        else:
            messages = inspector.opening(evidence, question)
        try:
            reply = backend.chat(messages, limits=inspector.limits, schema=ANSWER_SCHEMA, on_text=on_text)
        except VlmError as error:
            return replace(described, problems=(str(error),))
        if not reply.text.strip():
            empty = f"{backend.name} gave an empty answer; the describer's stands in"
            return replace(described, problems=(empty, *_cut_off(reply, inspector.limits)))
        self.messages = [*messages, Message("assistant", (reply.text,))]
        parsed = parse_answer(reply.text, evidence.places, backend.name)
        problems = [*parsed.failures, *_cut_off(reply, inspector.limits)]
        agrees = (
            None if parsed.judgement is None or evidence.verdict == "undecided" else parsed.judgement == (evidence.verdict == "anomalous")
        )
        return replace(
            described,
            text=_with_disagreement(parsed.text or described.text, evidence, agrees, backend.name),
            defects=parsed.defects or described.defects,
            agrees=agrees,
            model=inspector.model if parsed.text else described.model,
            problems=tuple(problems),
            parse_failures=len(parsed.failures),
        )


def checked_question(question: str) -> str:
    """The question without surrounding blanks.

    Raises:
        ConfigError: it is empty, or no text.
    """
    if not isinstance(question, str) or not question.strip():
        raise ConfigError(f'expected a question, got {question!r}; ask for example "What is wrong?"')
    return question.strip()


def read_knowledge(knowledge: str | Path) -> str:
    """The text itself, or that of a file: a path that is there, or one word with an ending, such as notes.md.

    Raises:
        ConfigError: the file cannot be read, is no UTF-8 text, or has more than 64 KiB.
    """
    if isinstance(knowledge, str) and not re.fullmatch(r"\S+\.\w{1,9}", knowledge) and not os.path.isfile(knowledge):  # noqa: PTH113  Path's own fails on texts
        return knowledge.strip()
    try:
        with Path(knowledge).open("rb") as file:
            raw = file.read(_MAX_KNOWLEDGE + 1)
        text = raw.decode("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{knowledge}: expected a readable UTF-8 text file of domain knowledge, got: {error}; check the path") from error
    if len(raw) > _MAX_KNOWLEDGE:
        raise ConfigError(f"{knowledge}: expected at most {_MAX_KNOWLEDGE // 1024} KiB of domain knowledge, got more; shorten it")
    return text.strip()


def _places_in_words(evidence: Evidence) -> str:
    if not evidence.places:
        return "no place is marked."
    shown = [
        f"{place.label} at the {place.location}, {place.shape}, {size_in_words(place.share)}, peak {place.peak:.2f}"
        for place in evidence.places
    ]
    more = f" ({evidence.places_left_out} further small places are not marked)" if evidence.places_left_out else ""
    return "; ".join(shown) + more + "."


def _with_disagreement(text: str, evidence: Evidence, agrees: bool | None, name: str) -> str:
    if agrees is not False:
        return text
    other = "normal" if evidence.verdict == "anomalous" else "anomalous"
    return (
        f"{text}\n\nNote: {name} takes the picture for {other}, the detector for {evidence.verdict} (score {evidence.score:.2f}, threshold "
        f"{evidence.threshold:.2f}). The verdict is the detector's."
    )


def _cut_off(reply: Reply, limits: Limits) -> Sequence[str]:
    if reply.finish == "stop":
        return ()
    limit = f"{limits.tokens} tokens" if reply.finish == "length" else f"{limits.seconds:g} seconds"
    return (f"the reply was cut off after {limit}",)
