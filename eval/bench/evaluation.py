"""How much of `vlad eval` is the encoder: a data set of large pictures, through the runner as it is.

    python eval/bench/evaluation.py [--pictures 60] [--side 1000] [--model lite] [--k-shot 0]

What is shown is the time a picture and the share that is not the encoder's: reading, maps, counts of pixels, files. Pictures and masks are
those of a procedural line, in MVTec layout, as JPEG and PNG.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from folder import encoder_time

from vlad import AnomalyDetector
from vlad.evaluation.datasets import load_dataset
from vlad.evaluation.runner import EvalSettings, run
from vlad.synthetic import ProductLine


def make(root: Path, count: int, side: int) -> None:
    """A category "gear": half of the tests show a crack."""
    line, rng = ProductLine("gear", 3, 512), np.random.default_rng(0)
    for number in range(count + 4):
        part, defect = ("train", "good") if number >= count else ("test", "crack" if number % 2 else "good")
        sample = line.sample(number, None if defect == "good" else defect)
        picture = cv2.resize(sample.image, (side, side))
        noisy = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
        path = root / "gear" / part / defect / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), noisy[..., ::-1])
        if defect != "good":
            mask = root / "gear" / "ground_truth" / defect / f"{number:04d}_mask.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(mask), cv2.resize(sample.mask.astype(np.uint8) * 255, (side, side), interpolation=cv2.INTER_NEAREST))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--k-shot", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "data", options.pictures, options.side)
        detector = AnomalyDetector.from_pretrained(options.model, device="cpu")
        dataset = load_dataset(Path(folder) / "data")
        start = time.perf_counter()
        with encoder_time() as inside:
            problems = run(detector, dataset, Path(folder) / "out", settings=EvalSettings(k_shots=(options.k_shot,)), quiet=True)
        took = time.perf_counter() - start
    assert not problems, problems
    print(f"{options.model}, {options.pictures} pictures of {options.side} x {options.side}, k = {options.k_shot}")
    print(f"{took / options.pictures * 1e3:.0f} ms a picture, {1 - sum(inside) / took:.0%} of it outside the encoder")


if __name__ == "__main__":
    main()
