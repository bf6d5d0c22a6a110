"""Peak memory of the bounded-memory pixel metrics, the bootstrap included.

    python eval/bench/pixel_memory.py [--pictures 1000] [--side 1000]

Only growth above the imported libraries counts; maps are made one by one, as a run makes them.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from scipy import ndimage

from vlad.metrics import PixelCounts, count_pixels, resamples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--side", type=int, default=1000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((options.pictures, 24, 24)).astype(np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.perf_counter()
    pictures = []
    for index in range(options.pictures):
        mask = np.zeros((options.side, options.side), bool)
        if index % 2:
            for top, left in rng.integers(0, options.side - 90, (3, 2)):
                mask[top : top + 80, left : left + 60] = True
        smooth = ndimage.zoom(coarse[index], options.side / 24, order=1)[: options.side, : options.side]
        pictures.append(count_pixels(1 / (1 + np.exp(-smooth - 2 * mask)), mask))
    counted = time.perf_counter() - start
    counts = PixelCounts(pictures)
    values, errors = counts.metrics(), counts.errors()
    counts.resampled(resamples(np.arange(options.pictures) % 2, n=200))
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 - before
    stored = sum(array.nbytes for picture in pictures for array in picture.arrays().values()) / 2**20
    print(
        f"{options.pictures} pictures of {options.side} x {options.side}: {growth:.2f} GiB above the libraries, {stored:.0f} MiB of counts"
    )
    each, rest = counted / options.pictures * 1e3, time.perf_counter() - start - counted
    print(f"{each:.0f} ms a picture, making it included; {rest:.1f} s for metrics and bootstrap")
    for name, value in values.items():
        print(f"  {name:<14}{value:.5f} ± {errors[name]:.6f}")


if __name__ == "__main__":
    main()
