"""Prompt search: which prompt set and which noun separate labelled pictures best, without fooling oneself.

All pictures are embedded once; a candidate costs one softmax. The best of many candidates on some pictures is flattered by the choice, so
the choice is nested in a repeated stratified cross-validation: chosen by AUROC on all parts but one, measured on that one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlad.backbones.preprocessing import preprocess
from vlad.errors import ConfigError, DatasetError, ImageReadError
from vlad.evaluation.datasets import Category
from vlad.evaluation.results import spread
from vlad.metrics import auroc
from vlad.prompts import PromptEnsemble, available_prompts

if TYPE_CHECKING:
    from vlad.detector import AnomalyDetector

_BATCH = 8


@dataclass(frozen=True)
class Candidate:
    """One prompt set with one noun.

    Attributes:
        prompts, class_name: what is tried; `class_name` as the sentences say it.
        image_auroc: on all pictures; of the best candidate this is flattered.
        chosen: share of the cross-validation's parts for which it was chosen.
    """

    prompts: str
    class_name: str
    image_auroc: float
    chosen: float


@dataclass(frozen=True)
class Outcome:
    """A search in one category.

    Attributes:
        candidates: best first.
        expected: AUROC of the chosen candidate on pictures that did not choose it, mean over parts: what to expect of choosing.
        default: AUROC of the first candidate (winclip, the category's own noun) on the same parts.
        gain_std: sample standard deviation of `expected - default` over repetitions; None with one.
        n_good, n_anomalous: pictures that could be read.
        problems: pictures that could not.
    """

    category: str
    candidates: tuple[Candidate, ...]
    expected: float
    default: float
    gain_std: float | None
    n_good: int
    n_anomalous: int
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """A table in plain text, with advice below."""
        best = self.candidates[0]
        widths = [max(len(text) for text in column) for column in zip(*((c.prompts, c.class_name) for c in self.candidates), strict=True)]
        widths = [max(width, least) for width, least in zip(widths, (7, 10), strict=True)]
        lines = [f"{self.category}: {self.n_good} good, {self.n_anomalous} anomalous"]
        lines.append(f"  {'prompts':<{widths[0]}}  {'class name':<{widths[1]}}  image AUROC  chosen")
        for one in self.candidates:
            numbers = f"{100 * one.image_auroc:>11.1f}  {100 * one.chosen:>5.0f}%"
            lines.append(f"  {one.prompts:<{widths[0]}}  {one.class_name:<{widths[1]}}  {numbers}")
        gain = self.expected - self.default
        lines.append(
            f"  choosing gives {100 * self.expected:.1f} on pictures that did not choose, the default {100 * self.default:.1f} on the same "
            f"({100 * gain:+.1f}{'' if self.gain_std is None else f' ± {100 * self.gain_std:.1f}'})"
        )
        if gain <= (self.gain_std or 0):
            lines.append("  by what these pictures can tell no choice is better than the default; keep it")
        else:
            lines.append(f'  best: --prompts {best.prompts} --class-name "{best.class_name}"')
        return "\n".join(lines)


def search(
    detector: AnomalyDetector,
    category: Category,
    *,
    prompts: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    folds: int = 5,
    repeats: int = 10,
    seed: int = 0,
) -> Outcome:
    """Try every prompt set with every noun on a category's test pictures.

    Args:
        detector: its backbone and temperature are used.
        category: labelled pictures; its references are not used.
        prompts: names or files of prompt sets; None takes all shipped ones, winclip first.
        class_names: nouns; None takes the category's own and "object". Sets that say the same for two of them are tried once.
        folds, repeats: parts of the cross-validation, and times that it is repeated with other parts.
        seed: of the parts.

    Raises:
        ConfigError: the backbone knows no words.
        DatasetError: fewer pictures of a kind than folds.
        PromptError: a prompt set is unknown or malformed, or a noun cannot stand in a sentence.
    """
    from sklearn.model_selection import RepeatedStratifiedKFold

    names = (
        list(prompts) if prompts is not None else sorted((info.name for info in available_prompts()), key=lambda name: name != "winclip")
    )
    nouns = list(class_names) if class_names is not None else [category.class_name, "object"]
    if not hasattr(detector.backbone, "encode_text"):
        raise ConfigError(f"{detector.backbone.name} knows no words, so there is no prompt to choose; take a CLIP or lite")
    embeddings, labels, problems = _embed(detector, category)
    n_good, n_anomalous = int((~labels).sum()), int(labels.sum())
    if min(n_good, n_anomalous) < folds:
        raise DatasetError(
            f"{category.name}: {folds} folds need {folds} good and {folds} anomalous pictures, there are {n_good} and {n_anomalous}; "
            "label more, or give --folds 2"
        )
    tried: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[str, str, np.ndarray]] = {}
    for name in names:
        ensemble = PromptEnsemble.load(name)
        for noun in nouns:
            sentences = ensemble.sentences(noun)
            if sentences not in tried:
                tried[sentences] = (name, ensemble.noun(noun), _score(detector, embeddings, *sentences))
    scores = np.stack([values for _, _, values in tried.values()])
    splitter = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
    chosen: Counter[int] = Counter()
    held_out, default = [], []
    for train, test in splitter.split(np.zeros(len(labels)), labels):
        winner = int(np.argmax([auroc(labels[train], values[train]) for values in scores]))
        chosen[winner] += 1
        held_out.append(auroc(labels[test], scores[winner][test]))
        default.append(auroc(labels[test], scores[0][test]))
    gains = np.reshape(np.subtract(held_out, default), (repeats, folds)).mean(axis=1)
    candidates = [
        Candidate(name, noun, auroc(labels, values), chosen[index] / len(held_out))
        for index, (name, noun, values) in enumerate(tried.values())
    ]
    return Outcome(
        category=category.name,
        candidates=tuple(sorted(candidates, key=lambda one: -one.image_auroc)),
        expected=float(np.mean(held_out)),
        default=float(np.mean(default)),
        gain_std=spread(gains.tolist())["std"],
        n_good=n_good,
        n_anomalous=n_anomalous,
        problems=tuple(problems),
    )


def _embed(detector: AnomalyDetector, category: Category) -> tuple[Any, np.ndarray, list[str]]:
    """Embeddings (N, D) of all readable pictures, their labels, and what could not be read."""
    import torch

    labels, rows, problems = [], [], []
    batch: list[np.ndarray] = []
    backbone: Any = detector.backbone

    def flush() -> None:
        if batch:
            rows.append(backbone.encode_image(preprocess(batch, backbone.preprocessing)).image)
            batch.clear()

    for picture in category.test:
        try:
            batch.append(detector.reader(picture.path))
        except ImageReadError as error:
            problems.append(str(error))
            continue
        labels.append(picture.is_anomalous)
        if len(batch) == _BATCH:
            flush()
    flush()
    dim = torch.cat(rows) if rows else torch.empty(0, 1)
    return dim, np.array(labels, dtype=bool), problems


def _score(detector: AnomalyDetector, embeddings: Any, normal: Sequence[str], anomalous: Sequence[str]) -> np.ndarray:
    """Zero-shot picture scores (N,) for the two sides' sentences."""
    from vlad.scoring.text import score_text, text_vectors

    backbone: Any = detector.backbone
    encoded = backbone.encode_text([*normal, *anomalous])
    vectors = text_vectors(encoded[: len(normal)], encoded[len(normal) :])
    scored = score_text(embeddings, {}, vectors, grid=backbone.grid, temperature=detector.temperature)
    return scored.image.cpu().numpy().astype(np.float64)
