"""How OpenMP's wait policy changes the time of a picture, on a machine left alone and on one with another program on every core.

python eval/bench/busy.py [--model lite] [--repeats 10]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

WORK = """
import sys, time, statistics
import numpy as np
from vlad import AnomalyDetector
detector = AnomalyDetector.from_pretrained(sys.argv[1])
picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
detector.predict(picture)
times = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    detector.predict(picture)
    times.append(time.perf_counter() - start)
print(statistics.median(times))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    print(f"{options.model}, seconds a picture (median of {options.repeats})\n{'':<10}{'alone':>10}{'busy':>10}")
    for policy in ("ACTIVE", "PASSIVE", "unset"):
        row = []
        for busy in (False, True):
            others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range((os.cpu_count() or 1) if busy else 0)]
            try:
                environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
                environment |= {} if policy == "unset" else {"OMP_WAIT_POLICY": policy}
                command = [sys.executable, "-c", WORK, options.model, str(options.repeats)]
                row.append(float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout))
            finally:
                for other in others:
                    other.kill()
        print(f"{policy:<10}{row[0]:>8.3f} s{row[1]:>8.3f} s", flush=True)


if __name__ == "__main__":
    main()
