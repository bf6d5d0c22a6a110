"""How often the outlier flag of a stream is right: clean streams, foreign pictures and defects among them, and a change of the light.

    python eval/outliers.py [--model lite] [--data FOLDER ...] [--draws 3]

Procedural lines first, then the good pictures of real categories (MVTec layout) as streams: each is 300 pictures drawn from the good ones,
with camera noise and light that wanders by 3 %, one in twenty of them foreign (a good picture of another category) or defective. What is
flagged after the warm-up is counted. The last column changes the light by a fifth half-way and says after how many pictures the flag has
come to terms with it.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vlad import AnomalyDetector, find_images, read_image
from vlad.streams.outliers import OutlierFlag
from vlad.synthetic import ProductLine

Draw = Callable[[np.random.Generator], np.ndarray]
_LENGTH, _SHARE = 300, 0.05
_LINES = ("washer", "leather", "capsule", "circuit", "hazelnut", "plate")
_DEFECTS = ("crack", "scratch", "stain", "missing part")


def seen(picture: np.ndarray, rng: np.random.Generator, level: float) -> np.ndarray:
    """Through a camera."""
    return np.clip(picture * level + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def stream(detector: AnomalyDetector, good: Draw, odd: Draw | None, rng: np.random.Generator, *, change: bool = False) -> list[bool]:
    """Whether each picture after the warm-up was flagged, and whether it was odd, as (flagged, odd) pairs."""
    flag = OutlierFlag()
    is_odd = [odd is not None and number >= flag.warm_up and rng.random() < _SHARE for number in range(_LENGTH)]
    pictures = []
    level = 1.0
    for number, one in enumerate(is_odd):
        level = float(np.clip(level + rng.normal(0, 0.003), 0.97, 1.03))
        picture = odd(rng) if one and odd is not None else good(rng)
        pictures.append(seen(picture, rng, level * (0.8 if change and number >= _LENGTH // 2 else 1)))
    found = [flag.update(one.embedding) for one in detector.predict_iter(pictures, maps=False, threshold=0.5)]
    if change:
        return [bool(one.is_outlier) for one in found]
    return [(bool(one.is_outlier), is_it) for one, is_it in list(zip(found, is_odd, strict=True))[flag.warm_up :]]  # type: ignore[misc]


def shares(pairs: list[tuple[bool, bool]]) -> tuple[float, float]:
    """Of the ordinary and of the odd ones that were flagged."""
    flagged, odd = np.array(pairs).T
    return float(flagged[~odd].mean()), float(flagged[odd].mean()) if odd.any() else float("nan")


def row(detector: AnomalyDetector, name: str, good: Draw, foreign: Draw, bad: Draw, draws: int) -> None:
    """One line of the table, means over the draws."""
    found = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        clean = shares(stream(detector, good, None, rng))  # type: ignore[arg-type]
        strange = shares(stream(detector, good, foreign, rng))  # type: ignore[arg-type]
        broken = shares(stream(detector, good, bad, rng))  # type: ignore[arg-type]
        changed = stream(detector, good, None, rng, change=True)[_LENGTH // 2 :]
        last = max((number + 1 for number, one in enumerate(changed[:100]) if one), default=0)
        found.append((clean[0], strange[0], strange[1], broken[1], float(np.mean(changed[:20])), last))
    middle = np.nanmean(found, axis=0)
    print(
        f"| {name} | {middle[0]:.1%} | {middle[1]:.1%} | {middle[2]:.0%} | {middle[3]:.0%} | {middle[4]:.0%}, {middle[5]:.0f} |", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--data", nargs="*", type=Path, default=())
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    detector = AnomalyDetector.from_pretrained(options.model, device="cpu")
    print("| stream | clean: flagged | beside foreign: ordinary | foreign | defects | change: first 20 | settled after |")
    print("|---|---|---|---|---|---|---|")
    lines = {name: ProductLine(name, 3, 256) for name in _LINES}
    for name, line in lines.items():
        other = next(one for key, one in lines.items() if key != name)
        row(
            detector,
            name,
            lambda rng, line=line: line.sample(int(rng.integers(10**6))).image,  # type: ignore[misc]
            lambda rng, other=other: other.sample(int(rng.integers(10**6))).image,  # type: ignore[misc]
            lambda rng, line=line: line.sample(int(rng.integers(10**6)), str(rng.choice(_DEFECTS))).image,  # type: ignore[misc]
            options.draws,
        )
    folders = {folder: sorted(find_images([folder / "train" / "good"])) for folder in options.data}
    for folder, good in folders.items():
        others = [path for key, paths in folders.items() if key != folder for path in paths]
        bad = [path for path in find_images([folder / "test"], recursive=True) if path.parent.name != "good"]
        draw = lambda paths: lambda rng: read_image(paths[int(rng.integers(len(paths)))])  # noqa: E731
        row(detector, folder.name, draw(good), draw(others or good), draw(bad), options.draws)


if __name__ == "__main__":
    main()
