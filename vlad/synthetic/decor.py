"""What belongs on a good product yet looks like a defect to the naive: print, labels, logos, seams, holes, rivets, engraved lines.

Everything is drawn from the `design` stream: the same on every piece of a product line, whether the piece is good or not.
"""

from __future__ import annotations

import cv2
import numpy as np

from vlad.synthetic.drawing import Array, Frame, Rng, box, circle, colour, decal_canvas, dimmed, paint, smooth_step, wrap

LETTERS = "ABCDEFGHJKLMNPRSTUVXYZ0123456789-./"
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_TRIPLEX)


def _line_of_text(canvas: Array, design: Rng, top: int, height: int, letters: int) -> None:
    """Writes random letters into `canvas` between rows `top` and `top + height`, centred."""
    text = "".join(LETTERS[int(k)] for k in design.integers(0, len(LETTERS), letters))
    font = FONTS[int(design.integers(len(FONTS)))]
    thickness = max(1, round(height * design.uniform(0.06, 0.16)))
    (width, tall), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(0.8 * height / max(tall, 1), 0.92 * canvas.shape[1] / max(width, 1))
    (width, tall), _ = cv2.getTextSize(text, font, scale, thickness)
    origin = ((canvas.shape[1] - width) // 2, top + (height + tall) // 2)
    cv2.putText(canvas, text, origin, font, scale, 255, thickness, cv2.LINE_AA)


def draw_text(canvas: Array, design: Rng) -> None:
    lines = int(design.choice([1, 1, 1, 2, 3]))
    height = canvas.shape[0] // lines
    for line in range(lines):
        _line_of_text(canvas, design, line * height, height, int(design.integers(1, 9)))


def draw_barcode(canvas: Array, design: Rng) -> None:
    bars = (design.random(int(design.integers(20, 50))) < 0.5).astype(np.uint8) * 255
    canvas[:] = cv2.resize(bars[None, :], canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def draw_matrix_code(canvas: Array, design: Rng) -> None:
    side = int(design.integers(8, 20))
    dots = (design.random((side, side)) < 0.5).astype(np.uint8) * 255
    dots[:, 0] = dots[-1, :] = 255
    canvas[:] = cv2.resize(dots, canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def draw_logo(canvas: Array, design: Rng) -> None:
    """A clean emblem: rings, a polygon, a star or an arrow."""
    height, width = canvas.shape
    middle, reach = np.array([width / 2, height / 2]), 0.46 * min(height, width)
    stroke = max(1, round(reach * design.uniform(0.05, 0.2)))
    kind = int(design.integers(4))
    if kind == 0:
        for radius in design.uniform(0.3, 1.0, int(design.integers(1, 4))):
            cv2.circle(canvas, (width // 2, height // 2), round(reach * radius), 255, stroke, cv2.LINE_AA)
        return
    corners = int(design.integers(3, 8))
    turns = np.arange(corners * 2) * np.pi / corners + design.uniform(0, 2 * np.pi)
    radii = np.where(np.arange(corners * 2) % 2, design.uniform(0.35, 0.7), 1.0) if kind == 1 else np.ones(corners * 2)
    points = middle + reach * radii[:, None] * np.stack([np.cos(turns), np.sin(turns)], 1)
    if kind == 2:
        points = middle + reach * np.array([[-1, -0.3], [0.2, -0.3], [0.2, -0.8], [1, 0], [0.2, 0.8], [0.2, 0.3], [-1, 0.3]])
    outline = [np.round(points).astype(np.int32)]
    if design.random() < 0.5:
        cv2.fillPoly(canvas, outline, 255, cv2.LINE_AA)
    else:
        cv2.polylines(canvas, outline, True, 255, stroke, cv2.LINE_AA)


def draw_scale(canvas: Array, design: Rng) -> None:
    """Tick marks along a line, as on a ruler."""
    height, width = canvas.shape
    ticks = int(design.integers(5, 24))
    cv2.line(canvas, (0, height - 2), (width, height - 2), 255, 1, cv2.LINE_AA)
    for tick in range(ticks + 1):
        x = round(tick * (width - 1) / ticks)
        cv2.line(canvas, (x, height), (x, height // 2 if tick % 5 else 0), 255, max(1, width // 150), cv2.LINE_AA)


PRINTS = (draw_text, draw_text, draw_text, draw_logo, draw_logo, draw_barcode, draw_matrix_code, draw_scale)


def add_print(albedo: Array, height: Array, design: Rng, frame: Frame, reach: float = 0.6) -> tuple[Array, Array]:
    """One printed or engraved mark within `reach` radii of the middle. Returns the new albedo and height (pixels)."""
    draw = PRINTS[int(design.integers(len(PRINTS)))]
    half_width = reach * design.uniform(0.2, 0.45 if draw is draw_matrix_code else 0.9)
    half_height = half_width if draw in (draw_logo, draw_matrix_code) else half_width * design.uniform(0.15, 0.5)
    slack = max(0.0, reach - half_width)
    at = (float(design.uniform(-slack, slack)), float(design.uniform(-slack, slack)))
    turn = float(design.choice([0.0, 0.0, np.pi / 2, np.pi, design.uniform(0, 2 * np.pi)]))
    canvas = decal_canvas(frame, (half_width, half_height))
    draw(canvas, design)
    alpha = wrap(canvas, frame, (half_width, half_height), at, turn)
    if design.random() < 0.25:  # engraved or embossed
        return paint(albedo, alpha * np.float32(0.25), albedo * np.float32(0.6)), height + alpha * np.float32(
            design.uniform(-0.015, 0.015) * frame.radius
        )
    strength = np.float32(design.uniform(0.35, 1.0))
    return paint(albedo, alpha * strength, colour(design, value=(0.02, 0.98))), height


def add_label(albedo: Array, design: Rng, frame: Frame, reach: float = 0.7) -> Array:
    """A paper label of one colour, sometimes framed, with print on it."""
    half = (reach * design.uniform(0.4, 0.95), reach * design.uniform(0.25, 0.6))
    slack = max(0.0, reach - half[0])
    at = (float(design.uniform(-slack, slack)), float(design.uniform(-slack, slack)))
    edge = box(frame, half, at, corner=float(design.choice([0.0, 0.05])))
    albedo = paint(albedo, smooth_step(edge, 1.5 / frame.radius), colour(design, value=(0.5, 1.0)))
    canvas = decal_canvas(frame, half)
    inner = canvas[int(canvas.shape[0] * 0.12) : int(canvas.shape[0] * 0.88), int(canvas.shape[1] * 0.08) : int(canvas.shape[1] * 0.92)]
    rows = inner.shape[0]
    if design.random() < 0.5:
        draw_barcode(inner[rows // 2 :], design)
        draw_text(inner[: rows // 2 - 2], design)
    else:
        draw_text(inner, design)
    return paint(albedo, wrap(canvas, frame, half, at) * np.float32(0.9), colour(design, value=(0.02, 0.35)))


def add_rings(height: Array, design: Rng, frame: Frame, outer: float = 0.92) -> Array:
    """Turned grooves or ridges around the middle."""
    for radius in design.uniform(0.25, outer, int(design.integers(1, 4))):
        width = np.float32(design.uniform(0.008, 0.04))
        swell = np.maximum(0, 1 - np.abs(frame.r - np.float32(radius)) / width)
        height = height + swell * np.float32(design.uniform(-1, 1) * 0.03 * frame.radius)
    return height


def add_seams(albedo: Array, height: Array, design: Rng, frame: Frame) -> tuple[Array, Array]:
    """Straight joints, stripes or a change of material across a surface."""
    for _ in range(int(design.integers(1, 4))):
        across = frame.u if design.random() < 0.5 else frame.v
        distance = across - np.float32(design.uniform(-0.9, 0.9))
        kind = int(design.integers(3))
        if kind == 0:  # groove between two panels
            groove = smooth_step(np.abs(distance) - np.float32(design.uniform(0.004, 0.02)), 2.0 / frame.radius)
            albedo = dimmed(albedo, 1 - np.float32(design.uniform(0.3, 0.8)) * groove)
            height = height - groove * np.float32(0.02 * frame.radius)
        elif kind == 1:  # painted stripe
            stripe = smooth_step(np.abs(distance) - np.float32(design.uniform(0.004, 0.12)), 1.5 / frame.radius)
            albedo = paint(albedo, stripe * np.float32(design.uniform(0.4, 1.0)), colour(design))
        else:  # another material begins here
            beyond = smooth_step(distance, 1.5 / frame.radius)
            albedo = paint(
                albedo, beyond, np.clip(albedo * np.float32(design.uniform(0.5, 1.4)) + (colour(design) - 0.5) * np.float32(0.3), 0, 1)
            )
    return albedo, height


def add_fasteners(albedo: Array, height: Array, design: Rng, frame: Frame) -> tuple[Array, Array]:
    """A regular row of holes, rivets or screw heads on a surface."""
    pitch, radius = np.float32(design.uniform(0.3, 0.9)), np.float32(design.uniform(0.02, 0.08))
    across = frame.v - np.float32(design.uniform(-0.8, 0.8))
    along = np.mod(frame.u + np.float32(design.uniform(0, 1)), pitch) - pitch / 2
    distance = cv2.magnitude(along, across) - radius
    disc = smooth_step(distance, 1.5 / frame.radius)
    kind = int(design.integers(3))
    if kind == 0:  # through holes
        return dimmed(albedo, 1 - np.float32(0.85) * disc), height - disc * np.float32(0.02 * frame.radius)
    dome = np.sqrt(np.clip(1 - ((distance + radius) / radius) ** 2, 0, 1)) * radius * np.float32(0.5 * frame.radius)
    albedo = paint(albedo, disc, colour(design, 0.2, (0.4, 0.8)))
    if kind == 2:  # slotted heads
        slot = smooth_step(np.abs(along + across) - radius * np.float32(0.15), 1.5 / frame.radius) * disc
        albedo = dimmed(albedo, 1 - np.float32(0.7) * slot)
    return albedo, height + dome


def furnish_surface(albedo: Array, height: Array, design: Rng, frame: Frame) -> tuple[Array, Array]:
    """The extras of a close-up surface: more than half of the designs have none, as carpets and stones do."""
    if design.random() < 0.55:
        return albedo, height
    if design.random() < 0.35:
        albedo, height = add_seams(albedo, height, design, frame)
    if design.random() < 0.25:
        albedo, height = add_fasteners(albedo, height, design, frame)
    if design.random() < 0.2:
        albedo = add_label(albedo, design, frame, reach=0.8)
    for _ in range(int(design.choice([0, 1, 1, 2]))):
        albedo, height = add_print(albedo, height, design, frame, reach=0.85)
    return albedo, height


def hole_pattern(design: Rng, frame: Frame, extent: tuple[float, float]) -> Array:
    """Signed distance (H, W) to the drilled holes of a plate of half sides `extent`: corners, a ring, a row, or a slot."""
    radius = float(design.uniform(0.05, 0.13))
    a, b = extent[0] - 0.2, max(extent[1] - 0.18, 0.0)
    kind = int(design.integers(4))
    if kind == 0:  # four corners at once by symmetry
        edge = cv2.magnitude(np.abs(frame.u) - np.float32(a), np.abs(frame.v) - np.float32(b)) - np.float32(radius)
    elif kind == 1:
        count = int(design.integers(3, 9))
        wedge = np.float32(2 * np.pi / count)
        within, ring = np.mod(frame.theta, wedge) - wedge / 2, np.float32(min(extent) * 0.65)
        edge = cv2.magnitude(frame.r * np.cos(within) - ring, frame.r * np.sin(within)) - np.float32(radius * 0.8)
    elif kind == 2:
        edge = circle(frame, radius, (-a, 0.0))
        edge = np.minimum(edge, circle(frame, radius, (a, 0.0)))
    else:
        edge = box(frame, (a * 0.7, radius), (0.0, 0.0), corner=radius * 0.99)
    if design.random() < 0.35:
        edge = np.minimum(edge, circle(frame, float(design.uniform(0.12, 0.3)) * min(extent) * 1.5))
    return edge
