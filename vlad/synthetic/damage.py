"""Tools of the defects: where one strikes, irregular shapes in pixels, and changes of a scene's layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vlad.synthetic.drawing import Array, Rng, blurred, dimmed, paint
from vlad.synthetic.scene import Scene


@dataclass(frozen=True)
class Spot:
    """Where and how strongly a defect strikes.

    Centre (`x`, `y`) and `reach`, the typical radius, are pixels; `amount` lies in (0, 1]; `px` is the size of a pixel of a 320 px picture.
    """

    x: float
    y: float
    reach: float
    amount: float
    px: float

    @property
    def centre(self) -> Array:
        return np.array([self.x, self.y])


Damage = tuple[Scene, Array]  # the changed scene and the footprint (H, W) in [0, 1]
Defect = Callable[[Rng, Scene, Spot], Damage]


# Shapes in pixels -----------------------------------------------------------------------------------------------------


def empty_canvas(scene: Scene) -> Array:
    return np.zeros((scene.size, scene.size), np.uint8)


def fixed_point(points: Array) -> Array:
    """Points in OpenCV's fixed point format with four fractional bits."""
    return np.round(np.clip(points, -8000, 8000) * 16).astype(np.int32)


def blob(rng: Rng, scene: Scene, spot: Spot, roughness: float = 0.35, scale: float = 1.0) -> Array:
    """An irregular patch of radius about `spot.reach * scale`, opacity (H, W)."""
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.ones(40)
    for wave in range(1, 9):
        radius += roughness * rng.normal() / wave * np.sin(wave * turns + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.25, 2.0) * max(spot.reach * scale, 1.5)
    tilt, aspect = rng.uniform(0, np.pi), rng.uniform(0.45, 1.0)
    points = np.stack([np.cos(turns) * radius, np.sin(turns) * radius * aspect], 1)
    rotation = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    canvas = empty_canvas(scene)
    cv2.fillPoly(canvas, [fixed_point(points @ rotation + spot.centre)], 255, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def walk(rng: Rng, start: Array, length: float, wander: float, heading: float) -> Array:
    """Points (P, 2) of a line of `length` pixels from `start`; `wander` is the deviation of its turns in radians."""
    steps = max(4, int(length / 5))
    headings = heading + np.cumsum(rng.normal(0, wander, steps))
    moves = np.stack([np.cos(headings), np.sin(headings)], 1) * (length / steps)
    return start + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)])


def stroke(canvas: Array, points: Array, width: float, strength: float = 1.0) -> None:
    """A line on a uint8 canvas; widths below one pixel fade instead."""
    value = 255 * strength * min(1.0, width)
    cv2.polylines(canvas, [fixed_point(points)], False, value, max(1, round(width)), cv2.LINE_AA, 4)


def opacity(canvas: Array, sigma: float) -> Array:
    return blurred(canvas, sigma).astype(np.float32) / 255


def albedo_at(scene: Scene, spot: Spot) -> Array:
    """The albedo (3,) at the spot."""
    x, y = (int(np.clip(at, 0, scene.size - 1)) for at in (spot.x, spot.y))
    return scene.albedo[y, x]


def contrasting(rng: Rng, scene: Scene, spot: Spot) -> Array:
    """Darker or lighter than the place it covers."""
    base = albedo_at(scene, spot)
    if rng.random() < 0.6 and base.mean() > 0.15:
        return base * np.float32(rng.uniform(0.0, 0.5))
    return np.clip(base + np.float32(rng.uniform(0.25, 0.6)), 0, 1)


def displaced(scene: Scene, dx: Array, dy: Array) -> Scene:
    """The product with each pixel (x, y) taken from (x + dx, y + dy)."""
    grid = np.arange(scene.size, dtype=np.float32)
    map_x, map_y = (grid[None, :] + dx).astype(np.float32), (grid[:, None] + dy).astype(np.float32)
    border = cv2.BORDER_REFLECT if scene.backdrop is None else cv2.BORDER_REPLICATE  # a mirrored object would show up a second time
    layers = (scene.albedo, scene.height, scene.coverage)
    moved = [cv2.remap(layer, map_x, map_y, cv2.INTER_LINEAR, borderMode=border) for layer in layers]
    return replace(scene, albedo=moved[0], height=moved[1], coverage=moved[2])


def laid_on(scene: Scene, alpha: Array, coat: Array, thickness: float, lift: float) -> Scene:
    """Something lying on the product or beside it: it covers, has a height in pixels and casts a soft shadow `lift` pixels away."""
    rig = scene.rig
    shift = np.array([[1, 0, -lift * np.cos(rig.azimuth)], [0, 1, -lift * np.sin(rig.azimuth)]], np.float32)
    shade = 1 - np.float32(0.45) * blurred(cv2.warpAffine(alpha, shift, (scene.size, scene.size)), lift * 0.5 + 0.5)
    backdrop = None if scene.backdrop is None else dimmed(scene.backdrop, shade)
    dome = blurred(alpha, max(0.6, thickness * 0.5)) * np.float32(thickness)
    height = scene.height * (1 - alpha) + (blurred(scene.height, 4.0) + dome) * alpha
    return replace(
        scene,
        albedo=paint(dimmed(scene.albedo, shade), alpha, coat),
        height=height,
        coverage=np.maximum(scene.coverage, alpha),
        backdrop=backdrop,
    )
