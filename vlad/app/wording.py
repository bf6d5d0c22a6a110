"""Other words for normal and anomalous, and what they do to the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlad.app.names import checked_class_name
from vlad.app.notes import noted
from vlad.errors import ConfigError
from vlad.prompts import PromptEnsemble
from vlad.references.thresholds import TEXT_THRESHOLD

if TYPE_CHECKING:
    from vlad.app.service import Service
    from vlad.prediction import Prediction

NORMAL = ("a photo of a flawless {class_name}.", "a photo of a perfect {class_name}.", "a photo of an undamaged {class_name}.")
ANOMALOUS = (
    "a photo of a damaged {class_name}.",
    "a photo of a {class_name} with a scratch.",
    "a photo of a {class_name} with a crack.",
    "a photo of a {class_name} with a defect.",
)
_MOST_SENTENCES, _MOST_LETTERS = 40, 200


@dataclass(frozen=True)
class Comparison:
    """One picture with the shipped sentences and with the visitor's, by words alone; `notes` is what the model says of the words."""

    shipped: Prediction
    own: Prediction
    notes: tuple[str, ...]


def compare_words(service: Service, picture: np.ndarray, class_name: str, normal: str, anomalous: str) -> Comparison:
    """Inspect a picture uint8 (H, W, 3) with WinCLIP's sentences and with others, one on a line. References, and what is rare inside the
    picture, are left out of both, so that nothing but the words differs, and they decide at 0.5 whatever they are worth.

    Raises:
        ConfigError: the model knows no words, or there are too many sentences.
        PromptError: a sentence is malformed.
    """
    if service.detector.encoder.joint is None:
        raise ConfigError(f"{service.model} knows no words; start the demo with a CLIP or lite to compare sentences.")
    noun = checked_class_name(class_name) or None
    ensemble = PromptEnsemble.from_sentences(normal=_lines(normal, "normal"), anomalous=_lines(anomalous, "anomalous"))
    shipped = service.detector.copy(rarity=0.0, text_threshold=TEXT_THRESHOLD)
    own = shipped.copy(prompts=ensemble)
    shipped.memory = own.memory = None
    with service.turn(), noted() as notes:
        before = shipped.predict(picture, class_name=noun)
        after = own.predict(picture, class_name=noun)
    return Comparison(before, after, tuple(notes))


def _lines(text: str, side: str) -> list[str]:
    sentences = [line.strip() for line in text.splitlines() if line.strip()]
    if not sentences:
        raise ConfigError(f"There is no {side} sentence; write at least one, each on its own line.")
    if len(sentences) > _MOST_SENTENCES or max(map(len, sentences)) > _MOST_LETTERS:
        raise ConfigError(f"At most {_MOST_SENTENCES} {side} sentences of {_MOST_LETTERS} letters are read; write fewer or shorter ones.")
    return sentences
