"""An operator's shift, end to end: fit on eight good pictures, run forty, correct two false alarms and one miss, calibrate, run again.

    python eval/shift.py [--family washer] [--seed 5] [--out runs/shift]

Pictures are of a procedural line: light, focus and place vary from one to the next. After each step the same forty fresh pictures, ten of
them bad, are run with `vlad detect`, by the commands that an operator would type. Prints a table; --out keeps pictures, model and results.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from pathlib import Path

import numpy as np
from normal_scores import SIDE, _varied
from PIL import Image

from vlad.synthetic import DEFECTS, ProductLine

GOOD, BAD = 30, 10


def picture(line: ProductLine, number: int, defect: str | None, severity: float) -> Image.Image:
    """Picture `number` of the line, under conditions of its own."""
    try:
        shown = line.sample(number, defect).image
    except RuntimeError:  # a defect that does not show on this product
        shown = line.sample(number, "stain").image
    return Image.fromarray(_varied(shown, severity, np.random.default_rng(number)))


def write(folder: Path, line: ProductLine, first: int, good: int, bad: int, severity: float) -> None:
    """Good and bad pictures, the truth in their names."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(first)
    for number in range(good + bad):
        defect = None if number < good else str(rng.choice(DEFECTS))
        kind = "good" if defect is None else "bad"
        picture(line, first + number, defect, severity).save(folder / f"{kind}_{number:03}.png")


def vlad(*arguments: object) -> str:
    """The command as an operator types it; its table goes to stdout."""
    done = subprocess.run(["vlad", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"vlad {' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout


def judged(pictures: Path, model: Path, out: Path, *options: str) -> dict[str, tuple[float, float, str]]:
    """Score, threshold and verdict of each picture."""
    vlad("detect", pictures, "--model", model, "--out", out, "-q", *options)
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {Path(row["image_path"]).name: (float(row["pred_score"]), float(row["threshold"]), row["pred_label"]) for row in rows}


def row(step: str, found: dict[str, tuple[float, float, str]]) -> str:
    """A line of the table."""
    alarms = sum(verdict == "True" for name, (_, _, verdict) in found.items() if name.startswith("good"))
    misses = sum(verdict == "False" for name, (_, _, verdict) in found.items() if name.startswith("bad"))
    return f"| {step} | {next(iter(found.values()))[1]:.4f} | {alarms} of {GOOD} | {misses} of {BAD} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="washer")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--severity", type=float, default=1.0, help="how much light, focus and place vary")
    parser.add_argument("--out", type=Path, default=Path("runs/shift"))
    options = parser.parse_args()
    line, out = ProductLine(options.family, options.seed, SIDE), options.out
    write(out / "good", line, 0, 8, 0, options.severity)
    write(out / "first", line, 100, GOOD, BAD, options.severity)
    write(out / "fresh", line, 500, GOOD, BAD, options.severity)
    write(out / "labelled", line, 900, 40, 20, options.severity)
    model = out / "model"
    vlad("fit", out / "good", "--out", model, "--model", "lite", "-q")
    print("| step | threshold | false alarms, fresh pictures | misses |\n|---|---|---|---|")
    print(row("fitted on 8, threshold of the references", judged(out / "fresh", model, out / "r0", "--no-adapt")), flush=True)
    print(row("the same, following the run", judged(out / "fresh", model, out / "r1")), flush=True)
    seen = judged(out / "first", model, out / "r2", "--no-adapt")
    alarms = sorted((name for name, (_, _, verdict) in seen.items() if name.startswith("good") and verdict == "True"))[:2]
    missed = sorted((name for name, (_, _, verdict) in seen.items() if name.startswith("bad") and verdict == "False"))[:1]
    if alarms:
        vlad("references", model, "add", *(out / "first" / name for name in alarms), "-q")
        print(row(f"{len(alarms)} false alarms remembered as good", judged(out / "fresh", model, out / "r3", "--no-adapt")), flush=True)
    if missed:
        vlad("references", model, "add", "--bad", out / "first" / missed[0], "-q")
        print(row("1 miss labelled as bad", judged(out / "fresh", model, out / "r4", "--no-adapt")), flush=True)
    labelled = out / "labelled"
    said = vlad("calibrate", model, "--good", labelled / "good_*.png", "--bad", labelled / "bad_*.png", "-q")
    print(row("calibrated on 40 good and 20 bad", judged(out / "fresh", model, out / "r5")), flush=True)
    print(f"\n```\n{said.strip()}\n\n$ vlad references MODEL log\n{vlad('references', model, 'log').strip()}\n```")


if __name__ == "__main__":
    main()
