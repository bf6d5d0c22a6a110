"""`vlad serve` under load: many clients with pictures of mixed sizes, none lost or mixed up, how long they wait, and what the server holds.

    python eval/bench/serve_load.py [--clients 64] [--seconds 180] [--waiting 64]

Each client sends one picture after the other and compares size and score with what the same picture got before; one that is sent away (429)
comes again when it was told to. At the end the server gets SIGTERM while all of them still send, and whatever it accepted must be answered.
"""

from __future__ import annotations

import argparse
import io
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import numpy as np
from PIL import Image

from vlad import AnomalyDetector
from vlad.synthetic import ProductLine

SIZES = (200, 320, 480, 640, 1000)


def held(process: int) -> float:
    """MiB of a process."""
    return int(Path(f"/proc/{process}/status").read_text().split("VmRSS:")[1].split()[0]) / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--waiting", type=int, default=64)
    options = parser.parse_args()
    line = ProductLine("gear", 3, 480)
    with tempfile.TemporaryDirectory() as place:
        good = [line.sample(number).image for number in range(4)]
        folder = AnomalyDetector.from_pretrained("lite", rotations=1).fit(good).save(Path(place) / "gear")
        command = [sys.executable, "-m", "vlad", "serve", str(folder), "--port", "0", "--waiting", str(options.waiting)]
        process = subprocess.Popen([*command, "--results", f"{place}/results.sqlite"], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        address = next(found[1] for text in process.stderr if (found := re.search(r"at (http://\S+)", text)))
        files, expected = [], []
        for number, side in enumerate(SIZES * 2):
            file = io.BytesIO()
            shown = cv2.resize(line.sample(100 + number, "crack" if number % 2 else None).image, (side, side))
            Image.fromarray(np.asarray(shown)).save(file, "JPEG")
            files.append(file.getvalue())
        with httpx.Client(base_url=address, timeout=120) as client:
            for data in files:
                (result,) = client.post("/v1/detect", files={"file": data}).json()["results"]
                expected.append((result["image_size"], result["pred_score"]))
        took: list[float] = []
        counts = {"answered": 0, "away": 0, "wrong": 0, "lost": 0}
        guard, ending, ended = threading.Lock(), threading.Event(), threading.Event()

        def work(number: int) -> None:
            rng = np.random.default_rng(number)
            with httpx.Client(base_url=address, timeout=120) as client:
                while not ended.is_set():
                    which = int(rng.integers(len(files)))
                    start = time.perf_counter()
                    try:
                        answer = client.post("/v1/detect", files={"file": files[which]})
                    except httpx.ConnectError:  # it takes nothing more
                        return
                    except httpx.HTTPError:
                        with guard:
                            counts["lost"] += 1
                        if ending.is_set():
                            return
                        continue
                    if answer.status_code in (429, 503):
                        with guard:
                            counts["away"] += 1
                        time.sleep(float(answer.headers.get("retry-after", 1)))
                        continue
                    (result,) = answer.json()["results"]
                    with guard:
                        counts["answered"] += 1
                        counts["wrong"] += (result["image_size"], result["pred_score"]) != expected[which]
                        took.append(time.perf_counter() - start)

        memory = [held(process.pid)]
        with ThreadPoolExecutor(options.clients) as pool:
            clients = [pool.submit(work, number) for number in range(options.clients)]
            for _ in range(6):
                time.sleep(options.seconds / 6)
                memory.append(held(process.pid))
            ending.set()
            process.send_signal(signal.SIGTERM)
            status = process.wait(120)
            ended.set()
            for one in clients:
                one.result()
        p50, p95 = (float(np.quantile(took, share)) for share in (0.5, 0.95))
        rate = len(took) / options.seconds
        print(f"{options.clients} clients, {options.seconds:.0f} s: {counts}, p50 {p50:.2f} s, p95 {p95:.2f} s, {rate:.1f} a second")
        print(f"MiB held: {', '.join(f'{value:.0f}' for value in memory)}; median of the last three over the first after a sixth: "
              f"{statistics.median(memory[-3:]) / memory[1]:.2f}; ended with {status}")  # fmt: skip


if __name__ == "__main__":
    main()
