"""Exact AUPRO beside the usual one of 200 thresholds, on the same maps: time and distance from the definition.

    python eval/bench/aupro.py [--pictures 40] [--side 256,512,900] [--repeats 3]

"usual" is what most public code does: 200 evenly spaced thresholds, and for each the overlap of every region and the share of normal
pixels called anomalous; written here without loops over pixels. "counted" is the bounded-memory mode of vlad. Times are shown as ratios
within one run; the exact value is checked against all thresholds on a small case by the tests.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from vlad.metrics import PixelCounts, aupro, count_pixels

LIMIT = 0.3


def make(n: int, side: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps that find defects more or less; `sharpness` crowds the scores of normal pixels near 0, as good detectors do."""
    rng = np.random.default_rng(seed)
    maps, masks = np.zeros((n, side, side), np.float32), np.zeros((n, side, side), bool)
    for index in range(n):
        noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), side / 25)
        if index % 3:
            for _ in range(rng.integers(1, 5)):
                top, left = rng.integers(0, side - side // 6, 2)
                height, width = rng.integers(side // 40, side // 7, 2)
                masks[index, top : top + height, left : left + width] = True
        signal = 1.6 * ndimage.gaussian_filter(masks[index].astype(float), side / 40)
        maps[index] = 1 / (1 + np.exp(-sharpness * (noise / noise.std() + signal - 1.5)))
    return maps, masks


def usual(maps: np.ndarray, masks: np.ndarray, *, steps: int = 200) -> float:
    """Mean overlap of 8-connected regions over the false-positive rate at evenly spaced thresholds, area to the limit."""
    numbers, total = np.zeros(masks.shape, np.int32), 0
    for index, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        numbers[index] = np.where(labelled, labelled + total, 0)
        total += count
    inside = masks.ravel()
    regions, region_scores, normal_scores = numbers.ravel()[inside] - 1, maps.ravel()[inside], maps.ravel()[~inside]
    areas = np.bincount(regions, minlength=total)
    x, y = [], []
    for threshold in np.linspace(maps.min(), maps.max(), steps):
        found = np.bincount(regions, weights=region_scores > threshold, minlength=total)
        y.append((found / areas).mean())
        x.append((normal_scores > threshold).mean())
    x_, y_ = np.array(x)[::-1], np.array(y)[::-1]
    kept = x_ < LIMIT
    return float(np.trapezoid(np.append(y_[kept], np.interp(LIMIT, x_, y_)), np.append(x_[kept], LIMIT))) / LIMIT


def counted(maps: np.ndarray, masks: np.ndarray) -> float:
    return PixelCounts([count_pixels(*pair) for pair in zip(maps, masks, strict=True)], fpr_limit=LIMIT).metrics()["aupro"]


def timed(function: Callable[[np.ndarray, np.ndarray], float], maps: np.ndarray, masks: np.ndarray, repeats: int) -> tuple[float, float]:
    times, value = [], 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        value = function(maps, masks)
        times.append(time.perf_counter() - start)
    return statistics.median(times), value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--side", type=lambda text: [int(word) for word in text.split(",")], default=[256, 512, 900])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{options.pictures} pictures; time as a share of the usual 200 steps, and distance from the exact value")
    print(f"{'side':>5} {'scores':<10} {'exact AUPRO':>12} {'exact':>8} {'counted':>8} {'usual is off by':>16} {'counted is off by':>18}")
    for side in options.side:
        for name, sharpness in (("even", 1.0), ("crowded", 6.0)):
            maps, masks = make(options.pictures, side, sharpness)
            slow, rough = timed(usual, maps, masks, options.repeats)
            fast, exact = timed(lambda a, b: aupro(a, b, fpr_limit=LIMIT), maps, masks, options.repeats)
            stream, close = timed(counted, maps, masks, options.repeats)
            ratios = f"{fast / slow:>8.2f} {stream / slow:>8.2f}"
            print(f"{side:>5} {name:<10} {exact:>12.5f} {ratios} {abs(rough - exact):>16.5f} {abs(close - exact):>18.6f}", flush=True)


if __name__ == "__main__":
    main()
