"""From a product design to a picture: pose, backdrop, light, shadows, camera. Layers stay apart until rendered: defects may change any."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from vlad.synthetic.decor import furnish_surface
from vlad.synthetic.drawing import Array, Frame, Rng, blurred, colour, dimmed, fractal, in_rgb, noise, paint, tinted
from vlad.synthetic.objects import HOLLOW, OBJECTS, PERMANENTLY_UPRIGHT, REPEATABLE, ROUND
from vlad.synthetic.solids import Solid
from vlad.synthetic.textures import RECIPES, make_texture


@dataclass(frozen=True)
class Rig:
    """The photographic set-up of a product line: fixed light and camera, jittered a little from picture to picture."""

    azimuth: float  # radians, where the light comes from
    elevation: float  # radians above the picture plane
    ambient: float  # share of light without direction
    warmth: float  # red over blue, about 1
    exposure: float
    falloff: float  # brightness slope across the picture
    shadow: float  # depth of cast shadows, 0 none
    shadow_blur: float  # fraction of the picture
    glare: float  # strength of a soft bright spot or lamp reflection, 0 none
    blur: float  # camera blur, sigma in pixels at 320
    noise: float  # camera noise, deviation in [0, 1]
    chroma_noise: bool
    jpeg: int  # quality, 0 for none
    grey: bool

    @classmethod
    def draw(cls, rng: Rng) -> Rig:
        return cls(
            azimuth=rng.uniform(0, 2 * np.pi),
            elevation=rng.uniform(0.5, 1.35),
            ambient=rng.uniform(0.25, 0.7),
            warmth=rng.uniform(0.9, 1.12),
            exposure=rng.uniform(0.75, 1.2),
            falloff=rng.uniform(0, 0.35) * (rng.random() < 0.5),
            shadow=rng.uniform(0.15, 0.65) * (rng.random() < 0.7),
            shadow_blur=rng.uniform(0.004, 0.03),
            glare=rng.uniform(0.1, 0.5) * (rng.random() < 0.2),
            blur=rng.uniform(0.3, 1.2) * (rng.random() < 0.4),
            noise=rng.uniform(0.003, 0.035) * (rng.random() < 0.6),
            chroma_noise=rng.random() < 0.5,
            jpeg=int(rng.integers(40, 96)) * (rng.random() < 0.35),
            grey=rng.random() < 0.22,
        )

    def jittered(self, rng: Rng) -> Rig:
        return replace(
            self,
            azimuth=self.azimuth + rng.uniform(-0.1, 0.1),
            exposure=self.exposure * rng.uniform(0.95, 1.05),
            falloff=self.falloff * rng.uniform(0.9, 1.1),
            glare=self.glare * rng.uniform(0.8, 1.2),
        )


CLEAN_RIG = Rig(
    azimuth=-2.2, elevation=0.95, ambient=0.45, warmth=1.03, exposure=1.0, falloff=0.08, shadow=0.45, shadow_blur=0.016, glare=0.0,
    blur=0.35, noise=0.0, chroma_noise=False, jpeg=0, grey=False,
)  # fmt: skip
"""A well-lit sharp studio picture, for examples that people look at."""


@dataclass(frozen=True)
class Scene:
    """Everything in view before the shutter.

    `albedo` (H, W, 3) and `backdrop` (H, W, 3) in [0, 1]; `height` (H, W) pixels; `coverage` (H, W) in [0, 1], 1 on the product.
    `overlay` (H, W) is what lamps do to the picture whatever lies there: above 0 added glare, below 0 the share of light a shadow takes.
    `backdrop` is None on a close-up surface, where coverage is 1 throughout.
    """

    frame: Frame
    rig: Rig
    albedo: Array
    height: Array
    coverage: Array
    backdrop: Array | None
    overlay: Array | None
    gloss: float
    metal: float

    @property
    def size(self) -> int:
        return self.frame.size

    def render(self) -> Array:
        """The picture (H, W, 3) float32, about [0, 1], before the camera adds blur and noise."""
        lit = _shade(self)
        if self.backdrop is not None:
            lit = _over_backdrop(self, lit)
        if self.overlay is not None:
            lit = dimmed(lit, 1 + np.minimum(self.overlay, 0)) + in_rgb(np.maximum(self.overlay, 0))
        return lit


def _shade(scene: Scene) -> Array:
    rig = scene.rig
    unit = np.float32(320 / scene.size)
    height = cv2.GaussianBlur(scene.height, (0, 0), 0.7 / float(unit))
    slope_x, slope_y = (cv2.Sobel(height, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=1 / 8) for dx in (1, 0))
    tilt = slope_x * slope_x
    tilt += slope_y * slope_y
    tilt += 1
    upright = cv2.pow(tilt, -0.5, dst=tilt)  # the normal is (-slope_x, -slope_y, 1) * upright
    flat, lift = np.float32(np.cos(rig.elevation)), np.float32(np.sin(rig.elevation))
    light_x, light_y = flat * np.float32(np.cos(rig.azimuth)), flat * np.float32(np.sin(rig.azimuth))
    shade = _facing(slope_x, slope_y, upright, (light_x, light_y, lift))
    shade *= np.float32((1 - rig.ambient) / float(lift))
    shade += np.float32(rig.ambient)
    if scene.metal > 0.02:  # dark and bright surroundings mirrored in the metal
        across, along = np.float32(4.1 + rig.azimuth), np.float32(5.3)
        mirrored: Array = np.sin((slope_x * across + slope_y * along) * -upright + np.float32(rig.elevation))
        mirrored *= np.float32(0.35 * scene.metal)
        mirrored += 1
        shade *= mirrored
    lit = dimmed(scene.albedo, shade)
    if scene.gloss > 0.02:  # Blinn: the half vector between the light and a viewer straight above
        half_x, half_y, half_z = (np.float32(part / np.sqrt(2 + 2 * lift)) for part in (light_x, light_y, lift + 1))
        spark: Array = cv2.pow(_facing(slope_x, slope_y, upright, (half_x, half_y, half_z)), 28.0)
        spark -= half_z**28
        np.maximum(spark, 0, out=spark)
        spark *= np.float32(0.9 * scene.gloss)
        lit += in_rgb(spark)
    return lit


def _facing(slope_x: Array, slope_y: Array, upright: Array, towards: tuple[np.float32, np.float32, np.float32]) -> Array:
    """Cosine (H, W) between the surface and a direction, 0 where it faces away."""
    x, y, z = towards
    cosine: Array = cv2.addWeighted(slope_x, -float(x), slope_y, -float(y), float(z))
    cosine *= upright
    return np.maximum(cosine, 0, out=cosine)


def _over_backdrop(scene: Scene, lit: Array) -> Array:
    rig, size = scene.rig, scene.size
    backdrop = scene.backdrop
    assert backdrop is not None
    if rig.shadow > 0:
        reach = 0.02 * size / np.tan(rig.elevation)
        shift = np.array([[1, 0, -reach * np.cos(rig.azimuth)], [0, 1, -reach * np.sin(rig.azimuth)]], np.float32)
        cast = blurred(cv2.warpAffine(scene.coverage, shift, (size, size)), rig.shadow_blur * size)
        backdrop = dimmed(backdrop, 1 - np.float32(rig.shadow) * cast)
    return paint(backdrop, scene.coverage, lit)


def photograph(picture: Array, rig: Rig, rng: Rng) -> Array:
    """The camera: white balance, exposure, blur, noise and compression. `picture` (H, W, 3) float; returns uint8 RGB of the same size.

    `rng` must be the same for the clean and the defective version of a scene and must not know which of the two it gets.
    """
    size = picture.shape[0]
    picture = tinted(picture, np.array([rig.exposure * rig.warmth, rig.exposure, rig.exposure / rig.warmth]))
    if rig.falloff > 0:
        along = np.linspace(-0.5, 0.5, size, dtype=np.float32)
        tilt = rig.azimuth + 0.7
        slope = along[None, :] * np.float32(np.cos(tilt)) + along[:, None] * np.float32(np.sin(tilt))
        picture = dimmed(picture, 1 + np.float32(rig.falloff) * slope)
    if rig.grey:
        picture = cv2.cvtColor(cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    picture = blurred(picture, rig.blur * size / 320)
    if rig.noise > 0:
        grain = rng.standard_normal((size, size), dtype=np.float32) * np.float32(rig.noise)
        shifts = (
            (size // 2, size // 3) if rig.chroma_noise and not rig.grey else (0, 0)
        )  # far shifts of one field serve as independent noise
        picture = cv2.add(picture, cv2.merge([grain, np.roll(grain, shifts[0], 0), np.roll(grain, shifts[1], 1)]))
    shot = cv2.convertScaleAbs(np.maximum(picture, 0), alpha=255)  # saturates at 255
    if rig.jpeg:
        _, stream = cv2.imencode(".jpg", shot[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, rig.jpeg])
        shot = np.asarray(cv2.imdecode(stream, cv2.IMREAD_COLOR))[..., ::-1]
    return np.ascontiguousarray(shot)


# Composition ----------------------------------------------------------------------------------------------------------


def compose(family: str, size: int, design: Rng, view: Rng, rig: Rig | None = None) -> Scene:
    """A good product of `family` in a picture of `size` pixels.

    `design` draws what a product line shares (shape, print, material, set-up), `view` what changes from picture to picture (pose, grain,
    small changes of light). Equal `design` streams give pieces of the same product. `rig` replaces the set-up drawn from `design`.
    """
    drawn = Rig.draw(design)
    shot = (rig or drawn).jittered(view)
    builder = _surface if family in RECIPES else _object
    return builder(family, size, design, view, shot)


def _surface(family: str, size: int, design: Rng, view: Rng, rig: Rig) -> Scene:
    turn = float(design.choice([0.0, np.pi / 2, design.uniform(0, 2 * np.pi)]))
    zoom = design.uniform(0.4, 1.1)
    frame = Frame(size, (size / 2, size / 2), size * zoom, turn, design.uniform(0.85, 1.0)).jittered(view, shift=0.04, turn=0.04)
    texture = make_texture(family, design, view, frame)
    stage = replace(frame, radius=0.5 * frame.radius / zoom)  # print and fasteners have their own scale: the picture's half side
    albedo, height = furnish_surface(texture.albedo, texture.relief, design, stage)
    coverage = np.ones((size, size), np.float32)
    overlay = _overlay(design, view, rig, size)
    return Scene(frame, rig, albedo, height, coverage, None, overlay, texture.gloss, 0.0)


def _pose(family: str, size: int, design: Rng, view: Rng) -> Frame:
    fill = design.uniform(0.4, 1.0) if family in HOLLOW or design.random() < 0.85 else design.uniform(1.0, 1.7)
    angle = 0.0 if family in PERMANENTLY_UPRIGHT and design.random() < 0.6 else design.uniform(0, 2 * np.pi)
    cells = int(design.integers(2, 5)) * (family in REPEATABLE and design.random() < 0.12)
    any_angle = design.random() < (0.7 if family in ROUND else 0.25)
    squash = design.uniform(0.8, 1.0) if design.random() < 0.3 else 1.0
    offset = design.uniform(-0.5, 0.5, 2) * max(0.06, 1 - fill)
    if cells:
        fill, angle, any_angle, offset = 0.85 / cells, angle * 0.05, False, offset * 0.2
    centre = (size * (0.5 + 0.5 * float(offset[0])), size * (0.5 + 0.5 * float(offset[1])))
    frame = Frame(size, centre, size * fill / 2, angle, squash, cells)
    return frame.jittered(view, shift=0.025, turn=np.pi if any_angle else 0.06)


def _object(family: str, size: int, design: Rng, view: Rng, rig: Rig) -> Scene:
    frame = _pose(family, size, design, view)
    backdrop = _backdrop(design, view, size)
    return stand(OBJECTS[family](design, view, frame), frame, rig, backdrop, _overlay(design, view, rig, size))


def stand(solid: Solid, frame: Frame, rig: Rig, backdrop: Array, overlay: Array | None) -> Scene:
    """A solid with rounded edges before a backdrop (H, W, 3)."""
    outline = solid.outline
    if frame.cells:
        outline = np.where(frame.outside_cells, np.float32(1), outline)
    coverage = np.clip(np.float32(0.5) - outline * np.float32(frame.radius), 0, 1).astype(np.float32)
    inward = np.clip(outline * np.float32(-1 / solid.bevel), 0, 1)
    edge_round = np.sqrt(inward * (2 - inward)) * np.float32(solid.bevel * frame.radius * min(1.0, 0.45 + 0.05 / solid.bevel))
    height = (edge_round + solid.relief).astype(np.float32)
    albedo = np.ascontiguousarray(solid.albedo, np.float32)
    return Scene(frame, rig, albedo, height, coverage, backdrop, overlay, solid.gloss, solid.metal)


BACKDROP_TEXTURES = ("panel", "concrete", "brushed metal", "fabric", "sandpaper", "wood", "granite", "cardboard", "marble", "ribbed sheet")


def _backdrop(design: Rng, view: Rng, size: int) -> Array:
    kind = design.random()
    if kind < 0.35:
        frame = Frame(size, (size / 2, size / 2), size * design.uniform(0.3, 0.8), design.uniform(0, 2 * np.pi)).jittered(
            view, shift=0.1, turn=0.1
        )
        texture = make_texture(str(design.choice(BACKDROP_TEXTURES)), design, view, frame)
        return blurred(texture.albedo, float(design.choice([0.0, 1.0, 2.5, 5.0])) * size / 320)
    if kind < 0.62:  # white, black or grey stage
        level = design.uniform(0.85, 1.0) if design.random() < 0.5 else design.uniform(0.0, 0.12)
        return np.full((size, size, 3), level, np.float32)
    if kind < 0.78:
        return np.full((size, size, 3), colour(design, 0.4), np.float32)
    clouds = 1 + np.float32(design.uniform(0.02, 0.15)) * noise(view, size, 2)
    return dimmed(np.full((size, size, 3), colour(design, 0.3), np.float32), clouds)


def _overlay(design: Rng, view: Rng, rig: Rig, size: int) -> Array | None:
    """Glare, lamp reflections and shadows from outside the picture: innocent brightness changes (H, W), or None."""
    shadow_falls = design.random() < 0.12
    depth, tilt, soft = design.uniform(0.08, 0.35), design.uniform(0, 2 * np.pi), design.uniform(0.02, 0.3)
    spot = design.uniform(0.1, 0.9, 2)
    spread = design.uniform(0.03, 0.2, 2)
    if rig.glare == 0 and not shadow_falls:
        return None
    grid = np.arange(size, dtype=np.float32) / size
    spot = spot + view.uniform(-0.05, 0.05, 2)
    dx, dy = grid[None, :] - np.float32(spot[0]), grid[:, None] - np.float32(spot[1])
    total = np.zeros((size, size), np.float32)
    if rig.glare > 0:
        total += np.float32(rig.glare) * np.exp(-((dx / np.float32(spread[0])) ** 2)) * np.exp(-((dy / np.float32(spread[1])) ** 2))
    if shadow_falls:
        across = dx * np.float32(np.cos(tilt)) + dy * np.float32(np.sin(tilt))
        total -= np.float32(depth) * np.clip(across / np.float32(soft) + 0.5, 0, 1)
    return total


def unlike(scene: Scene, rng: Rng) -> Array:
    """Some other material (H, W, 3) at the scene's size, for patches that do not belong."""
    kind = str(rng.choice(("concrete", "fabric", "wood", "granite", "panel", "sandpaper", "ribbed sheet", "marble")))
    clouds = fractal(rng, scene.size, 3, 2) * np.float32(0.04)
    return np.clip(make_texture(kind, rng, rng, scene.frame).albedo + clouds[..., None], 0, 1)
