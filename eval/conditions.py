"""What light, focus, compression and small shifts do to verdicts, and what two settings change about that.

    python eval/conditions.py ../data/mvtec ../data/hazelnut ... --k 8

For each category: k references, the others of the test set as they are and as another day's camera would take them. Each setting's AUROC on
the pictures as they are, and under every condition the share of good pictures that are called anomalous and of bad ones that are not.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from vlad import AnomalyDetector, read_image
from vlad.evaluation.datasets import load_dataset
from vlad.metrics import auroc

SETTINGS: dict[str, dict[str, object]] = {
    "plain": {},
    "exposure": {"adapt": "exposure"},
    "mild": {"mild_changes": True},
    "both": {"adapt": "exposure", "mild_changes": True},
}


def _jpeg(picture: np.ndarray) -> np.ndarray:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


CONDITIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda picture: picture,
    "20 % darker": lambda picture: cv2.convertScaleAbs(picture, alpha=0.8, beta=0),
    "20 % brighter": lambda picture: cv2.convertScaleAbs(picture, alpha=1.2, beta=0),
    "blurred": lambda picture: cv2.GaussianBlur(picture, (0, 0), min(picture.shape[:2]) / 300),
    "JPEG 40": _jpeg,
    "moved by 10": lambda picture: np.roll(picture, (5, 10), (0, 1)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--rotations", type=int, help="as of the detector")
    parser.add_argument("--most", type=int, default=24, help="good pictures and bad ones of a category")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    base = AnomalyDetector.from_pretrained(arguments.model)
    rows = []
    for root in arguments.roots:
        for category in load_dataset(root).categories:
            references = [picture.path for picture in category.references[: arguments.k]]
            test = [picture for picture in category.test if picture.path not in references]
            good = [picture for picture in test if not picture.is_anomalous][: arguments.most]
            bad = [picture for picture in test if picture.is_anomalous]
            bad = bad[:: max(1, len(bad) // arguments.most)][: arguments.most]
            pictures = [read_image(picture.path) for picture in (*good, *bad)]
            is_bad = np.array([False] * len(good) + [True] * len(bad))
            for name, settings in SETTINGS.items():
                detector = base.copy(**settings, rotations=arguments.rotations).fit(references)  # type: ignore[arg-type]
                for condition, change in CONDITIONS.items():
                    found = list(detector.predict_iter([change(picture) for picture in pictures], maps=False))
                    scores = np.array([one.pred_score for one in found])
                    called = np.array([one.pred_label for one in found])
                    row: dict[str, object] = {"category": category.name, "setting": name, "condition": condition, "model": base.model_name}
                    row["auroc"] = auroc(is_bad, scores)
                    row["false_alarms"], row["misses"] = float(called[~is_bad].mean()), float((~called[is_bad]).mean())
                    row["told"] = float(np.mean([bool(one.differs) for one in found]))
                    rows.append(row)
                    print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print("\nmean over categories: AUROC / false alarms / misses / share of which a difference is told")
    for condition in CONDITIONS:
        cells = []
        for name in SETTINGS:
            some = [row for row in rows if row["setting"] == name and row["condition"] == condition]
            mean = [np.mean([row[key] for row in some]) for key in ("auroc", "false_alarms", "misses", "told")]
            cells.append(f"{name} {mean[0]:.3f} / {mean[1]:.0%} / {mean[2]:.0%} / {mean[3]:.0%}")
        print(f"{condition:14} " + "   ".join(cells))


if __name__ == "__main__":
    main()
