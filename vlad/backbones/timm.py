"""Any timm encoder as a patch backbone: DINOv2, DINOv3 and other ViTs, and convolutional networks with their intermediate maps."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlad.backbones.base import OF_PATCHES, PatchTokens, Preprocessing
from vlad.backbones.device import resolve_device, resolve_dtype
from vlad.backbones.preprocessing import preprocess
from vlad.errors import BackboneError, ConfigError, WeightsNotFoundError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
CONFIG_FILE = "config.json"
RESOLUTION = 448
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MOST_ELONGATED = 2  # the longer side is at most so many times the resolution, which bounds the cost of a long strip


class Stage(NamedTuple):
    """A block of a ViT or a stage of a network: pixels of the input to a token's side, and channels."""

    stride: int
    channels: int


class Chosen(NamedTuple):
    """Settings of a `TimmBackbone` of which none is left open, and what the input's sides must be a multiple of."""

    is_vit: bool
    layers: tuple[int, ...]
    norm: bool
    merge: str
    resolution: int
    multiple: int


class TimmBackbone:
    """A timm model object behind the interface of `vlad.backbones.base.PatchBackbone`; it knows no words.

    A ViT's tokens are those after its final LayerNorm unless `norm` says otherwise; a convolutional network's maps are 3 x 3 averaged and
    brought to the finest grid (PatchCore, arXiv 2106.08265).

    Args:
        model: any timm model with `forward_intermediates`; a ViT must be made with `dynamic_img_size=True`, which interpolates its
            position embeddings. It is left as it is: where device, precision or mode differ, a copy is used.
        name: what results call the model; by default its class with the remark that its weights are unknown.
        source: what `load_backbone` takes to load the same model again, None for a model of your own.
        resolution: side in pixels that a picture's shorter side is brought to (the longer at most twice that), or both if `square`.
            448 is fast, 672 finds smaller defects.
        square: True resizes to a square, False keeps the aspect and pads to whole patches by repeating the border.
        layers: blocks of a ViT or stages of a network, from 0, negative from the end. None takes a ViT's last block, or the maps at
            strides 8 and 16. "middle" takes a ViT's blocks from 11/20 to 7/10 of its depth: 22 to 28 of the 40 of DINOv2's giant, as
            SubspaceAD does, and 6 to 8 of 12, which nobody has published: an inference.
        merge: of several layers: "mean" or "concat" of what was normalised per place, or "raw", the mean of what was not. None takes
            "mean" for a ViT, "raw" for "middle", "concat" for other networks (channels differ).
        norm: whether a ViT's final LayerNorm is applied to each layer; None applies it, but not to "middle".
        mean, std: of the RGB channels; None takes the model's own.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (bfloat16 where the hardware has it), "float32", "bfloat16", "float16".

    Raises:
        BackboneError: the model gives no intermediate maps.
        ConfigError: a setting is out of range.
    """

    advice = OF_PATCHES

    def __init__(
        self,
        model: Any,
        *,
        name: str | None = None,
        source: str | None = None,
        resolution: int | None = None,
        square: bool = False,
        layers: Sequence[int] | str | None = None,
        merge: str | None = None,
        norm: bool | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> None:
        if not hasattr(model, "forward_intermediates") or not hasattr(model, "feature_info"):
            raise BackboneError(f"expected a timm model with intermediate maps, got {type(model).__name__}; make it with timm.create_model")
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        stages = [Stage(int(info["reduction"]), int(info["num_chs"])) for info in model.feature_info]
        chosen = choose(stages, resolution=resolution, square=square, layers=layers, merge=merge, norm=norm)
        self._is_vit, self._multiple = chosen.is_vit, chosen.multiple
        self.layers, self.norm, self.merge = chosen.layers, chosen.norm, chosen.merge
        self.resolution = size = chosen.resolution
        self.square = square
        cfg = getattr(model, "pretrained_cfg", None) or {}
        self.preprocessing = Preprocessing(size=size, mean=mean or cfg.get("mean", _MEAN), std=std or cfg.get("std", _STD))
        self.model = _frozen(model, self.device, self.dtype)
        self.name = name or f"{type(model).__name__} object (weights unknown)"
        self.source = source

    @property
    def options(self) -> dict[str, Any]:
        """The settings, as `load_backbone` takes them."""
        return {"resolution": self.resolution, "square": self.square, "layers": list(self.layers), "merge": self.merge, "norm": self.norm}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, shapes and values of all weights, with precision and settings; computed at the first use."""
        options = {key: value for key, value in self.options.items() if key != "norm" or not value}  # as folders of before know it
        digest = hashlib.sha256(repr((self.dtype, self.preprocessing, options)).encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def encode_patches(self, pictures: Sequence[np.ndarray]) -> list[PatchTokens]:
        """See `vlad.backbones.base.PatchBackbone`. One picture at a time, so that a result never depends on its neighbours."""
        return [self._encode(picture) for picture in pictures]

    def _encode(self, picture: np.ndarray) -> PatchTokens:
        height, width = self._size(*picture.shape[:2])
        pad_bottom, pad_right = -height % self._multiple, -width % self._multiple
        resized = preprocess([picture], self.preprocessing, size=(height, width))
        pixels = F.pad(resized, (0, pad_right, 0, pad_bottom), mode="replicate").to(self.device, self.dtype)
        merged = self.merged_maps(pixels)
        grid = (int(merged.shape[2]), int(merged.shape[3]))
        shown = (height / (height + pad_bottom), width / (width + pad_right))
        return PatchTokens(merged[0].flatten(1).T.contiguous(), grid, shown)

    def merged_maps(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels (N, 3, h, w) to the map (N, C', rows, cols) of all layers."""
        maps = self.model.forward_intermediates(
            pixels, indices=list(self.layers), norm=self._is_vit and self.norm, stop_early=True, intermediates_only=True
        )
        return self._merge([stage.float() for stage in maps])

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that a picture is resized to, before padding."""
        if self.square:
            side = max(1, round(self.resolution / self._multiple)) * self._multiple
            return side, side
        scale = min(self.resolution / min(height, width), _MOST_ELONGATED * self.resolution / max(height, width))
        least = self._multiple // 2 + 1  # a picture of one row of patches is at least half picture
        return max(least, round(height * scale)), max(least, round(width * scale))

    def _merge(self, maps: list[Tensor]) -> Tensor:
        """Maps (1, C, h, w) of several layers to one (1, C', rows, cols) on the finest grid."""
        if len(maps) == 1 and self._is_vit:
            return maps[0]
        size = max((tuple(stage.shape[2:]) for stage in maps), key=lambda shape: shape[0] * shape[1])
        parts = []
        for stage in maps:
            smooth = stage if self._is_vit else F.avg_pool2d(stage, 3, stride=1, padding=1, count_include_pad=False)
            fine = smooth if tuple(stage.shape[2:]) == size else F.interpolate(smooth, size=size, mode="bilinear", align_corners=False)
            parts.append(fine if self.merge == "raw" else F.normalize(fine, dim=1))
        return torch.cat(parts, dim=1) if self.merge == "concat" else torch.stack(parts).mean(0)


def choose(
    stages: Sequence[Stage],
    *,
    resolution: int | None = None,
    square: bool = False,
    layers: Sequence[int] | str | None = None,
    merge: str | None = None,
    norm: bool | None = None,
) -> Chosen:
    """The settings of a `TimmBackbone` for a model of these stages.

    Raises:
        ConfigError: one of them is out of range.
    """
    strides = [stage.stride for stage in stages]
    is_vit = len(set(strides)) == 1
    found = _layers(layers, strides, is_vit)
    is_middle = layers == "middle" and is_vit
    for name, flag in (("norm", norm), ("square", square)):
        if flag is not None and not isinstance(flag, bool):
            raise ConfigError(f"{name} must be True, False or None, got {flag!r}")
    widths = sorted({stages[layer].channels for layer in found})
    how = merge or ("raw" if is_middle else "mean" if is_vit else "concat")
    if how not in ("mean", "concat", "raw") or (how != "concat" and len(widths) > 1):
        raise ConfigError(f"merge must be 'mean' or 'raw' (layers of equal width) or 'concat', got {merge!r} for widths {widths}")
    multiple = max(strides[layer] for layer in found)
    size = RESOLUTION if resolution is None else resolution
    if not isinstance(size, int) or isinstance(size, bool) or size < 2 * multiple:
        raise ConfigError(f"resolution must be a whole number of pixels, at least {2 * multiple} for this model, got {resolution!r}")
    return Chosen(is_vit, found, (not is_middle) if norm is None else norm, how, size, multiple)


def load_timm(
    name: str, file: str | Path | None, *, label: str | None, source: str, cache_dir: str | Path | None = None, **options: Any
) -> TimmBackbone:
    """A timm encoder with real weights or not at all.

    Args:
        name: architecture with or without tag, e.g. "vit_small_patch14_dinov2.lvd142m", or a folder with config.json and weights as timm
            writes them for the hub.
        file: checkpoint in the hub's or the authors' format; None takes the folder's, the cache's or the hub's.
        label: the preset's name.
        source: what `load_backbone` takes to load the same model again.
        cache_dir: hub cache.
        **options: settings of `TimmBackbone`.

    Raises:
        BackboneError: the architecture is unknown, or the checkpoint does not fit.
        WeightsNotFoundError: the weights are not at hand and cannot be fetched.
    """
    import timm

    folder = Path(name).expanduser()
    overlay: dict[str, Any] = {}
    if folder.is_dir():
        config = _read_folder(folder)
        name, shown = config["architecture"], f"timm folder {folder.name} ({config['architecture']})"
        overlay = {key: tuple(config["pretrained_cfg"][key]) for key in ("mean", "std") if key in config.get("pretrained_cfg", {})}
        file = file or next((folder / weights for weights in WEIGHT_FILES if (folder / weights).is_file()), None)
        if file is None:
            raise WeightsNotFoundError(f"the model folder {folder} holds no weights; put {WEIGHT_FILES[0]} into it")
    else:
        shown = f"{label} ({name})" if label else name
    if not timm.is_model(name):
        from difflib import get_close_matches

        hint = get_close_matches(name, timm.list_models(pretrained=True), n=3, cutoff=0.5)
        raise BackboneError(f"timm knows no model {name!r}{f'; did you mean {chr(44).join(hint)}' if hint else ''}; see timm.list_models()")
    if file is not None:
        file = Path(file).expanduser()
        if not file.is_file():
            raise WeightsNotFoundError(f"the checkpoint file {file} for {name} does not exist; check the path")
        shown = shown if folder.is_dir() else f"{label or name} ({file.name})"
    else:
        file = _fetch(name, label, cache_dir)
    model = _create(name, overlay | {"file": str(file)}, shown)
    return TimmBackbone(model, name=shown, source=source, **options)


def is_timm_folder(folder: Path) -> bool:
    """True if a folder holds a model as timm writes it for the hub."""
    return bool(architecture_of(folder))


def architecture_of(folder: Path) -> str:
    """What a folder in timm's layout names; empty if it is none."""
    try:
        return str(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("architecture", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def hub_repo(name: str) -> str | None:
    """The hub repository of a timm model's weights, None if it has none."""
    import timm

    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return None if config is None else config.to_dict().get("hf_hub_id")


def _read_folder(folder: Path) -> dict[str, Any]:
    if not is_timm_folder(folder):
        raise BackboneError(f"the model folder {folder} holds no {CONFIG_FILE} that names an architecture; expected timm's layout")
    config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    return config


def _fetch(name: str, label: str | None, cache_dir: str | Path | None) -> Path:
    from vlad.backbones.hub import fetch_file

    repo = hub_repo(name)
    if repo is None:
        raise BackboneError(f"timm names no weights for {name}; give a checkpoint as timm:{name}:FILE")
    what = f"{f'{label!r}: ' if label else ''}timm {name}"
    return fetch_file(repo, WEIGHT_FILES, what=what, cache_dir=cache_dir, by_file=label or f"timm:{name}")


def _create(name: str, overlay: dict[str, Any], shown: str) -> nn.Module:
    """The model with its checkpoint; timm's own filter reads the authors' formats, and position embeddings stay as trained."""
    import timm

    def create(**options: Any) -> nn.Module:
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
        try:
            made: nn.Module = timm.create_model(name, dynamic_img_size=True, **options)
        except TypeError as error:
            if "dynamic_img_size" not in str(error):
                raise
            made = timm.create_model(name, **options)  # not a ViT: takes any size as it is
        return made

    try:
        try:
            model = create()  # with its classifier, because without it timm takes any checkpoint, and leaves random what that lacks
            cast(Any, model).reset_classifier(0)
        except RuntimeError as error:
            if not _is_of_classifier(name, str(error)):
                raise
            model = create(num_classes=0)
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError, EOFError, OSError, pickle.UnpicklingError) as error:
        detail = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"the checkpoint {overlay['file']} does not fit {shown}: {detail}; give the checkpoint of this model"
        ) from error
    return model


def _is_of_classifier(name: str, message: str) -> bool:
    """Whether all tensors that torch complains of belong to the classifier, which is not used: of other classes, or left out."""
    import timm

    config = timm.get_pretrained_cfg(name)
    heads = [] if config is None else config.to_dict().get("classifier") or []
    named = re.findall(r'"([\w.]+)"', message) + re.findall(r"size mismatch for ([\w.]+):", message)
    return bool(named) and all(key.startswith(tuple([heads] if isinstance(heads, str) else heads)) for key in named)


def _layers(layers: Sequence[int] | str | None, strides: list[int], is_vit: bool) -> tuple[int, ...]:
    if layers == "middle" and is_vit:
        return tuple(range(11 * len(strides) // 20, 7 * len(strides) // 10 + 1))
    if layers is None or layers == "middle":
        chosen = [len(strides) - 1] if is_vit else [layer for layer, stride in enumerate(strides) if stride in (8, 16)]
        return tuple(chosen or [len(strides) - 1])
    wanted = f"'middle' or whole numbers from 0 to {len(strides) - 1}, negative from the end"
    try:
        found = tuple(sorted({range(len(strides))[cast(int, layer)] for layer in layers if not isinstance(layer, bool)}))
    except (IndexError, TypeError) as error:
        raise ConfigError(f"layers must be {wanted}, got {layers!r}") from error
    if not found or any(isinstance(layer, bool) for layer in layers):
        raise ConfigError(f"layers must be {wanted}, got {layers!r}")
    return found


def _frozen(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The model in evaluation mode at the device and precision asked for; the caller's object is never changed."""
    as_asked = all(p.device == device and p.dtype == dtype for p in model.parameters())
    if as_asked and not any(module.training for module in model.modules()):
        return model
    return copy.deepcopy(model).to(device=device, dtype=dtype).eval()
