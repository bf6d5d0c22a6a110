"""An hour of frames through `vlad detect --watch`, as fast as they are looked at: time of a frame, memory, what is flagged.

    python eval/bench/stream.py [--frames 3600] [--model lite]

A video of a procedural part with camera noise, one frame for each second, whose light falls by a fifth half-way, with `--out` and
`--save-video`. Memory is that of the process after a tenth of the frames and at the end (Linux).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from vlad.synthetic import ProductLine


def make(path: Path, count: int) -> None:
    """The video."""
    line, rng = ProductLine("washer", 3, 320), np.random.default_rng(0)
    shown = [line.sample(number).image.astype(np.float32) for number in range(40)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (320, 320))  # type: ignore[attr-defined]
    for number in range(count):
        picture = shown[int(rng.integers(len(shown)))] * (0.8 if number >= count // 2 else 1.0)
        noisy = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
        writer.write(np.ascontiguousarray(noisy[..., ::-1]))
    writer.release()


def held(process: int) -> float:
    """MiB of a process."""
    return int(Path(f"/proc/{process}/status").read_text().split("VmRSS:")[1].split()[0]) / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=3600)
    parser.add_argument("--model", default="lite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make(place / "hour.avi", options.frames)
        good = [ProductLine("washer", 3, 320).sample(100 + number).image for number in range(4)]
        (place / "good").mkdir()
        for number, picture in enumerate(good):
            cv2.imwrite(str(place / "good" / f"{number}.png"), picture[..., ::-1])
        command = [sys.executable, "-m", "vlad", "detect", "--watch", str(place / "hour.avi"), "--model", options.model]
        command += [
            "--references",
            str(place / "good"),
            "--out",
            str(place / "out"),
            "--save",
            "json",
            "--save-video",
            str(place / "run.mkv"),
        ]
        start = time.perf_counter()
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert run.stdout is not None and run.stderr is not None
        early = last = most = 0.0
        for number, _ in enumerate(run.stdout, start=1):
            if number % 50 == 0 and run.poll() is None:
                last = held(run.pid)
                most = max(most, last)
            if number == options.frames // 10:
                early = held(run.pid)
        took = time.perf_counter() - start
        told = run.stderr.read().splitlines()
        run.wait()
        rows = [json.loads(line) for line in (place / "out" / "results.jsonl").read_text().splitlines()]
        half = options.frames // 2
        flags = [bool(row["scores"].get("outlier")) for row in rows]
        video = (place / "run.mkv").stat().st_size / 1e6
    frame = took / len(rows) * 1e3
    print(f"{options.model}, {len(rows)} of {options.frames} frames of 320 x 320, {frame:.0f} ms a frame, exit {run.returncode}")
    print(f"memory after a tenth {early:.0f} MiB, at the end {last:.0f} ({last / early:.2f}), at most {most:.0f}; video {video:.0f} MB")
    print(f"flagged before the change {np.mean(flags[20:half]):.1%}, of the 20 after it {np.mean(flags[half : half + 20]):.0%}, "
          f"of the last tenth {np.mean(flags[-options.frames // 10 :]):.1%}")  # fmt: skip
    print("\n".join(line for line in told if "drift" in line or "another" in line or "outliers" in line))


if __name__ == "__main__":
    main()
