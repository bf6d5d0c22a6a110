"""Charts as inline SVG, coloured by the CSS variables of the report, so that one file holds everything and prints sharply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_LEFT, _BOTTOM, _TOP, _RIGHT = 40, 34, 8, 16
COLOURS = (
    "#0f766e",
    "#b45309",
    "#4338ca",
    "#be123c",
    "#0369a1",
    "#65a30d",
    "#a21caf",
    "#78716c",
    "#0891b2",
    "#ca8a04",
)  # of curves, in turn


@dataclass(frozen=True)
class Line:
    """A curve: points x, y in [0, 1] each, and what it is."""

    label: str
    x: np.ndarray
    y: np.ndarray


def curves(lines: Sequence[Line], *, x_label: str, y_label: str, x_max: float = 1.0, diagonal: bool = False) -> str:
    """Curves in one square frame; each line shows its label when pointed at."""
    side, frame = 300, _Frame(300, 300, x_max)
    parts = frame.axes(x_label, y_label)
    if diagonal:
        parts.append(f'<path class="chance" d="M{frame.x(0)} {frame.y(0)}L{frame.x(x_max)} {frame.y(x_max)}"/>')
    for number, line in enumerate(lines):
        inside = line.x <= x_max
        points = "L".join(f"{frame.x(x)} {frame.y(y)}" for x, y in zip(line.x[inside], line.y[inside], strict=True))
        if points:
            parts.append(
                f'<path class="curve" stroke="{COLOURS[number % len(COLOURS)]}" d="M{points}"><title>{escape(line.label)}</title></path>'
            )
    return _svg(side, side, parts, f"{y_label} over {x_label}")


def histogram(normal: Sequence[float], anomalous: Sequence[float], thresholds: Sequence[float], *, bins: int = 24) -> str:
    """Scores of normal and anomalous pictures as shares of each kind, with the threshold."""
    width, height = 300, 170
    scores = [*normal, *anomalous, *thresholds]
    low, high = _round_range(min(scores, default=0.0), max(scores, default=1.0))
    edges = np.linspace(low, high, bins + 1)
    shares = [np.histogram(values, edges)[0] / max(len(values), 1) for values in (normal, anomalous)]
    top = max(float(max(share.max() for share in shares)), 1e-9)
    span = width - _LEFT - _RIGHT
    step, floor = span / bins, height - _BOTTOM
    parts = [f'<path class="axis" d="M{_LEFT} {floor}H{width - _RIGHT}"/>']
    for kind, share in zip(("normal", "anomalous"), shares, strict=True):
        for index, value in enumerate(share):
            if value:
                tall = value / top * (floor - _TOP - 14)
                label = f"{kind}: {value:.0%} from {edges[index]:.3f} to {edges[index + 1]:.3f}"
                box = f'x="{_LEFT + index * step:.1f}" y="{floor - tall:.1f}" width="{max(step - 0.6, 0.5):.1f}" height="{tall:.1f}"'
                parts.append(f'<rect class="{kind}" {box}><title>{label}</title></rect>')
    for threshold in thresholds:
        x = _LEFT + (threshold - low) / (high - low) * span
        parts.append(f'<path class="threshold" d="M{x:.1f} {_TOP}V{floor}"/>')
    for value, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "end")):
        x = _LEFT + (value - low) / (high - low) * span
        parts.append(f'<text class="tick" x="{x:.1f}" y="{floor + 15}" text-anchor="{anchor}">{value:.3g}</text>')
    parts.append(f'<text class="tick" x="{_LEFT + span / 2}" y="{height - 3}" text-anchor="middle">score</text>')
    return _svg(width, height, parts, "scores of normal and anomalous pictures")


def _round_range(low: float, high: float) -> tuple[float, float]:
    """A range of scores in [0, 1] widened to tenths, or to twentieths of what it spans where that is narrow."""
    step = 0.1 if high - low > 0.2 else 0.02
    low, high = np.floor(low / step) * step, np.ceil(high / step) * step
    return float(low), float(max(high, low + step))


class _Frame:
    """Places of values in a frame with axes from 0 to `x_max` and from 0 to 1."""

    def __init__(self, width: int, height: int, x_max: float) -> None:
        self.width, self.height, self.x_max = width, height, x_max

    def x(self, value: float) -> str:
        return f"{_LEFT + value / self.x_max * (self.width - _LEFT - _RIGHT):.1f}"

    def y(self, value: float) -> str:
        return f"{self.height - _BOTTOM - value * (self.height - _BOTTOM - _TOP):.1f}"

    def axes(self, x_label: str, y_label: str) -> list[str]:
        parts = []
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            x, y = self.x(share * self.x_max), self.y(share)
            parts.append(f'<path class="grid" d="M{_LEFT} {y}H{self.width - _RIGHT}M{x} {_TOP}V{self.height - _BOTTOM}"/>')
            parts.append(
                f'<text class="tick" x="{x}" y="{self.height - _BOTTOM + 14}" text-anchor="middle">{share * self.x_max:.2g}</text>'
            )
            parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{share:.2g}</text>')
        middle = (self.width + _LEFT - _RIGHT) / 2
        parts.append(f'<text class="label" x="{middle}" y="{self.height - 3}" text-anchor="middle">{escape(x_label)}</text>')
        up = (self.height - _BOTTOM + _TOP) / 2
        parts.append(f'<text class="label" transform="translate(10 {up}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
        return parts


def _svg(width: int, height: int, parts: Sequence[str], title: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
