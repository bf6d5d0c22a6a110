"""How long `import vlad`, `vlad --help` and one picture with `lite` take, beside a bare interpreter, in one run.

    python eval/bench/startup.py [--repeats 7]

Runs take turns, so that a busy machine slows all of them alike; the median is shown.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "bare interpreter": [sys.executable, "-c", "pass"],
    "import vlad": [sys.executable, "-c", "import vlad"],
    "vlad --help": [sys.executable, "-m", "vlad", "--help"],
    "vlad prompts list": [sys.executable, "-m", "vlad", "prompts", "list"],
    "detect one, lite": [sys.executable, "-m", "vlad", "detect", "demos/examples/gears/01_good.png", "--model", "lite", "-q"],
    "import torch": [sys.executable, "-c", "import torch"],
    "import open_clip": [sys.executable, "-c", "import open_clip"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    bare = statistics.median(seconds["bare interpreter"][1:])  # the first round fills the file cache
    print(f"{'command':<20}{'median':>10}{'over bare':>12}{'spread':>20}")
    for name, values in seconds.items():
        median = statistics.median(values[1:])
        spread = f"{min(values[1:]) * 1e3:.0f} to {max(values[1:]) * 1e3:.0f} ms"
        print(f"{name:<20}{median * 1e3:>7.0f} ms{(median - bare) * 1e3:>9.0f} ms{spread:>20}")


if __name__ == "__main__":
    main()
