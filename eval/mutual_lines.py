"""What the defaults of mutual scoring rest on: lines of procedural products, good and bad, lying still and at any angle.

    python eval/mutual_lines.py plan | thresholds | repeats | kinds | cost

`plan`: image AUROC unturned and at eight angles, by share of the others, and what `choose_plan` decides.
`thresholds`: balanced accuracy of the default threshold and of the best one, by batch size and share of bad pictures.
`repeats`: image AUROC where all bad pictures have the same kind of defect, or the very same defect in the same place.
`kinds`: how unlike each other pictures of one product and of a collection are (`vlad.scoring.products.unlikeness`).
`cost`: seconds of CPU and memory by number of pictures, copies with noise.

Model: lite.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vlad.backbones import load_backbone
from vlad.backbones.encoder import Encoder
from vlad.metrics import auroc, balanced_accuracy
from vlad.references.augment import rotations, valid_patches
from vlad.scoring.base import mean_of_top
from vlad.scoring.batch_threshold import batch_threshold
from vlad.scoring.mutual import ANGLES, NEAREST, SAMPLE, TokenStore, choose_plan, mutual_distances, smooth
from vlad.scoring.products import unlikeness
from vlad.synthetic import DEFECTS, ProductLine

STILL = (("screw", 11), ("circuit", 31), ("wood", 14), ("capsule", 16), ("washer", 34), ("leather", 19), ("cookie", 21), ("transistor", 39))
TURNED = (("circuit", 13), ("transistor", 35), ("brushed metal", 20), ("wood", 33), ("leather", 15))
SHARES = (NEAREST, 0.1, 0.3, 0.5)


class Eye:
    """Sees pictures as mutual scoring wants them."""

    def __init__(self) -> None:
        self._encoder = Encoder(load_backbone("lite", device="cpu", dtype="float32"))

    def raw(self, picture: np.ndarray) -> Tensor:
        """Patch tokens as unit vectors, as a picture's embedding is made of them."""
        (view,) = self._encoder.see([picture], patches=True, text=False)
        assert view.patches is not None
        return F.normalize(view.patches.tokens, dim=1)

    def tokens(self, picture: np.ndarray, angles: int = 1) -> list[Tensor]:
        """Smoothed tokens at each angle, the turned ones where the picture is."""
        found = []
        for turned, mask in rotations(picture, angles):
            (view,) = self._encoder.see([turned], patches=True, text=False)
            assert view.patches is not None
            inside = torch.from_numpy(valid_patches(mask, view.patches.grid, view.patches.shown))
            found.append(smooth(view.patches.tokens, view.patches.grid)[inside])
        return found


def pictures(family: str, seed: int, good: int, bad: int, *, turned: bool = False) -> tuple[list[np.ndarray], np.ndarray]:
    """A line's good and then its bad pictures, each turned by a random angle if wanted, and which are bad."""
    line, rng = ProductLine(family, seed, 320), np.random.default_rng(seed + 1000)
    found = []
    while len(found) < good + bad:
        number = len(found)
        picture = line.sample(number, None if number < good else str(rng.choice(DEFECTS))).image
        if turned:
            matrix = cv2.getRotationMatrix2D((159.5, 159.5), rng.uniform(0, 360), 1.0)
            picture = cv2.warpAffine(picture, matrix, (320, 320), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        found.append(picture)
    return found, np.arange(good + bad) >= good


def scores(pictures: Sequence[Sequence[Tensor]], share: float = 0.3, *, others: int = 32) -> np.ndarray:
    """Image scores (N,) of pictures with tokens at some angles."""
    with TokenStore() as store:
        for angles in pictures:
            store.append(angles)
        found = dict(mutual_distances(store, share=share, others=others))
    return np.array([mean_of_top(found[index], 0.01) for index in range(len(found))])


def best_accuracy(is_bad: np.ndarray, values: np.ndarray) -> float:
    """The balanced accuracy of the best threshold on these scores."""
    return max(balanced_accuracy(is_bad, values > limit) for limit in [values.min() - 1, *values])


def plan(eye: Eye) -> None:
    """Table of decisions and of what they are worth."""
    shares = (NEAREST, 0.3)
    print(
        "| line | elsewhere | gain | agreement | decision |"
        + "".join(f" {how}, {share:g} |" for how in ("unturned", "turned") for share in shares)
    )
    print("|---" * 9 + "|", flush=True)
    for turned, (family, seed) in [(False, line) for line in STILL] + [(True, line) for line in TURNED]:
        shown, is_bad = pictures(family, seed, 16, 8, turned=turned)
        seen = [eye.tokens(picture, ANGLES if turned else 1) for picture in shown]
        sample = np.random.default_rng(0).permutation(len(seen))[:SAMPLE].tolist()

        def turn(number: int, chosen: tuple[np.ndarray, ...] = tuple(shown[index] for index in sample)) -> list[Tensor]:
            return eye.tokens(chosen[number], ANGLES)[1:]

        decided = choose_plan([seen[index][0] for index in sample], turn)
        cells = [f"{auroc(is_bad, scores([angles[:1] for angles in seen], share)):.3f}" for share in shares]
        cells += [f"{auroc(is_bad, scores(seen, share)):.3f}" if turned else "" for share in shares]
        name, choice = "at any angle" if turned else "still", "turned" if decided.angles > 1 else "unturned"
        numbers = f"{decided.elsewhere:.2f} | {decided.gain:.3f} | {decided.agreement:.2f} | {choice}, {decided.share:g}"
        print(f"| {family}, {name} | {numbers} | {' | '.join(cells)} |", flush=True)


def thresholds(eye: Eye) -> None:
    """Table of balanced accuracies, mean over the lines that lie still and three draws."""
    rows: dict[tuple[int, float], list[tuple[float, float, float]]] = {}
    for family, seed in STILL:
        shown, is_bad = pictures(family, seed, 32, 16)
        seen = [eye.tokens(picture) for picture in shown]
        for size in (8, 16, 32):
            for share in (0.05, 0.2, 0.5):
                for draw in range(3):
                    rng = np.random.default_rng(draw)
                    bad = max(1, round(share * size))
                    chosen = [*rng.permutation(32)[: size - bad], *(32 + rng.permutation(16)[:bad])]
                    values, truth = scores([seen[index] for index in chosen]), is_bad[chosen]
                    called = values > batch_threshold(values).value
                    rows.setdefault((size, share), []).append(
                        (auroc(truth, values), balanced_accuracy(truth, called), best_accuracy(truth, values))
                    )
    print("| pictures | bad | image AUROC | default threshold | best threshold |\n|---|---|---|---|---|")
    for (size, share), found in rows.items():
        print(f"| {size} | {share:.0%} | " + " | ".join(f"{value:.3f}" for value in np.mean(found, axis=0)) + " |")


def repeats(eye: Eye) -> None:
    """Table of image AUROCs by the share of pictures with the same defect; 30 pictures of five lines."""
    lines = (
        ("washer", 51, "spots"),
        ("leather", 52, "cut"),
        ("capsule", 53, "crack"),
        ("wood", 54, "stain"),
        ("circuit", 55, "extra object"),
    )
    portions = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
    rows: dict[tuple[str, float], list[list[float]]] = {}
    for family, seed, defect in lines:
        line = ProductLine(family, seed, 320)
        good, bad = [line.sample(number).image for number in range(30)], [line.sample(number, defect) for number in range(30)]
        area = cv2.dilate(bad[0].mask.astype(np.uint8), np.ones((3, 3)))[..., None] > 0
        kinds = {"same kind": [sample.image for sample in bad], "same kind and place": [np.where(area, bad[0].image, own) for own in good]}
        normal = [eye.tokens(picture) for picture in good]
        for kind, damaged in kinds.items():
            seen = [eye.tokens(picture) for picture in damaged]
            for share in SHARES:
                found = []
                for portion in portions:
                    count = round(30 * portion)
                    found.append(auroc(np.arange(30) < count, scores([*seen[:count], *normal[count:]], share)))
                rows.setdefault((kind, share), []).append(found)
    print("| defect | share | " + " | ".join(f"{portion:.0%}" for portion in portions) + " |\n" + "|---" * (2 + len(portions)) + "|")
    for (kind, share), values in rows.items():
        print(f"| {kind} | {share:g} | " + " | ".join(f"{value:.2f}" for value in np.mean(values, axis=0)) + " |")


def kinds(eye: Eye) -> None:
    """Table of `unlikeness`: batches of one line, a fifth or half of them bad, and collections of pictures of eight lines."""
    lines = [(family, seed, turned) for turned, some in ((False, STILL), (True, TURNED)) for family, seed in some]
    seen = {}
    for family, seed, turned in lines:
        shown, _ = pictures(family, seed, 16, 16, turned=turned)
        tokens = [eye.raw(picture) for picture in shown]
        seen[family, seed] = np.stack([F.normalize(values.mean(0), dim=0).numpy() for values in tokens])
    rng = np.random.default_rng(0)
    rows: dict[str, list[float]] = {}
    for embeddings in seen.values():
        for size in (8, 16):
            for share in (0.2, 0.5):
                bad = round(share * size)
                for _ in range(10):
                    chosen = [*rng.permutation(16)[: size - bad], *(16 + rng.permutation(16)[:bad])]
                    rows.setdefault(f"one product, {size} pictures, {share:.0%} bad", []).append(unlikeness(embeddings[chosen]))
    for each in (1, 2, 3):
        for _ in range(100):
            some = [list(seen.values())[index] for index in rng.permutation(len(seen))[:8]]
            mixed = np.concatenate([values[rng.permutation(16)[:each]] for values in some])
            rows.setdefault(f"eight products, {each} good picture{'s' if each > 1 else ''} of each", []).append(unlikeness(mixed))
    print("| batches | lowest | 5 % | median | 95 % | highest |\n|---|---|---|---|---|---|")
    for name, found in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in np.quantile(found, (0, 0.05, 0.5, 0.95, 1))) + " |")


def cost(eye: Eye) -> None:
    """Seconds of looking at a picture, of comparing with 32 others, and the peak of memory so far."""
    picture = ProductLine("washer", 3, 320).sample(0).image
    began = time.process_time()
    for _ in range(50):
        (tokens,) = eye.tokens(picture)
    print(f"looking at a picture: {(time.process_time() - began) / 50:.3f} s of CPU\n")
    rng = torch.Generator().manual_seed(0)
    print("| pictures | comparing, seconds | a picture | peak memory, MiB |\n|---|---|---|---|", flush=True)
    for count in (100, 1000, 10_000):
        with TokenStore() as store:
            for _ in range(count):
                store.append([tokens + 0.01 * torch.randn(tokens.shape, generator=rng)])
            began = time.process_time()
            for _ in mutual_distances(store):
                pass
            spent = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {count:,} | {spent:.1f} of CPU | {spent / count:.3f} | {peak:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = {"plan": plan, "thresholds": thresholds, "repeats": repeats, "kinds": kinds, "cost": cost}
    parser.add_argument("table", choices=tables)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    tables[options.table](Eye())


if __name__ == "__main__":
    main()
