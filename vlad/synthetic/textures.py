"""Surfaces: woven, brushed, cast, tiled and other materials as albedo and relief.

`design` is the random stream of the product, `grain` that of the piece in view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from vlad.synthetic.drawing import (
    METALS,
    ORGANIC,
    PALE,
    Array,
    Frame,
    Rng,
    blurred,
    cellular,
    colour,
    fractal,
    from_palette,
    noise,
    turned,
)

TAU = np.float32(2 * np.pi)


@dataclass(frozen=True)
class Texture:
    """`albedo` (H, W, 3) in [0, 1], `relief` (H, W) in pixels of height, `gloss` in [0, 1]."""

    albedo: Array
    relief: Array
    gloss: float


Pattern = Callable[[Rng, Rng, Frame], Array]  # -> (H, W) roughly in [0, 1]


def _period(design: Rng, low: float = 0.05, high: float = 0.25) -> np.float32:
    return np.float32(np.exp(design.uniform(np.log(low), np.log(high))))


def _cells_in_view(frame: Frame, per_radius: float) -> float:
    """How many lumps cross the picture when `per_radius` cross one radius of the part."""
    return float(np.clip(per_radius * frame.size / frame.radius, 2, frame.size))


def _wavy(design: Rng, grain: Rng, frame: Frame) -> tuple[Array, Array]:
    """Local coordinates, in half of the designs slightly warped as soft material is."""
    u, v = frame.uv
    if design.random() < 0.5:
        bend = np.float32(design.uniform(0.002, 0.015))
        u, v = u + bend * noise(grain, frame.size, 4), v + bend * noise(grain, frame.size, 4)
    return u, v


def concrete(design: Rng, grain: Rng, frame: Frame) -> Array:
    octaves, gain = int(design.integers(3, 6)), design.uniform(0.45, 0.85)
    return 0.5 + np.float32(design.uniform(0.08, 0.22)) * fractal(
        grain, frame.size, _cells_in_view(frame, design.uniform(1, 10)), octaves, gain
    )


def brushed(design: Rng, grain: Rng, frame: Frame) -> Array:
    streaks = noise(grain, frame.size, frame.size * design.uniform(0.35, 0.9), design.uniform(0.01, 0.08))
    value = 0.5 + np.float32(design.uniform(0.06, 0.22)) * streaks + np.float32(0.06) * fractal(grain, frame.size, 2, 2)
    return turned(value, frame.angle, 1.45)


def circular_brushed(design: Rng, grain: Rng, frame: Frame) -> Array:
    """Turned on a lathe: streaks run around the middle."""
    rings = grain.standard_normal(512).astype(np.float32)
    index = np.clip(frame.r * np.float32(design.uniform(100, 300)), 0, 511).astype(np.int32)
    return 0.5 + np.float32(design.uniform(0.04, 0.12)) * rings[index] + np.float32(0.05) * fractal(grain, frame.size, 4, 2)


def fabric(design: Rng, grain: Rng, frame: Frame) -> Array:
    u, v = _wavy(design, grain, frame)
    k = TAU / _period(design, 0.04, 0.16)
    over_u, over_v = np.sin(u * k), np.sin(v * k)
    weave = over_u * np.sign(np.sin(v * k / 2)) + over_v * np.sign(np.sin(u * k / 2))
    return 0.5 + np.float32(design.uniform(0.12, 0.26)) * weave + np.float32(0.07) * noise(grain, frame.size, frame.size / 2)


def carpet(design: Rng, grain: Rng, frame: Frame) -> Array:
    distance, label = cellular(grain, frame.size, int(np.clip(_cells_in_view(frame, design.uniform(20, 40)) ** 2, 200, 5000)))
    tuft = grain.random(int(label.max()) + 1).astype(np.float32)[label]
    stripe = np.sin(frame.u * TAU / _period(design, 0.1, 0.4)) * np.float32(design.uniform(0, 0.15))
    return 0.35 + 0.35 * tuft + stripe - 0.02 * distance


def wood(design: Rng, grain: Rng, frame: Frame) -> Array:
    along = design.uniform(0.15, 0.5)
    bends = turned(noise(grain, frame.size, 5, along), frame.angle) * np.float32(design.uniform(0.3, 1.6))
    rings = frame.v / _period(design, 0.06, 0.3) + bends
    fibre = turned(noise(grain, frame.size, frame.size / 1.5, 0.06), frame.angle, 1.45)
    saw = np.mod(rings, 1)
    return 0.45 + np.float32(design.uniform(0.15, 0.35)) * (saw - 0.5) * (1 - saw) * 3 + np.float32(0.09) * fibre


def granite(design: Rng, grain: Rng, frame: Frame) -> Array:
    _, label = cellular(grain, frame.size, int(np.clip(_cells_in_view(frame, design.uniform(4, 25)) ** 2, 40, 6000)))
    value = grain.random(int(label.max()) + 1).astype(np.float32)[label] * np.float32(design.uniform(0.4, 1.0))
    value = value + np.float32(0.08) * fractal(grain, frame.size, 8, 4)
    return blurred(value, design.uniform(0, 1.5) * frame.size / 320)


def marble(design: Rng, grain: Rng, frame: Frame) -> Array:
    cells = _cells_in_view(frame, design.uniform(0.8, 2.5))
    veins = np.abs(fractal(grain, frame.size, cells, 5, design.uniform(0.5, 0.7)))
    return np.exp(-veins * np.float32(design.uniform(2, 9))) * np.float32(0.8) + np.float32(0.1) * fractal(grain, frame.size, cells, 2)


def mesh(design: Rng, grain: Rng, frame: Frame) -> Array:
    u, v = _wavy(design, grain, frame)
    period, half_wire = _period(design, 0.07, 0.3), design.uniform(0.08, 0.3)
    soft = np.float32(period * frame.radius / 1.5)
    to_u, to_v = (np.float32(half_wire) - np.abs(np.mod(x / period, 1) - 0.5) for x in (u, v))
    return np.clip(np.maximum(to_u, to_v) * soft + np.float32(0.5), 0, 1)


def ribbed(design: Rng, grain: Rng, frame: Frame) -> Array:
    u, _ = _wavy(design, grain, frame)
    sharpness = np.float32(design.uniform(1, 5))
    rib = np.clip(np.sin(u * TAU / _period(design)) * sharpness, -1, 1)
    return 0.5 + np.float32(design.uniform(0.2, 0.5)) * rib + np.float32(0.05) * noise(grain, frame.size, frame.size / 2)


def perforated(design: Rng, grain: Rng, frame: Frame) -> Array:
    u, v = frame.uv
    period, hole = _period(design, 0.08, 0.3), np.float32(design.uniform(0.18, 0.38))
    shift = np.floor(v / period) % 2 * np.float32(0.5 if design.random() < 0.5 else 0)
    distance = cv2.magnitude(np.mod(u / period + shift, 1) - np.float32(0.5), np.mod(v / period, 1) - np.float32(0.5)) - hole
    return np.clip(0.5 - distance * period * np.float32(frame.radius), 0, 1) + np.float32(0.02) * noise(grain, frame.size, frame.size / 2)


def foam(design: Rng, grain: Rng, frame: Frame) -> Array:
    distance, _ = cellular(grain, frame.size, int(np.clip(_cells_in_view(frame, design.uniform(5, 20)) ** 2, 60, 4000)))
    return distance / (distance.max() + np.float32(1e-3)) * np.float32(1.4)


def leather(design: Rng, grain: Rng, frame: Frame) -> Array:
    distance, _ = cellular(grain, frame.size, int(np.clip(_cells_in_view(frame, design.uniform(8, 25)) ** 2, 100, 5000)))
    return 0.9 - distance / (distance.max() + np.float32(1e-3)) + np.float32(0.12) * fractal(grain, frame.size, 10, 3)


def panel(design: Rng, grain: Rng, frame: Frame) -> Array:
    clouds = fractal(grain, frame.size, 2, 2) * np.float32(design.uniform(0, 0.12))
    return 0.5 + clouds + np.float32(design.uniform(0, 0.03)) * noise(grain, frame.size, frame.size / 1.5)


def sandpaper(design: Rng, grain: Rng, frame: Frame) -> Array:
    grit = noise(grain, frame.size, frame.size * design.uniform(0.3, 0.9)) * np.float32(design.uniform(0.06, 0.28))
    return 0.5 + grit + np.float32(0.06) * fractal(grain, frame.size, 3, 2)


def cast(design: Rng, grain: Rng, frame: Frame) -> Array:
    lumps = fractal(grain, frame.size, _cells_in_view(frame, design.uniform(12, 40)), 2) * np.float32(design.uniform(0.04, 0.14))
    return 0.5 + lumps + np.float32(design.uniform(0.02, 0.08)) * fractal(grain, frame.size, 3, 2)


def cardboard(design: Rng, grain: Rng, frame: Frame) -> Array:
    fibres = noise(grain, frame.size, frame.size / 3, 0.3) + noise(grain, frame.size, frame.size / 10, 3)
    specks = noise(grain, frame.size, frame.size / 2) > np.float32(design.uniform(2.0, 3.2))
    return 0.55 + np.float32(design.uniform(0.02, 0.07)) * fibres - np.float32(0.3) * specks


def _joints(x: Array, y: Array, width: np.float32) -> Array:
    """1 on the joints between unit cells, 0 inside them."""
    to_joint = np.minimum(np.float32(0.5) - np.abs(np.mod(x, 1) - 0.5), np.float32(0.5) - np.abs(np.mod(y, 1) - 0.5))
    return np.clip(1.5 - to_joint / width, 0, 1)


def tiles(design: Rng, grain: Rng, frame: Frame) -> Array:
    period = _period(design, 0.15, 0.6)
    x, y = frame.u / period, frame.v / period
    shade = np.mod(np.floor(x) + np.floor(y), 2) * np.float32(design.uniform(0, 0.7))
    value = 0.25 + shade + np.float32(0.05) * fractal(grain, frame.size, 8, 3)
    return value * (1 - _joints(x, y, np.float32(design.uniform(0.015, 0.05))))


def brick(design: Rng, grain: Rng, frame: Frame) -> Array:
    period = _period(design, 0.15, 0.4)
    row = np.floor(frame.v / period)
    x = frame.u / (2 * period) + np.mod(row, 2) * np.float32(0.5)
    tint = np.sin(np.floor(x) * np.float32(7.1) + row * np.float32(3.3)) * np.float32(design.uniform(0.08, 0.25))
    value = 0.5 + tint + np.float32(0.08) * fractal(grain, frame.size, 24, 4)
    joint = _joints(x, frame.v / period, np.float32(design.uniform(0.03, 0.06)))
    return value * (1 - joint) + np.float32(0.05) * joint


def corrugated(design: Rng, grain: Rng, frame: Frame) -> Array:
    period = _period(design, 0.1, 0.35)
    sway = np.float32(design.uniform(0, 0.3)) * np.sin(frame.v * TAU / (period * np.float32(design.uniform(2, 5))))
    return 0.5 + np.float32(0.42) * np.sin(frame.u * TAU / period + sway) + np.float32(0.03) * noise(grain, frame.size, frame.size / 2)


def knitted(design: Rng, grain: Rng, frame: Frame) -> Array:
    period = _period(design, 0.06, 0.18)
    column = np.mod(frame.u / period, 1) - np.float32(0.5)
    row = np.mod(frame.v / period * np.float32(1.3) + np.abs(column) * np.float32(1.6), 1) - np.float32(0.5)
    stitch = np.exp(-(row**2) * 9) * (1 - (2 * np.abs(np.abs(column) - np.float32(0.25))) ** 2)
    return 0.15 + 0.75 * stitch + np.float32(0.06) * noise(grain, frame.size, frame.size / 2)


@dataclass(frozen=True)
class _Recipe:
    """How a pattern becomes a material: its palette ("any", "metal", "organic" or "pale"), contrast, relief (radii) and gloss ranges."""

    pattern: Pattern
    palette: str = "any"
    contrast: tuple[float, float] = (0.15, 0.7)
    relief: tuple[float, float] = (0.0, 0.01)
    gloss: tuple[float, float] = (0.0, 0.1)


RECIPES = {
    "concrete": _Recipe(concrete, relief=(0, 0.012)),
    "brushed metal": _Recipe(brushed, "metal", (0.2, 0.6), (0, 0.003), (0.1, 0.6)),
    "turned metal": _Recipe(circular_brushed, "metal", (0.2, 0.6), (0, 0.003), (0.1, 0.6)),
    "fabric": _Recipe(fabric, relief=(0, 0.012)),
    "carpet": _Recipe(carpet, relief=(0, 0.02)),
    "wood": _Recipe(wood, "organic", (0.2, 0.6), (0, 0.004), (0, 0.15)),
    "granite": _Recipe(granite, contrast=(0.2, 0.9), relief=(0, 0.003), gloss=(0, 0.3)),
    "marble": _Recipe(marble, contrast=(0.2, 0.8), relief=(0, 0.001), gloss=(0, 0.4)),
    "mesh": _Recipe(mesh, contrast=(0.5, 1.0), relief=(0.003, 0.015), gloss=(0, 0.4)),
    "ribbed sheet": _Recipe(ribbed, relief=(0, 0.02)),
    "perforated sheet": _Recipe(perforated, contrast=(0.5, 1.0), relief=(0, 0.01), gloss=(0, 0.4)),
    "foam": _Recipe(foam, relief=(0.003, 0.03)),
    "leather": _Recipe(leather, "organic", (0.15, 0.5), (0.002, 0.012), (0, 0.3)),
    "panel": _Recipe(panel, relief=(0, 0.002), gloss=(0, 0.6)),
    "sandpaper": _Recipe(sandpaper, relief=(0, 0.008)),
    "cast metal": _Recipe(cast, "metal", (0.3, 0.8), (0.002, 0.012), (0, 0.35)),
    "cardboard": _Recipe(cardboard, "organic", (0.3, 0.7), (0, 0.002), (0, 0.02)),
    "tiles": _Recipe(tiles, relief=(0.0, 0.01), gloss=(0, 0.4)),
    "brick": _Recipe(brick, contrast=(0.3, 0.8), relief=(0.004, 0.02)),
    "corrugated sheet": _Recipe(corrugated, contrast=(0.05, 0.3), relief=(0.01, 0.04), gloss=(0, 0.4)),
    "knitwear": _Recipe(knitted, contrast=(0.3, 0.8), relief=(0.005, 0.02)),
}


def _base_colour(design: Rng, palette: str) -> Array:
    choices = {"metal": METALS, "organic": ORGANIC, "pale": PALE}
    if palette in choices and design.random() < 0.8:
        return from_palette(design, choices[palette])
    return colour(design)


def make_texture(kind: str, design: Rng, grain: Rng, frame: Frame, palette: str | None = None) -> Texture:
    """The material `kind` (a key of RECIPES) in `frame`; equal `design` streams give the same product, `grain` another piece of it."""
    recipe = RECIPES[kind]
    base = _base_colour(design, palette or recipe.palette)
    contrast = np.float32(design.uniform(*recipe.contrast))
    other = colour(design) if design.random() < 0.35 else np.clip(base * np.float32(design.choice([0.2, 0.35, 1.6])), 0, 1)
    low, high = base + (other - base) * contrast, base
    if design.random() < 0.3:
        low, high = high, low
    relief = np.float32(design.uniform(*recipe.relief) * frame.radius * (design.random() < 0.75))
    gloss = float(design.uniform(*recipe.gloss))
    pattern = np.clip(recipe.pattern(design, grain, frame), 0, 1).astype(np.float32)
    albedo = cv2.merge([pattern * (high[c] - low[c]) + low[c] for c in range(3)])
    return Texture(albedo=albedo, relief=pattern * relief, gloss=gloss)
