"""Pictures judged by a sample of them, as on a cluster, beside all of them judged by each other.

    python eval/by_sample.py --data FOLDER ... [--model lite] [--samples 16,32,128] [--draws 3]

For each category (MVTec layout) and size of the sample, mean image AUROC and share of right verdicts over draws of the sample, which is
drawn from the test pictures themselves, as on an unsorted folder.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from vlad import AnomalyDetector, find_images
from vlad.metrics.image import auroc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--samples", type=lambda text: tuple(map(int, text.split(","))), default=(16, 32, 128))
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    detector = AnomalyDetector.from_pretrained(options.model, device="cpu")
    print("| category | pictures | sample | AUROC | right |\n|---|---|---|---|---|")
    for folder in options.data:
        tests = sorted(find_images([folder / "test"], recursive=True))
        labels = np.array([path.parent.name != "good" for path in tests])
        every = detector.predict_mutual(tests, maps=False)
        show(folder.name, tests, "all, by each other", labels, [every])
        for size in options.samples:
            if size > len(tests):
                continue
            runs = []
            for seed in range(options.draws):
                chosen = np.random.default_rng(seed).choice(len(tests), size, replace=False)
                sample = detector.look_at_sample([tests[place] for place in chosen])
                runs.append(list(detector.predict_by_sample(tests, sample, maps=False)))
            show(folder.name, tests, str(size), labels, runs)


def show(name: str, tests: list[Path], sample: str, labels: np.ndarray, runs: list[list]) -> None:
    """A row of the table: means over the runs."""
    areas = [auroc(labels, np.array([one.pred_score for one in run])) for run in runs]
    right = [np.mean([one.pred_label == label for one, label in zip(run, labels, strict=True)]) for run in runs]
    spread = f" ({min(areas):.3f} to {max(areas):.3f})" if len(runs) > 1 else ""
    print(f"| {name} | {len(tests)} | {sample} | {np.mean(areas):.3f}{spread} | {np.mean(right):.0%} |", flush=True)


if __name__ == "__main__":
    main()
