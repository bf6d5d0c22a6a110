"""What `vlad ask` says of test pictures: how long, how often a type is named, and how bad it calls what is how large.

    python eval/answers.py [--model lite] [--references 8] [--data FOLDER ...]

Procedural lines first, then categories in MVTec layout: the detector is fitted to so many good pictures and asked "What is wrong?" of every
test picture that it calls anomalous. Severity is that of the first place; beside it stands the true area of the defect, as a share of the
picture, and how many of those pictures are in truth good.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from pathlib import Path

import numpy as np

from vlad import AnomalyDetector, find_images
from vlad.evaluation.datasets import load_dataset, read_truth
from vlad.synthetic import ProductLine

_LINES = ("washer", "leather", "capsule", "circuit", "hazelnut", "plate")
_DEFECTS = ("crack", "scratch", "stain", "missing part", "dent", "extra object")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--references", type=int, default=8)
    parser.add_argument("--data", nargs="*", type=Path, default=())
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(
        "| set | called anomalous | letters, median (longest) | type named | low: good / area | medium: good / area | high: good / area |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in _LINES:
        line = ProductLine(name, 5, 320)
        detector = AnomalyDetector.from_pretrained(options.model, device="cpu").fit(
            [line.sample(number).image for number in range(options.references)]
        )
        samples = [line.sample(100 + number, None if number % 3 == 0 else _DEFECTS[number % len(_DEFECTS)]) for number in range(60)]
        show(name, detector, [(one.image, float(one.mask.mean())) for one in samples])
    for folder in options.data:
        dataset = load_dataset(folder.parent, "mvtec", categories=[folder.name])
        (category,) = dataset.categories
        good = sorted(find_images([folder / "train" / "good"]))[: options.references]
        detector = AnomalyDetector.from_pretrained(options.model, device="cpu").fit(good)
        pictures = []
        for picture in category.test:
            size = detector.reader(picture.path).shape[:2]
            truth = read_truth(picture, category, size)
            pictures.append((picture.path, 0.0 if truth is None else float(truth.area.mean())))
        show(f"{folder.name} (real)", detector, pictures)


def show(name: str, detector: AnomalyDetector, pictures: list) -> None:
    """One line of the table."""
    lengths, named, found = [], 0, {"low": [], "medium": [], "high": []}  # type: ignore[var-annotated]
    for picture, area in pictures:
        answer = detector.ask(picture, "What is wrong?")
        if not answer.is_anomalous:
            continue
        lengths.append(len(answer.text))
        named += any(defect.type != "unknown" for defect in answer.defects)
        if answer.defects:
            found[answer.defects[0].severity].append(area)
    cells = []
    for areas in found.values():
        bad = [area for area in areas if area > 0]
        cells.append(f"{len(areas)}: {len(areas) - len(bad)} / {np.mean(bad):.1%}" if bad else f"{len(areas)}: {len(areas)} / –")
    letters = f"{statistics.median(lengths):.0f} ({max(lengths)})" if lengths else "–"
    print(f"| {name} | {len(lengths)} of {len(pictures)} | {letters} | {named} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
