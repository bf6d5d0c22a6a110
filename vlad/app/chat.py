"""Questions about the current picture, answered piece by piece where a VLM writes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlad.app.notes import quietly
from vlad.app.service import without_address
from vlad.errors import ConfigError
from vlad.vlm.parsing import answer_so_far

if TYPE_CHECKING:
    from vlad.app.service import Service
    from vlad.app.visit import Visit
    from vlad.vlm.answer import Answer

_MOST_QUESTION, _MOST_ANSWERS, _MOST_SHOWN = 500, 20, 4000


def ask(service: Service, visit: Visit, question: str) -> Iterator[str | Answer]:
    """The answer to a question about the visitor's current picture: pieces of what a VLM has written so far, then the `Answer`.

    Raises:
        ConfigError: there is no picture, no question, or too long a one.
        BusyError: the model is busy.
    """
    text = question.strip()
    if visit.picture is None or visit.prediction is None:
        raise ConfigError("There is no picture to ask about; inspect one first.")
    if not text:
        raise ConfigError('There is no question; ask for example "What is wrong?"')
    if len(text) > _MOST_QUESTION:
        raise ConfigError(f"The question has {len(text)} letters, at most {_MOST_QUESTION} are read; ask a shorter one.")
    conversation = visit.conversation
    if conversation is None or len(conversation.answers) >= _MOST_ANSWERS:
        from vlad.vlm import inspector_for

        user = visit.prediction.threshold if visit.prediction.threshold_source == "user" else None
        with service.turn(), quietly():
            inspector = inspector_for(visit.detector, vlm=service.vlm)
            conversation = inspector.converse(visit.picture, class_name=visit.class_name or None, threshold=user)
        visit.conversation = conversation
    if service.vlm is None:
        with service.turn():
            answered = conversation.ask(text)
        yield answered  # without the turn: whoever reads may take long
        return
    pieces: queue.SimpleQueue[str | Answer | BaseException] = queue.SimpleQueue()

    def answer() -> None:
        try:
            pieces.put(conversation.ask(text, on_text=pieces.put))
        except BaseException as error:  # handed to the visitor's own thread, which raises it
            pieces.put(error)

    threading.Thread(target=answer, daemon=True).start()
    raw = ""
    while True:
        piece = pieces.get(timeout=2 * conversation.inspector.limits.seconds + service.limits.seconds)
        if isinstance(piece, BaseException):
            raise piece
        if not isinstance(piece, str):
            yield piece
            return
        raw += piece
        if words := answer_so_far(raw):
            yield words


def in_words(answer: Answer) -> str:
    """An answer as plain text: the words, what went wrong on the way, and who wrote it."""
    text = answer.text if len(answer.text) <= _MOST_SHOWN else f"{answer.text[:_MOST_SHOWN]} ... (cut off)"
    problems = "".join(f"\n\nNote: {problem}" for problem in answer.problems)
    return without_address(f"{text}{problems}\n\nAnswered by {answer.model}, {answer.seconds:.1f} s")
