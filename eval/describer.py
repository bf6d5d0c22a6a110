"""How often the describer names the right type of defect and the right ninth of the picture, on procedural pictures with known truth.

    python eval/describer.py [--model lite] [--n 100] [--json FILE]

Two sets, neither used in training: "held out", pictures of product families and defects that the embedded model never learned, as in the
synthetic benchmark but of another seed; "same kinds", new pictures of families and defects that it was trained on. For each, two ways to
the place: the detector's hottest region, and the true mask, which measures the words alone. Beside the accuracy stand chance (one over the
number of types) and always naming the most frequent type. A picture's truth is the type of the vocabulary that means its defect; the
place is the ninth that the centre of the true mask lies in.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vlad import AnomalyDetector
from vlad.synthetic import BENCHMARK_CATEGORIES
from vlad.synthetic.sampling import ProductLine, Sample, make_sample
from vlad.synthetic.vocabulary import HELD_OUT_DEFECTS
from vlad.vlm.describer import Describer, heat_inside
from vlad.vlm.places import find_places, location_of
from vlad.vlm.vocabulary import DefectVocabulary

TYPES = {  # defect of the generator -> type of the vocabulary, where the names differ
    "discoloration": "discolouration",
    "spots": "corrosion",
    "scuff": "abrasion",
    "crease": "fold",
    "distortion": "distorted pattern",
    "bent": "deformation",
    "foreign patch": "misplaced part",
    "extra object": "contamination",
}
SEED = 20_260  # of no other set


def held_out(n: int) -> Iterator[Sample]:
    families = list(BENCHMARK_CATEGORIES.values())
    lines = [ProductLine(family, (SEED, index), 320) for index, family in enumerate(families)]
    for number in range(n):
        yield lines[number % len(lines)].sample((SEED, number), HELD_OUT_DEFECTS[number % len(HELD_OUT_DEFECTS)])


def same_kinds(n: int) -> Iterator[Sample]:
    return (make_sample((SEED, number), anomalous=True) for number in range(n))


def measure(detector: AnomalyDetector, describer: Describer, samples: Iterator[Sample]) -> dict[str, Any]:
    """Shares in [0, 1] over the pictures of a set."""
    rows, sure = [], []
    for sample in samples:
        truth = TYPES.get(sample.defect, sample.defect)
        ys, xs = np.nonzero(sample.mask)
        height, width = sample.mask.shape
        # The threshold only decides whether the picture is called anomalous; the describer is asked about every picture.
        prediction = detector.predict(sample.image, class_name=sample.class_name, threshold=0.0, mask_threshold=0.5)
        places, _ = find_places(prediction)
        assert prediction.anomaly_map is not None
        regions = [heat_inside(prediction.anomaly_map, places[0].box), sample.mask]
        ranked = describer.confidences(sample.image, prediction.anomaly_map, regions, sample.class_name)
        found, told = (list(shares) for shares in ranked)
        left, top, right, bottom = places[0].box
        overlap = sample.mask[top:bottom, left:right].any()
        where = location_of(float(xs.mean()), float(ys.mean()), (height, width))
        rows.append((truth, found, told, places[0].location == where, bool(overlap)))
        sure.append((max(ranked[0].values()), truth == found[0]))
    counts = Counter(truth for truth, *_ in rows)
    print_margins(sure)
    return {
        "pictures": len(rows),
        "types in the vocabulary": len(rows[0][1]),
        "types in the set": len(counts),
        "of them without words in the model": sum(truth not in rows[0][1] for truth in counts),
        "most frequent type": max(counts.values()) / len(rows),
        "type, detector's place": float(np.mean([truth == found[0] for truth, found, *_ in rows])),
        "type in first three, detector's place": float(np.mean([truth in found[:3] for truth, found, *_ in rows])),
        "type, true place": float(np.mean([truth == told[0] for truth, _, told, *_ in rows])),
        "type in first three, true place": float(np.mean([truth in told[:3] for truth, _, told, *_ in rows])),
        "place of 3 x 3": float(np.mean([place for *_, place, _ in rows])),
        "region touches the defect": float(np.mean([hit for *_, hit in rows])),
    }


def print_margins(sure: list[tuple[float, bool]]) -> None:
    """How often names are right from each confidence on; where three of four are, `Advice.type_margin` may be."""
    print("| confidence from | named | right |\n|---|---|---|")
    for margin in (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
        named = [is_right for confidence, is_right in sure if confidence >= margin]
        print(f"| {margin:.2f} | {len(named) / len(sure):.0%} | {np.mean(named):.0%} |" if named else f"| {margin:.2f} | 0% | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--n", type=int, default=100, help="pictures of each set")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    detector = AnomalyDetector.from_pretrained(options.model)
    describer = Describer(detector.encoder.joint, DefectVocabulary.load())
    results = {name: measure(detector, describer, make(options.n)) for name, make in (("held out", held_out), ("same kinds", same_kinds))}
    print(f"{detector.model_name}\n\n| | " + " | ".join(results) + " |\n|---|" + "---|" * len(results))
    for key in results["held out"]:
        cells = [f"{values[key]:.3f}" if isinstance(values[key], float) else str(values[key]) for values in results.values()]
        print(f"| {key} | " + " | ".join(cells) + " |")
    if options.json:
        options.json.write_text(json.dumps({"model": detector.model_name, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
