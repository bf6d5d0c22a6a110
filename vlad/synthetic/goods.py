"""Consumer goods and electronics as solids: capsules, bottles, food, boards. All coordinates are the part's own."""

from __future__ import annotations

import cv2
import numpy as np

from vlad.synthetic.decor import add_label, add_print, add_rings
from vlad.synthetic.drawing import (
    METALS,
    ORGANIC,
    Frame,
    Rng,
    box,
    circle,
    colour,
    decal_canvas,
    dimmed,
    fractal,
    from_palette,
    noise,
    paint,
    polygon,
    smooth_step,
    stadium,
    wobbly,
    wrap,
)
from vlad.synthetic.solids import Solid, add_speckles, pixels, some_material, to_picture
from vlad.synthetic.textures import make_texture


def capsule(design: Rng, grain: Rng, frame: Frame) -> Solid:
    radius = float(design.uniform(0.28, 0.42))
    skin = make_texture("panel", design, grain, frame)
    split = np.float32(design.uniform(-0.2, 0.3))
    albedo = paint(skin.albedo, smooth_step(frame.u - split, 2 / frame.radius), colour(design, value=(0.3, 1.0)))
    relief = skin.relief + smooth_step(frame.u - split, 0.02) * pixels(frame, 0.012)
    if design.random() < 0.7:
        albedo, relief = add_print(albedo, relief, design, frame, radius * 0.9)
    return Solid(stadium(frame, 0.97, radius), albedo, relief, radius, design.uniform(0.3, 0.8))


def pill(design: Rng, grain: Rng, frame: Frame) -> Solid:
    skin = make_texture(str(design.choice(["panel", "sandpaper", "concrete"])), design, grain, frame, "pale")
    aspect = float(design.uniform(0.5, 1.0))
    outline = (cv2.magnitude(frame.u, frame.v / np.float32(aspect)) - np.float32(0.95)) * np.float32(aspect)
    albedo, relief = skin.albedo, skin.relief
    if design.random() < 0.4:
        albedo = add_speckles(albedo, design, grain, frame, 1.2)
    if design.random() < 0.4:  # score line
        relief = relief - np.maximum(0, 1 - np.abs(frame.u) / np.float32(0.04)) * pixels(frame, 0.04)
    if design.random() < 0.7:
        albedo, relief = add_print(albedo, relief, design, frame, 0.55 * aspect)
    return Solid(outline, albedo, relief, design.uniform(0.15, 0.6) * aspect, design.uniform(0, 0.3))


def bottle(design: Rng, grain: Rng, frame: Frame) -> Solid:
    """Looked into from above: concentric rings of glass or plastic, with reflections."""
    skin = make_texture("panel", design, grain, frame)
    albedo, relief = skin.albedo, skin.relief
    tint = colour(design)
    for radius in sorted(design.uniform(0.2, 0.9, int(design.integers(2, 6))), reverse=True):
        inside = smooth_step(circle(frame, float(radius)), 2 / frame.radius)
        albedo = paint(albedo, inside, np.clip(tint * np.float32(design.uniform(0.3, 1.6)) + np.float32(design.uniform(-0.1, 0.2)), 0, 1))
        relief = relief - inside * pixels(frame, design.uniform(-0.05, 0.08))
    if design.random() < 0.4:
        albedo, relief = add_print(albedo, relief, design, frame, 0.35)
    return Solid(circle(frame, 0.97), albedo, relief, design.uniform(0.05, 0.15), design.uniform(0.3, 0.9), design.uniform(0.1, 0.5))


def package(design: Rng, grain: Rng, frame: Frame) -> Solid:
    half = (0.95, float(design.uniform(0.5, 0.95)))
    skin = some_material(design, grain, frame, ("cardboard", "panel", "panel", "fabric"))
    albedo, relief = skin.albedo, skin.relief
    if design.random() < 0.4:
        tape = np.abs(frame.v) - np.float32(design.uniform(0.06, 0.15))
        albedo = paint(albedo, smooth_step(tape, 2 / frame.radius) * np.float32(0.6), colour(design, value=(0.5, 1)))
    if design.random() < 0.7:
        albedo = add_label(albedo, design, frame, 0.75 * half[1])
    for _ in range(int(design.integers(1, 3))):
        albedo, relief = add_print(albedo, relief, design, frame, 0.85 * half[1])
    return Solid(box(frame, half, corner=float(design.choice([0.0, 0.03, 0.15]))), albedo, relief, design.uniform(0.01, 0.06), skin.gloss)


def cookie(design: Rng, grain: Rng, frame: Frame) -> Solid:
    skin = some_material(design, grain, frame, ("concrete", "cast metal", "sandpaper", "foam"), "organic")
    albedo = add_speckles(skin.albedo, design, grain, frame, 6.0) if design.random() < 0.6 else skin.albedo
    relief = skin.relief + fractal(grain, frame.size, 12, 3) * pixels(frame, design.uniform(0.002, 0.012))
    if design.random() < 0.3:
        relief = add_rings(relief, design, frame)
    outline = wobbly(frame, grain, design.uniform(0.002, 0.035), design.uniform(0.75, 1.0))
    return Solid(outline, albedo, relief, design.uniform(0.15, 0.5), 0.05)


def hazelnut(design: Rng, grain: Rng, frame: Frame) -> Solid:
    base = from_palette(design, ORGANIC)
    streaks = np.sin(frame.theta * np.float32(int(design.integers(12, 36))) + noise(grain, frame.size, 6) * np.float32(1.5))
    cap_side = np.float32(design.uniform(0.3, 0.6))
    albedo = np.clip(1 + 0.1 * streaks + 0.08 * fractal(grain, frame.size, 20, 3), 0.3, 1.6)[..., None] * base
    albedo = paint(
        albedo, smooth_step(cap_side - frame.u + np.float32(0.02) * noise(grain, frame.size, 10), 0.1), from_palette(design, ORGANIC)
    )
    relief = streaks * pixels(frame, 0.006)
    return Solid(
        wobbly(frame, design, design.uniform(0.005, 0.02), design.uniform(0.75, 0.95)), albedo.astype(np.float32), relief, 0.75, 0.2
    )


def candle(design: Rng, grain: Rng, frame: Frame) -> Solid:
    wax = make_texture("panel", design, grain, frame, "pale" if design.random() < 0.6 else None)
    wick = smooth_step(circle(frame, float(design.uniform(0.04, 0.1))), 2 / frame.radius)
    pool = smooth_step(circle(frame, float(design.uniform(0.6, 0.85))), 0.08)
    albedo = paint(dimmed(wax.albedo, 1 - np.float32(0.08) * pool), wick, np.array([0.12, 0.1, 0.09], np.float32))
    rim = polygon(frame, int(design.integers(10, 24)), 0.98) if design.random() < 0.3 else circle(frame, 0.96)
    return Solid(rim, albedo, wax.relief - pool * pixels(frame, 0.05) + wick * pixels(frame, 0.08), 0.08, design.uniform(0.1, 0.5))


def brush(design: Rng, grain: Rng, frame: Frame) -> Solid:
    half_width = float(design.uniform(0.3, 0.45))
    skin = make_texture("panel", design, grain, frame)
    period = np.float32(design.uniform(0.1, 0.2))
    distance = cv2.magnitude(np.mod(frame.u / period, 1) - np.float32(0.5), np.mod(frame.v / period, 1) - np.float32(0.5))
    inside = box(frame, (0.9, half_width - 0.06)) < 0
    tuft = np.clip((np.float32(0.42) - distance) * 6, 0, 1) * inside
    shade = colour(design)[None, None] * (1 + np.float32(0.25) * noise(grain, frame.size, frame.size / 2))[..., None]
    row_tint = (np.mod(np.floor(frame.u / period), int(design.integers(2, 5))) == 0) * np.float32(design.uniform(0, 0.5))
    albedo = paint(skin.albedo, tuft, np.clip(shade * (1 - row_tint[..., None]), 0, 1))
    return Solid(box(frame, (0.97, half_width), corner=half_width * 0.6), albedo, tuft * pixels(frame, 0.06), 0.1, 0.2)


def zipper(design: Rng, grain: Rng, frame: Frame) -> Solid:
    cloth = make_texture("fabric", design, grain, frame)
    period, half_teeth = np.float32(design.uniform(0.06, 0.12)), np.float32(design.uniform(0.08, 0.14))
    side = np.where(frame.v > 0, np.float32(0.5), np.float32(0))
    tooth = np.abs(np.mod(frame.u / period + side, 1) - np.float32(0.5)) - np.float32(0.3)
    edge = np.maximum(tooth * period, np.abs(frame.v) - half_teeth)
    alpha = smooth_step(edge, 2 / frame.radius)
    albedo = paint(cloth.albedo, alpha, from_palette(design, METALS) if design.random() < 0.6 else colour(design))
    stitch = np.abs(np.abs(frame.v) - np.float32(0.35)) < np.float32(0.01)
    albedo = paint(albedo, stitch.astype(np.float32) * np.float32(0.6), colour(design))
    return Solid(box(frame, (0.97, 0.5)), albedo, cloth.relief + alpha * pixels(frame, 0.04), 0.02, design.uniform(0, 0.4), 0.3)


def cable(design: Rng, grain: Rng, frame: Frame) -> Solid:
    """The cut end of a cable: insulated cores with strands in a jacket."""
    skin = make_texture("panel", design, grain, frame)
    cores = int(design.choice([3, 3, 4, 7]))
    reach, core = np.float32(0.55 if cores < 7 else 0.64), np.float32({3: 0.36, 4: 0.34, 7: 0.24}[cores])
    albedo, relief = paint(skin.albedo, smooth_step(circle(frame, 0.9), 2 / frame.radius), colour(design)), skin.relief
    copper = from_palette(design, METALS[4:6])
    same = design.random() < 0.4
    insulation = colour(design)
    for k in range(cores):
        turn = 2 * np.pi * k / cores
        at = (float(reach * np.cos(turn)), float(reach * np.sin(turn)))
        distance = circle(frame, 0.0, at)
        albedo = paint(albedo, smooth_step(distance - core, 2 / frame.radius), insulation if same else colour(design))
        albedo = paint(albedo, smooth_step(distance - core * np.float32(0.62), 2 / frame.radius), copper)
        relief = relief + np.sqrt(np.clip(1 - (distance / core) ** 2, 0, 1)) * pixels(frame, 0.06)
    strands = np.sin(frame.u * 55) * np.sin(frame.v * 55) * pixels(frame, 0.006)
    return Solid(circle(frame, 0.97), albedo, relief + strands * (albedo[..., 0] > albedo[..., 2]), 0.08, design.uniform(0.1, 0.5))


def transistor(design: Rng, grain: Rng, frame: Frame) -> Solid:
    half_width, legs = float(design.uniform(0.35, 0.55)), int(design.choice([2, 3, 3, 5]))
    skin = make_texture("panel", design, grain, frame)
    body = box(frame, (0.42, half_width), (-0.5, 0.0), corner=0.04)
    pitch = np.float32(2 * half_width / legs)
    across = np.mod(frame.v + np.float32(half_width), pitch) - pitch / 2
    leg_reach = np.maximum(np.abs(frame.v) - np.float32(half_width), np.abs(frame.u - np.float32(0.4)) - np.float32(0.57))
    leg = np.maximum(np.abs(across) - np.float32(design.uniform(0.03, 0.06)), leg_reach)
    dark, steel = colour(design, 0.3, (0.05, 0.25)), from_palette(design, METALS)
    albedo = paint(
        np.broadcast_to(steel, skin.albedo.shape), smooth_step(body, 2 / frame.radius), dark + (skin.albedo - 0.5) * np.float32(0.1)
    )
    relief = smooth_step(body, 0.03) * pixels(frame, 0.08)
    here = Frame(frame.size, to_picture(frame, (-0.5, 0.0)), frame.radius * 0.5, frame.angle + np.pi / 2, 1.0)
    albedo, relief = add_print(albedo, relief, design, here, 0.6)
    return Solid(np.minimum(body, leg), albedo, relief, 0.04, design.uniform(0.1, 0.5), design.uniform(0, 0.4))


def circuit(design: Rng, grain: Rng, frame: Frame) -> Solid:
    """A board with traces, pads, chips and printed names: nothing on it is a defect."""
    half = (0.95, float(design.uniform(0.6, 0.95)))
    skin = make_texture("panel", design, grain, frame)
    board = np.array([(0.05, 0.3, 0.12), (0.05, 0.15, 0.4), (0.4, 0.06, 0.06), (0.08, 0.08, 0.09)][int(design.integers(4))], np.float32)
    albedo = board + (skin.albedo - np.float32(0.5)) * np.float32(0.08)
    traces, pads, chips, ink = (decal_canvas(frame, half) for _ in range(4))
    rows, columns = traces.shape
    unit = max(1, round(frame.radius / 90))
    for _ in range(int(design.integers(8, 22))):
        x, y, bend = (int(part) for part in design.uniform((0, 0, -0.3), (1, 1, 0.3)) * (columns, rows, rows))
        cv2.polylines(traces, [np.array([[x, y], [x + bend, y + abs(bend)], [x + bend, rows]])], False, 255, unit, cv2.LINE_AA)
        cv2.circle(pads, (x, y), 2 * unit + 1, 255, -1, cv2.LINE_AA)
    taken: list[tuple[float, float, float, float]] = []
    for _ in range(int(design.integers(4, 12))):
        wide, high = (float(side) for side in design.uniform(0.05, 0.2, 2))
        at_u, at_v = (float(at) for at in design.uniform(-1, 1, 2) * (half[0] - wide - 0.08, half[1] - high - 0.08))
        name = f"{'RCUQ'[int(design.integers(4))]}{int(design.integers(99))}"
        if any(abs(at_u - u) < wide + w + 0.1 and abs(at_v - v) < high + h + 0.05 for u, v, w, h in taken):
            continue
        taken.append((at_u, at_v, wide, high))
        x, y = (int((at + side) * frame.radius) for at, side in ((at_u, half[0]), (at_v, half[1])))
        a, b = int(wide * frame.radius), int(high * frame.radius)
        for pin in range(3 * unit - b, b - 2 * unit, 5 * unit):
            cv2.line(pads, (x - a - 4 * unit, y + pin), (x + a + 4 * unit, y + pin), 255, 2 * unit)
        cv2.rectangle(chips, (x - a, y - b), (x + a, y + b), 255, -1)
        letters = min(a / 46, b / 18)  # three letters at scale 1 are about 60 pixels wide and 20 high
        at = (x - int(30 * letters), y + int(10 * letters))
        cv2.putText(ink, name, at, cv2.FONT_HERSHEY_SIMPLEX, letters, 255, unit, cv2.LINE_AA)
    albedo = paint(albedo, wrap(traces, frame, half) * np.float32(0.6), np.clip(board * 2 + 0.05, 0, 1))
    albedo = paint(albedo, wrap(pads, frame, half), from_palette(design, METALS[:5]))
    raised = wrap(chips, frame, half)
    albedo = paint(albedo, raised, colour(design, 0.2, (0.03, 0.3)))
    albedo = paint(albedo, wrap(ink, frame, half) * np.float32(0.9), np.array([0.9, 0.9, 0.85], np.float32))
    return Solid(box(frame, half), albedo, raised * pixels(frame, 0.04), 0.01, design.uniform(0.1, 0.4))


def connector(design: Rng, grain: Rng, frame: Frame) -> Solid:
    half = (0.95, float(design.uniform(0.35, 0.7)))
    skin = make_texture("panel", design, grain, frame)
    columns, rows = int(design.integers(3, 11)), int(design.choice([1, 2, 2, 3]))
    pitch = (np.float32(1.6 / columns), np.float32(2 * (half[1] - 0.12) / rows))
    u = np.mod(frame.u + np.float32(0.8), pitch[0]) - pitch[0] / 2
    v = np.mod(frame.v + np.float32(half[1] - 0.12), pitch[1]) - pitch[1] / 2
    inside = box(frame, (0.8, half[1] - 0.12)) < 0
    opening = np.float32(min(pitch) * design.uniform(0.28, 0.42))
    socket = (np.maximum(np.abs(u), np.abs(v)) if design.random() < 0.5 else cv2.magnitude(u, v)) - opening
    hollow = smooth_step(socket, 2 / frame.radius) * inside
    pin = smooth_step(socket + opening * np.float32(0.55), 2 / frame.radius) * inside
    albedo = paint(dimmed(skin.albedo, 1 - np.float32(0.8) * hollow), pin, from_palette(design, METALS))
    return Solid(box(frame, half, corner=0.06), albedo, skin.relief + (pin - hollow) * pixels(frame, 0.05), 0.04, skin.gloss)
