"""The threshold of k references, and the same following the run as `vlad detect FOLDER --references ...` does, on runs with a share of
anomalous pictures.

    python eval/adapting.py lines [--lines runs/thresholds]
    python eval/adapting.py sets DATA_ROOT [DATA_ROOT ...] [--cache DIR] [--k 1 4 16]

`lines`: procedural lines from the distances that eval/thresholds.py keeps, no turned copies; runs of all good pictures that are no
    references and as many bad ones as make the share, up to 20. Mean over lines and three draws.
`sets`: the program as it is (eight angles up to 16 references) on at most 50 test pictures; each draw fits on other references.

False alarms, misses and balanced accuracy, beside the best balanced accuracy of any one threshold on the same run.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mutual import drawn
from normal_scores import Product
from thresholds import Eye, Scores, best, draw, fits, image_score, lines, method_threshold, outcome

from vlad import AnomalyDetector
from vlad.evaluation.cache import on_cache
from vlad.evaluation.datasets import Category, load_dataset
from vlad.references.adapting import AdaptingThreshold
from vlad.references.shrinkage import IMAGE_PRIOR

MOST, DRAWS = 50, 3
SHARES = (0.0, 0.05, 0.2, 0.5, 1.0)


def of_line(product: Product, k: int, share: float) -> Iterator[tuple[Scores, float]]:
    """Scores of runs on a line, and the threshold of the references of each."""
    for number in range(DRAWS):
        rng = np.random.default_rng((k, number, round(100 * share)))
        scores = draw(product, k, rng, image_score)
        good, bad = rng.permutation(scores.good), rng.permutation(scores.bad)
        yield (
            scores._replace(good=good[: _good(share, len(good), len(bad))], bad=bad[: _bad(share, len(good), len(bad))]),
            method_threshold(scores, "shrinkage", 0.05, IMAGE_PRIOR),
        )


def of_set(blank: AnomalyDetector, category: Category, k: int, share: float) -> Iterator[tuple[Scores, float]]:
    """The same of a data set, by the detector itself."""
    for number in range(DRAWS):
        references = [one.path for one in category.references[number * k : (number + 1) * k]]
        if len(references) < k:
            return
        detector = blank.copy().fit(references)
        chosen = drawn(category, None if share in (0, 1) else share, None, number).test
        rng = np.random.default_rng(number)
        chosen = [chosen[index] for index in rng.permutation(len(chosen)) if not (share in (0, 1) and chosen[index].is_anomalous != share)]
        results = detector.predict([one.path for one in chosen[:MOST]], maps=False)
        scores = {
            flag: [r.pred_score for r, one in zip(results, chosen, strict=False) if one.is_anomalous == flag] for flag in (False, True)
        }
        yield Scores(np.empty(0), np.empty(0), np.empty(0), np.array(scores[False]), np.array(scores[True])), results[0].threshold


def _bad(share: float, good: int, bad: int) -> int:
    return bad if share == 1 else min(bad, round(good * share / (1 - share)))


def _good(share: float, good: int, bad: int) -> int:
    return 0 if share == 1 else good if share == 0 else min(good, round(_bad(share, good, bad) * (1 - share) / share))


def followed(scores: Scores, start: float) -> float:
    """The threshold after the run."""
    threshold = AdaptingThreshold()
    threshold.see([*scores.good, *scores.bad])
    return threshold.at(start)


def row(found: list[tuple[Scores, float]]) -> str:
    """The columns of one row of the table."""
    cells = f" {np.mean([best(scores) for scores, _ in found]):.3f} |" if len(found[0][0].bad) and len(found[0][0].good) else " |"
    for values in ([value for _, value in found], [followed(*one) for one in found]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of runs that are all good or all bad one side is empty
            alarms, misses, accuracy = np.mean([outcome(one, value) for (one, _), value in zip(found, values, strict=True)], axis=0)
        for value, style in ((alarms, ".1%"), (misses, ".1%"), (accuracy, ".3f")):
            cells += f" {value:{style}} |" if np.isfinite(value) else " |"
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lines", "sets"))
    parser.add_argument("roots", nargs="*", type=Path)
    parser.add_argument("--lines", type=Path, default=Path("runs/thresholds"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--k", nargs="*", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    side = "false alarms | misses | balanced accuracy"
    print(f"| products | k | bad | best | references: {side} | following: {side} |\n|---|---|---|---|---|---|---|---|---|---|")
    if options.what == "lines":
        products = list(lines(Eye(), options.lines))
        for k in options.k:
            for share in options.shares:
                found = [one for product in products if fits(product, k) for one in of_line(product, k, share)]
                print(f"| {len(products)} lines | {k} | {share:.0%} |{row(found)}", flush=True)
        return
    blank = on_cache(AnomalyDetector.from_pretrained("lite"), options.cache)
    categories = [category for root in options.roots for category in load_dataset(root).categories]
    for k in options.k:
        for share in options.shares:
            by_set = {category.name: list(of_set(blank, category, k, share)) for category in categories}
            for name, found in by_set.items():
                if found:
                    print(f"| {name} | {k} | {share:.0%} |{row(found)}", flush=True)
            print(f"| all | {k} | {share:.0%} |{row([one for found in by_set.values() for one in found])}", flush=True)


if __name__ == "__main__":
    main()
