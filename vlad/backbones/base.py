"""What every backbone gives to the scorers, and nothing about how it gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


DENSE = 0  # in place of a window's side: each patch by itself, as a transformer's last blocks show it without mixing places


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes pixels: resized to the square `size`, scaled to [0, 1], then `(x - mean) / std` per RGB channel."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class ImageEmbeddings:
    """Embeddings of N pictures, float32, not normalised; whoever compares them normalises them.

    Attributes:
        image: (N, D) of the whole picture, in the joint space with text.
        windows: for each scale s (window side in patches) a tensor (N, W, D) in the joint space, windows at stride 1 in row-major
            order, so W = (rows - s + 1) * (cols - s + 1). For `DENSE` (N, P, D), one embedding a patch; for -L (N, L * P, D), those of
            each of the last L blocks instead of their mean; see `vlad.backbones.towers`.
        patches: (N, P, C) patch tokens in row-major order for few-shot matching (not in the joint space), or None if not asked for.
    """

    image: Tensor
    windows: dict[int, Tensor] = field(default_factory=dict)
    patches: Tensor | None = None


@dataclass(frozen=True)
class PatchTokens:
    """Patch tokens of one picture.

    Attributes:
        tokens: (P, C) float32 in row-major order, not normalised.
        grid: (rows, cols), P = rows * cols.
        shown: share of the grid's height and width that the picture fills, from its upper left corner; the rest is padding.
    """

    tokens: Tensor
    grid: tuple[int, int]
    shown: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """How a backbone is meant to be used: what a setting of the detector leaves open is taken from here. The defaults suit a CLIP.

    Attributes:
        scorer: the scoring method beside references, a name of `vlad.scoring.methods`.
        text_weight: weight in [0, 1] that its text score deserves beside references.
        rarity: weight of rarity inside the picture beside words, without references; 0 leaves the words alone.
        rarity_centre: the rarity in [0, 1] that speaks neither for nor against an anomaly.
        text_threshold: the score above which words alone call a picture anomalous; None if its words cannot tell.
        kin: the distance (1 - cos) / 2 of whole pictures up to which they show one kind of product; None if nobody measured it.
        type_margin: the confidence from which three of four types that its words name were right where that was measured, in [0, 1];
            None: there is none, or nobody measured it, and no type is named.
        type_reliability: how often the type of defect that its words name is right, in words; empty if nobody measured it.
        unknown_words: those words of sentences that the backbone never learned; None if it knows every word.
    """

    scorer: str = "winclip"
    text_weight: float = 0.5
    rarity: float = 0.0
    rarity_centre: float = 0.25
    text_threshold: float | None = 0.5
    kin: float | None = None
    type_reliability: str = ""
    type_margin: float | None = None
    unknown_words: Callable[[Sequence[str]], list[str]] | None = None


OF_PATCHES = Advice(scorer="nearest", text_weight=0.0)  # for a backbone that knows no words


@runtime_checkable
class PatchBackbone(Protocol):
    """A frozen encoder of pictures alone, for few-shot matching; `name`, `source`, `fingerprint`, `preprocessing` and `advice` as of
    `Backbone`.

    Attributes:
        options: the settings that `load_backbone` takes beside `source` to load the same backbone again.
    """

    name: str
    source: str | None
    preprocessing: Preprocessing
    device: torch.device
    dtype: torch.dtype
    advice: Advice

    @property
    def fingerprint(self) -> str: ...

    @property
    def options(self) -> dict[str, Any]: ...

    def encode_patches(self, pictures: Sequence[np.ndarray]) -> list[PatchTokens]:
        """Patch tokens of pictures uint8 (H, W, 3) of any size, on `self.device`; each depends on its own picture alone."""
        ...


@runtime_checkable
class Backbone(Protocol):
    """A frozen encoder of pictures and text in one joint space.

    Attributes:
        name: names the model and its weights for people; every result carries it, so it must not promise more than the model is.
        source: what `load_backbone` takes to load the same model again; None if it was made from an object.
        fingerprint: equal for two backbones only if they give equal embeddings; the key of every cache.
        preprocessing: the one preprocessing for queries and references.
        grid: (rows, cols) of patches.
        scales: window sides in patches that this backbone is meant to be used with.
        temperature: the softmax temperature of the zero-shot score that this backbone is meant to be used with.
        advice: the other settings that it is meant to be used with.
    """

    name: str
    source: str | None
    preprocessing: Preprocessing
    grid: tuple[int, int]
    scales: tuple[int, ...]
    temperature: float
    device: torch.device
    dtype: torch.dtype
    advice: Advice

    @property
    def fingerprint(self) -> str: ...

    def encode_image(self, pixels: Tensor, *, scales: Sequence[int] = (), patches: bool = False) -> ImageEmbeddings:
        """Embed preprocessed pixels (N, 3, size, size) on any device; embeddings come back in float32 on `self.device`.

        Windows are computed only for the `scales` asked for, patch tokens only with `patches=True`. The result for a picture does not
        depend on the other pictures of the batch.
        """
        ...

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """Embed T sentences: (T, D) float32, not normalised, on `self.device`."""
        ...
