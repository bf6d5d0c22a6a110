"""Machine parts as solids: washers, nuts, screws, plates, wheels, bearings. All coordinates are the part's own."""

from __future__ import annotations

import cv2
import numpy as np

from vlad.synthetic.decor import add_print, add_rings, hole_pattern
from vlad.synthetic.drawing import METALS, Array, Frame, Rng, box, circle, dimmed, from_palette, paint, polygon, smooth_step
from vlad.synthetic.solids import TAU, Solid, pixels, some_material, steel
from vlad.synthetic.textures import make_texture


def disc(design: Rng, grain: Rng, frame: Frame) -> Solid:
    skin = some_material(design, grain, frame, ("panel", "turned metal", "cast metal", "brushed metal", "wood", "sandpaper"))
    albedo, relief = skin.albedo, skin.relief
    if design.random() < 0.6:
        relief = add_rings(relief, design, frame)
    if design.random() < 0.6:
        albedo, relief = add_print(albedo, relief, design, frame, 0.6)
    return Solid(circle(frame, 0.96), albedo, relief, design.uniform(0.03, 0.4), skin.gloss, design.uniform(0, 0.5))


def washer(design: Rng, grain: Rng, frame: Frame) -> Solid:
    hole = float(design.uniform(0.3, 0.78))
    rubber = design.random() < 0.25
    skin = some_material(design, grain, frame, ("panel", "sandpaper")) if rubber else steel(design, grain, frame)
    outline = np.maximum(circle(frame, 0.96), -circle(frame, hole))
    bevel = (0.96 - hole) / 2 if rubber or design.random() < 0.2 else design.uniform(0.03, 0.1)
    return Solid(outline, skin.albedo, skin.relief, float(bevel), design.uniform(0.1, 0.6), 0.0 if rubber else design.uniform(0.2, 0.8))


def nut(design: Rng, grain: Rng, frame: Frame) -> Solid:
    skin = steel(design, grain, frame)
    hole = float(design.uniform(0.35, 0.6))
    outer = polygon(frame, int(design.choice([6, 6, 6, 4, 8])), 0.98)
    outline = np.maximum(np.maximum(outer, circle(frame, 0.95)), -circle(frame, hole))
    thread = np.sin(frame.r * TAU / np.float32(design.uniform(0.02, 0.05))) * smooth_step(circle(frame, hole + 0.06), 0.02)
    chamfer = np.maximum(0, frame.r - np.float32(0.8)) * pixels(frame, -0.6)
    return Solid(
        outline,
        skin.albedo,
        skin.relief + chamfer + thread * pixels(frame, 0.008),
        0.05,
        design.uniform(0.2, 0.7),
        design.uniform(0.3, 0.9),
    )


def screw(design: Rng, grain: Rng, frame: Frame) -> Solid:
    shaft, head = float(design.uniform(0.12, 0.2)), float(design.uniform(0.28, 0.4))
    head_end, pitch = -0.72, np.float32(design.uniform(0.05, 0.11))
    skin = steel(design, grain, frame)
    taper = np.maximum(0, frame.u - np.float32(0.72)) * np.float32(design.choice([0.0, 0.7]))
    shaft_edge = np.maximum(np.abs(frame.v) + taper - np.float32(shaft), np.abs(frame.u) - np.float32(0.97))
    cone = np.clip((frame.u + np.float32(0.97)) / np.float32(0.25), 0, 1) * np.float32(head - shaft) * np.float32(design.choice([0.0, 1.0]))
    head_edge = np.maximum(
        np.abs(frame.v) + cone - np.float32(head), np.maximum(frame.u - np.float32(head_end), -frame.u - np.float32(0.97))
    )
    threaded = smooth_step(np.float32(design.uniform(-0.6, 0.1)) - frame.u, 0.02)
    phase = frame.u * TAU / pitch + frame.v * np.float32(1.5 / shaft)
    wave = np.sin(phase) * threaded
    outline = np.minimum(shaft_edge - wave * np.float32(0.012), head_edge)
    round_shaft = np.sqrt(np.clip(1 - (frame.v / np.float32(shaft)) ** 2, 0, 1)) * (shaft_edge < 0) * pixels(frame, shaft * 0.9)
    albedo = dimmed(skin.albedo, 1 - np.float32(0.25) * (wave < 0) * (head_edge > 0))
    relief = skin.relief + round_shaft + wave * pixels(frame, 0.012) * (head_edge > 0)
    return Solid(outline, albedo, relief, 0.06, design.uniform(0.2, 0.7), design.uniform(0.4, 1.0))


def plate(design: Rng, grain: Rng, frame: Frame) -> Solid:
    half = (0.95, float(design.uniform(0.45, 0.95)))
    skin = some_material(
        design, grain, frame, ("brushed metal", "cast metal", "panel", "panel"), "metal" if design.random() < 0.7 else None
    )
    outline = box(frame, half, corner=float(design.choice([0.0, 0.08, 0.25])))
    outline = np.maximum(outline, -hole_pattern(design, frame, half))
    albedo, relief = skin.albedo, skin.relief
    if design.random() < 0.35:  # a bend across the sheet
        fold = np.float32(design.uniform(-0.6, 0.6))
        relief = relief + np.maximum(0, frame.u - fold) * pixels(frame, design.uniform(-0.5, 0.5))
    if design.random() < 0.5:
        albedo, relief = add_print(albedo, relief, design, frame, 0.6 * half[1])
    return Solid(outline, albedo, relief, design.uniform(0.01, 0.06), skin.gloss, design.uniform(0, 0.5))


def impeller(design: Rng, grain: Rng, frame: Frame) -> Solid:
    skin = some_material(design, grain, frame, ("cast metal", "sandpaper", "panel"), "metal")
    hub, blades, swirl = np.float32(design.uniform(0.2, 0.4)), int(design.integers(4, 10)), np.float32(design.uniform(-4, 4))
    blade = np.clip(np.sin(frame.theta * np.float32(blades) + frame.r * swirl) * np.float32(design.uniform(2, 5)), -1, 1)
    ring = (frame.r > hub + np.float32(0.08)) & (frame.r < np.float32(0.88))
    relief = cv2.GaussianBlur(np.where(ring, blade, 0).astype(np.float32), (0, 0), 0.006 * frame.radius + 0.5) * pixels(
        frame, design.uniform(0.02, 0.06)
    )
    relief = add_rings(relief, design, frame) + skin.relief
    outline = np.maximum(circle(frame, 0.97), -circle(frame, float(hub) * design.uniform(0.3, 0.7)))
    return Solid(outline, skin.albedo, relief, design.uniform(0.03, 0.08), skin.gloss, design.uniform(0, 0.5))


def pipe(design: Rng, grain: Rng, frame: Frame) -> Solid:
    radius = float(design.uniform(0.2, 0.5))
    skin = some_material(design, grain, frame, ("panel", "brushed metal", "cast metal"))
    albedo, relief = skin.albedo, skin.relief
    for at in design.uniform(-0.85, 0.85, int(design.integers(0, 4))):
        collar = smooth_step(np.abs(frame.u - np.float32(at)) - np.float32(design.uniform(0.02, 0.1)), 2 / frame.radius)
        relief = relief + collar * pixels(frame, 0.03)
        albedo = paint(albedo, collar, np.clip(albedo * np.float32(design.uniform(0.6, 1.4)), 0, 1))
    if design.random() < 0.5:
        albedo, relief = add_print(albedo, relief, design, frame, radius * 0.8)
    length = box(frame, (0.97, radius))
    curved = np.sqrt(np.clip(1 - (frame.v / np.float32(radius)) ** 2, 0, 1)) * pixels(frame, radius)
    return Solid(length, albedo, relief + curved, 0.01, design.uniform(0.1, 0.7), design.uniform(0, 0.7))


def gear(design: Rng, grain: Rng, frame: Frame) -> Solid:
    skin = steel(design, grain, frame)
    teeth, depth = int(design.integers(10, 26)), float(design.uniform(0.06, 0.11))
    tooth: Array = np.clip(np.sin(frame.theta * np.float32(teeth)) * np.float32(2.2), -1, 1) * np.float32(depth)
    hub = float(design.uniform(0.15, 0.3))
    outline: Array = np.maximum(frame.r - np.float32(0.96 - depth) - tooth, -circle(frame, hub))
    if design.random() < 0.6:
        outline = np.maximum(outline, -hole_pattern(design, frame, (0.85, 0.85)))
    relief: Array = skin.relief + smooth_step(circle(frame, hub + 0.14), 0.03) * pixels(frame, 0.05)
    relief = relief - smooth_step(np.abs(frame.r - np.float32(0.62)) - np.float32(0.12), 0.03) * pixels(frame, 0.03)
    return Solid(outline, skin.albedo, relief, 0.03, design.uniform(0.1, 0.5), design.uniform(0.2, 0.7))


def handle(design: Rng, grain: Rng, frame: Frame) -> Solid:
    """A valve handle: spokes, a hub, often a rim."""
    skin = make_texture("panel", design, grain, frame)
    spokes, width = int(design.integers(3, 6)), np.float32(design.uniform(0.1, 0.18))
    wedge = np.float32(2 * np.pi / spokes)
    within = np.mod(frame.theta, wedge) - wedge / 2
    spoke = np.maximum(np.abs(frame.r * np.sin(within)) - width, frame.r - np.float32(0.93))
    outline = np.minimum(spoke, circle(frame, float(design.uniform(0.25, 0.35))))
    if design.random() < 0.7:
        outline = np.minimum(outline, np.abs(frame.r - np.float32(0.83)) - np.float32(0.13))
    bolt = smooth_step(polygon(frame, 6, 0.14), 2 / frame.radius)
    albedo = paint(skin.albedo, bolt, from_palette(design, METALS))
    return Solid(outline, albedo, skin.relief + bolt * pixels(frame, 0.08), 0.1, design.uniform(0.2, 0.6))


def spanner(design: Rng, grain: Rng, frame: Frame) -> Solid:
    skin = steel(design, grain, frame)
    head, shaft = float(design.uniform(0.28, 0.36)), float(design.uniform(0.11, 0.17))
    outline = np.minimum(box(frame, (0.7, shaft)), circle(frame, head, (-0.65, 0.0)))
    outline = np.minimum(outline, circle(frame, head * 0.85, (0.7, 0.0)))
    outline = np.maximum(outline, -box(frame, (0.24, head * 0.5), (-0.85, 0.0)))
    outline = np.maximum(outline, -circle(frame, head * 0.5, (0.7, 0.0)))
    groove = smooth_step(box(frame, (0.35, shaft * 0.5), corner=shaft * 0.4), 0.02)
    albedo, relief = add_print(skin.albedo, skin.relief - groove * pixels(frame, 0.03), design, frame, shaft * 1.1)
    return Solid(outline, albedo, relief, 0.05, design.uniform(0.2, 0.6), design.uniform(0.3, 0.9))


def bearing(design: Rng, grain: Rng, frame: Frame) -> Solid:
    skin = make_texture("turned metal", design, grain, frame, "metal")
    bore, balls = float(design.uniform(0.3, 0.45)), int(design.integers(7, 13))
    track, half_track = np.float32((bore + 0.97) / 2), np.float32((0.97 - bore) * 0.24)
    wedge = np.float32(2 * np.pi / balls)
    within = np.mod(frame.theta, wedge) - wedge / 2
    ball = cv2.magnitude(frame.r * np.cos(within) - track, frame.r * np.sin(within))
    ball_radius = np.float32(min(float(half_track), float(track) * np.pi / balls * 0.85))
    groove = smooth_step(np.abs(frame.r - track) - half_track, 2 / frame.radius)
    albedo = dimmed(skin.albedo, 1 - np.float32(0.75) * groove)
    albedo = paint(albedo, smooth_step(ball - ball_radius, 2 / frame.radius), from_palette(design, METALS[:2]))
    dome = np.sqrt(np.clip(1 - (ball / ball_radius) ** 2, 0, 1)) * np.float32(ball_radius * frame.radius)
    outline = np.maximum(circle(frame, 0.97), -circle(frame, bore))
    return Solid(outline, albedo, skin.relief * (1 - groove) - groove * pixels(frame, 0.05) + dome, 0.03, 0.6, design.uniform(0.4, 0.9))
