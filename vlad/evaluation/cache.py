"""Embeddings on disk: a second prompt set, method or threshold needs no second pass of the encoder.

A picture's embedding is one file for each part (whole picture, each window scale, patches), named by a hash of its preprocessed pixels,
in a folder named by the backbone's fingerprint. Values are stored in bfloat16 where that loses nothing (a bfloat16 encoder), else in
float32, so that what is read is bit for bit what was computed. Disk for a picture: 0.55 MB for `lite` with its windows (1085 of 128
numbers), 0.5 MB for `winclip` in bfloat16 and 0.9 MB in float32 (365 of 640); patch tokens of a few-shot backbone come on top.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlad.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from vlad.backbones.base import Backbone, ImageEmbeddings
    from vlad.detector import AnomalyDetector


class CachedBackbone:
    """A backbone that looks into a folder before it encodes; everything but `encode_image` is the backbone's own.

    Args:
        backbone: any `vlad.backbones.base.Backbone`.
        folder: made if missing; may be shared by backbones and processes. Deleting it is always safe.

    Attributes:
        hits, misses: pictures found and pictures encoded so far.

    Raises:
        ConfigError: the folder is a file or cannot be made.
    """

    def __init__(self, backbone: Backbone, folder: str | Path) -> None:
        self._backbone = backbone
        self.folder = Path(folder) / hashlib.sha256(backbone.fingerprint.encode()).hexdigest()[:16]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the embedding cache {folder} cannot be made ({error}); name a folder that can be written") from error
        self.hits = self.misses = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_backbone":  # copy and pickle ask before there is a backbone
            raise AttributeError(name)
        return getattr(self._backbone, name)

    def encode_image(self, pixels: Tensor, *, scales: Sequence[int] = (), patches: bool = False) -> ImageEmbeddings:
        """See `vlad.backbones.base.Backbone.encode_image`; only pictures of which a part is missing are encoded."""
        import torch

        from vlad.backbones.base import ImageEmbeddings

        parts = ["image", *(f"window{scale}" for scale in scales), *(["patches"] if patches else [])]
        keys = [_key(picture) for picture in pixels]
        found = [self._read(key, parts) for key in keys]
        missing = [index for index, tensors in enumerate(found) if tensors is None]
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        if missing or not keys:
            fresh = self._backbone.encode_image(pixels[missing], scales=scales, patches=patches)
            if not keys:
                return fresh
            for row, index in enumerate(missing):
                tensors = {"image": fresh.image[row], **{f"window{scale}": fresh.windows[scale][row] for scale in scales}}
                if fresh.patches is not None:
                    tensors["patches"] = fresh.patches[row]
                self._write(keys[index], tensors)
                found[index] = tensors
        device = self._backbone.device
        stacked = {part: torch.stack([tensors[part].to(device) for tensors in found if tensors is not None]) for part in parts}
        return ImageEmbeddings(stacked["image"], {scale: stacked[f"window{scale}"] for scale in scales}, stacked.get("patches"))

    def _path(self, key: str, part: str) -> Path:
        return self.folder / key[:2] / f"{key}.{part}.safetensors"

    def _read(self, key: str, parts: Sequence[str]) -> dict[str, Tensor] | None:
        """All parts, or None if one is not there or is damaged (it is then written again)."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return {part: load_file(self._path(key, part))["values"].float() for part in parts}
        except (OSError, SafetensorError, KeyError):
            return None

    def _write(self, key: str, tensors: dict[str, Tensor]) -> None:
        from safetensors.torch import save_file

        for part, tensor in tensors.items():
            path = self._path(key, part)
            path.parent.mkdir(exist_ok=True)
            values = tensor.detach().cpu().float()
            short = values.bfloat16()
            partial = path.with_suffix(f".{os.getpid()}.partial")
            save_file({"values": (short if short.float().equal(values) else values).contiguous()}, partial)
            partial.replace(path)


def use_cache(detector: AnomalyDetector, folder: str | Path) -> CachedBackbone:
    """Let a detector look into a cache from now on.

    Raises:
        ConfigError: its backbone only gives patch tokens of pictures of any size, which are not cached; or see `CachedBackbone`.
    """
    backbone: Any = detector.backbone
    if not hasattr(backbone, "encode_image"):
        raise ConfigError(f"the embedding cache keeps what CLIPs and lite see, {backbone.name} is neither; leave the cache out")
    cached: Any = CachedBackbone(backbone, folder)
    detector.backbone = cached
    encoder: Any = getattr(detector, "encoder", None)  # few-shot detectors ask it, with one or two backbones inside
    if encoder is not None:
        encoder.joint = cached
    return cached


def _key(picture: Tensor) -> str:
    """Hash of preprocessed pixels (3, S, S); the preprocessing is part of them."""
    return hashlib.blake2b(picture.detach().cpu().float().contiguous().numpy().tobytes(), digest_size=16).hexdigest()
