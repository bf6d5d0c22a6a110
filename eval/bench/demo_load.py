"""Load on the demo: many clients at once through `gradio_client`, each with a picture and a class name of its own.

    python eval/bench/demo_load.py [--clients 16] [--requests 200]

Every answer is compared with the direct prediction of the same picture, so a lost or a mixed-up one is seen. Memory is that of the
server's process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import psutil
from gradio_client import Client, handle_file
from PIL import Image

from vlad import AnomalyDetector

EXAMPLES = Path(__file__).resolve().parents[2] / "demos" / "examples"
NOUNS = ("washer", "leather", "screw", "metal nut")


def main() -> None:
    """Start a server, load it, compare, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        jobs = make_jobs(Path(folder), options.clients)
        detector = AnomalyDetector.from_pretrained("lite", device="cpu")
        expected = [detector.predict(path, class_name=noun).to_dict() for path, noun in jobs]
        command = [sys.executable, "-m", "vlad", "demo", "--model", "lite", "--device", "cpu", "--port", "0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            address = wait_for(server)
            Client(address, verbose=False).predict(handle_file(jobs[0][0]), jobs[0][1], None, None, api_name="/detect")
            process = psutil.Process(server.pid)
            before = process.memory_info().rss
            start = time.perf_counter()
            seconds, wrong, lost, memory = load(address, jobs, expected, options.requests, process)
            took = time.perf_counter() - start
            after = process.memory_info().rss
        finally:
            server.terminate()
            server.wait(30)
    done = len(seconds)
    print("| clients | requests | lost | mixed up | requests a second | median s | 95 % s | server before | half way | after |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    ordered = sorted(seconds)
    print(
        f"| {options.clients} | {done + lost} | {lost} | {wrong} | {done / took:.1f} | {statistics.median(ordered):.2f} | "
        f"{ordered[int(0.95 * (done - 1))]:.2f} | {before / 2**20:.0f} MiB | {memory / 2**20:.0f} MiB | {after / 2**20:.0f} MiB |"
    )
    sys.exit(bool(lost or wrong))


def make_jobs(folder: Path, count: int) -> list[tuple[Path, str]]:
    """A different picture for each client: an example, turned and cropped."""
    pictures = sorted(EXAMPLES.glob("*.png"))
    jobs = []
    for number in range(count):
        path = folder / f"client_{number}.png"
        turned = Image.open(pictures[number % len(pictures)]).rotate(90 * (number // len(pictures)))
        turned.crop((0, 0, 400 + 4 * number, 480)).save(path)
        jobs.append((path, NOUNS[number % len(NOUNS)]))
    return jobs


def wait_for(server: subprocess.Popen[str]) -> str:
    """The address that the server says."""
    assert server.stderr is not None
    for line in server.stderr:
        if "http://" in line:
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return next(word for word in line.split() if word.startswith("http://"))
    raise SystemExit("the server ended before it said its address")


def load(address: str, jobs: list, expected: list, requests: int, process: psutil.Process) -> tuple[list[float], int, int, int]:
    """Seconds of each answered request, wrong answers, lost ones, and the server's memory half way."""
    seconds: list[float] = []
    wrong, lost, half = 0, 0, 0
    lock = threading.Lock()
    numbers = iter(range(requests))

    def visit(client_number: int) -> None:
        nonlocal wrong, lost, half
        client = Client(address, verbose=False)
        path, noun = jobs[client_number]
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            if number == requests // 2:
                half = process.memory_info().rss
            start = time.perf_counter()
            try:
                found = client.predict(handle_file(path), noun, None, None, api_name="/detect")
            except Exception as error:
                print(f"lost: {error}", file=sys.stderr)
                with lock:
                    lost += 1
                continue
            with lock:
                seconds.append(time.perf_counter() - start)
                same = all(found[key] == expected[client_number][key] for key in ("pred_score", "class_name", "image_size", "regions"))
                wrong += not same

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, wrong, lost, half


if __name__ == "__main__":
    main()
