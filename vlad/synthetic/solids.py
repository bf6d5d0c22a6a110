"""What all objects share: the description of a part before light falls on it, and materials for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlad.synthetic.drawing import Array, Frame, Rng, cellular, colour, paint
from vlad.synthetic.textures import Texture, make_texture

TAU = np.float32(2 * np.pi)


@dataclass(frozen=True)
class Solid:
    """A part before light falls on it.

    `outline` (H, W) is the signed distance to its edge in radii, negative inside; `albedo` (H, W, 3) in [0, 1]; `relief` (H, W) is height
    in pixels on top of the rounding of the edge, which is `bevel` radii wide; `gloss` and `metal` in [0, 1] weigh highlights and mirrored
    surroundings.
    """

    outline: Array
    albedo: Array
    relief: Array
    bevel: float = 0.05
    gloss: float = 0.2
    metal: float = 0.0


def pixels(frame: Frame, radii: float) -> np.float32:
    return np.float32(radii * frame.radius)


def to_picture(frame: Frame, at: tuple[float, float]) -> tuple[float, float]:
    """Pixel (x, y) of a local point."""
    c, s, v = np.cos(frame.angle), np.sin(frame.angle), at[1] * frame.squash
    return frame.centre[0] + frame.radius * float(at[0] * c - v * s), frame.centre[1] + frame.radius * float(at[0] * s + v * c)


def some_material(design: Rng, grain: Rng, frame: Frame, kinds: tuple[str, ...], palette: str | None = None) -> Texture:
    return make_texture(str(design.choice(kinds)), design, grain, frame, palette)


def steel(design: Rng, grain: Rng, frame: Frame) -> Texture:
    return some_material(design, grain, frame, ("brushed metal", "cast metal", "panel", "turned metal"), "metal")


def add_speckles(albedo: Array, design: Rng, grain: Rng, frame: Frame, largest: float = 3.0) -> Array:
    """Evenly spread specks that belong to the material: seeds, chocolate chips, coloured grains."""
    distance, _ = cellular(grain, frame.size, int(design.integers(40, 400)))
    radius = np.float32(design.uniform(0.4, largest) * frame.size / 320)
    speck = colour(design) if design.random() < 0.5 else albedo * np.float32(design.uniform(0.3, 0.7))
    return paint(albedo, np.clip(radius + 0.5 - distance, 0, 1) * np.float32(0.8), speck)
