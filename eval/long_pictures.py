"""Whether hairline cracks on pictures far from square are found: squeezed into the model's square, and in tiles.

    python eval/long_pictures.py

Procedural surfaces (a grating, brushed metal, cloudy stone) of several shapes, with cracks 1 to 3 pixels wide on half of the pictures;
image AUROC beside k references, and the highest value of the map on the crack beside that elsewhere.
"""

from __future__ import annotations

import argparse
import warnings

import cv2
import numpy as np

from vlad import AnomalyDetector
from vlad.metrics import auroc

SHAPES = ((500, 1250), (512, 4096), (512, 16000))
SURFACES = ("grating", "brushed", "stone")


def surface(kind: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Grey float (H, W)."""
    noise = rng.normal(0, 1, (height, width)).astype(np.float32)
    if kind == "grating":
        return 128 + 35 * np.sin((np.arange(width) + rng.uniform(0, 60)) / rng.uniform(6, 7))[None] + 6 * noise
    if kind == "brushed":
        return 128 + 140 * cv2.GaussianBlur(noise, (0, 0), sigmaX=25, sigmaY=0.6) + 4 * noise
    return 128 + 350 * cv2.GaussianBlur(noise, (0, 0), 9) + 6 * noise


def crack(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a dark line of 1 to 3 pixels in place; bool (H, W), where it is."""
    height, width = pixels.shape
    mask = np.zeros((height, width), np.uint8)
    x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.2, 0.8) * height
    angle, points = rng.uniform(0, np.pi), []
    for _ in range(rng.integers(4, 9)):
        points.append((round(x), round(y)))
        angle += rng.normal(0, 0.35)
        x, y = x + 14 * np.cos(angle), y + 14 * np.sin(angle)
    cv2.polylines(mask, [np.array(points, np.int32)], False, 1, int(rng.integers(1, 4)))
    pixels[mask > 0] -= rng.uniform(35, 70)
    return mask > 0


def picture(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--count", type=int, default=12, help="good pictures and bad ones")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    base = AnomalyDetector.from_pretrained(arguments.model)
    print(f"{base.model_name}; k = {arguments.k}, {arguments.count} good and {arguments.count} cracked pictures a row")
    print("shape            surface   whole: AUROC, on the crack / elsewhere   tiles: AUROC, on the crack / elsewhere")
    for height, width in SHAPES:
        for kind in SURFACES:
            rng = np.random.default_rng([arguments.seed, height, width, SURFACES.index(kind)])
            references = [picture(surface(kind, height, width, rng)) for _ in range(arguments.k)]
            good = [picture(surface(kind, height, width, rng)) for _ in range(arguments.count)]
            bad, masks = [], []
            for _ in range(arguments.count):
                pixels = surface(kind, height, width, rng)
                masks.append(cv2.dilate(crack(pixels, rng).astype(np.uint8), np.ones((25, 25))) > 0)
                bad.append(picture(pixels))
            cells = []
            for tile in (0, None):
                detector = base.copy(tile=tile, rotations=1).fit(references)
                scores = [one.pred_score for one in detector.predict_iter(good, maps=False)]
                ratios = []
                for one, mask in zip(detector.predict_iter(bad), masks, strict=True):
                    scores.append(one.pred_score)
                    ratios.append(float(one.anomaly_map[mask].max() / max(one.anomaly_map[~mask].max(), 1e-9)))
                is_bad = np.array([False] * len(good) + [True] * len(bad))
                cells.append(f"{auroc(is_bad, np.array(scores)):.3f}, {np.median(ratios):.2f}")
            print(f"{height} x {width:<9} {kind:9} {cells[0]:40} {cells[1]}", flush=True)


if __name__ == "__main__":
    main()
