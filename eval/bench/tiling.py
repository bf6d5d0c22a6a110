"""Time and peak memory of tiled detection on pictures of growing size.

    python eval/bench/tiling.py [--model lite] [--tile 512]

Every size runs in a process of its own. Beyond the picture (3 bytes a pixel) and its map (4 bytes a pixel), memory should not grow.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

SIZES = ((512, 512), (2000, 1500), (4000, 3000), (8000, 6000))


def measure(model: str, tile: int, width: int, height: int) -> dict[str, float]:
    """One size, in this process; MiB."""
    import numpy as np

    from vlad import AnomalyDetector

    detector = AnomalyDetector.from_pretrained(model, tile=tile)
    rng = np.random.default_rng(0)
    detector.predict(rng.integers(0, 256, (tile, tile, 3), dtype=np.uint8))
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
    print(f"{options.model}, tiles of {options.tile}")
    names = (("picture", 12), ("tiles", 7), ("seconds", 10), ("ms a tile", 11), ("growth MiB", 12), ("picture + map MiB", 19))
    print("".join(name.rjust(width) for name, width in names))
    for width, height in SIZES:
        command = [sys.executable, __file__, "--model", options.model, "--tile", str(options.tile), "--one", str(width), str(height)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        size = f"{width} x {height}"
        each = row["seconds"] / row["tiles"] * 1e3
        print(f"{size:>12}{row['tiles']:>7.0f}{row['seconds']:>10.2f}{each:>11.1f}{row['growth']:>12.0f}{row['data']:>19.0f}")


if __name__ == "__main__":
    main()
