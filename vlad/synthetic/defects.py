"""Defects painted into a scene's layers, so that light, shadows and gloss treat them like the rest of the product."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from vlad.synthetic.damage import (
    Damage,
    Defect,
    Spot,
    albedo_at,
    blob,
    contrasting,
    displaced,
    empty_canvas,
    fixed_point,
    laid_on,
    opacity,
    stroke,
    walk,
)
from vlad.synthetic.drawing import Rng, blurred, colour, fractal, noise, paint
from vlad.synthetic.scene import Scene, unlike

# Trained defects ------------------------------------------------------------------------------------------------------


def scratch(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    canvas, heading = empty_canvas(scene), rng.uniform(0, 2 * np.pi)
    for k in range(int(rng.choice([1, 1, 1, 1, 2, 3, 5]))):
        length = spot.reach * rng.uniform(1.5, 6)
        direction = heading + rng.normal(0, 0.25)
        start = spot.centre + rng.normal(0, 0.5 * spot.reach, 2) * (k > 0) - 0.5 * length * np.array([np.cos(direction), np.sin(direction)])
        stroke(canvas, walk(rng, start, length, 0.05, direction), spot.px * rng.choice([0.7, 1, 1, 1.6, 2.4]), rng.uniform(0.6, 1))
    alpha = opacity(canvas, rng.uniform(0.3, 0.8) * spot.px)
    albedo = paint(scene.albedo, alpha * np.float32(0.3 + 0.7 * spot.amount), contrasting(rng, scene, spot))
    return replace(scene, albedo=albedo, height=scene.height - alpha * np.float32(rng.uniform(0, 2) * spot.px)), alpha


def crack(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    canvas, heading, width = empty_canvas(scene), rng.uniform(0, 2 * np.pi), spot.px * rng.choice([0.9, 1.2, 1.8, 2.6])
    for side in (0, np.pi):
        path = walk(rng, spot.centre, spot.reach * rng.uniform(1, 3.5), 0.5, heading + side)
        middle = len(path) // 2
        stroke(canvas, path, width * 0.6)
        stroke(canvas, path[: middle + 1], width)
        for _ in range(int(rng.integers(0, 3))):
            fork = path[int(rng.integers(len(path)))]
            stroke(canvas, walk(rng, fork, spot.reach * rng.uniform(0.4, 1.2), 0.5, heading + side + rng.normal(0, 0.9)), width * 0.5)
    alpha = opacity(canvas, 0.4 * spot.px)
    dark = albedo_at(scene, spot) * np.float32(rng.uniform(0, 0.35))
    albedo = paint(scene.albedo, alpha * np.float32(0.5 + 0.5 * spot.amount), dark)
    return replace(scene, albedo=albedo, height=scene.height - alpha * np.float32(1.5 * spot.px)), alpha


def cut(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    canvas, heading = empty_canvas(scene), rng.uniform(0, 2 * np.pi)
    length, width = spot.reach * rng.uniform(1.5, 4), max(2 * spot.px, spot.reach * rng.uniform(0.06, 0.2))
    along = np.array([np.cos(heading), np.sin(heading)])
    path = walk(rng, spot.centre - 0.5 * length * along, length, 0.06, heading)
    lens = np.sin(np.linspace(0, np.pi, len(path)))[:, None] * width / 2 * np.array([-along[1], along[0]])
    cv2.fillPoly(canvas, [fixed_point(np.concatenate([path + lens, (path - lens)[::-1]]))], 255, cv2.LINE_AA, 4)
    alpha = opacity(canvas, 0.5 * spot.px)
    lip = np.maximum(blurred(alpha, 0.4 * width + spot.px) * 1.5 - alpha, 0)
    albedo = paint(scene.albedo, alpha * np.float32(0.6 + 0.4 * spot.amount), albedo_at(scene, spot) * np.float32(rng.uniform(0, 0.3)))
    height = scene.height + (lip - alpha) * np.float32(rng.uniform(0.5, 1) * width)
    return replace(scene, albedo=albedo, height=height), np.maximum(alpha, np.clip(lip * 2, 0, 1))


def stain(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    alpha = blurred(blob(rng, scene, spot, 0.5), rng.uniform(0.5, max(0.6, 0.15 * spot.reach)))
    if rng.random() < 0.5:  # blotchy
        alpha = alpha * np.clip(0.75 + 0.4 * fractal(rng, scene.size, 14, 3), 0, 1)
    if rng.random() < 0.3:  # dried: darker towards its edge
        alpha = np.clip(alpha * (1.6 - blurred(alpha, 0.3 * spot.reach)), 0, 1)
    return replace(scene, albedo=paint(scene.albedo, alpha * np.float32(0.25 + 0.7 * spot.amount), colour(rng))), alpha


def burn(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    alpha = blurred(blob(rng, scene, spot, 0.4), max(1.0, spot.reach * rng.uniform(0.1, 0.4)))
    alpha = alpha * np.clip(0.85 + 0.25 * fractal(rng, scene.size, 16, 3), 0, 1)
    char = np.array([0.10, 0.07, 0.05], np.float32) * np.float32(rng.uniform(0.4, 2.2))
    return replace(scene, albedo=paint(scene.albedo, alpha * np.float32(0.45 + 0.5 * spot.amount), char)), alpha


def discoloration(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    wide = 1.6 if spot.reach < 0.08 * scene.size else 1.1
    alpha = blurred(blob(rng, scene, spot, 0.35, wide), spot.reach * rng.uniform(0.1, 0.45))
    factor = rng.choice([-1, 1]) * rng.uniform(0.2, 0.55) * (0.4 + 0.6 * spot.amount)
    tinted = np.clip(scene.albedo * np.float32(1 + factor) + (colour(rng) - 0.5) * np.float32(rng.uniform(0.1, 0.4)), 0, 1.1)
    return replace(scene, albedo=paint(scene.albedo, alpha, tinted)), alpha


def spots(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    canvas = empty_canvas(scene)
    for _ in range(int(rng.integers(1, 25))):
        at = spot.centre + rng.normal(0, 0.7 * spot.reach, 2)
        axes = spot.px * np.exp(rng.uniform(np.log(0.9), np.log(5), 2) * np.array([1, 0.8]))
        cv2.ellipse(canvas, fixed_point(at).tolist(), fixed_point(axes).tolist(), rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA, 4)
    alpha = opacity(canvas, rng.uniform(0.3, 1.0) * spot.px)
    rust = np.array([0.45, 0.22, 0.08], np.float32) * np.float32(rng.uniform(0.5, 1.4))
    kind = rng.random()
    coat = rust if kind < 0.35 else contrasting(rng, scene, spot) if kind < 0.8 else colour(rng)
    albedo = paint(scene.albedo, alpha * np.float32(0.4 + 0.6 * spot.amount), coat)
    return replace(scene, albedo=albedo, height=scene.height - alpha * np.float32(rng.uniform(-1, 2) * spot.px)), alpha


def dent(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    footprint = blob(rng, scene, spot, 0.2, 1.2)
    bowl = blurred(footprint, max(1.2, spot.reach * rng.uniform(0.25, 0.4)))
    depth = rng.choice([-1, -1, 1]) * spot.reach * rng.uniform(0.5, 1.1) * (0.4 + 0.6 * spot.amount)
    return replace(scene, height=scene.height + bowl * np.float32(depth)), np.clip(bowl * 3, 0, 1)


def scuff(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    """A rubbed area: many fine strokes one way."""
    canvas, heading = empty_canvas(scene), rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(12, 40))):
        start = spot.centre + rng.normal(0, 0.5 * spot.reach, 2)
        stroke(
            canvas, walk(rng, start, spot.reach * rng.uniform(0.5, 1.6), 0.06, heading + rng.normal(0, 0.12)), spot.px, rng.uniform(0.3, 1)
        )
    alpha = opacity(canvas, 0.5 * spot.px)
    albedo = paint(scene.albedo, alpha * np.float32(0.35 + 0.6 * spot.amount), contrasting(rng, scene, spot))
    return replace(scene, albedo=albedo), np.clip(blurred(alpha, 1.5 * spot.px) * 2.5, 0, 1)


def crease(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    canvas, heading = empty_canvas(scene), rng.uniform(0, 2 * np.pi)
    length, width = spot.reach * rng.uniform(2, 6), max(1.5 * spot.px, spot.reach * rng.uniform(0.08, 0.2))
    start = spot.centre - 0.5 * length * np.array([np.cos(heading), np.sin(heading)])
    stroke(canvas, walk(rng, start, length, 0.08, heading), width)
    ridge = opacity(canvas, 0.5 * width)
    lift = rng.choice([-1, 1]) * rng.uniform(1.2, 2.6) * width * (0.5 + 0.5 * spot.amount)
    return replace(scene, height=scene.height + ridge * np.float32(lift)), np.clip(ridge * 3, 0, 1)


def chip(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    """Broken away: at the edge of an object the background shows, on a surface the layer below."""
    footprint = blob(rng, scene, spot, 0.6)
    gone = footprint * scene.coverage
    rim = np.clip(blurred(gone, 1.2 * spot.px) * 2 - gone, 0, 1) * (1 - gone)
    broken = np.clip(albedo_at(scene, spot) * np.float32(rng.uniform(0.5, 1.5)) + np.float32(rng.uniform(-0.1, 0.15)), 0, 1)
    if scene.backdrop is not None:
        albedo = paint(scene.albedo, rim * np.float32(0.7), broken)
        return replace(
            scene, albedo=albedo, coverage=scene.coverage * (1 - gone), height=scene.height - rim * np.float32(2 * spot.px)
        ), gone
    rough = fractal(rng, scene.size, 30, 3)
    below = np.clip(broken + 0.06 * rough[..., None], 0, 1)
    height = scene.height * (1 - gone) + gone * (rough * np.float32(0.5 * spot.px) - np.float32(2.5 * spot.px))
    return replace(scene, albedo=paint(scene.albedo, gone, below), height=height), gone


def missing_part(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    """A whole piece is gone: beyond a broken line through the spot, or one of several equal parts; on a surface a piece of its coating."""
    if scene.backdrop is None:
        footprint = blurred(blob(rng, scene, spot, 0.6, 1.2), 0.5 * spot.px)
        bare = np.clip(albedo_at(scene, spot) * np.float32(rng.choice([0.35, 0.6, 1.5])) + np.float32(rng.uniform(-0.1, 0.2)), 0, 1)
        height = scene.height * (1 - footprint) - footprint * np.float32(2 * spot.px)
        return replace(scene, albedo=paint(scene.albedo, footprint, bare), height=height), footprint
    _, labels = cv2.connectedComponents((scene.coverage > 0.5).astype(np.uint8))
    y, x = int(np.clip(spot.y, 0, scene.size - 1)), int(np.clip(spot.x, 0, scene.size - 1))
    if labels.max() > 1 and labels[y, x]:
        gone = cv2.dilate((labels == labels[y, x]).astype(np.float32), np.ones((3, 3), np.uint8)) * (scene.coverage > 0)
    else:
        grid = np.arange(scene.size, dtype=np.float32)
        outward = np.array([spot.x - scene.frame.centre[0], spot.y - scene.frame.centre[1]])
        outward = outward / (np.linalg.norm(outward) + 1e-6)
        beyond = (grid[None, :] - spot.x) * np.float32(outward[0]) + (grid[:, None] - spot.y) * np.float32(outward[1])
        jagged = noise(rng, scene.size, 24) * np.float32(rng.uniform(0.3, 3) * spot.px)
        gone = np.clip(beyond + jagged + 0.5, 0, 1) * scene.coverage
    return replace(scene, coverage=scene.coverage * (1 - gone)), gone


def distortion(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    """The pattern runs astray."""
    footprint = blob(rng, scene, spot, 0.3, 1.5)
    zone = blurred(footprint, max(1.5, 0.3 * spot.reach))
    push = np.float32((4 + 10 * spot.amount) * spot.px)
    dx, dy = (zone * push * np.float32(0.6) * (noise(rng, scene.size, 7) + np.float32(rng.normal())) for _ in range(2))
    return displaced(scene, dx, dy), np.clip(zone * 3, 0, 1)


def bent(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    """What lies beyond the spot is bent away; a surface buckles instead."""
    if scene.backdrop is None:
        zone = blurred(blob(rng, scene, spot, 0.2, 2.0), max(2.0, 0.5 * spot.reach))
        grid = np.arange(scene.size, dtype=np.float32)
        heading, wavelength = rng.uniform(0, np.pi), np.float32(max(6 * spot.px, spot.reach * rng.uniform(0.8, 1.6)))
        phase = (
            (grid[None, :] * np.float32(np.cos(heading)) + grid[:, None] * np.float32(np.sin(heading))) * np.float32(2 * np.pi) / wavelength
        )
        wave = np.sin(phase) * zone * wavelength * np.float32(0.12 * (0.5 + spot.amount))
        return replace(displaced(scene, wave * 0.7, wave * 0.7), height=scene.height + wave), np.clip(zone * 2.5, 0, 1)
    grid = np.arange(scene.size, dtype=np.float32)
    outward = np.array([spot.x - scene.frame.centre[0], spot.y - scene.frame.centre[1]]) + 1e-3
    outward = outward / np.linalg.norm(outward)
    along = (grid[None, :] - spot.x) * np.float32(outward[0]) + (grid[:, None] - spot.y) * np.float32(outward[1])
    beyond = np.maximum(along, 0)
    side = np.float32(rng.choice([-1, 1]) * (0.15 + 0.45 * spot.amount))
    sweep = beyond * beyond / (beyond + np.float32(4 * spot.px)) * side
    moved = displaced(scene, sweep * np.float32(-outward[1]), sweep * np.float32(outward[0]))
    return moved, ((along > 0) & (np.maximum(scene.coverage, moved.coverage) > 0.3)).astype(np.float32)


def foreign_patch(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    """A piece of another material, or of the same one turned the wrong way."""
    alpha = blurred(blob(rng, scene, spot, float(rng.choice([0.05, 0.3]))), rng.uniform(0.3, 1.2) * spot.px)
    if rng.random() < 0.55:
        other, height = unlike(scene, rng), scene.height * (1 - alpha)
    else:
        turn = cv2.getRotationMatrix2D((spot.x, spot.y), rng.uniform(30, 330), rng.uniform(0.7, 1.4))
        turn = turn + np.pad(rng.uniform(-1, 1, (2, 1)) * spot.reach, ((0, 0), (2, 0)))
        other, turned_height = (
            cv2.warpAffine(layer, turn, (scene.size, scene.size), borderMode=cv2.BORDER_REFLECT) for layer in (scene.albedo, scene.height)
        )
        height = scene.height + (turned_height - scene.height) * alpha
    return replace(scene, albedo=paint(scene.albedo, alpha, other), height=height), alpha


def extra_object(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    """Debris: a crumb, a chip of metal or plastic, a short wire."""
    limited = replace(spot, reach=float(np.clip(spot.reach, 3 * spot.px, 26 * spot.px)))
    if rng.random() < 0.75:
        alpha = blob(rng, scene, limited, float(rng.choice([0.25, 0.7])))
    else:
        canvas = empty_canvas(scene)
        stroke(canvas, walk(rng, spot.centre, limited.reach * 3, 0.12, rng.uniform(0, 2 * np.pi)), limited.reach * rng.uniform(0.2, 0.5))
        alpha = canvas.astype(np.float32) / 255
    rough = 1 + np.float32(rng.uniform(0, 0.2)) * noise(rng, scene.size, scene.size / 3)
    coat = colour(rng, value=(0.03, 0.98)) * rough[..., None]
    return laid_on(scene, alpha, coat, limited.reach * rng.uniform(0.2, 0.6), rng.uniform(1, 4) * spot.px), alpha


# Held out: never seen in training -------------------------------------------------------------------------------------


def hole(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    alpha = blurred(
        blob(rng, replace(scene), replace(spot, reach=float(np.clip(0.6 * spot.reach, 2.5 * spot.px, 24 * spot.px))), 0.2), 0.6 * spot.px
    )
    lip = np.maximum(blurred(alpha, 2 * spot.px) - alpha, 0)
    depth = albedo_at(scene, spot) * np.float32(rng.uniform(0, 0.3))
    height = scene.height + lip * np.float32(5 * spot.px) - alpha * np.float32(3 * spot.px)
    return replace(scene, albedo=paint(scene.albedo, alpha, depth), height=height), np.clip(alpha + 2 * lip, 0, 1)


def thread(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    """A fibre or hair lying loosely about."""
    canvas, length = empty_canvas(scene), max(30 * spot.px, spot.reach * rng.uniform(3, 7))
    heading = rng.uniform(0, 2 * np.pi)
    for side in (0, np.pi):
        stroke(canvas, walk(rng, spot.centre, length / 2, 0.2, heading + side), spot.px * rng.choice([0.9, 1.4, 2.2]))
    alpha = opacity(canvas, 0.35 * spot.px)
    return laid_on(scene, alpha, colour(rng, value=(0.03, 0.98)), 1.5 * spot.px, rng.uniform(1, 2.5) * spot.px), alpha


def smear(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    """Wiped while wet: blurred one way and shifted in tone."""
    alpha = blurred(blob(rng, scene, spot, 0.4, 1.4), 1.5 * spot.px)
    length = int(9 * spot.px + spot.reach * 0.5) | 1
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    kernel = cv2.warpAffine(line, cv2.getRotationMatrix2D((length // 2, length // 2), rng.uniform(0, 180), 1), (length, length))
    wiped = cv2.filter2D(scene.albedo, -1, kernel / kernel.sum())
    tone = 1 + rng.choice([-1, 1]) * rng.uniform(0.12, 0.4) * (0.4 + 0.6 * spot.amount)
    streaks = cv2.filter2D(noise(rng, scene.size, scene.size / 2), -1, kernel / kernel.sum())
    coat = np.clip(wiped * np.float32(tone) + np.float32(0.12) * streaks[..., None], 0, 1)
    return replace(
        scene, albedo=paint(scene.albedo, alpha, coat), height=scene.height * (1 - alpha) + blurred(scene.height, 3 * spot.px) * alpha
    ), alpha


def bubble(rng: Rng, scene: Scene, spot: Spot) -> Damage:
    """Blisters under paint or film: round glossy domes."""
    footprint, height = np.zeros_like(scene.height), scene.height
    grid = np.arange(scene.size, dtype=np.float32)
    for k in range(int(rng.choice([1, 1, 2, 4]))):
        at = spot.centre + rng.normal(0, 1.2 * spot.reach, 2) * (k > 0)
        radius = max(3 * spot.px, spot.reach * rng.uniform(0.4, 0.9))
        distance = cv2.magnitude(*np.broadcast_arrays(grid[None, :] - np.float32(at[0]), grid[:, None] - np.float32(at[1])))
        dome = np.sqrt(np.clip(1 - (distance / np.float32(radius)) ** 2, 0, 1))
        height = height + dome * np.float32(radius * (0.35 + 0.5 * spot.amount))
        footprint = np.maximum(footprint, (dome > 0).astype(np.float32))
    return replace(scene, height=height, gloss=scene.gloss), footprint


DEFECT_PAINTERS: dict[str, Defect] = {
    "scratch": scratch,
    "crack": crack,
    "cut": cut,
    "stain": stain,
    "burn": burn,
    "discoloration": discoloration,
    "spots": spots,
    "dent": dent,
    "scuff": scuff,
    "crease": crease,
    "chip": chip,
    "missing part": missing_part,
    "distortion": distortion,
    "bent": bent,
    "foreign patch": foreign_patch,
    "extra object": extra_object,
    "hole": hole,
    "thread": thread,
    "smear": smear,
    "bubble": bubble,
}
