"""How often `fit` names a bad picture among its references, and how often a good one.

    python eval/odd_reference.py lines [--offset 0] [--draws 12] [--cache runs/odd]
    python eval/odd_reference.py real DATA_ROOT [DATA_ROOT ...] [--draws 20] [--cache runs/odd]

`lines`: procedural product lines; the rule of `vlad.references.odd` was chosen on those of offset 0, others are a test of it. They
are seen at eight angles up to k = 16, as `fit` does by itself, and at one at k = 32, where twice as many lines are looked at.
`real`: categories in MVTec AD's layout; references are drawn from the good training pictures, bad ones from the test pictures, once.

For each draw of k good references: is one of them named (a false warning)? With one of them replaced by a bad picture: does that one have
the highest score at all, is it named, it alone, and is it named where the good references would find it, at the default threshold? With two
bad ones: are both named, is one? Leave-one-out scores are those of `fit` with the scorer `nearest`, from distances between pairs of
pictures. Model: lite.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from mutual_lines import STILL, TURNED, pictures
from torch.nn import functional as F

from vlad.backbones import load_backbone
from vlad.backbones.encoder import Encoder
from vlad.evaluation.datasets import load_dataset
from vlad.pictures.reading import read_image
from vlad.references.augment import rotations, valid_patches
from vlad.references.calibration import threshold
from vlad.references.odd import odd_ones

FURTHER = (
    "concrete fabric carpet granite marble mesh panel cast_metal tiles disc nut pill bottle package hazelnut plate impeller cable zipper "
    "candle pipe connector gear bearing"
)
MORE = tuple((name, 61 + number) for number, name in enumerate(FURTHER.split()))
MOST = 20  # real good and bad pictures each
COLUMNS = (
    "draws",
    "false warning",
    "bad one highest",
    "bad one named",
    "and it alone",
    "named of those found",
    "of two: both named",
    "at least one",
)


def distances(encoder: Encoder, shown: Sequence[np.ndarray], angles: int) -> np.ndarray:
    """(N, N, P) float16: of each patch of the first picture from the nearest of the second at so many angles, in [0, 1]."""
    straight, banks = [], []
    for picture in shown:
        bank = []
        for turned, mask in rotations(picture, angles):
            (view,) = encoder.see([turned], patches=True, text=False)
            assert view.patches is not None
            tokens = F.normalize(view.patches.tokens, dim=-1)
            if not bank:
                straight.append(tokens)
            bank.append(tokens[torch.from_numpy(valid_patches(mask, view.patches.grid, view.patches.shown))])
        banks.append(torch.cat(bank))
    found = np.zeros((len(shown), len(shown), len(straight[0])), np.float16)
    for one, tokens in enumerate(straight):
        for other, bank in enumerate(banks):
            found[one, other] = ((1 - (tokens @ bank.T).amax(1)) / 2).clamp(0).numpy()
    return found


def leave_one_out(between: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Image scores (K,) of references, each against the others."""
    some = between[np.ix_(chosen, chosen)].astype(np.float32)
    some[np.arange(len(chosen)), np.arange(len(chosen))] = np.inf
    nearest = np.sort(some.min(1), axis=1)
    return nearest[:, -max(1, round(0.01 * nearest.shape[1])) :].mean(1)


def outcomes(between: np.ndarray, is_bad: np.ndarray, k: int, draws: int) -> np.ndarray:
    """(draws, 7): yes or no to the questions of `COLUMNS`, after the first; NaN where a question does not arise."""
    good, bad = np.flatnonzero(~is_bad), np.flatnonzero(is_bad)
    rows = []
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        chosen, spoilt = rng.permutation(good)[:k], rng.choice(bad, 2, replace=False)
        one = leave_one_out(between, np.array([*chosen[1:], spoilt[0]]))
        two = odd_ones(leave_one_out(between, np.array([*chosen[2:], *spoilt])))[-2:]
        named = odd_ones(one)
        normal = leave_one_out(between, chosen)
        of_found = named[-1] if one[-1] > threshold(normal, "student", 0.05) else np.nan
        alone = named[-1] and named.sum() == 1
        rows.append((odd_ones(normal).any(), one.argmax() == k - 1, named[-1], alone, of_found, two.all(), two.any()))
    return np.array(rows, float)


def cached(path: Path, make: object) -> tuple[np.ndarray, np.ndarray]:
    """Distances and which pictures are bad, made once."""
    if not path.exists():
        between, is_bad = make()  # type: ignore[operator]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, between=between, is_bad=is_bad)
    found = np.load(path)
    return found["between"], found["is_bad"]


def row(name: str, k: int, found: Iterable[np.ndarray]) -> None:
    """A line of the table, over the draws of some lines."""
    rows = np.concatenate(list(found))
    print(f"| {name} | {k} | {len(rows)} | " + " | ".join(f"{value:.1%}" for value in np.nanmean(rows, axis=0)) + " |", flush=True)


def of_lines(encoder: Encoder, options: argparse.Namespace) -> None:
    """One row for each k, over all lines."""
    turned = [(family, seed, turn) for lines, turn in ((STILL, False), (TURNED, True)) for family, seed in lines]
    straight = [(family, seed, False) for family, seed in (*MORE, *STILL)]
    for ks, lines, good, bad, angles in (((4, 8, 16), turned, 20, 6, 8), ((32,), straight, 36, 8, 1)):
        tables = []
        for family, seed, turn in lines:

            def make(args: tuple[object, ...] = (family, seed + options.offset, turn, good, bad, angles)) -> tuple[np.ndarray, np.ndarray]:
                family, seed, turn, good, bad, angles = args
                shown, is_bad = pictures(str(family).replace("_", " "), seed, good, bad, turned=turn)
                return distances(encoder, shown, angles), is_bad

            tables.append(cached(options.cache / f"line_{family}_{seed + options.offset}_{turn}_{angles}.npz", make))
        for k in ks:
            row(f"{len(lines)} lines", k, (outcomes(*table, k, options.draws) for table in tables))


def of_real(encoder: Encoder, options: argparse.Namespace) -> None:
    """One row for each category and k."""
    for root in options.roots:
        for category in load_dataset(root).categories:
            rng = np.random.default_rng(0)
            bad = [picture.path for picture in category.test if picture.is_anomalous]
            some = [bad[index] for index in rng.permutation(len(bad))[:MOST]]
            good = [category.references[index].path for index in rng.permutation(len(category.references))[:MOST]]

            def make(paths: tuple[list[Path], list[Path]] = (good, some)) -> tuple[np.ndarray, np.ndarray]:
                shown = [read_image(path) for kind in paths for path in kind]
                return distances(encoder, shown, 8), np.arange(len(shown)) >= len(paths[0])

            table = cached(options.cache / f"real_{category.name}.npz", make)
            for k in (4, 8, 16):
                row(category.name, k, [outcomes(*table, k, options.draws)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    lines = commands.add_parser("lines")
    lines.add_argument("--offset", type=int, default=0, help="added to the seeds of the lines")
    lines.set_defaults(table=of_lines, draws=12)
    real = commands.add_parser("real")
    real.add_argument("roots", nargs="+", type=Path)
    real.set_defaults(table=of_real, draws=20)
    for command in (lines, real):
        command.add_argument("--draws", type=int, default=command.get_default("draws"))
        command.add_argument("--cache", type=Path, default=Path("runs/odd"))
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    print(f"| | k | {' | '.join(COLUMNS)} |\n" + "|---" * (2 + len(COLUMNS)) + "|", flush=True)
    options.table(Encoder(load_backbone("lite", device="cpu", dtype="float32")), options)


if __name__ == "__main__":
    main()
