"""Time and peak memory of detection on pictures of growing size, in tiles and as a whole, and what comes after the encoder.

    python eval/bench/tiling.py [--model lite] [--tile 512]

Every size runs in a process of its own. Beyond the picture (3 bytes a pixel) and its map (4 bytes a pixel), memory should not grow. The
last lines are of a map of 12 megapixels: bringing 28 x 28 patches to that size, adding two such maps, and finding the marked places.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

SIZES = ((512, 512), (1024, 1024), (2048, 2048), (4096, 4096), (8000, 6000), (16000, 512))


def measure(model: str, tile: int, width: int, height: int) -> dict[str, float]:
    """One size, in this process; MiB."""
    import numpy as np

    from vlad import AnomalyDetector

    detector = AnomalyDetector.from_pretrained(model, tile=tile)
    rng = np.random.default_rng(0)
    detector.predict(rng.integers(0, 256, (512, 512, 3), dtype=np.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    picture = np.tile(rng.integers(0, 256, (250, 250, 3), dtype=np.uint8), (height // 250 + 1, width // 250 + 1, 1))[:height, :width]
    start = time.perf_counter()
    result = detector.predict(picture)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    data = (picture.nbytes + result.anomaly_map.nbytes) / 2**20
    return {"tiles": result.scores.get("tiles", 1), "seconds": seconds, "growth": after - before, "data": data}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.model, options.tile, *options.one)))
        return
    print(f"{options.model}, tiles of {options.tile}, and as a whole")
    names = (("picture", 12), ("tiles", 7), ("seconds", 10), ("ms a tile", 11), ("growth MiB", 12), ("picture + map MiB", 19))
    print("".join(name.rjust(width) for name, width in names))
    for width, height, tile in [(*size, tile) for size in SIZES for tile in (options.tile, 0)]:
        command = [sys.executable, __file__, "--model", options.model, "--tile", str(tile), "--one", str(width), str(height)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        size = f"{width} x {height}"
        each = row["seconds"] / row["tiles"] * 1e3
        print(f"{size:>12}{row['tiles']:>7.0f}{row['seconds']:>10.2f}{each:>11.1f}{row['growth']:>12.0f}{row['data']:>19.0f}")
    after_the_encoder()


def after_the_encoder(width: int = 4000, height: int = 3000) -> None:
    """Upsampling, fusing and regions of one map; medians of five."""
    import numpy as np
    import torch

    from vlad.scoring.pictures import upsampled
    from vlad.scoring.regions import find_regions

    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.random((1, 28 * 28), dtype=np.float32))
    maps = [upsampled(values, (28, 28), (1.0, 1.0), (height, width)) for _ in range(2)]
    mask = maps[0] > np.quantile(maps[0][::8, ::8], 0.98)
    work: dict[str, Callable[[], object]] = {
        "upsampling": lambda: upsampled(values, (28, 28), (1.0, 1.0), (height, width)),
        "fusing": lambda: 0.5 * maps[0] + 0.5 * maps[1],
        "regions": lambda: find_regions(maps[0], mask),
    }
    total = 0.0
    for name, step in work.items():
        took = []
        for _ in range(5):
            start = time.perf_counter()
            step()
            took.append(time.perf_counter() - start)
        total += statistics.median(took)
        print(f"{width} x {height}, {name}: {statistics.median(took):.3f} s")
    print(f"{width} x {height}, together: {total:.3f} s ({len(find_regions(maps[0], mask))} regions of 2 % of the pixels)")


if __name__ == "__main__":
    main()
