"""Pictures judged by each other (`vlad eval --mutual`) at several shares of anomalous pictures and sizes of a batch.

    python eval/mutual.py DATA_ROOT [DATA_ROOT ...] --out runs/mutual [--shares 0.05 0.2 0.5] [--sizes 8 16 32] [--draws 3] [--k-shot 0]

Each draw takes test pictures of a category at random so that the wanted share is anomalous, and is a run that `vlad eval`'s own runner
measures; embeddings are cached in OUT. Balanced accuracy is that of the verdicts at the default threshold, beside the best that any
threshold reaches on the same scores. Mean over draws ± sample standard deviation. A draw that OUT holds already is gone on with.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vlad import AnomalyDetector
from vlad.evaluation.cache import on_cache
from vlad.evaluation.datasets import Category, Dataset, load_dataset
from vlad.evaluation.results import summarise
from vlad.evaluation.runner import EvalSettings, run
from vlad.evaluation.samples import read_samples
from vlad.metrics import balanced_accuracy

MOST = 50  # good and anomalous pictures each
METRICS = ("image_auroc", "pixel_auroc", "aupro", "balanced_accuracy", "false_alarms", "recall")


def drawn(category: Category, share: float | None, size: int | None, seed: int) -> Category:
    """The category with some of its test pictures; all of them (`MOST` of each kind) without a share."""
    rng = np.random.default_rng(seed)
    good = [picture for picture in category.test if not picture.is_anomalous]
    bad = [picture for picture in category.test if picture.is_anomalous]
    good, bad = ([kind[index] for index in rng.permutation(len(kind))[:MOST]] for kind in (good, bad))
    if share is not None:
        n_good = len(good) if size is None else min(len(good), round((1 - share) * size))
        n_bad = max(1, round(n_good * share / (1 - share)))
        if n_bad > len(bad):  # few anomalous pictures: fewer good ones keep the share
            n_bad, n_good = len(bad), max(1, round(len(bad) * (1 - share) / share))
        good, bad = good[:n_good], bad[:n_bad]
    return replace(category, test=tuple(good + bad))


def measure(detector: AnomalyDetector, dataset: Dataset, out: Path, k_shot: int, seed: int) -> dict[str, float]:
    """The numbers of one run of one category, and the best balanced accuracy of any threshold."""
    run(detector, dataset, out, EvalSettings(mutual=True, bootstrap=0, k_shots=(k_shot,), seeds=(seed if k_shot else 0,)), resume=True)
    found = summarise(out)["summary"][0]["metrics"]
    samples = [sample for sample in read_samples(out) if sample.pred_score is not None]
    scores, labels = np.array([sample.pred_score for sample in samples]), np.array([sample.gt_label for sample in samples])
    best = best_accuracy(labels, scores)
    numbers = {name: found[name]["mean"] for name in METRICS if name in found and found[name]["mean"] is not None}
    return numbers | {"best": best, "turned": samples[0].scores["mutual_turned"]}


def best_accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """The balanced accuracy of the best threshold on these scores."""
    return max(balanced_accuracy(labels, scores > threshold) for threshold in scores)


def spread(values: Sequence[float]) -> str:
    """Mean, and of several draws ± sample standard deviation."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--shares", nargs="*", type=float, default=[0.05, 0.2, 0.5])
    parser.add_argument("--sizes", nargs="*", type=int, default=[8, 16, 32], help="at a share of 0.2")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--k-shot", type=int, default=0, help="references beside the other pictures")
    options = parser.parse_args()
    detector = on_cache(AnomalyDetector.from_pretrained(options.model), options.out / "cache")
    print(f"model: {detector.model_name}\n\n| anomalous | pictures | set | {' | '.join((*METRICS, 'best', 'turned'))} |")
    print(f"|{'---|' * (len(METRICS) + 5)}")
    wanted: list[tuple[float | None, int | None]] = [(None, None), *((share, None) for share in options.shares)]
    for share, size in [*wanted, *((0.2, size) for size in options.sizes)]:
        for root in options.roots:
            dataset = load_dataset(root)
            for category in dataset.categories:
                rows = []
                for seed in range(options.draws if share is not None else 1):
                    some = replace(dataset, categories=(drawn(category, share, size, seed),))
                    rows.append(
                        measure(
                            detector, some, options.out / f"{category.name}_{share}_{size}_{seed}_{options.k_shot}", options.k_shot, seed
                        )
                    )
                shown = ([row[name] for row in rows if name in row] for name in (*METRICS, "best", "turned"))
                cells = [spread(values) if values else "" for values in shown]
                of = f"{share:.0%}" if share is not None else "all"
                print(f"| {of} | {size or 'all'} | {category.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
