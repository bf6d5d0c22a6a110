"""What references cost: time of a picture beside them as a ratio to words alone, and of a fit, by how the nearest token is looked for.

    python eval/bench/references.py [--model lite] [--k 1,4,16] [--repeats 9] [--fit 64] [--data FOLDER ...]

Times take turns in one run; ratios are of medians. With `--fit` so many references are fitted without turned copies, once by clusters and
once exactly. With `--data` (folders in MVTec layout) the scores of both searches are compared on real pictures: image AUROC and the largest
relative difference of a score.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from vlad import AnomalyDetector, find_images
from vlad.backbones import load_backbone
from vlad.metrics.image import auroc
from vlad.synthetic import ProductLine


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--k", type=lambda text: tuple(map(int, text.split(","))), default=(1, 4, 16))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--fit", type=int, default=0, metavar="N")
    parser.add_argument("--data", nargs="*", type=Path, default=())
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    backbone = load_backbone(options.model, device="cpu")
    line = ProductLine("gear", 3, 512)
    pictures = [cv2.resize(line.sample(number).image, (1000, 1000)) for number in range(max(*options.k, options.fit) + 1)]
    words = AnomalyDetector(backbone, text_threshold=0.5)
    print(f"{backbone.name}, pictures of 1,000 x 1,000")
    print("| references | rows | words alone | clusters | exact | coreset 0.1 |\n|---|---|---|---|---|---|")
    for k in options.k:
        ways = {"clusters": {}, "exact": {"search": "exact"}, "coreset": {"coreset": 0.1, "search": "exact"}}
        # The threshold is given because the time of a calibration is not asked for here.
        fitted = {name: fitted_without_calibration(AnomalyDetector(backbone, **way), pictures[:k]) for name, way in ways.items()}
        took: dict[str, list[float]] = {name: [] for name in ("words", *fitted)}
        for number in range(options.repeats + 1):
            for name, detector in {"words": words, **fitted}.items():
                spent = seconds(lambda detector=detector: detector.predict(pictures[-1], threshold=0.5))  # type: ignore[misc]
                took[name] += [spent] if number else []
        middle = {name: statistics.median(values) for name, values in took.items()}
        ratios = " | ".join(f"{middle[name] * 1e3:.0f} ms, {middle[name] / middle['words']:.2f}" for name in fitted)
        rows = len(fitted["exact"].memory.banks["patches"]) if fitted["exact"].memory is not None else 0
        print(f"| {k} | {rows:,} | {middle['words'] * 1e3:.0f} ms | {ratios} |", flush=True)
    if options.fit:
        few = pictures[: options.fit]
        found = {way: seconds(lambda way=way: AnomalyDetector(backbone, search=way).fit(few)) for way in ("clusters", "exact")}  # type: ignore[misc]
        times = found["exact"] / found["clusters"]
        print(f"fit of {options.fit}: clusters {found['clusters']:.0f} s, exact {found['exact']:.0f} s, {times:.1f} times")
    for folder in options.data:
        compare(backbone, folder)


def fitted_without_calibration(detector: AnomalyDetector, pictures: list[np.ndarray]) -> AnomalyDetector:
    """Its bank alone; leave-one-out scores of many turned copies take minutes in the exact way."""
    from vlad.references import fitting

    before, fitting.calibrate = fitting.calibrate, lambda *_, **__: []
    try:
        return detector.fit(pictures)
    finally:
        fitting.calibrate = before


def compare(backbone: object, folder: Path) -> None:
    """Image AUROC of both searches on one category."""
    good = sorted(find_images([folder / "train" / "good"]))
    tests = [(path, path.parent.name != "good") for path in sorted(find_images([folder / "test"], recursive=True))]
    labels = np.array([is_bad for _, is_bad in tests])
    for k in (1, 4, 16):
        if k > len(good):
            continue
        scores = {}
        for way in ("clusters", "exact"):
            detector = fitted_without_calibration(AnomalyDetector(backbone, search=way), [*good[:k]])  # type: ignore[arg-type,list-item]
            scores[way] = np.array([one.pred_score for one in detector.predict([path for path, _ in tests], threshold=0.5, maps=False)])
        found, exact = (auroc(labels, scores[way]) for way in ("clusters", "exact"))
        apart = float(np.max(np.abs(scores["clusters"] - scores["exact"]) / scores["exact"].clip(1e-6)))
        print(f"| {folder.name} | {k} | {found:.4f} | {exact:.4f} | {apart:.1e} |", flush=True)


if __name__ == "__main__":
    main()
