"""Exported detectors beside the ones they were made of: time of a picture, cold start, size, and on real pictures the same verdicts.

    python eval/bench/exported.py [--repeats 9] [--data FOLDER ...]

Times take turns in one run. With `--data` (folders in MVTec layout) `lite` is fitted on eight normal pictures of each, exported in every
format, and compared on all of its test pictures: largest difference of score and map, verdicts that flip.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vlad import AnomalyDetector, find_images
from vlad.backbones import TimmBackbone, load_backbone
from vlad.deploy.check import compare
from vlad.deploy.exporting import export
from vlad.deploy.runtime import ExportedDetector
from vlad.synthetic import ProductLine

FORMS = (("onnx", "float32"), ("openvino", "float32"), ("openvino", "float16"))


def turns(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, in turn; the first round does not count."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for number in range(repeats + 1):
        for name, act in work.items():
            start = time.perf_counter()
            act()
            if number:
                found[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in found.items()}


def size(folder: Path) -> float:
    """MB of the files of a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6


def times(name: str, detector: AnomalyDetector, place: Path, repeats: int) -> None:
    """One row for the detector and for each form of it."""
    shown = np.asarray(cv2.resize(ProductLine("gear", 3, 512).sample(100, "crack").image, (1000, 1000)))
    work: dict[str, Callable[[], Any]] = {"torch": lambda: detector.predict(shown)}
    sizes = {}
    for kind, precision in FORMS:
        folder = export(detector, place / f"{name}_{kind}_{precision}", kind=kind, precision=precision)
        exported, sizes[f"{kind} {precision}"] = ExportedDetector(folder), size(folder)
        work[f"{kind} {precision}"] = lambda exported=exported: exported.predict(shown)  # type: ignore[misc]
    found = turns(work, repeats)
    for form, seconds in found.items():
        print(f"| {name} | {form} | {seconds * 1e3:.0f} | {seconds / found['torch']:.2f} | {sizes.get(form, 0):.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--data", nargs="*", type=Path, default=())
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lite = load_backbone("lite", device="cpu", dtype="float32")
    line = ProductLine("gear", 3, 512)
    good = [np.asarray(cv2.resize(line.sample(number).image, (1000, 1000))) for number in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if not options.data:
            print("| detector | runtime | ms | beside torch | MB |\n|---|---|---|---|---|")
            times("lite, 4 references", AnomalyDetector(lite, rotations=1).fit(good), place, options.repeats)
            times("DINOv2-S (random), 4 references", AnomalyDetector(dinov2(), rotations=1).fit(good), place, options.repeats)
            starts(AnomalyDetector(lite, rotations=1).fit(good), place, options.repeats)
            return
        print("| set | form | pictures | score | map | flips |\n|---|---|---|---|---|---|")
        for data in options.data:
            normal = sorted(find_images([data / "train" / "good"]))[:8]
            tests = sorted(find_images([data / "test"], recursive=True))
            detector = AnomalyDetector(lite, rotations=1, search="exact").fit([*normal])
            for kind, precision in FORMS:
                exported = ExportedDetector(export(detector, place / f"{data.name}_{kind}_{precision}", kind=kind, precision=precision))
                found = compare(detector, exported, tests)
                print(
                    f"| {data.name} | {kind} {precision} | {found.pictures} | {found.score:.1e} | {found.map:.1e} | {len(found.flipped)} |",
                    flush=True,
                )


def dinov2() -> TimmBackbone:
    """In full size, with random weights: time does not depend on them."""
    import timm

    model = timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0, dynamic_img_size=True)
    return TimmBackbone(model.eval(), device="cpu", dtype="float32", name="DINOv2-S with random weights")


def starts(detector: AnomalyDetector, place: Path, repeats: int) -> None:
    """`vlad detect` of one picture from a cold interpreter."""
    picture = place / "one.png"
    cv2.imwrite(str(picture), ProductLine("gear", 3, 512).sample(100).image[..., ::-1])
    saved = AnomalyDetector.from_pretrained("lite", dtype="float32", rotations=1).fit([picture]).save(place / "fitted")
    commands = {"torch": saved} | {kind: place / f"lite, 4 references_{kind}_float32" for kind in ("onnx", "openvino")}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def start(model: Path) -> None:
        command = [sys.executable, "-m", "vlad", "detect", str(picture), "--model", str(model), "-q"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

    for name, seconds in turns({name: (lambda model=model: start(model)) for name, model in commands.items()}, min(3, repeats)).items():  # type: ignore[misc]
        print(f"| `vlad detect` of one picture, cold | {name} | {seconds * 1e3:,.0f} | | |", flush=True)


if __name__ == "__main__":
    main()
