"""A long run of the demo or of a watched folder, as fast as it goes: memory, open files, threads and temporary files over time.

    python eval/bench/soak.py watch --minutes 60
    python eval/bench/soak.py demo --minutes 60

`watch` writes pictures into the folder under twenty names that are used again and again; `demo` asks from four clients at once, each of
which leaves and comes back as a new visitor. A line every minute; the last one says how memory grew after the first quarter.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import psutil
from demo_load import make_jobs, wait_for
from PIL import Image

_NAMES, _CLIENTS, _VISIT = 20, 4, 25  # file names, clients at once, requests of a visit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("watch", "demo"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--model", default="lite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        environment = os.environ | {"TMPDIR": str(folder / "tmp"), "GRADIO_TEMP_DIR": str(folder / "tmp" / "gradio")}
        (watch if options.what == "watch" else demo)(folder, options.minutes * 60, options.model, environment)


def watch(folder: Path, seconds: float, model: str, environment: dict[str, str]) -> None:
    """New pictures under old names, as soon as the last ones have their rows."""
    (folder / "in").mkdir()
    out = folder / "out"
    command = [sys.executable, "-m", "vlad", "detect", "--watch", str(folder / "in"), "--model", model, "--out", str(out), "-q"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    rng, written, stop = np.random.default_rng(0), [0], threading.Event()

    def write() -> None:
        while not stop.is_set():
            if written[0] - rows(out) < 2 * _NAMES:
                pixels = (128 + 40 * np.sin(np.arange(256) / 9)[None, :, None] + rng.normal(0, 6, (256, 256, 3))).clip(0, 255)
                place = folder / "in" / f"{written[0] % _NAMES}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(folder / "next.png")
                (folder / "next.png").replace(place)
                written[0] += 1
                time.sleep(0.02)
            else:
                time.sleep(0.1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        observe(process, folder / "tmp", seconds, lambda: rows(out))
    finally:
        stop.set()
        thread.join()
        process.terminate()
        process.wait(60)


def rows(out: Path) -> int:
    """Lines of results, counted without reading them again and again."""
    return sum(1 for path in out.glob("*.json")) if out.is_dir() else 0


def demo(folder: Path, seconds: float, model: str, environment: dict[str, str]) -> None:
    """Visitors with pictures of their own."""
    from gradio_client import Client, handle_file

    jobs = make_jobs(folder, _CLIENTS)
    command = [sys.executable, "-m", "vlad", "demo", "--model", model, "--device", "cpu", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    address, done, lost, stop = wait_for(process), [0], [0], threading.Event()

    def visit(path: Path, noun: str) -> None:
        while not stop.is_set():
            client = Client(address, verbose=False)
            for _ in range(_VISIT):
                if stop.is_set():
                    return
                try:
                    client.predict(handle_file(path), noun, None, None, api_name="/detect")
                    done[0] += 1
                except Exception as error:
                    lost[0] += 1
                    print(f"lost: {error}", file=sys.stderr)

    threads = [threading.Thread(target=visit, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        observe(process, folder / "tmp", seconds, lambda: done[0])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        process.terminate()
        process.wait(60)
    left = [path for path in (folder / "tmp").rglob("*") if path.is_file()]
    print(f"lost {lost[0]}; files that the ended server left: {len(left)}")


def observe(process: subprocess.Popen[str] | subprocess.Popen[bytes], temporary: Path, seconds: float, done: object) -> None:
    """Print a line every minute, and how memory grew."""
    found, began = [], time.monotonic()
    print("| minute | done | memory | with children | open files | threads | temporary files |\n|---|---|---|---|---|---|---|", flush=True)
    while process.poll() is None and time.monotonic() - began < seconds:
        time.sleep(min(60, seconds / 12))
        main_process = psutil.Process(process.pid)
        own = main_process.memory_info().rss / 2**20
        every = own + sum(child.memory_info().rss for child in main_process.children(recursive=True)) / 2**20
        files = [path.stat().st_size for path in temporary.rglob("*") if path.is_file()]
        minute = (time.monotonic() - began) / 60
        found.append((minute, own))
        print(
            f"| {minute:.1f} | {done()} | {own:.0f} MiB | {every:.0f} MiB | {main_process.num_fds()} | {main_process.num_threads()} | "  # type: ignore[operator]
            f"{len(files)}, {sum(files) / 2**20:.1f} MiB |",
            flush=True,
        )
    later = np.array(found[len(found) // 4 :])
    slope, _ = np.polyfit(later[:, 0], later[:, 1], 1)
    print(f"after the first quarter memory grew by {60 * slope:.0f} MiB an hour; {later[0, 1]:.0f} to {later[-1, 1]:.0f} MiB")


if __name__ == "__main__":
    main()
