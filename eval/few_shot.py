"""Few-shot image AUROC, pixel AUROC and AUPRO on folders in the MVTec AD layout, with the thresholds' false alarms.

    python eval/few_shot.py DATA_ROOT... [--model lite] [--k 1,4,16] [--seeds 0,1,2] [--settings '{"rotations": 1}' ...]

References are sorted(files)[seed * k : (seed + 1) * k] of train/good; a seed for which there are too few is left out. Pixel numbers are of
every second pixel in both directions. A row is the mean over seeds, and the standard deviation over them where there are several. Each
picture goes through the backbone once for all settings, seeds and k, so the times are not those of `predict`; see `bench/few_shot.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from vlad import AnomalyDetector
from vlad.backbones import PatchTokens, load_backbone
from vlad.evaluation.datasets import Category, load_dataset, read_truth
from vlad.metrics import aupro
from vlad.references import fingerprint

METRICS = ("image_auroc", "pixel_auroc", "aupro", "false_alarms", "recall")


class Remembering:
    """A patch backbone that encodes the same picture only once."""

    def __init__(self, backbone: Any) -> None:
        self._backbone = backbone
        self._tokens: dict[str, PatchTokens] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def encode_patches(self, pictures: Sequence[np.ndarray]) -> list[PatchTokens]:
        found = []
        for picture in pictures:
            key = fingerprint(picture)
            if key not in self._tokens:
                (self._tokens[key],) = self._backbone.encode_patches([picture])
            found.append(self._tokens[key])
        return found


def measure(detector: AnomalyDetector, category: Category, k: int, seed: int) -> dict[str, float] | None:
    """One fit and all test pictures; None if there are too few references."""
    references = [picture.path for picture in category.references[seed * k : (seed + 1) * k]]
    if len(references) < k:
        return None
    detector.fit(references)
    scores, labels, called, maps, masks = [], [], [], [], []
    results = detector.predict_iter([picture.path for picture in category.test])
    for picture, result in zip(category.test, results, strict=True):
        scores.append(result.pred_score)
        called.append(bool(result.pred_label))
        labels.append(picture.is_anomalous)
        truth = None if picture.expected_mask else read_truth(picture, category, result.image_size)
        if truth is not None:
            maps.append(result.anomaly_map[::2, ::2])
            masks.append(truth.area[::2, ::2])
    bad = np.array(labels)
    return {
        "image_auroc": float(roc_auc_score(labels, scores)),
        "pixel_auroc": float(roc_auc_score(np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps]))),
        "aupro": float(aupro(maps, masks, fpr_limit=0.3)),
        "false_alarms": float(np.array(called)[~bad].mean()),
        "recall": float(np.array(called)[bad].mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("roots", type=Path, nargs="+")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--options", type=json.loads, default={}, help="JSON of a patch backbone's settings, e.g. '{\"layers\": [8]}'")
    parser.add_argument("--k", type=lambda text: tuple(map(int, text.split(","))), default=(1, 4, 16))
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=(0, 1, 2))
    parser.add_argument(
        "--settings", type=json.loads, nargs="+", default=[{}], help="JSON of DetectorConfig fields, one for each block of rows"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    backbone: Any = load_backbone(options.model, device="cpu", dtype="float32", **options.options)
    if hasattr(backbone, "encode_patches"):
        backbone = Remembering(backbone)
    print(f"{backbone.name} {json.dumps(options.options)}, float32", file=sys.stderr)
    print("| settings | category | k | seeds | image AUROC | pixel AUROC | AUPRO | false alarms | recall |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for settings in options.settings:
        detector = AnomalyDetector(backbone, **settings)
        for k in options.k:
            for category in (one for root in options.roots for one in load_dataset(root).categories):
                rows = [row for seed in options.seeds if (row := measure(detector, category, k, seed)) is not None]
                if rows:
                    cells = (_cell([row[metric] for row in rows], metric) for metric in METRICS)
                    shown = ", ".join(f"{key} {value}" for key, value in settings.items()) or "default"
                    print(f"| {shown} | {category.name} | {k} | {len(rows)} | {' | '.join(cells)} |", flush=True)


def _cell(values: list[float], metric: str) -> str:
    if metric in ("false_alarms", "recall"):
        return f"{np.mean(values):.0%}"
    return f"{np.mean(values):.4f}" + (f" ± {np.std(values):.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
