"""The threshold of four references, and the same following the run (`vlad detect --adapt`), on runs with a share of anomalous pictures.

    python eval/adapting.py DATA_ROOT [DATA_ROOT ...] --cache DIR [--k 4] [--shares 0.05 0.2 0.5] [--draws 3]

Each draw fits on `references[draw * k : (draw + 1) * k]` and takes at most 50 test pictures at random, in random order, so that the wanted
share is anomalous. Mean over draws of balanced accuracy, false alarms and recall, beside the best balanced accuracy of any one threshold.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from mutual import best_accuracy, drawn

from vlad import AnomalyDetector
from vlad.evaluation.cache import on_cache
from vlad.evaluation.datasets import load_dataset
from vlad.metrics import balanced_accuracy
from vlad.together import Adapting

MOST = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--shares", nargs="*", type=float, default=[0.05, 0.2, 0.5])
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    blank = on_cache(AnomalyDetector.from_pretrained(options.model), options.cache)
    print(f"model: {blank.model_name}, {options.k} references\n\n| bad | set | best | references | adapting |\n|---|---|---|---|---|")
    for share in options.shares:
        for category in [category for root in options.roots for category in load_dataset(root).categories]:
            best, rows = [], []
            for draw in range(options.draws):
                detector = blank.copy().fit([one.path for one in category.references[draw * options.k : (draw + 1) * options.k]])
                chosen = drawn(category, share, None, draw).test
                order = np.random.default_rng(draw).permutation(len(chosen))[:MOST]
                truth = np.array([chosen[index].is_anomalous for index in order])
                plain = detector.predict([chosen[index].path for index in order], maps=False)
                follow = Adapting()
                calls = [np.array([result.pred_label for result in some]) for some in (plain, [follow(result) for result in plain])]
                best.append(best_accuracy(truth, np.array([result.pred_score for result in plain])))
                rows.append([(balanced_accuracy(truth, call), call[~truth].mean(), call[truth].mean()) for call in calls])
            cells = [" / ".join(f"{value:.3f}" for value in side) for side in np.mean(rows, axis=0)]
            print(f"| {share:.0%} | {category.name} | {np.mean(best):.3f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
