"""Frozen encoders of pictures and text. `load_backbone` finds one by name; `ClipBackbone` wraps any open_clip model object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlad.backbones.base import Backbone, ImageEmbeddings, Preprocessing
    from vlad.backbones.clip import ClipBackbone
    from vlad.backbones.registry import PRESETS, load_backbone

__all__ = ["PRESETS", "Backbone", "ClipBackbone", "ImageEmbeddings", "Preprocessing", "load_backbone"]

_ORIGIN = {
    "Backbone": "base",
    "ImageEmbeddings": "base",
    "Preprocessing": "base",
    "ClipBackbone": "clip",
    "PRESETS": "registry",
    "load_backbone": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _ORIGIN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_ORIGIN[name]}"), name)
