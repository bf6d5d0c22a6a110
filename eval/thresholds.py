"""False-positive rates of thresholds from references on normal pictures held out, against what was asked for.

    python eval/thresholds.py DATA_ROOT... [--k 2,4,8,16] [--draws 200]

All normal pictures of a category (train/good and test/good) are drawn at random into k references and held-out ones, many times; the
threshold is made from the references by leave-one-out as `fit` does it (scorer `nearest`, no rotations), and held-out ones above it are
counted. Model: lite.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vlad import read_image
from vlad.backbones import load_backbone
from vlad.backbones.encoder import Encoder
from vlad.evaluation.datasets import Category, load_dataset
from vlad.references.calibration import METHODS, threshold
from vlad.scoring.base import mean_of_top
from vlad.scoring.nearest import MemoryBank

LIMITS = (0.05, 0.2)


def pairwise(category: Category, encoder: Encoder) -> Tensor:
    """(N, N, P): for each normal picture and each other one, the distance of each patch of the first to the second."""
    normal = [*category.references, *(picture for picture in category.test if not picture.is_anomalous)]
    pictures = [read_image(picture.path) for picture in normal]
    tokens = [view.patches.tokens for picture in pictures for view in encoder.see([picture], patches=True) if view.patches is not None]
    banks = []
    for values in tokens:
        banks.append(MemoryBank())
        banks[-1].add(values, torch.zeros(len(values), dtype=torch.long))
    return torch.stack([torch.stack([bank.distances(query) for bank in banks]) for query in tokens])


def rates(distances: Tensor, k: int, draws: int, rng: np.random.Generator) -> dict[tuple[str, float], float]:
    """Share of held-out normal pictures above each threshold, over all draws."""
    count = len(distances)
    called: dict[tuple[str, float], list[float]] = {}
    for _ in range(draws):
        order = rng.permutation(count)
        references, others = order[:k], order[k : k + 10]
        own = [mean_of_top(distances[i, [j for j in references if j != i]].min(0).values, 0.01) for i in references]
        held_out = np.array([mean_of_top(distances[i, references].min(0).values, 0.01) for i in others])
        for method in METHODS:
            for limit in LIMITS:
                called.setdefault((method, limit), []).append(float((held_out > threshold(own, method, limit)).mean()))
    return {key: float(np.mean(values)) for key, values in called.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("roots", type=Path, nargs="+")
    parser.add_argument("--k", type=lambda text: tuple(map(int, text.split(","))), default=(2, 4, 8, 16))
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    encoder = Encoder(load_backbone("lite", device="cpu", dtype="float32"))
    columns = [(method, limit) for limit in LIMITS for method in METHODS]
    print("| category | k | " + " | ".join(f"{method}, {limit:.0%}" for method, limit in columns) + " |")
    print("|---|---|" + "---|" * len(columns), flush=True)
    for category in (one for root in options.roots for one in load_dataset(root).categories):
        distances = pairwise(category, encoder)
        for k in options.k:
            found = rates(distances, k, options.draws, np.random.default_rng(k))
            print(f"| {category.name} | {k} | " + " | ".join(f"{found[column]:.1%}" for column in columns) + " |", flush=True)


if __name__ == "__main__":
    main()
