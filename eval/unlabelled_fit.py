"""A detector from an unlabelled folder (`fit_unlabelled`), beside one from as many pictures that are known to be good.

    python eval/unlabelled_fit.py DATA_ROOT [DATA_ROOT ...] --out runs/unlabelled [--size 20] [--bad 0.2] [--seeds 3]

The folder of a draw: good training pictures and the wanted share of bad test pictures at random. The other detector is fitted on good
training pictures alone, those of the folder first, as many as the first one kept. Both judge the test pictures that were not in the folder,
at most `MOST` of each kind. Balanced accuracy is that of the verdicts at the default threshold. Mean over draws ± sample standard
deviation; embeddings are cached in OUT.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from mutual import spread

from vlad import AnomalyDetector
from vlad.evaluation.cache import on_cache
from vlad.evaluation.datasets import Category, load_dataset
from vlad.metrics import auroc, balanced_accuracy

MOST = 30  # test pictures of each kind
COLUMNS = ("kept", "bad among them", "AUROC", "known good", "balanced accuracy", "known good", "false alarms", "known good")


def judged(detector: AnomalyDetector, paths: list[Path], is_bad: np.ndarray) -> tuple[float, float, float]:
    """Image AUROC, balanced accuracy and share of false alarms."""
    results = detector.predict(paths, maps=False)
    scores, labels = np.array([one.pred_score for one in results]), np.array([one.pred_label for one in results], bool)
    return auroc(is_bad, scores), balanced_accuracy(is_bad, labels), float(labels[~is_bad].mean())


def measure(detector: AnomalyDetector, category: Category, size: int, share: float, seed: int) -> tuple[float, ...]:
    """The numbers of `COLUMNS`."""
    rng = np.random.default_rng(seed)
    good = [category.references[index].path for index in rng.permutation(len(category.references))]
    kinds = ([picture.path for picture in category.test if picture.is_anomalous is kind] for kind in (True, False))
    bad, normal = ([kind[index] for index in rng.permutation(len(kind))] for kind in kinds)
    n_bad = round(share * size)
    unlabelled = detector.copy().fit_unlabelled([*good[: size - n_bad], *bad[:n_bad]])
    kept = [Path(str(reference.path)) for reference in unlabelled.references]
    known = detector.copy().fit(good[: len(kept)])
    held_out = [*normal[:MOST], *bad[n_bad:][:MOST]]
    is_bad = np.arange(len(held_out)) >= len(normal[:MOST])
    found = zip(judged(unlabelled, held_out, is_bad), judged(known, held_out, is_bad), strict=True)
    return len(kept), sum(path in bad for path in kept), *(value for pair in found for value in pair)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--size", type=int, default=20)
    parser.add_argument("--bad", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    detector = on_cache(AnomalyDetector.from_pretrained(options.model), options.out / "cache")
    print(f"model: {detector.model_name}\n\n| set | {' | '.join(COLUMNS)} |\n" + "|---" * (1 + len(COLUMNS)) + "|", flush=True)
    means = []
    for root in options.roots:
        for category in load_dataset(root).categories:
            rows = np.array([measure(detector, category, options.size, options.bad, seed) for seed in range(options.seeds)])
            means.append(rows.mean(0))
            print(f"| {category.name} | " + " | ".join(spread(list(column)) for column in rows.T) + " |", flush=True)
    print("| mean | " + " | ".join(f"{value:.3f}" for value in np.mean(means, axis=0)) + " |")


if __name__ == "__main__":
    main()
