"""Frozen encoders of pictures and text. `load_backbone` finds one by name; `ClipBackbone` wraps any open_clip model object,
`TimmBackbone` any timm model object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlad.backbones.base import Advice, Backbone, ImageEmbeddings, PatchBackbone, PatchTokens, Preprocessing
    from vlad.backbones.clip import ClipBackbone
    from vlad.backbones.presets import PRESETS
    from vlad.backbones.registry import load_backbone
    from vlad.backbones.timm import TimmBackbone

__all__ = [
    "PRESETS",
    "Advice",
    "Backbone",
    "ClipBackbone",
    "ImageEmbeddings",
    "PatchBackbone",
    "PatchTokens",
    "Preprocessing",
    "TimmBackbone",
    "load_backbone",
]

_ORIGIN = {
    "Advice": "base",
    "Backbone": "base",
    "ImageEmbeddings": "base",
    "PatchBackbone": "base",
    "PatchTokens": "base",
    "Preprocessing": "base",
    "ClipBackbone": "clip",
    "PRESETS": "registry",
    "TimmBackbone": "timm",
    "load_backbone": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _ORIGIN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_ORIGIN[name]}"), name)
