"""Primitives of the pictures: coordinate frames, noise, colours, signed distances, decals. Arrays are float32 unless said otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class Frame:
    """A part's own coordinates inside a picture: (0, 0) is its middle, 1 its radius.

    `size` is the side of the square picture in pixels, `centre` (x, y) and `radius` are pixels, `angle` radians; `squash` in (0, 1]
    foreshortens the second axis as a tilted camera does. `cells` > 0 repeats the part on a square grid of `cells` x `cells`.
    """

    size: int
    centre: tuple[float, float]
    radius: float
    angle: float = 0.0
    squash: float = 1.0
    cells: int = 0

    @cached_property
    def _unrepeated(self) -> tuple[Array, Array]:
        x = (np.arange(self.size, dtype=np.float32) - self.centre[0])[None, :] / self.radius
        y = (np.arange(self.size, dtype=np.float32) - self.centre[1])[:, None] / self.radius
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        return x * c + y * s, (y * c - x * s) / np.float32(self.squash)

    @cached_property
    def uv(self) -> tuple[Array, Array]:
        """Local coordinates (H, W) of every pixel along the part's first and second axis."""
        u, v = self._unrepeated
        if not self.cells:
            return u, v
        pitch = np.float32(2.3)  # a little more than a part's diameter, so that neighbours do not touch
        shift = np.float32((self.cells % 2) / 2)
        return (np.mod(u / pitch + shift, 1) - 0.5) * pitch, (np.mod(v / pitch + shift, 1) - 0.5) * pitch

    @property
    def u(self) -> Array:
        return self.uv[0]

    @property
    def v(self) -> Array:
        return self.uv[1]

    @cached_property
    def r(self) -> Array:
        """Distance (H, W) from the middle, in radii."""
        return cv2.magnitude(self.u, self.v)

    @cached_property
    def theta(self) -> Array:
        """Angle (H, W) around the middle, radians in [0, 2 pi)."""
        return cv2.phase(self.u, self.v)

    @cached_property
    def outside_cells(self) -> Array:
        """Boolean (H, W): beyond the last repeated part. All False when the part is not repeated."""
        u, v = self._unrepeated
        edge = 2.3 * self.cells / 2 if self.cells else np.inf
        return (np.abs(u) > edge) | (np.abs(v) > edge)

    def jittered(self, rng: Rng, *, shift: float, turn: float) -> Frame:
        """The same frame moved by up to `shift` (fraction of the picture) and turned by up to `turn` radians."""
        dx, dy = (float(move) * self.size for move in rng.uniform(-shift, shift, 2))
        return Frame(
            size=self.size,
            centre=(self.centre[0] + dx, self.centre[1] + dy),
            radius=self.radius * rng.uniform(0.97, 1.03),
            angle=self.angle + rng.uniform(-turn, turn),
            squash=self.squash,
            cells=self.cells,
        )


# Noise ----------------------------------------------------------------------------------------------------------------


def noise(rng: Rng, size: int, cells: float, stretch: float = 1.0) -> Array:
    """Smooth noise (size, size), mean 0, deviation about 1, `cells` lumps along y and `cells * stretch` along x."""
    rows, columns = (int(np.clip(count, 2, size)) for count in (cells, cells * stretch))
    lumps = rng.standard_normal((rows, columns), dtype=np.float32)
    interpolation = cv2.INTER_CUBIC if max(rows, columns) < size / 2 else cv2.INTER_LINEAR
    return cv2.resize(lumps, (size, size), interpolation=interpolation)


def fractal(rng: Rng, size: int, cells: float, octaves: int = 4, gain: float = 0.6) -> Array:
    """Noise (size, size) summed over octaves, mean 0, deviation 1. Octaves are doubled coarse to fine, which costs little."""
    total: Array = np.zeros((2, 2), np.float32)
    for octave in range(octaves):
        side = int(np.clip(cells * 2**octave, 2, size))
        total = cv2.resize(total, (side, side), interpolation=cv2.INTER_CUBIC) / gain
        total = total + rng.standard_normal((side, side), dtype=np.float32)
    total = cv2.resize(total, (size, size), interpolation=cv2.INTER_CUBIC)
    return (total - total.mean()) / (total.std() + np.float32(1e-6))


def cellular(rng: Rng, size: int, count: int) -> tuple[Array, Array]:
    """Distance (size, size) in pixels to the nearest of `count` random points, and that point's number (size, size) int32, from 1."""
    empty = np.full((size, size), 255, np.uint8)
    points = rng.integers(0, size, (count, 2))
    empty[points[:, 0], points[:, 1]] = 0
    return cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)


def turned(image: Array, angle: float, zoom: float = 1.0) -> Array:
    """`image` rotated by `angle` radians about its middle, mirrored beyond its borders."""
    half = image.shape[0] / 2
    matrix = cv2.getRotationMatrix2D((half, half), float(np.degrees(-angle)), zoom)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def blurred(image: Array, sigma: float) -> Array:
    """Gaussian blur; wide ones run on a reduced copy."""
    if sigma < 0.2:
        return image
    if sigma > 6:
        small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(image, (0, 0), sigma)


# Colours --------------------------------------------------------------------------------------------------------------


def colour(rng: Rng, saturation: float = 0.6, value: tuple[float, float] = (0.12, 0.95)) -> Array:
    """A random RGB colour (3,) in [0, 1]; three in ten are grey."""
    hue, grey = rng.random(), rng.random() < 0.3
    s = 0.0 if grey else rng.random() ** 1.3 * saturation
    pure = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return (rng.uniform(*value) * (1 - s + s * pure)).astype(np.float32)


METALS = (
    (0.62, 0.63, 0.65),
    (0.72, 0.73, 0.74),
    (0.45, 0.46, 0.48),
    (0.55, 0.53, 0.50),
    (0.72, 0.60, 0.36),
    (0.70, 0.45, 0.34),
    (0.25, 0.25, 0.27),
)
ORGANIC = (
    (0.55, 0.36, 0.20),
    (0.72, 0.54, 0.33),
    (0.40, 0.25, 0.15),
    (0.80, 0.66, 0.45),
    (0.62, 0.45, 0.28),
    (0.86, 0.76, 0.58),
    (0.50, 0.20, 0.14),
)
PALE = ((0.93, 0.92, 0.90), (0.90, 0.86, 0.78), (0.95, 0.90, 0.70), (0.85, 0.80, 0.85), (0.80, 0.88, 0.92), (0.92, 0.78, 0.76))


def from_palette(rng: Rng, palette: Sequence[tuple[float, float, float]], spread: float = 0.06) -> Array:
    """One of the palette's RGB colours (3,), shifted a little and scaled in brightness."""
    base = np.array(palette[int(rng.integers(len(palette)))])
    return np.clip(base * rng.uniform(0.8, 1.1) + rng.uniform(-spread, spread, 3) * 0.5, 0.02, 1).astype(np.float32)


def in_rgb(values: Array) -> Array:
    """`values` (H, W) repeated as (H, W, 3): several times as fast as broadcasting over a last axis of length three."""
    return cv2.cvtColor(values.astype(np.float32, copy=False), cv2.COLOR_GRAY2RGB)


def paint(base: Array, alpha: Array, coat: Array) -> Array:
    """`coat` (a colour (3,) or an image) laid over `base` (H, W, 3) with opacity `alpha` (H, W) in [0, 1]."""
    difference = cv2.subtract(_scalar(coat), base) if coat.ndim == 1 else cv2.subtract(coat, base)
    cv2.multiply(difference, in_rgb(alpha), dst=difference)
    return cv2.add(difference, base, dst=difference)


def tinted(image: Array, colour: Array) -> Array:
    """`image` (H, W, 3) times a colour (3,): six times as fast as broadcasting over a last axis of length three."""
    return cv2.multiply(image, _scalar(colour))


def dimmed(base: Array, factor: Array) -> Array:
    """`base` (H, W, 3) times `factor` (H, W)."""
    return cv2.multiply(base, in_rgb(factor))


def _scalar(colour: Array) -> Any:
    """A colour (3,) as OpenCV takes constants."""
    return float(colour[0]), float(colour[1]), float(colour[2]), 0.0


def largest_channel(image: Array) -> Array:
    """The maximum (H, W) over the three channels of an image (H, W, 3)."""
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


# Signed distances in local units: negative inside ---------------------------------------------------------------------


def circle(frame: Frame, radius: float, at: tuple[float, float] = (0.0, 0.0)) -> Array:
    if at == (0.0, 0.0):
        return frame.r - np.float32(radius)
    return cv2.magnitude(frame.u - np.float32(at[0]), frame.v - np.float32(at[1])) - np.float32(radius)


def box(frame: Frame, half: tuple[float, float], at: tuple[float, float] = (0.0, 0.0), corner: float = 0.0) -> Array:
    """A rectangle of half sides `half` with its corners rounded by `corner`."""
    du = np.abs(frame.u - np.float32(at[0])) - np.float32(half[0] - corner)
    dv = np.abs(frame.v - np.float32(at[1])) - np.float32(half[1] - corner)
    if corner == 0:
        return np.maximum(du, dv)
    outside = cv2.magnitude(np.maximum(du, 0), np.maximum(dv, 0))
    return outside + np.minimum(np.maximum(du, dv), 0) - np.float32(corner)


def polygon(frame: Frame, sides: int, radius: float, turn: float = 0.0) -> Array:
    """A regular polygon whose corners lie at `radius`."""
    wedge = np.float32(2 * np.pi / sides)
    within = np.mod(frame.theta + np.float32(turn), wedge) - wedge / 2
    return frame.r * np.cos(within) - np.float32(radius * np.cos(np.pi / sides))


def stadium(frame: Frame, half_length: float, radius: float) -> Array:
    """A rod along the first axis with round ends, `half_length` from middle to tip."""
    along = np.maximum(np.abs(frame.u) - np.float32(half_length - radius), 0)
    return cv2.magnitude(along, frame.v) - np.float32(radius)


def wobbly(frame: Frame, rng: Rng, roughness: float, aspect: float = 1.0) -> Array:
    """A lumpy closed outline about radius 0.9: bread, stones, nuts. `roughness` 0 gives an ellipse."""
    turns = np.linspace(0, 2 * np.pi, 181)
    outline = np.full(181, 0.92)
    for wave in range(2, 8):
        outline += roughness / np.sqrt(wave - 1) * np.sin(wave * turns + rng.uniform(0, 2 * np.pi))
    theta = cv2.phase(frame.u, frame.v / np.float32(aspect))
    radius = np.interp(theta, turns, outline).astype(np.float32)
    return cv2.magnitude(frame.u, frame.v / np.float32(aspect)) - radius


def smooth_step(edge: Array, softness: float) -> Array:
    """1 where `edge` is well below 0, 0 well above, linear over `softness` in between."""
    return np.clip(np.float32(0.5) - edge / np.float32(max(softness, 1e-4)), 0, 1)


# Decals: things drawn on a small canvas in local coordinates and wrapped onto the part --------------------------------


def decal_canvas(frame: Frame, half: tuple[float, float]) -> Array:
    """An empty uint8 canvas for a decal of half sides `half` (local units) at the resolution the picture shows it."""
    width, height = (max(8, int(2 * side * frame.radius)) for side in half)
    return np.zeros((min(height, 4096), min(width, 4096)), np.uint8)


def wrap(canvas: Array, frame: Frame, half: tuple[float, float], at: tuple[float, float] = (0.0, 0.0), turn: float = 0.0) -> Array:
    """Opacity (H, W) in [0, 1] of a uint8 canvas of half sides `half` laid on the part at `at`, turned by `turn` radians."""
    du, dv = frame.u - np.float32(at[0]), frame.v - np.float32(at[1])
    if turn:
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        du, dv = du * c + dv * s, dv * c - du * s
    rows, columns = canvas.shape[:2]
    x = (du / np.float32(half[0]) + 1) * np.float32(columns / 2) - np.float32(0.5)
    y = (dv / np.float32(half[1]) + 1) * np.float32(rows / 2) - np.float32(0.5)
    return cv2.remap(canvas, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0).astype(np.float32) / 255
