"""The text encoder: CLIP's tokens, a vocabulary of the words that were trained, a two-layer transformer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LENGTH = 24  # tokens read of a sentence; prompts are shorter, more is cut off
PADDING, UNKNOWN = 0, 1  # the first two rows of every vocabulary


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the text encoder; written beside its weights."""

    dim: int = 128  # of the joint space
    width: int = 96
    layers: int = 2
    heads: int = 4


class TextEncoder(nn.Module):
    """Sentences to the joint space.

    Args:
        vocabulary: CLIP token ids that have a row of their own; every other token shares one neutral row.
    """

    def __init__(self, vocabulary: Sequence[int], config: TextConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TextConfig()
        self.vocabulary = tuple(vocabulary)
        self._rows = {token: row for row, token in enumerate(self.vocabulary, start=2)}
        self.words = nn.Embedding(len(self.vocabulary) + 2, config.width, padding_idx=PADDING)
        self.positions = nn.Parameter(0.02 * torch.randn(LENGTH, config.width))
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 2 * config.width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, norm=nn.LayerNorm(config.width), enable_nested_tensor=False)
        self.weigh = nn.Linear(config.width, 1)  # how much each word counts
        # Averages of words are nearly alike; without centring, every sentence of a side collapses onto one vector in training.
        self.centre = nn.BatchNorm1d(config.width, affine=False, momentum=0.02)
        self.out = nn.Linear(config.width, config.dim, bias=False)

    def rows(self, sentences: Iterable[str]) -> Tensor:
        """(T, LENGTH) rows of the vocabulary, padded at the end."""
        table = [[self._rows.get(token, UNKNOWN) for token in tokens(sentence)] for sentence in sentences]
        out = torch.full((len(table), LENGTH), PADDING, dtype=torch.long)
        for index, row in enumerate(table):
            out[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        return out

    def unknown_words(self, sentences: Iterable[str]) -> list[str]:
        """Words of which some part was never trained, so that they mean little or nothing to the encoder."""
        words = sorted({word.strip(".,;:!?'\"()").lower() for sentence in sentences for word in sentence.split()} - {""})
        return [word for word in words if not all(token in self._rows for token in tokens(word))]

    def forward(self, rows: Tensor) -> Tensor:
        """(T, D) from rows of the vocabulary (T, LENGTH)."""
        longest = max(1, int((rows != PADDING).sum(dim=1).max()))
        rows = rows[:, :longest]
        padded = rows == PADDING
        padded = padded & (~padded).any(dim=1, keepdim=True)  # an empty sentence reads its padding, lest it attend to nothing
        hidden = self.layers(self.words(rows) + self.positions[:longest], src_key_padding_mask=padded)
        weights = self.weigh(hidden).masked_fill(padded.unsqueeze(-1), float("-inf")).softmax(dim=1)
        return self.out(self.centre((weights * hidden).sum(dim=1)))


@lru_cache(maxsize=100_000)
def tokens(sentence: str) -> tuple[int, ...]:
    """CLIP's token ids of a sentence, without start and end, at most LENGTH."""
    return tuple(_tokenizer().encode(sentence)[:LENGTH])


def vocabulary(sentences: Iterable[str]) -> list[int]:
    """The token ids that occur in the sentences, ascending."""
    return sorted({token for sentence in sentences for token in tokens(sentence)})


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    """open_clip's tokenizer, loaded from its own file: importing the package around it takes longer than everything else `lite` does."""
    package = find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the tokenizer of the embedded model comes with open_clip_torch; install it: pip install open_clip_torch")
    path = Path(package.submodule_search_locations[0]) / "tokenizer.py"
    spec = spec_from_file_location("vlad.backbones.lite._open_clip_tokenizer", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, "_tokenizer", None) or module.SimpleTokenizer()  # it makes one as it is imported, in a tenth of a second
