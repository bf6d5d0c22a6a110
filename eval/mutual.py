"""Pictures judged by each other, on data sets in MVTec AD's layout: ranking, maps, and verdicts at the default threshold.

    python eval/mutual.py DATA/bottle DATA/transistor ... [--shares 0.05 0.2 0.5] [--sizes 8 16 32] [--draws 3]

Every draw takes good and anomalous test pictures so that the wanted share is anomalous (at most 50 of each). Balanced accuracy is that of
the default verdicts, beside the best that any threshold reaches on the same scores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vlad import AnomalyDetector, find_images
from vlad.evaluation.datasets.base import read_mask
from vlad.metrics import aupro, auroc

MOST = 50


def pictures(root: Path) -> tuple[list[Path], list[Path]]:
    """Good and anomalous test pictures, at most `MOST` of each."""
    good = find_images([root / "test" / "good"])
    bad = [path for folder in sorted((root / "test").iterdir()) if folder.name != "good" for path in find_images([folder])]
    return good[:MOST], [bad[index] for index in np.linspace(0, len(bad) - 1, min(MOST, len(bad))).astype(int)]


def mask_of(root: Path, path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The mask of a test picture; None if an anomalous one has none."""
    if path.parent.name == "good":
        return np.zeros(shape, bool)
    found = sorted((root / "ground_truth" / path.parent.name).glob(f"{path.stem}*"))
    return read_mask(found[0]) > 0 if found else None


def balanced(scores: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    """Mean of the right verdicts on either side."""
    called = scores > threshold
    return float(((called[labels]).mean() + (~called[~labels]).mean()) / 2)


def measure(detector: AnomalyDetector, root: Path, share: float | None, size: int | None, draw: int) -> dict[str, float]:
    """One draw of one set."""
    good, bad = pictures(root)
    rng = np.random.default_rng(draw)
    if share is not None:
        n_good = len(good) if size is None else min(len(good), max(1, round((1 - share) * size)))
        n_bad = min(len(bad), max(1, round(n_good * share / (1 - share)) if size is None else size - n_good))
        good = [good[index] for index in rng.permutation(len(good))[:n_good]]
        bad = [bad[index] for index in rng.permutation(len(bad))[:n_bad]]
    paths = [*good, *bad]
    results = detector.predict_mutual(paths)
    scores = np.array([result.pred_score for result in results])
    labels = np.array([False] * len(good) + [True] * len(bad))
    threshold = results[0].threshold
    row = {
        "image": auroc(labels, scores),
        "turned": results[0].scores["mutual_turned"],
        "best": max(balanced(scores, labels, t) for t in scores),
    }
    if threshold is not None:
        row |= {
            "default": balanced(scores, labels, threshold),
            "false alarms": float((scores[~labels] > threshold).mean()),
            "misses": float((scores[labels] <= threshold).mean()),
        }
    masks = [mask_of(root, path, result.image_size) for path, result in zip(paths, results, strict=True)]
    known = [(result.anomaly_map, mask) for result, mask in zip(results, masks, strict=True) if mask is not None]
    if any(mask.any() for _, mask in known):
        maps, truths = [values for values, _ in known], [mask for _, mask in known]
        row["pixel"] = auroc(
            np.concatenate([mask.ravel()[::7] for mask in truths]), np.concatenate([values.ravel()[::7] for values in maps])
        )
        row["aupro"] = aupro(maps, truths, fpr_limit=0.3)
    return row


def _spread(values: list[float]) -> str:
    """Mean and, of several draws, sample standard deviation."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--shares", nargs="*", type=float, default=[0.05, 0.2, 0.5])
    parser.add_argument("--sizes", nargs="*", type=int, default=[])
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    detector = AnomalyDetector.from_pretrained(options.model)
    print(f"model: {detector.model_name}")
    settings: list[tuple[float | None, int | None]] = [(None, None), *((share, None) for share in options.shares)]
    settings += [(0.2, size) for size in options.sizes]
    for share, size in settings:
        for root in options.roots:
            draws = options.draws if share is not None else 1
            rows = [measure(detector, root, share, size, draw) for draw in range(draws)]
            text = "  ".join(f"{key} {_spread([row[key] for row in rows if key in row])}" for key in rows[0])
            print(f"{root.name:12} anomalous {'all' if share is None else f'{share:.0%}'} size {size or 'all'}: {text}", flush=True)


if __name__ == "__main__":
    main()
