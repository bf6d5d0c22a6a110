"""Whether thresholds keep what they promise: 500 draws for each kind, what was asked against what came.

    python eval/promises.py simulated
    python eval/promises.py lines [--lines runs/thresholds]

`simulated`: good scores are log-normal with a spread of 0.12, or with a heavy tail (one in ten of three times the spread); bad ones lie
    higher and overlap. Thresholds from k good scores, and from labels as `vlad calibrate` takes them; rates of 2,000 further scores of each
    kind. For labels also how often the 95 % interval holds the true rate.
`lines`: the same for thresholds from references on procedural lines with `lite`, whose leave-one-out scores are what they are; a draw is
    one choice of references of one line, from the distances that eval/thresholds.py keeps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from thresholds import Eye, draw, fits, image_score, lines, method_threshold

from vlad.config import CALIBRATIONS
from vlad.references.calibration import threshold
from vlad.references.rates import Rate, Rule, choose
from vlad.references.shrinkage import IMAGE_PRIOR

DRAWS, FURTHER = 500, 2000
LIMITS = (0.05, 0.2)
COUNTS = (2, 4, 8, 16, 32, 64)


def normal_scores(rng: np.random.Generator, count: int) -> np.ndarray:
    """Log-normal."""
    return np.asarray(rng.lognormal(np.log(0.05), 0.12, count))


def heavy_scores(rng: np.random.Generator, count: int) -> np.ndarray:
    """One in ten varies three times as much."""
    spread = np.where(rng.random(count) < 0.1, 0.36, 0.12)
    return np.asarray(np.exp(np.log(0.05) + spread * rng.standard_normal(count)))


def bad_scores(rng: np.random.Generator, count: int) -> np.ndarray:
    """Of defects of many sizes."""
    return np.asarray(np.minimum(rng.lognormal(np.log(0.075), 0.3, count), 1))


def from_good(scores: Callable[[np.random.Generator, int], np.ndarray]) -> None:
    """Thresholds from good scores alone."""
    print("| k |" + "".join(f" {method}, asked {limit:.0%} |" for limit in LIMITS for method in CALIBRATIONS))
    print("|---|" + "---|" * len(LIMITS) * len(CALIBRATIONS))
    for k in COUNTS:
        cells = []
        for limit in LIMITS:
            for method in CALIBRATIONS:
                rng = np.random.default_rng(k)
                drawn = ((scores(rng, k), scores(rng, FURTHER)) for _ in range(DRAWS))
                cells.append(np.mean([(further > threshold(own, method, limit)).mean() for own, further in drawn]))
        print(f"| {k} | " + " | ".join(f"{share:.1%}" for share in cells) + " |", flush=True)


def from_labels(scores: Callable[[np.random.Generator, int], np.ndarray]) -> None:
    """Thresholds from labelled scores, and their intervals."""
    rules = {
        "at most 2 % false alarms": Rule(max_false_alarms=0.02),
        "at most 10 % false alarms": Rule(max_false_alarms=0.1),
        "no false alarm of those given": Rule(max_false_alarms=0.0),
        "at most 10 % misses": Rule(max_misses=0.1),
        "no miss of those given": Rule(max_misses=0.0),
        "both errors alike": Rule(cost_ratio=1.0),
        "a miss costs 20 times": Rule(cost_ratio=20.0),
    }
    print("| labelled of each kind | rule | false alarms | misses | interval holds: false alarms | misses |")
    print("|---|---|---|---|---|---|")
    for count in (10, 40, 100):
        for name, rule in rules.items():
            rng, found = np.random.default_rng(count), []
            for _ in range(DRAWS):
                good, bad = scores(rng, count), bad_scores(rng, count)
                value = choose(good, bad, rule)
                rates = (scores(rng, FURTHER) > value).mean(), (bad_scores(rng, FURTHER) <= value).mean()
                seen = Rate(int((good > value).sum()), count).interval, Rate(int((bad <= value).sum()), count).interval
                found.append((*rates, *(low <= rate <= high for rate, (low, high) in zip(rates, seen, strict=True))))
            print(f"| {count} | {name} | " + " | ".join(f"{share:.1%}" for share in np.mean(found, axis=0)) + " |", flush=True)


def on_lines(cache: Path) -> None:
    """Thresholds from references of procedural lines."""
    products = list(lines(Eye(), cache))
    print("| k | draws |" + "".join(f" {method}, asked {limit:.0%} |" for limit in LIMITS for method in CALIBRATIONS))
    print("|---|---|" + "---|" * len(LIMITS) * len(CALIBRATIONS))
    for k in (1, *COUNTS[:-1]):
        some = [product for product in products if fits(product, k)]
        drawn = [draw(some[number % len(some)], k, np.random.default_rng((k, number, 9)), image_score) for number in range(DRAWS)]
        cells = [
            np.mean([(one.good > method_threshold(one, method, limit, IMAGE_PRIOR)).mean() for one in drawn])
            for limit in LIMITS
            for method in CALIBRATIONS
        ]
        print(f"| {k} | {len(drawn)} | " + " | ".join(f"{share:.1%}" for share in cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("simulated", "lines"))
    parser.add_argument("--lines", type=Path, default=Path("runs/thresholds"))
    options = parser.parse_args()
    if options.what == "lines":
        on_lines(options.lines)
        return
    for name, scores in (("Log-normal", normal_scores), ("Heavy tail", heavy_scores)):
        print(f"### {name}\n")
        from_good(scores)
        print()
        from_labels(scores)
        print()


if __name__ == "__main__":
    main()
