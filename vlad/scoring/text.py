"""Zero-shot scores: an embedding against the normal and the anomalous text vector (WinCLIP, arXiv 2303.14814).

Axes: N pictures, P patches, W windows, D joint embedding, T prompts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.backbones.base import DENSE
from vlad.backbones.presets import PRESETS
from vlad.errors import PromptError, warn
from vlad.prompts.nouns import BOUNDARIES
from vlad.scoring.windows import harmonic_mean, windows_to_patches

if TYPE_CHECKING:
    from vlad.backbones.base import Backbone
    from vlad.prompts.ensemble import PromptEnsemble
    from vlad.prompts.vectors import PromptVectors

_KEPT = 64  # text vectors of so many (prompt set, class name) pairs are kept; each is two vectors


@dataclass(frozen=True)
class TextScores:
    """Zero-shot scores in [0, 1], higher is more anomalous.

    Attributes:
        image: (N,) of the whole-picture embedding alone.
        scales: for each window scale the patch map (N, P).
        multi_scale: (N, P) harmonic mean of the image score and every scale's map, or the dense map; None if no window was computed.
    """

    image: Tensor
    scales: dict[int, Tensor]
    multi_scale: Tensor | None


def text_vectors(normal: Tensor, anomalous: Tensor) -> Tensor:
    """Raw sentence embeddings (T, D) of both sides to unit vectors (2, D), normal first: the mean of each side, normalised."""
    return F.normalize(torch.stack([normal.mean(0), anomalous.mean(0)]), dim=-1)


def anomaly_probability(embeddings: Tensor, vectors: Tensor, temperature: float) -> Tensor:
    """Softmax of the cosines to the two text vectors (2, D), anomalous side: embeddings (..., D) to scores (...) in [0, 1]."""
    cosines = F.normalize(embeddings, dim=-1) @ vectors.T
    return torch.sigmoid((cosines[..., 1] - cosines[..., 0]) / temperature)


def score_text(
    image: Tensor,
    windows: dict[int, Tensor],
    vectors: Tensor,
    *,
    grid: tuple[int, int],
    temperature: float,
    by_layer: Tensor | None = None,
) -> TextScores:
    """Image score, per-scale maps and multi-scale map from picture embeddings (N, D) and window embeddings {scale: (N, W, D)}.

    Args:
        vectors: (2, D), normal first.
        by_layer: (L, 2, D), with which the dense embeddings {-L: (N, L * P, D)} of the last L blocks are compared instead.
    """
    score = anomaly_probability(image, vectors, temperature)
    scales = {
        scale: windows_to_patches(anomaly_probability(embeddings, vectors, temperature), grid, scale)
        for scale, embeddings in windows.items()
        if scale > DENSE
    }
    if by_layer is not None and -len(by_layer) in windows:
        blocks = windows[-len(by_layer)].unflatten(1, (len(by_layer), -1)).unbind(1)
        maps = [anomaly_probability(block, two, temperature) for block, two in zip(blocks, by_layer, strict=True)]
        dense = torch.stack(maps).mean(0)
        return TextScores(image=score, scales={DENSE: dense}, multi_scale=dense)
    if DENSE in windows:  # each patch has its own embedding, so nothing is spread over a window, and nothing to be joined with
        dense = anomaly_probability(windows[DENSE], vectors, temperature)
        return TextScores(image=score, scales={DENSE: dense}, multi_scale=dense)
    return TextScores(image=score, scales=scales, multi_scale=harmonic_mean([score[:, None], *scales.values()]) if scales else None)


def shortened_noun(prompts: PromptEnsemble, class_name: str | None, joint: Backbone) -> str | None:
    """The beginning of the noun with which every sentence fits into the model's text tower; None if the whole noun does. A tower cuts off
    the end, where the state often stands, and then normal and anomalous are one sentence.

    Raises:
        PromptError: with one word of the noun the sentences are still too long: it is the state or the template.
    """
    count, most = getattr(joint, "count_tokens", None), getattr(joint, "most_tokens", 0)
    if count is None:
        return None

    def longest(name: str | None) -> tuple[int, str]:
        sentences = [text for side in prompts.sentences(name) for text in side]
        counts = count(sentences)
        place = max(range(len(counts)), key=counts.__getitem__)
        return counts[place], sentences[place]

    if longest(class_name)[0] <= most:
        return None
    words = prompts.noun(class_name).split()
    while len(words) > 1:
        words = _without_loose_end(words[:-1])
        if longest(" ".join(words))[0] <= most:
            return " ".join(words)
    tokens, sentence = longest(" ".join(words))
    raise PromptError(
        f"a sentence of the prompt set {prompts.name!r} has {tokens} tokens, {joint.name} reads {most} and would cut off the rest: "
        f"{sentence[:100]!r}; shorten its states or templates"
    )


def _without_loose_end(words: list[str]) -> list[str]:
    """Words without prepositions and commas that nothing follows any more; one word at least."""
    words = [*words[:-1], words[-1].rstrip(",;")]
    while len(words) > 1 and words[-1].casefold() in (*BOUNDARIES, "the", "a", "an", ""):
        words = words[:-1]
    return words


def _folder_name(model: str) -> str:
    """How a model folder of open_clip, named by its path, calls itself."""
    return f"open_clip folder {Path(model.removeprefix('local-dir:')).name}"


class TextVectors:
    """The two vectors of each (prompt set, class name) that was asked for, on one joint backbone.

    Attributes:
        known: vectors (2, D) by fingerprint of the prompt set and noun, the last used last.
    """

    def __init__(self, joint: Backbone, known: OrderedDict[tuple[str, str], Tensor] | None = None) -> None:
        self.joint = joint
        self.known: OrderedDict[tuple[str, str], Tensor] = OrderedDict() if known is None else known
        self._shortened: dict[tuple[str, str], str | None] = {}

    def copy(self) -> TextVectors:
        """Starts with the same vectors and goes its own way."""
        return TextVectors(self.joint, OrderedDict(self.known))

    def of(self, prompts: PromptEnsemble, class_name: str | None) -> Tensor:
        """Unit vectors (2, D) of the normal and the anomalous sentences, float32.

        Raises:
            PromptError: the class name cannot be put into a sentence.
        """
        key = (prompts.fingerprint, prompts.noun(class_name))
        if prompts.vectors is not None:
            return self._learned(prompts, key)
        if key not in self._shortened:
            self._shortened[key] = shortened_noun(prompts, class_name, self.joint)
        shorter = self._shortened[key]
        if shorter is not None:
            warn(
                f"the class name {key[1]!r} makes sentences too long for {self.joint.name}, which would cut them off; it reads {shorter!r}"
            )
        if key in self.known:
            self.known.move_to_end(key)
            return self.known[key]
        normal, anomalous = prompts.sentences(class_name if shorter is None else shorter)
        embeddings = self.joint.encode_text([*normal, *anomalous])
        self.known[key] = text_vectors(embeddings[: len(normal)], embeddings[len(normal) :])
        if len(self.known) > _KEPT:
            self._shortened.pop(self.known.popitem(last=False)[0], None)
        return self.known[key]

    def by_layer(self, learned: PromptVectors) -> Tensor | None:
        """Unit vectors (L, 2, D) for each of the last L blocks; None where they were learned for the last alone.

        Raises:
            PromptError: the model has fewer such blocks.
        """
        if learned.layers == 1:
            return None
        most = getattr(self.joint, "dense_layers", 0)
        if learned.layers > most:
            raise PromptError(
                f"the vectors {learned.name!r} are for the last {learned.layers} blocks and belong to {learned.model}; {self.joint.name} "
                f"has dense maps of its last {most}; name their model (--model)"
            )
        both = [learned.of_layer(layer) for layer in range(learned.layers)]
        return F.normalize(torch.tensor(both, dtype=torch.float32, device=self.joint.device), dim=-1)

    def _learned(self, prompts: PromptEnsemble, key: tuple[str, str]) -> Tensor:
        """Vectors of a file.

        Raises:
            PromptError: they belong to a model of another width.
        """
        learned = prompts.vectors
        assert learned is not None
        if key not in self.known:
            width = self.joint.encode_text(["object"]).shape[1]
            if width != learned.width:
                raise PromptError(
                    f"the vectors {learned.name!r} have {learned.width} numbers and belong to {learned.model}; {self.joint.name} has "
                    f"{width} to an embedding; name their model (--model)"
                )
            preset = PRESETS.get(self.joint.source or "")
            names = (self.joint.name, self.joint.source, None if preset is None else preset.source)
            if learned.model not in names and _folder_name(learned.model) != self.joint.name:
                warn(f"the vectors {learned.name!r} were learned with {learned.model}; with {self.joint.name} they mean something only if "
                     "that is the same model")  # fmt: skip
            both = torch.tensor(learned.of_layer(-1), dtype=torch.float32, device=self.joint.device)
            self.known[key] = F.normalize(both, dim=-1)
        return self.known[key]
