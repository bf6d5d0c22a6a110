"""A folder of pictures through `vlad detect`'s own path, without and with files written: time, the encoder's share of it, and memory.

    python eval/bench/folder.py [--pictures 100] [--side 1000] [--model lite] [--references 0] [--repeats 3] [--save overlay,mask,map,json]

Runs without and with `--out` take turns in one process; what is shown is the median time a picture, the ratio of both, the share of the
wall time in which the encoder computes, and how much the process grew from a tenth of the pictures to the last (Linux). The pictures
are JPEG of a product line with camera noise; with `--references` they are compared with so many of them, else scored by words.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vlad import AnomalyDetector
from vlad.backbones.encoder import Encoder
from vlad.cli.results import ResultWriter
from vlad.prediction import FILES
from vlad.synthetic import ProductLine
from vlad.together import predict_together


def make_pictures(folder: Path, count: int, side: int) -> list[Path]:
    """JPEG files; a tenth of them shows a defect."""
    line, rng, paths = ProductLine("gear", 3, 512), np.random.default_rng(0), []
    for number in range(count):
        picture = cv2.resize(line.sample(number, "crack" if number % 10 == 9 else None).image, (side, side))
        noisy = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number:05d}.jpg")
        cv2.imwrite(str(paths[-1]), noisy[..., ::-1])
    return paths


def held() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 2**10


@contextmanager
def encoder_time() -> Iterator[list[float]]:
    """The seconds of each call of an encoder inside."""
    see, inside = Encoder.see, []

    def timed(self: Encoder, *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        found = see(self, *arguments, **options)
        inside.append(time.perf_counter() - start)
        return found

    Encoder.see = timed  # type: ignore[method-assign]
    try:
        yield inside
    finally:
        Encoder.see = see  # type: ignore[method-assign]


def run(detector: AnomalyDetector, paths: list[Path], out: Path | None, kinds: tuple[str, ...]) -> dict[str, float]:
    """Seconds a picture, the encoder's share, and MiB of growth."""
    start, early = time.perf_counter(), 0.0
    with encoder_time() as inside, ResultWriter(paths, out, "", model=detector.model_name, quiet=True, kinds=kinds) as writer:
        results = predict_together(detector, paths, mutual=False, adapt=False, on_error="return", keep_images=out is not None)
        for number, (path, result) in enumerate(zip(paths, results, strict=True)):
            writer.add(path, result)
            if number == len(paths) // 10:
                early = held()
    took = time.perf_counter() - start
    return {"seconds": took / len(paths), "busy": sum(inside) / took, "growth": held() - early}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--references", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", type=lambda text: tuple(text.split(",")), default=FILES)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        paths = make_pictures(Path(folder), options.pictures, options.side)
        detector = AnomalyDetector.from_pretrained(options.model, device="cpu")
        if options.references:
            detector.fit(paths[: options.references])
        rows: dict[str, list[dict[str, float]]] = {"without --out": [], "with --out": []}
        run(detector, paths[:8], None, options.save)
        for number in range(options.repeats):
            rows["without --out"].append(run(detector, paths, None, options.save))
            rows["with --out"].append(run(detector, paths, Path(folder) / f"out{number}", options.save))
    print(f"{options.model}, {options.pictures} pictures of {options.side} x {options.side}, {options.references} references")
    print("| | ms a picture | encoder busy | growth |\n|---|---|---|---|")
    for name, found in rows.items():
        middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
        print(f"| {name} | {middle['seconds'] * 1e3:.0f} | {middle['busy']:.0%} | {middle['growth']:+.0f} MiB |")
    ratios = [two["seconds"] / one["seconds"] for one, two in zip(*rows.values(), strict=True)]
    print(f"with / without: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
