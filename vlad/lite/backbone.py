"""The embedded model as a backbone: a frozen EfficientNet-Lite0, a text-aligned head, a small text encoder, nothing to download."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from vlad.backbones.base import ImageEmbeddings, Preprocessing
from vlad.backbones.device import resolve_device, resolve_dtype
from vlad.errors import BackboneError, VladWarning, WeightsNotFoundError
from vlad.lite.head import GRID, Head, HeadConfig, features, windows
from vlad.lite.text import TextConfig, TextEncoder
from vlad.lite.trunk import CHANNELS, MEAN, SHA256, STD, Trunk, patch_tokens

WEIGHTS = Path(__file__).with_name("weights.safetensors")
FORMAT = "vlad-lite-1"
TRAIN = "python -m vlad.lite.train --out DIR"
SIZE = 320
SCALES = (1, 2, 3)
TEMPERATURE = 0.07


class LiteBackbone:
    """The embedded model, see `vlad.backbones.base.Backbone`.

    Args:
        device: "auto" (a GPU if there is one), or a name that torch knows.
        dtype: of the trunk; "auto" is float32 here, the model is small enough. The head always runs in float32.
        weights: head and text encoder; None takes the file shipped with the package.
        trunk_weights: the trunk's file; None takes the installed package's.

    Raises:
        WeightsNotFoundError: a weights file is missing or is not what it must be.
        ConfigError: unknown device or dtype.
    """

    grid = (GRID, GRID)
    scales: tuple[int, ...] = SCALES
    temperature = TEMPERATURE
    preprocessing = Preprocessing(size=SIZE, mean=MEAN, std=STD)
    scorer = "nearest"
    text_weight = 0.0  # beside references its words add noise on photographs, whatever they add on procedural pictures

    def __init__(
        self,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        weights: Path | None = None,
        trunk_weights: Path | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.dtype = torch.float32 if dtype == "auto" else resolve_dtype(dtype, self.device)
        path = WEIGHTS if weights is None else weights
        head, text, self.card = load(path)
        self.name = f"lite {self.card['version']} (embedded, trained on procedural pictures)"
        digest = hashlib.sha256(f"{SHA256} {SIZE} {self.dtype}".encode() + path.read_bytes()).hexdigest()
        self.fingerprint = f"lite-{digest[:16]}"
        self.source: str | None = "lite" if weights is None else None
        self.trunk = Trunk(trunk_weights).to(self.device, self.dtype)
        self.head = head.to(self.device)
        self.text = text.to(self.device)

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor, *, scales: Sequence[int] = (), patches: bool = False) -> ImageEmbeddings:
        """Embed preprocessed pixels (N, 3, 320, 320), see `vlad.backbones.base.Backbone.encode_image`.

        Raises:
            BackboneError: pixels of another shape, or a scale that does not fit the 20 x 20 grid.
        """
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, SIZE, SIZE):
            raise BackboneError(f"expected pixels (N, 3, {SIZE}, {SIZE}), got {tuple(pixels.shape)}; preprocess with `preprocessing`")
        for scale in scales:
            if not 1 <= scale <= GRID:
                raise BackboneError(f"expected window sides from 1 to {GRID} patches, got {scale}; use scales={SCALES}")
        # One picture at a time: convolution kernels chosen by batch size would make a result depend on its neighbours.
        rows = [self._encode_one(picture.unsqueeze(0), scales, patches) for picture in pixels]
        if not rows:
            dim, width = self.head.config.dim, CHANNELS[1] + CHANNELS[2]
            empty = {s: torch.empty(0, (GRID - s + 1) ** 2, dim, device=self.device) for s in scales}
            tokens = torch.empty(0, GRID * GRID, width, device=self.device) if patches else None
            return ImageEmbeddings(torch.empty(0, dim, device=self.device), empty, tokens)
        return ImageEmbeddings(
            image=torch.cat([row.image for row in rows]),
            windows={s: torch.cat([row.windows[s] for row in rows]) for s in scales},
            patches=torch.cat([row.patches for row in rows if row.patches is not None]) if patches else None,
        )

    @torch.inference_mode()
    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """Embed T sentences: (T, D). Words never trained share one neutral embedding."""
        if unknown := self.text.unknown_words(sentences):
            warnings.warn(
                f"{self.name} does not know {', '.join(map(repr, unknown))}; it learned about 330 word pieces, "
                "and all others mean nothing to it",
                VladWarning,
                stacklevel=4,
            )
        if not sentences:
            return torch.empty(0, self.text.config.dim, device=self.device)
        return torch.cat([self.text(self.text.rows(chunk).to(self.device)) for chunk in _chunks(sentences, 256)])

    def _encode_one(self, picture: Tensor, scales: Sequence[int], patches: bool) -> ImageEmbeddings:
        maps = self.trunk(picture.to(self.device, self.dtype))
        places, image, _ = self.head(features(maps))
        return ImageEmbeddings(
            image=image,
            windows={scale: windows(places, scale) for scale in scales},
            patches=patch_tokens(maps) if patches else None,
        )


def load(path: Path) -> tuple[Head, TextEncoder, dict[str, str]]:
    """Head, text encoder and model card (version, seed, data, validation numbers) from a weights file.

    Raises:
        WeightsNotFoundError: no file there, or not one that this version of vlad can read.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsNotFoundError(
            f"expected the weights of the embedded model at {path}, found no file; reinstall vlad-anomaly or train: {TRAIN}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            card = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise WeightsNotFoundError(
            f"expected a safetensors file at {path}, got {error}; reinstall vlad-anomaly or train: {TRAIN}"
        ) from error
    if card.get("format") != FORMAT:
        raise WeightsNotFoundError(f"expected weights of format {FORMAT} at {path}, got {card.get('format')}; reinstall vlad-anomaly")
    settings = json.loads(card["head"])
    head = Head(HeadConfig(**settings))
    text = TextEncoder(tensors.pop("vocabulary").tolist(), TextConfig(**json.loads(card["text"])))
    for name, module in (("head", head), ("text", text)):
        own = {key.removeprefix(f"{name}."): _full(value) for key, value in tensors.items() if key.startswith(f"{name}.")}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise WeightsNotFoundError(
                f"expected the tensors of {FORMAT} at {path}, got others: {error}; reinstall vlad-anomaly"
            ) from error
        module.eval().requires_grad_(False)
    return head, text, card


def save(path: Path, head: Head, text: TextEncoder, card: dict[str, str]) -> None:
    """Write a weights file that `load` reads: float16 tensors and string metadata, nothing executable."""
    from safetensors.torch import save_file

    tensors = {"vocabulary": torch.tensor(text.vocabulary, dtype=torch.int32)}
    for name, module in (("head", head), ("text", text)):
        tensors |= {f"{name}.{key}": _compact(value.detach()) for key, value in module.state_dict().items()}
    metadata = {**card, "format": FORMAT, "head": json.dumps(asdict(head.config)), "text": json.dumps(asdict(text.config))}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata=metadata)
    partial.chmod(0o644)  # the library makes it readable to its owner alone
    partial.replace(path)


def _compact(value: Tensor) -> Tensor:
    return (value.half() if value.is_floating_point() else value).contiguous().clone()


def _full(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _chunks(sentences: Sequence[str], size: int) -> list[Sequence[str]]:
    return [sentences[start : start + size] for start in range(0, len(sentences), size)]
