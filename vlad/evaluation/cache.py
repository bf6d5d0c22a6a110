"""Embeddings on disk: a second prompt set, scorer or threshold needs no second pass of the encoder.

What a backbone sees in a picture is named by a hash of that picture, in a folder named by the backbone's fingerprint: one file for each
part of a joint embedding (whole picture, each window scale, patch tokens), one for the tokens of a patch backbone. Values are stored in
bfloat16 where that loses nothing (a bfloat16 encoder), else in float32, so that what is read is bit for bit what was computed.
Disk for a picture: 3.4 MB for `lite` with its windows (2190 embeddings of 384 numbers) and 0.5 MB for its patch tokens, 0.9 MB for
`winclip` in float32 (365 of 640), half of that in bfloat16, and as much again with its patch tokens.
References count once for every angle at which they are remembered and every changed view that the threshold is calibrated on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vlad.backbones.base import OF_PATCHES, Advice, Backbone, ImageEmbeddings, PatchBackbone, PatchTokens
from vlad.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from vlad.detector import AnomalyDetector


class _Cached:
    """A backbone with a folder: its own attributes, and files of tensors by a picture's key.

    Attributes:
        folder: where this backbone's files are; other backbones have other folders beside it.
        hits, misses: pictures found and pictures encoded so far.
    """

    def __init__(self, backbone: Any, folder: str | Path, advice: Advice) -> None:
        self._backbone = backbone
        self.name: str = backbone.name
        self.source: str | None = backbone.source
        self.fingerprint: str = backbone.fingerprint
        self.preprocessing = backbone.preprocessing
        self.device: torch.device = backbone.device
        self.dtype: torch.dtype = backbone.dtype
        self.advice: Advice = getattr(backbone, "advice", advice)
        self.options: dict[str, Any] = getattr(backbone, "options", {})
        self.folder = Path(folder) / hashlib.sha256(self.fingerprint.encode()).hexdigest()[:16]
        self.hits = self.misses = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the embedding cache {folder} cannot be made ({error}); name a folder that can be written") from error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_backbone":  # copy and pickle ask before there is a backbone
            raise AttributeError(name)
        return getattr(self._backbone, name)

    def _read(self, key: str, parts: Sequence[str]) -> dict[str, dict[str, Tensor]] | None:
        """The tensors of all parts, or None if one is not there or is damaged (it is then written again)."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return {part: load(self._path(key, part).read_bytes()) for part in parts}
        except (OSError, SafetensorError):
            return None

    def _write(self, key: str, part: str, tensors: Mapping[str, Tensor]) -> None:
        from safetensors.torch import save_file

        path = self._path(key, part)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            path.parent.mkdir(exist_ok=True)
            save_file({name: _short(tensor.detach().cpu()).contiguous() for name, tensor in tensors.items()}, partial)
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise ConfigError(f"the embedding cache {self.folder} cannot be written ({error}); make room or go without") from error

    def _path(self, key: str, part: str) -> Path:
        return self.folder / key[:2] / f"{key}.{part}.safetensors"


class CachedBackbone(_Cached):
    """A joint backbone that looks into a folder before it encodes pictures; sentences are encoded as ever.

    Args:
        backbone: any `vlad.backbones.base.Backbone`.
        folder: made if missing; may be shared by backbones and processes. Deleting it is always safe.

    Raises:
        ConfigError: the folder is a file or cannot be made.
    """

    def __init__(self, backbone: Backbone, folder: str | Path) -> None:
        super().__init__(backbone, folder, Advice())
        self.grid = backbone.grid
        self.scales = backbone.scales
        self.temperature = backbone.temperature

    def encode_image(self, pixels: Tensor, *, scales: Sequence[int] = (), patches: bool = False) -> ImageEmbeddings:
        """See `vlad.backbones.base.Backbone.encode_image`; only pictures of which a part is missing are encoded.

        Raises:
            ConfigError: the cache cannot be written.
        """
        import torch

        if not len(pixels):
            return cast(ImageEmbeddings, self._backbone.encode_image(pixels, scales=scales, patches=patches))
        parts = ["image", *(f"window{scale}" for scale in scales), *(["patches"] if patches else [])]
        keys = [_hash(picture.detach().cpu().float().contiguous().numpy()) for picture in pixels]
        found = [self._find(key, parts) for key in keys]
        missing = [index for index, tensors in enumerate(found) if tensors is None]
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        if missing:
            fresh = self._backbone.encode_image(pixels[missing], scales=scales, patches=patches)
            for row, index in enumerate(missing):
                tensors = {"image": fresh.image[row], **{f"window{scale}": fresh.windows[scale][row] for scale in scales}}
                if patches:
                    tensors["patches"] = fresh.patches[row]
                for part, tensor in tensors.items():
                    self._write(keys[index], part, {"values": tensor})
                found[index] = tensors
        stacked = {part: torch.stack([tensors[part].to(self.device) for tensors in found if tensors is not None]) for part in parts}
        return ImageEmbeddings(stacked["image"], {scale: stacked[f"window{scale}"] for scale in scales}, stacked.get("patches"))

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """See `vlad.backbones.base.Backbone.encode_text`."""
        return cast("Tensor", self._backbone.encode_text(sentences))

    def __getattr__(self, name: str) -> Any:
        """What the model itself knows beyond the protocol, such as how many tokens a sentence has."""
        if name in ("count_tokens", "most_tokens", "is_dense", "dense_layers", "some_windows"):
            return getattr(self._backbone, name)
        raise AttributeError(name)

    def _find(self, key: str, parts: Sequence[str]) -> dict[str, Tensor] | None:
        found = self._read(key, parts)
        if found is None or any("values" not in tensors for tensors in found.values()):
            return None
        return {part: tensors["values"].float() for part, tensors in found.items()}


class CachedPatchBackbone(_Cached):
    """A patch backbone that looks into a folder before it encodes; see `CachedBackbone`."""

    def __init__(self, backbone: PatchBackbone, folder: str | Path) -> None:
        super().__init__(backbone, folder, OF_PATCHES)

    def encode_patches(self, pictures: Sequence[np.ndarray]) -> list[PatchTokens]:
        """See `vlad.backbones.base.PatchBackbone.encode_patches`; only pictures that are missing are encoded.

        Raises:
            ConfigError: the cache cannot be written.
        """
        keys = [_hash(picture) for picture in pictures]
        found = [self._find(key) for key in keys]
        missing = [index for index, tokens in enumerate(found) if tokens is None]
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        if missing:
            fresh = self._backbone.encode_patches([pictures[index] for index in missing])
            for index, tokens in zip(missing, fresh, strict=True):
                self._write(keys[index], _TOKENS, _as_tensors(tokens))
                found[index] = tokens
        return [tokens for tokens in found if tokens is not None]

    def _find(self, key: str) -> PatchTokens | None:
        import torch

        found = self._read(key, [_TOKENS])
        if found is None or found[_TOKENS].keys() != {"tokens", "grid", "shown"}:
            return None
        rows, cols = found[_TOKENS]["grid"].tolist()
        height, width = found[_TOKENS]["shown"].tolist()
        # A copy in memory of torch's own: where numbers lie can change the last bit of a product.
        tokens = found[_TOKENS]["tokens"].to(self.device, torch.float32, copy=True)
        return PatchTokens(tokens, (rows, cols), (height, width))


def on_cache(detector: AnomalyDetector, folder: str | Path) -> AnomalyDetector:
    """The same detector, with its references and labels, on backbones that look into a cache.

    Raises:
        ConfigError: the folder is a file or cannot be made.
    """
    joint, of_patches = detector.encoder.joint, detector.encoder.patch_backbone
    cached_patches = None if of_patches is None else CachedPatchBackbone(of_patches, folder)
    settings: Any = detector.config.to_dict()
    if joint is not None:
        cached = type(detector)(CachedBackbone(joint, folder), patch_backbone=cached_patches, prompts=detector.prompts, **settings)
    else:
        assert cached_patches is not None  # an encoder has one of the two
        cached = type(detector)(cached_patches, prompts=detector.prompts, **settings)
    cached.memory, cached.labels, cached.history = detector.memory, detector.labels, detector.history
    if detector.later is not None:
        cached.later = detector.later.through(lambda patches: CachedPatchBackbone(patches, folder))
    return cached


_TOKENS = "tokens"


def _as_tensors(tokens: PatchTokens) -> dict[str, Tensor]:
    import torch

    return {"tokens": tokens.tokens, "grid": torch.tensor(tokens.grid), "shown": torch.tensor(tokens.shown, dtype=torch.float64)}


def _short(values: Tensor) -> Tensor:
    """float32 as bfloat16 if that loses nothing; other types as they are."""
    import torch

    if values.dtype != torch.float32:
        return values
    short = values.bfloat16()
    return short if short.float().equal(values) else values


def _hash(picture: np.ndarray) -> str:
    """32 hex digits over shape, type and values: of preprocessed pixels the preprocessing is part, of a picture as it is the backbone's
    fingerprint has it."""
    import numpy as np

    digest = hashlib.blake2b(f"{picture.shape} {picture.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()
