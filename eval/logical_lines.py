"""Logical faults: procedural lines whose pictures hold a known number of parts, and the methods that could notice.

    python eval/logical_lines.py [--lines 6] [--references 8]

Every part is whole and of a kind that the references show; what is wrong is that one is missing, is too many, has changed places with one
of another kind, or lies beside its place. In `fixed` lines each part has its place, in `loose` ones they lie anywhere, so that places say
nothing. Image AUROC of each method by kind of fault, mean and standard deviation over lines.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import typer

from vlad import AnomalyDetector
from vlad.backbones import load_backbone
from vlad.metrics import auroc

SIDE = 448
FAULTS = {"fixed": ("missing", "extra", "swapped", "misplaced"), "loose": ("missing", "extra", "replaced")}
METHODS = ("nearest", "positioned", "gaussian", "histogram")


@dataclass(frozen=True)
class Part:
    """A kind of part: its outline, size in pixels and colour."""

    shape: str
    size: int
    colour: tuple[int, int, int]

    def draw(self, canvas: np.ndarray, x: int, y: int, turn: float, light: float) -> None:
        colour = tuple(int(min(255, value * light)) for value in self.colour)
        dark = tuple(int(value * 0.55) for value in colour)
        cv2.circle(canvas, (x + 4, y + 5), self.size, (38, 38, 40), -1, cv2.LINE_AA)  # its shadow
        if self.shape == "disc":
            cv2.circle(canvas, (x, y), self.size, colour, -1, cv2.LINE_AA)
            cv2.circle(canvas, (x, y), self.size // 3, dark, 2, cv2.LINE_AA)
        elif self.shape == "ring":
            cv2.circle(canvas, (x, y), self.size - 4, colour, 9, cv2.LINE_AA)
        else:
            corners = {"nut": 6, "square": 4, "wedge": 3}[self.shape]
            angles = turn + np.arange(corners) * 2 * np.pi / corners
            outline = np.stack([x + self.size * np.cos(angles), y + self.size * np.sin(angles)], 1).round().astype(np.int32)
            cv2.fillPoly(canvas, [outline], colour, cv2.LINE_AA)
            if self.shape == "nut":
                cv2.circle(canvas, (x, y), self.size // 2, dark, -1, cv2.LINE_AA)


class Line:
    """One product: its kinds of parts, how many of each, and where.

    Args:
        seed: of the design.
        is_loose: whether its parts lie anywhere.
    """

    def __init__(self, seed: int, *, is_loose: bool) -> None:
        rng = np.random.default_rng([seed, is_loose])
        shapes = rng.permutation(["disc", "ring", "nut", "square", "wedge"])[:3]
        self.kinds = [Part(str(shape), int(rng.integers(24, 34)), tuple(rng.integers(90, 230, 3).tolist())) for shape in shapes]
        self.is_loose = is_loose
        self.places = [(64 + 107 * column, 64 + 107 * row) for row in range(4) for column in range(4)]
        count = int(rng.integers(8, 12))
        self.slots = rng.permutation(len(self.places))[:count].tolist()
        self.parts = [int(kind) for kind in rng.integers(0, 3, count)]
        self.parts[:3] = [0, 1, 2]
        self.base = rng.integers(60, 120, 3)
        self.grain = float(rng.uniform(3, 7))

    def picture(self, rng: np.random.Generator, fault: str = "") -> np.ndarray:
        """uint8 (SIDE, SIDE, 3), good or with one fault."""
        slots = rng.permutation(len(self.places))[: len(self.slots)].tolist() if self.is_loose else list(self.slots)
        parts = list(self.parts)
        shift: dict[int, tuple[int, int]] = {}
        chosen = int(rng.integers(len(parts)))
        if fault == "missing":
            del slots[chosen], parts[chosen]
        elif fault == "extra":
            free = [place for place in range(len(self.places)) if place not in slots]
            slots.append(int(rng.choice(free)))
            parts.append(int(rng.integers(3)))
        elif fault == "replaced":
            parts[chosen] = (parts[chosen] + int(rng.integers(1, 3))) % 3
        elif fault == "swapped":
            other = int(rng.choice([index for index, kind in enumerate(parts) if kind != parts[chosen]]))
            parts[chosen], parts[other] = parts[other], parts[chosen]
        elif fault == "misplaced":
            angle = rng.uniform(0, 2 * np.pi)
            shift[chosen] = (round(40 * np.cos(angle)), round(40 * np.sin(angle)))
        light = float(rng.uniform(0.94, 1.06))
        canvas = np.empty((SIDE, SIDE, 3), np.uint8)
        canvas[:] = np.clip(self.base * light, 0, 255)
        for number, (slot, kind) in enumerate(zip(slots, parts, strict=True)):
            x, y = self.places[slot]
            jitter = 14 if self.is_loose else 3
            right, down = shift.get(number, (0, 0))
            x, y = x + int(rng.integers(-jitter, jitter + 1)) + right, y + int(rng.integers(-jitter, jitter + 1)) + down
            turn = float(rng.uniform(0, 2 * np.pi)) if self.is_loose else float(rng.uniform(-0.1, 0.1))
            self.kinds[kind].draw(canvas, x, y, turn, light * float(rng.uniform(0.96, 1.04)))
        noisy = cv2.GaussianBlur(canvas, (0, 0), 0.8) + rng.normal(0, self.grain, canvas.shape)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def scores(line: Line, references: int, seed: int, methods: tuple[str, ...] = METHODS, each: int = 10) -> Iterator[tuple[str, str, float]]:
    """(method, fault, image AUROC) of a line."""
    rng = np.random.default_rng([seed, 99])
    normal = [line.picture(rng) for _ in range(references)]
    good = [line.picture(rng) for _ in range(2 * each)]
    faults = FAULTS["loose" if line.is_loose else "fixed"]
    bad = {fault: [line.picture(rng, fault) for _ in range(each)] for fault in faults}
    for method in methods:
        detector = AnomalyDetector(load_backbone("lite", device="cpu"), scorer=method, rotations=1).fit(normal)
        low = [one.pred_score for one in detector.predict(good)]
        for fault, pictures in bad.items():
            high = [one.pred_score for one in detector.predict(pictures)]
            yield method, fault, auroc([0] * len(low) + [1] * len(high), low + high)


def main(lines: int = 6, references: int = 8, out: Path | None = None, first: int = 0) -> None:
    """Print, or write, the table."""
    warnings.simplefilter("ignore")
    rows = []
    for way, faults in FAULTS.items():
        found: dict[tuple[str, str], list[float]] = {}
        for seed in range(first, first + lines):
            for method, fault, value in scores(Line(seed, is_loose=way == "loose"), references, seed):
                found.setdefault((method, fault), []).append(value)
        rows += [f"| {way} | {' | '.join(faults)} | mean |", f"|{'---|' * (len(faults) + 2)}"]
        for method in METHODS:
            cells = [f"{np.mean(found[method, fault]):.3f} ± {np.std(found[method, fault]):.3f}" for fault in faults]
            rows.append(f"| `{method}` | {' | '.join(cells)} | {np.mean([found[method, fault] for fault in faults]):.3f} |")
        rows.append("")
    text = "\n".join(rows)
    print(text)
    if out is not None:
        out.write_text(f"# Logical faults on procedural lines\n\n{__doc__.partition(chr(10) * 2)[2].strip()}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
