"""Placing a defect: a spot on the product, a visible result, and the mask of what became visible."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vlad.synthetic.damage import Spot
from vlad.synthetic.defects import DEFECT_PAINTERS
from vlad.synthetic.drawing import Array, Rng, largest_channel
from vlad.synthetic.scene import Scene

AT_THE_EDGE = frozenset({"chip", "missing part", "bent"})


# Striking -------------------------------------------------------------------------------------------------------------


def _find_spot(rng: Rng, scene: Scene, defect: str, least_amount: float) -> Spot | None:
    """A random place on the product, near its outline for defects that break or bend it. None when nothing of the product is in view."""
    step = max(1, scene.size // 80)  # a coarse grid, the same for all picture sizes
    on_product = (scene.coverage[::step, ::step] > 0.5).astype(np.uint8)
    where = on_product
    if defect in AT_THE_EDGE and scene.backdrop is not None:
        inner = cv2.erode(on_product, np.ones((3, 3) if defect == "chip" else (5, 5), np.uint8), borderValue=1)
        rim = on_product * (inner == 0)
        where = rim if rim.any() else on_product
    rows, columns = np.nonzero(where)
    if len(rows) == 0:
        return None
    pick = int(rng.integers(len(rows)))
    x, y = (float(at[pick] * step + rng.uniform(0, step)) for at in (columns, rows))
    largest = 0.16 * scene.size if scene.backdrop is None else min(0.16 * scene.size, 0.5 * scene.frame.radius)
    reach = float(np.exp(rng.uniform(np.log(0.012 * scene.size), np.log(max(largest, 0.02 * scene.size)))))
    if defect in {"missing part", "bent"} and scene.backdrop is not None:  # from a hair's breadth to a third of the part
        inwards = rng.uniform(0.0, 0.45) * scene.frame.radius
        to_middle = np.array([scene.frame.centre[0] - x, scene.frame.centre[1] - y])
        x, y = np.array([x, y]) + to_middle / (np.linalg.norm(to_middle) + 1e-6) * min(inwards, float(np.linalg.norm(to_middle)) * 0.6)
    return Spot(float(x), float(y), reach, float(rng.uniform(least_amount, 1)), scene.size / 320)


def _visible_mask(clean: Array, spoilt: Array, footprint: Array, spot: Spot) -> Array:
    """Defective pixels (H, W) bool: where the picture visibly changed in or right beside the footprint, with small gaps closed."""
    change = cv2.blur(largest_channel(cv2.absdiff(spoilt, clean)), (3, 3))
    wide = int(3 * spot.px) | 1
    nearby = cv2.dilate(footprint, np.ones((wide, wide), np.uint8)) > 0.15
    seen = ((change > 0.03) & nearby).astype(np.uint8)
    gap = int(np.clip(0.3 * spot.reach, 3 * spot.px, 13 * spot.px)) | 1
    closed = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap, gap)))
    return (closed > 0) & nearby


def _stands_out(clean: Array, spoilt: Array, mask: Array, demand: float) -> bool:
    """Whether the change inside the mask is strong enough against the restlessness of the picture around it, so that the label is fair."""
    area = int(mask.sum())
    pixels = mask.size
    if not 0.0003 * pixels <= area <= 0.16 * pixels:
        return False
    before = clean[mask]
    change = float(largest_channel(np.abs(spoilt[mask] - before)).mean())
    restless = float(before[:, 1].std())
    return change > demand * (0.05 + 0.45 * restless)


def strike(rng: Rng, scene: Scene, clean: Array, defects: Sequence[str]) -> tuple[Array, Array, str]:
    """Damages the scene with one of `defects`: the spoilt picture (H, W, 3), the mask (H, W) bool and the defect's name.

    `clean` is the scene's own rendering. Places and strengths are tried until one is visible; the demand sinks slowly from try to try.
    Raises RuntimeError when nothing can be made visible (the product is out of view).
    """
    defect = str(rng.choice(list(defects)))
    for attempt in range(60):
        if attempt and attempt % 5 == 0:
            defect = str(rng.choice(list(defects)))
        spot = _find_spot(rng, scene, defect, least_amount=min(0.15 + 0.05 * attempt, 0.95))
        if spot is None:
            break
        damaged, footprint = DEFECT_PAINTERS[defect](rng, scene, spot)
        spoilt = damaged.render()
        mask = _visible_mask(clean, spoilt, footprint, spot)
        if _stands_out(clean, spoilt, mask, demand=1.0 if attempt < 10 else 0.92 ** (attempt - 9)):
            return spoilt, mask, defect
    raise RuntimeError(f"expected a product in view to damage with one of {tuple(defects)}; 60 tries changed nothing visible")
