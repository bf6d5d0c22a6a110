"""The embedded model as a backbone: a frozen EfficientNet-Lite0, text-aligned heads, small text encoders, nothing to download."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad.backbones.base import Advice, ImageEmbeddings, Preprocessing
from vlad.backbones.device import resolve_device, resolve_dtype
from vlad.backbones.lite.head import Head, HeadConfig, features, windows
from vlad.backbones.lite.text import TextConfig, TextEncoder
from vlad.backbones.lite.trunk import CHANNELS, MEAN, SHA256, STD, Trunk, patch_tokens
from vlad.errors import BackboneError, ConfigError, WeightsNotFoundError, warn

WEIGHTS = Path(__file__).with_name("weights.safetensors")
FORMAT = "vlad-lite-2"
TRAIN = "python -m vlad.training --out DIR --photographs-from PHOTOGRAPHS"
SIZE = 448  # pixels; the head was trained at 320 and finds more at 448, see the model card
COARSE_SIZE = 320  # of the second look
GRID = SIZE // 16
SCALES = (1, 2, 3)
TEMPERATURE = 0.07


class LiteBackbone:
    """The embedded model, see `vlad.backbones.base.Backbone`.

    Args:
        device: "auto" (a GPU if there is one), or a name that torch knows.
        dtype: of the trunk; "auto" is float32 here, the model is small enough. The head always runs in float32.
        fine: look twice, at 320 and at 448 pixels, and average; takes half as long again.
        weights: heads and text encoders; None takes the file shipped with the package.
        trunk_weights: the trunk's file; None takes the installed package's.

    Raises:
        WeightsNotFoundError: a weights file is missing or is not what it must be.
        ConfigError: unknown device or dtype.
    """

    grid = (GRID, GRID)
    scales: tuple[int, ...] = SCALES
    temperature = TEMPERATURE
    preprocessing = Preprocessing(size=SIZE, mean=MEAN, std=STD)

    def __init__(
        self,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        fine: bool = False,
        weights: Path | None = None,
        trunk_weights: Path | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.dtype = torch.float32 if dtype == "auto" else resolve_dtype(dtype, self.device)
        path = WEIGHTS if weights is None else weights
        members, self.card = load(path)
        self.sizes = (SIZE, COARSE_SIZE) if fine else (SIZE,)
        self.name = f"lite{'-fine' if fine else ''} {self.card['version']} (embedded, trained on procedural pictures)"
        digest = hashlib.sha256(f"{SHA256} {self.sizes} {self.dtype}".encode() + path.read_bytes()).hexdigest()
        self.fingerprint = f"lite-{digest[:16]}"
        self.source: str | None = ("lite-fine" if fine else "lite") if weights is None else None
        self.trunk = Trunk(trunk_weights).to(self.device, self.dtype)
        self.members = [Member(member.head.to(self.device), member.text.to(self.device)) for member in members]
        self.advice = Advice(
            scorer="nearest",
            text_weight=0.0,  # beside references its words add noise on photographs, whatever they add on procedural pictures
            rarity=20.0,  # with the centre chosen on product lines of validation families
            rarity_centre=0.26,
            kin=0.05,  # products that lie still keep below 0.05, collections above 0.06; eval/results/mutual.md
            text_threshold=None,  # at 0.5 its words were right on 56 % of the pictures of nine products that nobody tuned on
            type_reliability="right in four of ten procedural pictures of kinds that this model knows",  # eval/describer.py
            unknown_words=self.unknown_words,
        )

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor, *, scales: Sequence[int] = (), patches: bool = False) -> ImageEmbeddings:
        """Embed preprocessed pixels (N, 3, 448, 448), see `vlad.backbones.base.Backbone.encode_image`.

        Raises:
            BackboneError: pixels of another shape, or a scale that does not fit the 28 x 28 grid.
        """
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, SIZE, SIZE):
            raise BackboneError(f"expected pixels (N, 3, {SIZE}, {SIZE}), got {tuple(pixels.shape)}; preprocess with `preprocessing`")
        for scale in scales:
            if not 1 <= scale <= GRID:
                raise BackboneError(f"expected window sides from 1 to {GRID} patches, got {scale}; use scales={SCALES}")
        # One picture at a time: convolution kernels chosen by batch size would make a result depend on its neighbours.
        rows = [self._encode_one(picture.unsqueeze(0), scales, patches) for picture in pixels]
        if not rows:
            dim, width = self._dim, CHANNELS[1] + CHANNELS[2]
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
        text = self.members[0].text
        if unknown := text.unknown_words(sentences):
            warn(
                f"{self.name} does not know {', '.join(map(repr, unknown))}; it learned about 330 word pieces, "
                "and all others mean nothing to it"
            )
        if not sentences:
            return torch.empty(0, self._dim, device=self.device)
        parts = []
        for chunk in _chunks(sentences, 256):
            rows = text.rows(chunk).to(self.device)
            parts.append(joined([member.text(rows) for member in self.members] * len(self.sizes)))
        return torch.cat(parts)

    def unknown_words(self, sentences: Sequence[str]) -> list[str]:
        """Words that were never trained, so that a sentence which rests on one means little to this model."""
        return self.members[0].text.unknown_words(sentences)

    @property
    def _dim(self) -> int:
        return len(self.sizes) * len(self.members) * self.members[0].head.config.dim

    def _encode_one(self, picture: Tensor, scales: Sequence[int], patches: bool) -> ImageEmbeddings:
        picture = picture.to(self.device, self.dtype)
        looks = [self._look(picture if size == picture.shape[-1] else _resized(picture, size)) for size in self.sizes]
        seen = [places_and_image for _, each in looks for places_and_image in each]
        return ImageEmbeddings(
            image=joined([image for _, image in seen]),
            windows={scale: joined([windows(places, scale) for places, _ in seen]) for scale in scales},
            patches=patch_tokens(looks[0][0]) if patches else None,
        )

    def _look(self, picture: Tensor) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Trunk maps, and for each member the places (1, D, 28, 28) and the picture (1, D)."""
        maps = self.trunk(picture)
        parts = features(maps)
        seen = []
        for member in self.members:
            places, image, _ = member.head(parts)
            if places.shape[-1] != GRID:
                places = F.interpolate(F.normalize(places, dim=1), size=self.grid, mode="bilinear", align_corners=False)
            seen.append((places, image))
        return maps, seen


class Member(NamedTuple):
    """One trained pair; a weights file holds one or several, trained alike from different seeds."""

    head: Head
    text: TextEncoder


def load(path: Path) -> tuple[list[Member], dict[str, str]]:
    """Members and model card (version, seeds, data, validation numbers) from a weights file.

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
    vocabulary = tensors.pop("vocabulary").tolist()
    members = []
    for number in range(int(card["members"])):
        member = Member(Head(HeadConfig(**json.loads(card["head"]))), TextEncoder(vocabulary, TextConfig(**json.loads(card["text"]))))
        for name, module in zip(Member._fields, member, strict=True):
            prefix = f"{number}.{name}."
            own = {key.removeprefix(prefix): _full(value) for key, value in tensors.items() if key.startswith(prefix)}
            try:
                module.load_state_dict(own)
            except RuntimeError as error:
                raise WeightsNotFoundError(
                    f"expected the tensors of {FORMAT} at {path}, got others: {error}; reinstall vlad-anomaly"
                ) from error
            module.eval().requires_grad_(False)
        members.append(member)
    return members, card


def save(path: Path, members: Sequence[Member], card: dict[str, str]) -> None:
    """Write a weights file that `load` reads: float16 tensors and string metadata, nothing executable.

    Raises:
        ConfigError: the members differ in their sizes or their vocabulary.
    """
    from safetensors.torch import save_file

    first = members[0]
    for member in members:
        if (member.head.config, member.text.config, member.text.vocabulary) != (
            first.head.config,
            first.text.config,
            first.text.vocabulary,
        ):
            raise ConfigError("expected members of equal sizes and vocabulary, got different ones; train them with equal settings")
    tensors = {"vocabulary": torch.tensor(first.text.vocabulary, dtype=torch.int32)}
    for number, member in enumerate(members):
        for name, module in zip(Member._fields, member, strict=True):
            tensors |= {f"{number}.{name}.{key}": _compact(value.detach()) for key, value in module.state_dict().items()}
    settings = {"head": json.dumps(asdict(first.head.config)), "text": json.dumps(asdict(first.text.config))}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={**card, **settings, "format": FORMAT, "members": str(len(members))})
    partial.chmod(0o644)  # the library makes it readable to its owner alone
    partial.replace(path)


def joined(embeddings: list[Tensor]) -> Tensor:
    """The members' embeddings (..., D) side by side as unit vectors (..., members * D): cosines with such text average the members'."""
    return torch.cat([F.normalize(values, dim=-1) for values in embeddings], dim=-1)


def _resized(picture: Tensor, size: int) -> Tensor:
    return F.interpolate(picture, size=(size, size), mode="bicubic", align_corners=False, antialias=True)


def _compact(value: Tensor) -> Tensor:
    return (value.half() if value.is_floating_point() else value).contiguous().clone()


def _full(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _chunks(sentences: Sequence[str], size: int) -> list[Sequence[str]]:
    return [sentences[start : start + size] for start in range(0, len(sentences), size)]
