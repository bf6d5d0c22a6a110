"""Innocent things that look like defects, for any scene: other parts lying about, dust-like texture, patina, lamps, shadows, vignettes.

They are drawn from streams that do not know whether the picture will get a defect. What belongs to the product itself (print, labels,
seams, holes, rivets) is in `decor` and in the families.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from vlad.synthetic.decor import add_label, add_print
from vlad.synthetic.drawing import Array, Frame, Rng, blurred, colour, dimmed, fractal, paint
from vlad.synthetic.objects import OBJECTS
from vlad.synthetic.scene import Scene, stand

BYSTANDERS = (
    *("disc", "washer", "nut", "pill", "screw", "capsule", "plate"),
    *("transistor", "cookie", "hazelnut", "candle", "pipe", "connector"),
)


def disguise(scene: Scene, rng: Rng) -> Scene:
    """The scene with none to three of the disguises; the product and its outline stay what they were."""
    for _ in range(int(rng.choice([0, 1, 1, 2, 3]))):
        scene = DISGUISES[int(rng.integers(len(DISGUISES)))](scene, rng)
    return scene


def bystanders(scene: Scene, rng: Rng) -> Scene:
    """One to three other parts on the backdrop, most of them cut off by the border; a close-up surface gets none."""
    if scene.backdrop is None:
        return scene
    backdrop, size = scene.backdrop, scene.size
    for _ in range(int(rng.integers(1, 4))):
        turn, far = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.4, 0.62)
        centre = (size / 2 + far * float(np.cos(turn)), size / 2 + far * float(np.sin(turn)))
        frame = Frame(size, centre, size * rng.uniform(0.05, 0.25), rng.uniform(0, 2 * np.pi))
        solid = OBJECTS[str(rng.choice(BYSTANDERS))](rng, rng, frame)
        backdrop = stand(solid, frame, scene.rig, backdrop, None).render()
    return replace(scene, backdrop=backdrop)


def dust_like(scene: Scene, rng: Rng) -> Scene:
    """Fine speckles everywhere alike, as on granite, cork or recycled board."""
    size = scene.size
    side = int(size * rng.uniform(0.35, 1.0))
    dots = (rng.random((side, side), dtype=np.float32) < rng.uniform(0.004, 0.06)).astype(np.float32)
    alpha = cv2.resize(blurred(dots, rng.uniform(0.3, 0.9)), (size, size), interpolation=cv2.INTER_LINEAR)
    return replace(scene, albedo=paint(scene.albedo, np.clip(alpha * np.float32(rng.uniform(0.5, 1.5)), 0, 1), colour(rng)))


def patina(scene: Scene, rng: Rng) -> Scene:
    """Uneven tone all over: aged metal, natural skins, cast and fired things."""
    clouds = fractal(rng, scene.size, rng.uniform(2, 14), int(rng.integers(2, 5)))
    if rng.random() < 0.5:
        return replace(scene, albedo=dimmed(scene.albedo, np.clip(1 + np.float32(rng.uniform(0.05, 0.22)) * clouds, 0.2, 1.8)))
    alpha = np.clip(clouds * np.float32(0.5) + np.float32(0.4), 0, 1) * np.float32(rng.uniform(0.15, 0.5))
    return replace(scene, albedo=paint(scene.albedo, alpha, colour(rng)))


def marked(scene: Scene, rng: Rng) -> Scene:
    """Print or a label on whatever it is."""
    radius = 0.5 * scene.size if scene.backdrop is None else scene.frame.radius
    frame = Frame(scene.size, scene.frame.centre, radius, scene.frame.angle, scene.frame.squash)
    if rng.random() < 0.3:
        return replace(scene, albedo=add_label(scene.albedo, rng, frame))
    albedo, height = add_print(scene.albedo, scene.height, rng, frame)
    return replace(scene, albedo=albedo, height=height)


def lamps(scene: Scene, rng: Rng) -> Scene:
    """Reflections of one to four lamps on the product: soft boxes, tubes, rings."""
    canvas = np.zeros((scene.size, scene.size), np.uint8)
    shape, heading = int(rng.integers(3)), rng.uniform(0, 180)
    for _ in range(int(rng.integers(1, 5))):
        x, y = (int(at) for at in rng.uniform(0.1, 0.9, 2) * scene.size)
        reach = scene.size * float(np.exp(rng.uniform(np.log(0.01), np.log(0.12))))
        if shape == 0:
            corners = cv2.boxPoints(((x, y), (2 * reach, reach * rng.uniform(0.4, 1.5)), heading))
            cv2.fillPoly(canvas, [corners.astype(np.int32)], 255, cv2.LINE_AA)
        elif shape == 1:
            dx, dy = 2.5 * reach * np.cos(np.radians(heading)), 2.5 * reach * np.sin(np.radians(heading))
            cv2.line(canvas, (int(x - dx), int(y - dy)), (int(x + dx), int(y + dy)), 255, max(1, int(0.3 * reach)), cv2.LINE_AA)
        else:
            cv2.circle(canvas, (x, y), int(reach), 255, max(1, int(0.3 * reach)), cv2.LINE_AA)
    light = blurred(canvas, scene.size / 320 * rng.uniform(0.5, 5)).astype(np.float32) / 255
    return _lit(scene, np.float32(rng.uniform(0.15, 0.8)) * light * scene.coverage)


def patterned_shadow(scene: Scene, rng: Rng) -> Scene:
    """The shadow of blinds, a rail or leaves."""
    grid = np.arange(scene.size, dtype=np.float32) / scene.size
    heading = rng.uniform(0, 2 * np.pi)
    across = grid[None, :] * np.float32(np.cos(heading)) + grid[:, None] * np.float32(np.sin(heading))
    if rng.random() < 0.5:
        wave = np.sin(across * np.float32(2 * np.pi * rng.uniform(1, 8)) + np.float32(rng.uniform(0, 6)))
    else:
        wave = fractal(rng, scene.size, rng.uniform(2, 6), 2)
    dark = np.clip(wave * np.float32(rng.uniform(0.5, 6)) + np.float32(0.5), 0, 1)
    return _lit(scene, -np.float32(rng.uniform(0.08, 0.4)) * dark)


def vignette(scene: Scene, rng: Rng) -> Scene:
    """Dark corners, or the round or rectangular black border of a microscope, a mask or a cropped picture."""
    grid = np.linspace(-1, 1, scene.size, dtype=np.float32)
    x, y = np.broadcast_arrays(grid[None, :], grid[:, None])
    if rng.random() < 0.5:
        far, edge = cv2.magnitude(x, y), rng.uniform(0.9, 1.2)
    else:
        far, edge = np.maximum(np.abs(x), np.abs(y)), rng.uniform(0.8, 0.97)
    soft = rng.uniform(0.01, 0.03) if rng.random() < 0.5 else rng.uniform(0.3, 0.9)
    return _lit(scene, -np.float32(rng.uniform(0.3, 1.0)) * np.clip((far - np.float32(edge)) / np.float32(soft) + np.float32(0.5), 0, 1))


def _lit(scene: Scene, light: Array) -> Scene:
    """`light` (H, W) in [-1, 1] added to what lamps and shadows do already."""
    overlay = light if scene.overlay is None else scene.overlay + light
    return replace(scene, overlay=np.clip(overlay, -1, 1))


DISGUISES: tuple[Callable[[Scene, Rng], Scene], ...] = (bystanders, dust_like, patina, marked, lamps, patterned_shadow, vignette)
