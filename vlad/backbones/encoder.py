"""What one or two backbones see in a picture: text-aligned embeddings from the one, patch tokens from the other or from the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlad.backbones.base import OF_PATCHES, Advice, Backbone, ImageEmbeddings, PatchBackbone, PatchTokens
from vlad.backbones.preprocessing import preprocess
from vlad.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class View:
    """One picture as the backbones see it; what was not asked for is None or empty.

    Attributes:
        image: (1, D) of the whole picture in the joint space with text.
        windows: for each scale (1, W, D) in the joint space.
        patches: patch tokens for few-shot matching.
        inside: bool (P,), the patches that lie in the region of interest; None if all do.
    """

    image: Tensor | None
    windows: dict[int, Tensor]
    patches: PatchTokens | None
    inside: Tensor | None = None

    @property
    def embedding(self) -> Tensor:
        """The whole picture as one unit vector (E,): the mean of its patch tokens, which see light and focus, or without them its joint
        embedding, which was trained to see meaning."""
        from torch.nn import functional as F

        if self.patches is not None:
            tokens = self.patches.tokens if self.inside is None else self.patches.tokens[self.inside]
            return F.normalize(F.normalize(tokens, dim=1).mean(0), dim=0)
        assert self.image is not None  # a view without both is never made
        return F.normalize(self.image[0], dim=0)


class Encoder:
    """Runs each backbone once for whatever is asked of it.

    Args:
        backbone: a joint encoder of pictures and text, or a patch backbone, which knows no words.
        patch_backbone: gives the patch tokens instead of `backbone`.

    Raises:
        ConfigError: one of them is no backbone, or they run on different devices.
    """

    def __init__(self, backbone: Backbone | PatchBackbone, patch_backbone: PatchBackbone | None = None) -> None:
        if not isinstance(backbone, str) and hasattr(backbone, "encode_image") and hasattr(backbone, "grid"):
            self.joint: Backbone | None = backbone  # type: ignore[assignment]
            self.patch_backbone: PatchBackbone | None = patch_backbone
        elif hasattr(backbone, "encode_patches"):
            if patch_backbone is not None:
                raise ConfigError(f"{backbone.name} is a patch backbone already; give a CLIP or lite beside patch_backbone")
            self.joint, self.patch_backbone = None, backbone  # type: ignore[assignment]
        else:
            raise ConfigError(
                f"backbone must be a backbone, got {type(backbone).__name__}; AnomalyDetector.from_pretrained(NAME) makes one by name, "
                "ClipBackbone(model, tokenizer) from an open_clip model, TimmBackbone(model) from a timm model"
            )
        if patch_backbone is not None and not hasattr(patch_backbone, "encode_patches"):
            raise ConfigError(f"patch_backbone must be a patch backbone such as TimmBackbone(model), got {type(patch_backbone).__name__}")
        if patch_backbone is not None and patch_backbone.device != backbone.device:
            raise ConfigError(f"both backbones must be on one device, got {backbone.device} and {patch_backbone.device}")

    @property
    def device(self) -> torch.device:
        """Where tokens come back."""
        backbone = self.joint or self.patch_backbone
        assert backbone is not None
        return backbone.device

    @property
    def advice(self) -> Advice:
        """Of whichever backbone gives the patch tokens; a backbone of your own that has none is treated as a CLIP or a patch backbone."""
        if self.patch_backbone is not None:
            return getattr(self.patch_backbone, "advice", OF_PATCHES)
        return self.text_advice

    @property
    def text_advice(self) -> Advice:
        """Of the joint backbone."""
        return getattr(self.joint, "advice", Advice())

    @property
    def size(self) -> int:
        """Side in pixels below which a crop is enlarged."""
        backbone = self.patch_backbone or self.joint
        assert backbone is not None
        return backbone.preprocessing.size

    def some_windows(self, picture: np.ndarray) -> Callable[[int, Tensor], Tensor]:
        """What embeds some windows of one picture uint8 (H, W, 3), see `ClipBackbone.some_windows`; of a joint backbone that has it."""
        joint: Any = self.joint
        found: Callable[[int, Tensor], Tensor] = joint.some_windows(preprocess([picture], joint.preprocessing))
        return found

    def see(self, pictures: Sequence[np.ndarray], *, scales: Sequence[int] = (), patches: bool = False, text: bool = True) -> list[View]:
        """Views of pictures uint8 (H, W, 3): windows of the `scales`, patch tokens with `patches`, joint embeddings with `text`. A patch
        backbone beside a joint one makes the joint pass unnecessary where neither text nor windows are asked for."""
        if not pictures:
            return []
        own_patches = patches and self.patch_backbone is None
        embedded: ImageEmbeddings | None = None
        if self.joint is not None and (text or scales or own_patches):
            embedded = self.joint.encode_image(preprocess(pictures, self.joint.preprocessing), scales=scales, patches=own_patches)
        tokens: list[PatchTokens | None] = [None] * len(pictures)
        if patches and self.patch_backbone is not None:
            tokens = list(self.patch_backbone.encode_patches(pictures))
        elif embedded is not None and embedded.patches is not None and self.joint is not None:
            tokens = [PatchTokens(values, self.joint.grid) for values in embedded.patches]
        if embedded is None:
            return [View(None, {}, values) for values in tokens]
        return [
            View(
                embedded.image[index : index + 1], {scale: values[index : index + 1] for scale, values in embedded.windows.items()}, values_
            )
            for index, values_ in enumerate(tokens)
        ]
