"""Zero-shot image and pixel AUROC on folders in the MVTec AD layout (CATEGORY/test/DEFECT, CATEGORY/ground_truth/DEFECT).

    python eval/zero_shot.py DATA_ROOT... [--model lite] [--prompts winclip] [--scales 2,3] [--dtype float32]

A category's folder name is its class name. Masks are compared at the picture's own size.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from vlad import AnomalyDetector, find_images, read_image


def categories(roots: list[Path]) -> Iterator[Path]:
    """Folders with a `test` folder, the roots themselves included."""
    for root in roots:
        found = [folder for folder in (root, *sorted(root.iterdir())) if (folder / "test").is_dir()]
        if not found:
            sys.exit(f"{root} holds no category; expected CATEGORY/test/DEFECT/*.png")
        yield from found


def ground_truth(picture: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The mask (H, W) of a test picture: empty for a good one, None if its file is missing."""
    defect, test = picture.parent.name, picture.parent.parent
    if defect == "good":
        return np.zeros(shape, bool)
    path = test.parent / "ground_truth" / defect / f"{picture.stem}_mask.png"
    return read_image(path)[..., 0] > 127 if path.exists() else None


def measure(detector: AnomalyDetector, category: Path) -> dict[str, float | int | str]:
    """AUROC over pictures and over the pixels of all pictures that have a mask."""
    pictures = find_images([category / "test"])
    scores, labels, values, truths = [], [], [], []
    for picture, result in zip(pictures, detector.predict_iter(pictures, class_name=category.name), strict=True):
        scores.append(result.pred_score)
        labels.append(picture.parent.name != "good")
        mask = ground_truth(picture, result.image_size)
        if mask is not None:
            values.append(result.anomaly_map.ravel())
            truths.append(mask.ravel())
    return {
        "category": category.name,
        "good": labels.count(False),
        "anomalous": labels.count(True),
        "image_auroc": float(roc_auc_score(labels, scores)),
        "pixel_auroc": float(roc_auc_score(np.concatenate(truths), np.concatenate(values))),
        "recall_at_threshold": float(np.mean([s > 0.5 for s, bad in zip(scores, labels, strict=True) if bad])),
        "false_alarms_at_threshold": float(np.mean([s > 0.5 for s, bad in zip(scores, labels, strict=True) if not bad])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("roots", type=Path, nargs="+")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--prompts", default="winclip")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--scales", type=lambda text: tuple(map(int, text.split(","))))
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        settings = {} if options.scales is None else {"scales": options.scales}
        detector = AnomalyDetector.from_pretrained(options.model, prompts=options.prompts, dtype=options.dtype, **settings)
    print(json.dumps({"model": detector.backbone.name, "prompts": detector.prompts.name, "scales": detector.scales}))
    rows = []
    for category in categories(options.roots):
        rows.append(measure(detector, category))
        print(json.dumps(rows[-1]), flush=True)
    if len(rows) > 1:
        print(json.dumps({"mean": {key: float(np.mean([row[key] for row in rows])) for key in ("image_auroc", "pixel_auroc")}}))


if __name__ == "__main__":
    main()
