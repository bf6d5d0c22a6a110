"""Any open_clip model as a backbone: pictures, windows and sentences in its joint space."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from vlad.backbones.base import DENSE, Advice, ImageEmbeddings, Preprocessing
from vlad.backbones.device import resolve_device, resolve_dtype
from vlad.backbones.towers import build_tower
from vlad.errors import BackboneError, ConfigError

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_SENTENCES_PER_PASS = 64


class ClipBackbone:
    """An open_clip model object behind the interface of `vlad.backbones.base.Backbone`.

    Args:
        model: any open_clip model whose image tower is a ViT. It is left as it is: where device, precision or mode differ from what
            is asked for, a copy is used; where they agree, the object itself, so do not train it afterwards.
        tokenizer: sentences to token ids (T, L); None takes CLIP's own.
        name: what results call the model; by default its class with the remark that its weights are unknown.
        source: what `load_backbone` takes to load the same model again, None for a model of your own.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (bfloat16 where the hardware has it), "float32", "bfloat16", "float16".
        chunk: pictures whose windows are embedded together; None takes 1 on a CPU (where a picture alone fills the cores, and a
            picture's result is bit for bit the same in every batch) and 8 elsewhere. Memory grows with it, not with the batch.
        dense_attention: "v" or "qkv", of the dense patch embeddings; see `OpenClipTower.encode_dense`.

    Raises:
        BackboneError: the tower allows no windows, or its input is not square.
        ConfigError: device, dtype or chunk is out of range.
    """

    scales: tuple[int, ...] = (2, 3)
    temperature: float = 0.07
    advice = Advice()

    def __init__(
        self,
        model: Any,
        tokenizer: Callable[..., Tensor] | None = None,
        *,
        name: str | None = None,
        source: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        chunk: int | None = None,
        dense_attention: str = "v",
    ) -> None:
        visual = getattr(model, "visual", None)
        if visual is None or not hasattr(model, "encode_text"):
            raise BackboneError(f"expected an open_clip model with `visual` and `encode_text`, got {type(model).__name__}")
        if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
            raise ConfigError(f"chunk must be at least 1, got {chunk}")
        if dense_attention not in ("v", "qkv"):
            raise ConfigError(f"dense_attention must be 'v' or 'qkv', got {dense_attention!r}")
        self.dense_attention = dense_attention
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self.model = _frozen(model, self.device, self.dtype)
        self.tower = build_tower(self.model.visual)
        self.grid = self.tower.grid
        self.preprocessing = _preprocessing(self.model.visual)
        self.name = name or f"{type(model).__name__} object (weights unknown)"
        self.source = source
        self.chunk = chunk or (1 if self.device.type == "cpu" else 8)
        self._tokenizer = tokenizer or _clip_tokenizer(self.model)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, shapes and values of all weights, with precision and preprocessing; computed at the first use."""
        made = (self.dtype, self.preprocessing, self.scales, self.temperature)
        digest = hashlib.sha256(repr(made if self.dense_attention == "v" else (*made, self.dense_attention)).encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor, *, scales: Sequence[int] = (), patches: bool = False) -> ImageEmbeddings:
        """See `Backbone.encode_image`. Patch tokens are those after the last LayerNorm, before the projection."""
        images, windows, tokens = [], {scale: [] for scale in scales}, []  # type: ignore[var-annotated]
        dense_scale = next((scale for scale in scales if scale <= DENSE), None)
        for some in pixels.split(self.chunk):
            embedded = self.tower.embed(some.to(self.device, self.dtype))
            if dense_scale is not None:
                image, last, dense = self.tower.encode_dense(embedded, self.dense_attention, -dense_scale, patches=patches)
                windows[dense_scale].append(dense.flatten(1, -2))
            else:
                image, last = self.tower.encode(embedded)
            images.append(image.float())
            for scale, embeddings in self.tower.encode_windows(embedded, [scale for scale in scales if scale > DENSE]).items():
                windows[scale].append(embeddings.float())
            if patches and last is not None:
                tokens.append(last.float())
        return ImageEmbeddings(
            image=torch.cat(images),
            windows={scale: torch.cat(parts) for scale, parts in windows.items()},
            patches=torch.cat(tokens) if patches else None,
        )

    @torch.inference_mode()
    def some_windows(self, pixels: Tensor) -> Callable[[int, Tensor], Tensor]:
        """A function that embeds some windows of one preprocessed picture (1, 3, h, w): from a scale and their numbers (W,), int64, in
        row-major order at stride 1, to (1, W, D), float32."""
        encode = self.tower.some_windows(self.tower.embed(pixels.to(self.device, self.dtype)))

        def some(scale: int, which: Tensor) -> Tensor:
            with torch.inference_mode():
                return encode(scale, which).float()

        return some

    @torch.inference_mode()
    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """See `Backbone.encode_text`."""
        if not sentences:
            raise ConfigError("expected at least one sentence to embed, got none")
        tokens = self._tokenizer(list(sentences)).to(self.device)
        return torch.cat([self._encode_tokens(some).float() for some in tokens.split(_SENTENCES_PER_PASS)])

    @property
    def is_dense(self) -> bool:
        """Whether windows of the side `DENSE` can be asked for."""
        return self.tower.is_dense

    @property
    def dense_layers(self) -> int:
        """Of how many last blocks there are dense embeddings."""
        return getattr(self.tower, "dense_layers", 0)

    def count_tokens(self, sentences: Sequence[str]) -> list[int]:
        """How many tokens each sentence has, those at its beginning and end included; more than `most_tokens` are cut off. Of a tokenizer
        of another kind than open_clip's what is known is whether a sentence fills all places, which counts as one too many."""
        tokenizer: Any = self._tokenizer
        inner = getattr(tokenizer, "tokenizer", None)
        if hasattr(tokenizer, "encode"):
            return [len(tokenizer.encode(text)) + 2 for text in sentences]
        if inner is not None:
            clean = getattr(tokenizer, "clean_fn", lambda text: text)
            return [len(inner(clean(text))["input_ids"]) for text in sentences]
        rows = tokenizer(list(sentences))
        last = tokenizer([""])[0, -1]
        return [rows.shape[1] + 1 if bool(row[-1] != last) else int((row != last).sum()) for row in rows]

    @property
    def most_tokens(self) -> int:
        """Tokens that the text tower reads."""
        known = getattr(self._tokenizer, "context_length", None) or getattr(self.model, "context_length", None)
        return int(known) if known else int(self._tokenizer([""]).shape[1])

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        """Embed token ids (T, L). CLIP's text tower is causal and read at the end token, so what follows the longest sentence is cut
        off: exact, and several times cheaper than padding every sentence to 77 tokens."""
        model = self.model
        causal_to_end = getattr(model, "text_pool_type", None) == "argmax" and getattr(model, "attn_mask", None) is not None
        if not causal_to_end:
            return model.encode_text(tokens)
        length = int(tokens.argmax(dim=1).max()) + 1
        x = model.token_embedding(tokens[:, :length]).to(self.dtype) + model.positional_embedding[:length].to(self.dtype)
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        x = x[torch.arange(len(x)), tokens.argmax(dim=1)]
        if model.text_projection is None:
            return x
        return model.text_projection(x) if isinstance(model.text_projection, nn.Linear) else x @ model.text_projection


def _frozen(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The model in evaluation mode at the device and precision asked for; the caller's object is never changed."""
    as_asked = all(p.device == device and p.dtype == dtype for p in model.parameters())
    if as_asked and not any(module.training for module in model.modules()):
        return model
    return copy.deepcopy(model).to(device=device, dtype=dtype).eval()


def _preprocessing(visual: Any) -> Preprocessing:
    sizes = visual.image_size if isinstance(visual.image_size, (tuple, list)) else (visual.image_size, visual.image_size)
    if sizes[0] != sizes[1]:
        raise BackboneError(f"expected a model with a square input, got {sizes[0]} x {sizes[1]} pixels; choose another model")
    config = getattr(visual, "preprocess_cfg", None) or {}
    return Preprocessing(size=int(sizes[0]), mean=tuple(config.get("mean", _CLIP_MEAN)), std=tuple(config.get("std", _CLIP_STD)))


def _clip_tokenizer(model: Any) -> Callable[..., Tensor]:
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(context_length=getattr(model, "context_length", 77))
