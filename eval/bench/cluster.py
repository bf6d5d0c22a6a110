"""A folder through Ray on this machine beside one process: pictures a second, and what starting costs.

    python eval/bench/cluster.py [--pictures 400] [--workers 2] [--side 1000] [--repeats 3]

Both take turns; each is a command of its own, cold start included, which is measured by itself with eight pictures and taken off.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from folder import make_pictures

from vlad import AnomalyDetector


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "vlad", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[float]] = {"one process": [], "ray": []}
    starts: dict[str, list[float]] = {"one process": [], "ray": []}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, count in (("many", options.pictures), ("few", 8)):
            (place / name).mkdir()
            make_pictures(place / name, count, options.side)
        AnomalyDetector.from_pretrained("lite", device="cpu").fit(sorted((place / "few").iterdir())[:4]).save(place / "model")
        megabytes = sum(path.stat().st_size for path in (place / "many").iterdir()) / 1e6 / options.pictures
        for _ in range(options.repeats):
            for name, times in (("few", starts), ("many", found)):
                for way in times:
                    shutil.rmtree(place / "out", ignore_errors=True)
                    command = ["detect", str(place / name), "--model", str(place / "model"), "--out", str(place / "out"), "--quiet"]
                    command += ["--save", "json"] if way == "one process" else ["--engine", "ray", "--workers", str(options.workers)]
                    times[way].append(seconds(command))
    print(f"lite, 4 references, {options.pictures} pictures of {options.side} x {options.side} ({megabytes:.2f} MB each)")
    print("| | start, s | pictures a second |\n|---|---|---|")
    for way in found:
        start = statistics.median(starts[way])
        print(f"| {way} | {start:.1f} | {(options.pictures - 8) / (statistics.median(found[way]) - start):.1f} |")


if __name__ == "__main__":
    main()
