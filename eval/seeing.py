"""What the trunk of `lite` should see: sizes, stages, smoothing, angles and second opinions, beside four references and for mutual scoring.

    python eval/seeing.py lines --cache DIR                 # procedural product lines, on which one chooses
    python eval/seeing.py real DATA_ROOT... --cache DIR     # real sets, on which one only reports
    python eval/seeing.py mutual [DATA_ROOT...] --cache DIR # the sizes for mutual scoring; lines without a DATA_ROOT
    python eval/seeing.py time                              # seconds a picture of each candidate, side by side

Every picture is encoded once at each size and angle, and every distance to a reference computed once; both stay in DIR (half a gigabyte a
set), so candidates are made from what is there. References are `references[draw * 4 : (draw + 1) * 4]`; pixels are taken at about 128 x 128
places of a picture. One thread.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlad import read_image
from vlad.backbones import load_backbone
from vlad.backbones.base import Preprocessing
from vlad.backbones.lite.trunk import MEAN, STD, patch_tokens
from vlad.backbones.preprocessing import preprocess
from vlad.evaluation.datasets import Category, Picture, load_dataset, read_truth
from vlad.metrics import auroc
from vlad.references.augment import rotations, valid_patches
from vlad.scoring.base import mean_of_top
from vlad.scoring.mutual import ANGLES, SAMPLE, TokenStore, choose_plan, mutual_distances, smooth
from vlad.scoring.nearest import MemoryBank
from vlad.scoring.subspace import SubspaceBank
from vlad.synthetic import DEFECTS, ProductLine

K, DRAWS = 4, 3
SIZES = (448, 640)
WHOLE = (1.0, 1.0)
COPIES = 2  # damaged copies of each reference
STILL = ("wood", "capsule", "cookie", "circuit", "screw", "transistor", "gear", "spanner", "bearing")
TURNED = ("circuit", "screw", "gear")
FIRST_SEED = 201  # no seed of `mutual_lines.py`, on which limits were chosen
KINDS = ("448", "640", "448 sharp", "448 deep")


@dataclass(frozen=True)
class Material:
    """Pictures uint8 (H, W, 3) of one product: references, and test pictures with which are bad and, unless None, where."""

    name: str
    references: list[np.ndarray]
    test: list[np.ndarray]
    is_bad: np.ndarray
    masks: list[np.ndarray] | None


def lines(good: int = 16, bad: int = 16) -> Iterator[Material]:
    """Product lines, alternately of 512 and 1024 pixels: those that lie still, then those at any angle."""
    kinds = [(family, False) for family in STILL] + [(family, True) for family in TURNED]
    for place, (family, is_turned) in enumerate(kinds):
        side, seed = (512, 1024)[place % 2], FIRST_SEED + place
        line, rng = ProductLine(family, seed, side), np.random.default_rng(seed)
        shown: list[tuple[np.ndarray, np.ndarray]] = []
        for number in range(K * DRAWS + good + bad):
            sample = line.sample(number, None if number < K * DRAWS + good else str(rng.choice(DEFECTS)))
            shown.append((sample.image, sample.mask))
            if is_turned:
                matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), rng.uniform(0, 360), 1.0)
                picture = cv2.warpAffine(sample.image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
                mask = cv2.warpAffine(sample.mask.astype(np.uint8), matrix, (side, side), flags=cv2.INTER_NEAREST)
                shown[-1] = (picture, mask > 0)
        pictures, masks = [one for one, _ in shown], [mask for _, mask in shown[K * DRAWS :]]
        name = f"{family}, {'any angle' if is_turned else 'still'}, {side}"
        yield Material(name, pictures[: K * DRAWS], pictures[K * DRAWS :], np.arange(good + bad) >= good, masks)


def real(roots: Sequence[Path], most: int = 20) -> Iterator[Material]:
    """The categories of datasets, at most so many good and bad test pictures of each."""
    for category in (one for root in roots for one in load_dataset(root).categories):
        rng = np.random.default_rng(0)
        kinds = [[picture for picture in category.test if picture.is_anomalous is is_bad] for is_bad in (False, True)]
        chosen = [kind[index] for kind in kinds for index in sorted(rng.permutation(len(kind))[:most])]
        test = [read_image(picture.path) for picture in chosen]
        references = [read_image(picture.path) for picture in category.references[: K * DRAWS]]
        masks = [_mask(category, picture, shown) for picture, shown in zip(chosen, test, strict=True)]
        is_bad = np.array([picture.is_anomalous for picture in chosen])
        assert len({picture.shape for picture in test}) == 1, f"{category.name}: pictures of different sizes"
        known = [mask for mask in masks if mask is not None]
        yield Material(category.name, references, test, is_bad, known if len(known) == len(masks) else None)


def _mask(category: Category, picture: Picture, shown: np.ndarray) -> np.ndarray | None:
    if picture.expected_mask is not None:  # a set without masks
        return None
    truth = read_truth(picture, category, shown.shape[:2])
    return None if truth is None else truth.mask


def damaged(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy with a small piece of itself, a little brighter or darker, at a place that is not plain (after CutPaste, arXiv 2104.04015)."""
    height, width = picture.shape[:2]
    side = max(4, int(min(height, width) * rng.uniform(0.025, 0.07)))
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    texture = cv2.sqrBoxFilter(grey, -1, (side, side)) - cv2.blur(grey, (side, side)) ** 2
    texture = texture[side : height - side, side : width - side]
    places = np.argwhere(texture >= np.quantile(texture, 0.75))
    (y, x), (y0, x0) = places[rng.integers(len(places))], places[rng.integers(len(places))]
    piece = picture[y0 : y0 + side, x0 : x0 + side].astype(np.float32) * rng.uniform(0.75, 1.25)
    copy = picture.copy()
    copy[y : y + side, x : x + side] = np.clip(piece[::-1], 0, 255)
    return copy


# What is seen, once -----------------------------------------------------------------------------------------------------


class Eye:
    """The trunk at any size."""

    def __init__(self) -> None:
        self.backbone = load_backbone("lite", device="cpu", dtype="float32")

    @torch.inference_mode()
    def maps(self, picture: np.ndarray, size: int) -> list[Tensor]:
        """Stage maps of a picture uint8 (H, W, 3)."""
        maps: list[Tensor] = self.backbone.trunk(preprocess([picture], Preprocessing(size, MEAN, STD)))
        return maps


def far_tokens(maps: list[Tensor]) -> Tensor:
    """Unit tokens (P, 320) of stride 32, 3 x 3 averaged, on the grid of stride 16."""
    smoothed = F.normalize(F.avg_pool2d(maps[3], 3, stride=1, padding=1, count_include_pad=False), dim=1)
    return F.normalize(F.interpolate(smoothed, size=maps[2].shape[2:], mode="bilinear", align_corners=False), dim=1).flatten(2)[0].T


def sharp_tokens(maps: list[Tensor]) -> Tensor:
    """As `patch_tokens` (P, 152), without its averaging over 3 x 3 neighbours."""
    parts = [F.normalize(F.adaptive_avg_pool2d(F.normalize(stage, dim=1), maps[2].shape[2:]), dim=1) for stage in maps[1:3]]
    return torch.cat(parts, dim=1).flatten(2)[0].T


def whole(maps: list[Tensor], mask: np.ndarray) -> Tensor:
    """The mean (320,) of stride 32 over what shows the picture, as a unit vector."""
    deep = maps[3].flatten(2)[0].T
    inside = torch.from_numpy(valid_patches(mask, tuple(maps[3].shape[2:]), WHOLE))
    return F.normalize((deep[inside] if inside.any() else deep).mean(0), dim=0)


def look(eye: Eye, picture: np.ndarray, angles: int) -> dict[str, Tensor]:
    """Everything that candidates need of a picture, by name and angle: unit tokens (P, C) in half precision; of turned copies those that
    show the picture alone."""
    found = {}
    for turn, (turned, mask) in enumerate(rotations(picture, angles)):
        for size in SIZES:
            maps = eye.maps(turned, size)
            grid = tuple(maps[2].shape[2:])
            inside = torch.from_numpy(valid_patches(mask, grid, WHOLE))
            plain = F.normalize(patch_tokens(maps)[0], dim=1)
            tokens = {f"{size}": plain}
            if size == SIZES[0]:
                sharp = F.normalize(sharp_tokens(maps), dim=1)
                tokens |= {"448 sharp": sharp, "448 far": far_tokens(maps), "448 smooth": smooth(plain, grid)}
                found[f"whole.{turn}"] = whole(maps, mask)[None].half()
            found |= {f"{name}.{turn}": values[inside].half().contiguous() for name, values in tokens.items()}
    return found


class Seen:
    """The looks at a set, on disk: references at eight angles, their damaged copies and test pictures as they are."""

    def __init__(self, eye: Eye, material: Material, cache: Path) -> None:
        self.folder = cache / material.name.replace(", ", "_").replace(" ", "_")
        self.folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(7)
        copies = [damaged(picture, rng) for picture in material.references for _ in range(COPIES)]
        self._take(eye, "reference", material.references, ANGLES)
        self._take(eye, "copy", copies, 1)
        self._take(eye, "test", material.test, 1)
        self.count = len(material.test)

    def _take(self, eye: Eye, what: str, pictures: list[np.ndarray], angles: int) -> None:
        for number, picture in enumerate(pictures):
            path = self.folder / f"{what}_{number}.safetensors"
            if not path.exists():
                save_file(look(eye, picture, angles), path)

    def tokens(self, what: str, number: int, kind: str) -> list[Tensor]:
        """Unit tokens (P, C) at each angle."""
        kept = load_file(self.folder / f"{what}_{number}.safetensors")

        def of(name: str) -> list[Tensor]:
            return [F.normalize(kept[f"{name}.{turn}"].float(), dim=1) for turn in range(ANGLES) if f"{name}.{turn}" in kept]

        if kind == "448 deep":  # each of three stages alike; the plain tokens hold two
            return [
                F.normalize(torch.cat([math.sqrt(2) * near, far], dim=1), dim=1) for near, far in zip(of("448"), of("448 far"), strict=True)
            ]
        return of(kind)


def queries(count: int, draw: int) -> Iterator[tuple[str, int, int | None]]:
    """(what, number, place of the reference that it must not be compared with): references, damaged copies, test pictures."""
    yield from (("reference", draw * K + place, place) for place in range(K))
    yield from (("copy", (draw * K + place) * COPIES + copy, place) for place in range(K) for copy in range(COPIES))
    yield from (("test", number, None) for number in range(count))


@torch.inference_mode()
def distances(seen: Seen, draw: int, kind: str) -> Tensor:
    """(2, Q, K, P): of each query to each reference of a draw, at one angle and at the nearest of eight; infinite to itself."""
    path = seen.folder / f"distances_{draw}_{kind.replace(' ', '_')}.safetensors"
    if not path.exists():
        banks = []
        for number in range(draw * K, (draw + 1) * K):
            first, *others = seen.tokens("reference", number, kind)
            banks.append((first, torch.cat(others)))
        rows = []
        for what, number, without in queries(seen.count, draw):
            if what == "copy" and kind not in ("448", "640"):
                rows.append(torch.full_like(rows[0], torch.inf))
                continue
            query = seen.tokens(what, number, kind)[0]
            row = torch.full((2, K, len(query)), torch.inf)
            for place, (first, others) in enumerate(banks):
                if place != without:
                    row[0, place] = ((1 - _highest(query, first)) / 2).clamp(0, 1)
                    row[1, place] = torch.minimum(row[0, place], ((1 - _highest(query, others)) / 2).clamp(0, 1))
            rows.append(row)
        save_file({"distances": torch.stack(rows, dim=1).contiguous()}, path)
    return load_file(path)["distances"]


def _highest(query: Tensor, rows: Tensor) -> Tensor:
    return torch.stack([(query @ some.T).amax(1) for some in rows.split(4096)]).amax(0)


@torch.inference_mode()
def left_over(seen: Seen, draw: int, kind: str) -> Tensor:
    """(Q, P): what the subspace of the references at eight angles leaves over of each query."""
    path = seen.folder / f"subspace_{draw}_{kind}.safetensors"
    if not path.exists():
        bank = SubspaceBank()
        for place in range(K):
            tokens = torch.cat(seen.tokens("reference", draw * K + place, kind))
            bank.add(tokens, torch.full((len(tokens),), place))
        short = [bank.copy() for _ in range(K)]
        for place, one in enumerate(short):
            one.remove(place)
        rows = [
            (bank if without is None else short[without]).distances(seen.tokens(what, number, kind)[0])
            for what, number, without in queries(seen.count, draw)
        ]
        save_file({"distances": torch.stack(rows)}, path)
    return load_file(path)["distances"]


# Candidates -------------------------------------------------------------------------------------------------------------


class Scored(NamedTuple):
    """Scores of the references by the others (K,), of their damaged copies (K * COPIES,) and of test pictures (N,), and maps of these
    (N, h, w)."""

    own: np.ndarray
    copies: np.ndarray
    test: np.ndarray
    maps: np.ndarray

    @classmethod
    def of(cls, values: Tensor, size: tuple[int, int], step: int) -> Scored:
        """From distances (Q, P) of square grids; maps are at every `step`-th pixel of `size`."""
        scores = np.array([mean_of_top(row, 0.01) for row in values])
        test = values[K + K * COPIES :]
        side = math.isqrt(values.shape[1])
        full = [F.interpolate(row.view(1, 1, side, side), size=size, mode="bilinear", align_corners=False)[0, 0] for row in test]
        maps = np.stack([one[::step, ::step].numpy() for one in full])
        return cls(scores[:K], scores[K : K + K * COPIES], scores[K + K * COPIES :], maps)

    def scaled(self, factor: float) -> Scored:
        return Scored(*(factor * values for values in self))

    def plus(self, other: Scored) -> Scored:
        return Scored(*(mine + its for mine, its in zip(self, other, strict=True)))

    def by_mean(self) -> Scored:
        """In units of what references have beside each other."""
        return self.scaled(1 / float(self.own.mean()))

    def by_spread(self) -> Scored:
        """In standard deviations of what references have beside each other; where the middle lies decides nothing."""
        return self.scaled(1 / float(self.own.std(ddof=1)))


class Draw:
    """Four references and what candidates may ask of them."""

    def __init__(self, seen: Seen, material: Material, number: int) -> None:
        self._seen, self._number = seen, number
        self._size = material.test[0].shape[:2]
        self.step = max(1, round(min(self._size) / 128))
        self._kept: dict[tuple[str, bool], Scored] = {}
        self.references = material.references[number * K : (number + 1) * K]

    def nearest(self, kind: str = "448", is_turned: bool = True) -> Scored:
        if (kind, is_turned) not in self._kept:
            values = distances(self._seen, self._number, kind)[int(is_turned)].amin(1)
            self._kept[kind, is_turned] = Scored.of(values, self._size, self.step)
        return self._kept[kind, is_turned]

    def subspace(self, kind: str = "448") -> Scored:
        if (f"subspace {kind}", True) not in self._kept:
            self._kept[f"subspace {kind}", True] = Scored.of(left_over(self._seen, self._number, kind), self._size, self.step)
        return self._kept[f"subspace {kind}", True]

    def two(self, kind: str = "448") -> Scored:
        """Nearest and subspace, each in units of what the references have beside each other."""
        return self.nearest(kind).by_mean().plus(self.subspace(kind).by_mean())

    def whole(self) -> Scored:
        """The whole picture's distance alone; its map is flat."""
        values = distances(self._seen, self._number, "whole")[1].amin(1)[:, 0].numpy()
        test = values[K + K * COPIES :]
        return Scored(values[:K], np.zeros(K * COPIES), test, np.zeros_like(self.nearest().maps))

    def is_turned(self) -> bool:
        """Whether the references explain each other better turned, by the rule of mutual scoring."""
        looks = [self._seen.tokens("reference", self._number * K + place, "448 smooth") for place in range(K)]
        return choose_plan([angles[0] for angles in looks], lambda place: looks[place][1:]).angles > 1

    def damage(self, kind: str) -> float:
        """By what factor a damaged copy's score is above its reference's own, in logarithms, the mean."""
        found = self.nearest(kind)
        return float(np.mean(np.log(found.copies.reshape(K, COPIES) / found.own[:, None])))

    def detail(self) -> float:
        """What only 640 pixels show beside what only 448 show and 320 do not, as root mean squares over the references."""
        return float(np.mean([_lost(picture, 640, 448) / _lost(picture, 448, 320) for picture in self.references]))


def _lost(picture: np.ndarray, size: int, less: int) -> float:
    shown = cv2.resize(picture.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    again = cv2.resize(cv2.resize(shown, (less, less), interpolation=cv2.INTER_AREA), (size, size), interpolation=cv2.INTER_CUBIC)
    return float(np.sqrt(np.mean((shown - again) ** 2)))


def _both(draw: Draw, is_turned: bool = True) -> Scored:
    return draw.nearest("448", is_turned).plus(draw.nearest("640", is_turned)).scaled(0.5)


DEFAULT = "448, the default"
CANDIDATES: dict[str, Callable[[Draw], Scored]] = {
    DEFAULT: lambda draw: draw.nearest(),
    "640": lambda draw: draw.nearest("640"),
    "448 and 640": _both,
    "size by damaged copies": lambda draw: draw.nearest("640" if draw.damage("640") > draw.damage("448") else "448"),
    "448 + whole picture": lambda draw: draw.nearest().plus(draw.whole()),
    "448 + whole picture, by own mean": lambda draw: draw.nearest().by_mean().plus(draw.whole().by_mean()),
    "subspace": lambda draw: draw.subspace(),
    "nearest and subspace": lambda draw: draw.nearest().plus(draw.subspace()),
    "nearest and subspace, by own mean": lambda draw: draw.two(),
    "nearest and subspace, by own spread": lambda draw: draw.nearest().by_spread().plus(draw.subspace().by_spread()),
    "640, nearest and subspace, by own mean": lambda draw: draw.two("640"),
    "448 and 640, nearest and subspace, by own mean": lambda draw: draw.two("448").plus(draw.two("640")),
    "r = 1": lambda draw: draw.nearest("448 sharp"),
    "stages 8 + 16 + 32": lambda draw: draw.nearest("448 deep"),
    "one angle": lambda draw: draw.nearest(is_turned=False),
    "angles decided": lambda draw: draw.nearest(is_turned=draw.is_turned()),
    "640, angles decided": lambda draw: draw.nearest("640", draw.is_turned()),
    "448 and 640, angles decided": lambda draw: _both(draw, draw.is_turned()),
}


def measure(eye: Eye, material: Material, cache: Path) -> dict[str, np.ndarray]:
    """By candidate (DRAWS, 2): image and pixel AUROC; beside them what the criteria say of each draw."""
    seen = Seen(eye, material, cache)
    found: dict[str, list[tuple[float, ...]]] = {}
    for number in range(DRAWS):
        draw = Draw(seen, material, number)
        truth = None if material.masks is None else np.stack([mask[:: draw.step, :: draw.step] for mask in material.masks]).ravel()
        for name, make in CANDIDATES.items():
            scored = make(draw)
            pixel = math.nan if truth is None else auroc(truth, scored.maps.ravel())
            found.setdefault(name, []).append((auroc(material.is_bad, scored.test), pixel))
        gain = draw.damage("640") - draw.damage("448")
        found.setdefault("criteria", []).append((float(draw.is_turned()), gain, draw.detail()))
    return {name: np.array(rows) for name, rows in found.items()}


def spread(values: np.ndarray) -> str:
    """Mean over sets and draws (S, DRAWS) ± sample standard deviation of the draws' means."""
    return f"{values.mean():.3f} ± {values.mean(0).std(ddof=1):.3f}" if values.size and not np.isnan(values).any() else ""


def beside_references(eye: Eye, materials: Iterator[Material], cache: Path) -> None:
    """Tables of all candidates: in the mean, and set by set."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for material in materials:
        began = time.time()
        found[material.name] = measure(eye, material, cache)
        rule = found[material.name]["criteria"]
        said = f"turned in {rule[:, 0].mean():.2f}, damage {rule[:, 1].round(3).tolist()}, detail {rule[:, 2].round(2).tolist()}"
        print(f"<!-- {material.name}: {said}; {time.time() - began:.0f} s -->", flush=True)
    print("\n| candidate | image AUROC | difference | better / worse | pixel AUROC | difference |\n|---|---|---|---|---|---|")
    for name in CANDIDATES:
        image, pixel = (np.stack([rows[name][:, column] for rows in found.values()]) for column in (0, 1))
        more, of_pixels = (
            np.stack([rows[name][:, column] - rows[DEFAULT][:, column] for rows in found.values()]).mean(1) for column in (0, 1)
        )
        known = ~np.isnan(pixel).any(1)
        counts = f"{int((more > 0.002).sum())} / {int((more < -0.002).sum())}"
        print(f"| {name} | {spread(image)} | {_difference(more)} | {counts} | {spread(pixel[known])} | {_difference(of_pixels[known])} |")
    for column, what in enumerate(("image", "pixel")):
        print(f"\n| {what} AUROC | " + " | ".join(found) + " |\n|" + "---|" * (len(found) + 1))
        for name in CANDIDATES:
            cells = [rows[name][:, column] for rows in found.values()]
            shown = ("" if np.isnan(cell).any() else f"{cell.mean():.3f} ± {cell.std(ddof=1):.3f}" for cell in cells)
            print(f"| {name} | " + " | ".join(shown) + " |")


def _difference(values: np.ndarray) -> str:
    """Mean of sets' differences to the default ± its standard error over sets."""
    return f"{values.mean():+.3f} ± {values.std(ddof=1) / math.sqrt(len(values)):.3f}"


# Mutual scoring ---------------------------------------------------------------------------------------------------------


def mixtures(is_bad: np.ndarray) -> Iterator[tuple[str, int, np.ndarray]]:
    """(share, draw, places): all pictures, and the good ones with so many bad ones that these are a fifth."""
    good, bad = np.flatnonzero(~is_bad), np.flatnonzero(is_bad)
    yield "all", 0, np.arange(len(is_bad))
    for draw in range(DRAWS):
        chosen = np.random.default_rng(draw).permutation(bad)[: max(1, round(len(good) / 4))]
        yield "20 %", draw, np.concatenate([good, chosen])


@torch.inference_mode()
def mutual(eye: Eye, materials: Iterator[Material], cache: Path) -> None:
    """Table of the sizes for mutual scoring of sets that lie still, at the share of others that the pictures decide."""
    names = ("448", "640", "448 and 640")
    rows: dict[tuple[str, str], list[list[tuple[float, float]]]] = {}
    seconds = dict.fromkeys(SIZES, 0.0)
    said = []
    print("| anomalous | set | " + " | ".join(f"{name}, {what} AUROC" for what in ("image", "pixel") for name in names) + " |")
    print("|---" * 8 + "|", flush=True)
    for material in materials:
        if "any angle" in material.name:
            continue
        seen, size = Seen(eye, material, cache), material.test[0].shape[:2]
        step = max(1, round(min(size) / 128))
        looks = {
            side: [smooth(seen.tokens("test", number, str(side))[0], (side // 16, side // 16)) for number in range(seen.count)]
            for side in SIZES
        }
        for share, _, places in mixtures(material.is_bad):
            found = []
            for side in SIZES:
                began = time.process_time()
                sample = np.random.default_rng(0).permutation(places)[:SAMPLE]
                plan = choose_plan([looks[side][place] for place in sample])
                with TokenStore() as store:
                    for place in places:
                        store.append([looks[side][place]])
                    values = dict(mutual_distances(store, share=plan.share))
                seconds[side] += time.process_time() - began
                empty = torch.zeros(K + K * COPIES, len(values[0]))
                found.append(Scored.of(torch.cat([empty, torch.stack([values[n] for n in range(len(places))])]), size, step))
            found.append(found[0].plus(found[1]).scaled(0.5))
            masks = None if material.masks is None else np.stack([material.masks[place][::step, ::step] for place in places])
            numbers = [
                (auroc(material.is_bad[places], one.test), math.nan if masks is None else auroc(masks.ravel(), one.maps.ravel()))
                for one in found
            ]
            rows.setdefault((share, material.name), []).append(numbers)
        for share in ("all", "20 %"):
            print(f"| {share} | {material.name} | " + _cells(np.array(rows[share, material.name])) + " |", flush=True)
    for share in ("all", "20 %"):
        values = np.stack([np.array(found).mean(0) for (of, _), found in rows.items() if of == share])
        print(f"| {share} | mean | " + _cells(values.mean(0)[None], np.nanmean(values, 0)[None]) + " |")
        more = values[:, 1:, 0] - values[:, :1, 0]
        said.append(
            f"{share}: image AUROC beside 448: " + ", ".join(f"{n} {_difference(v)}" for n, v in zip(names[1:], more.T, strict=True))
        )
    print("\n" + "\n".join(said))
    print(f"\ncomparing takes {seconds[640] / seconds[448]:.1f} times as long at 640", flush=True)


def _cells(values: np.ndarray, known: np.ndarray | None = None) -> str:
    """Of (DRAWS, candidates, 2): image AUROCs, then pixel AUROCs; `known` without sets that have no masks."""
    cells = []
    for column, table in ((0, values), (1, values if known is None else known)):
        for each in table[:, :, column].T:
            deviation = f" ± {each.std(ddof=1):.3f}" if len(each) > 1 else ""
            cells.append("" if np.isnan(each).any() else f"{each.mean():.3f}{deviation}")
    return " | ".join(cells)


# Time -------------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def times(eye: Eye, repeats: int = 15) -> None:
    """Seconds of CPU a picture of the parts, in turns, and of the candidates made of them, beside the default in the same run."""
    material = next(lines(1, 1))
    looks = [look(eye, picture, ANGLES) for picture in material.references[:K]]
    query = material.test[0]
    banks: dict[str, MemoryBank | SubspaceBank] = {}
    asked: dict[str, Tensor] = {}
    for kind in KINDS:
        for angles in (ANGLES, 1):
            bank = banks[f"search {kind}, {angles}"] = MemoryBank()
            for owner, found in enumerate(looks):
                rows = torch.cat([_kind(found, kind, turn) for turn in range(angles)])
                bank.add(rows, torch.full((len(rows),), owner))
                asked[f"search {kind}, {angles}"] = _kind(found, kind, 0)
    for kind in ("448", "640"):
        name = f"search subspace {kind}"
        banks[name], asked[name] = SubspaceBank(), _kind(looks[0], kind, 0)
        for owner, found in enumerate(looks):
            rows = torch.cat([_kind(found, kind, turn) for turn in range(ANGLES)])
            banks[name].add(rows, torch.full((len(rows),), owner))

    def see(size: int) -> None:
        patch_tokens(eye.maps(query, size))

    def heads() -> None:
        eye.backbone.encode_image(preprocess([query], eye.backbone.preprocessing), patches=True)

    parts: dict[str, Callable[[], object]] = {"see 448": lambda: see(448), "see 640": lambda: see(640), "see 448 with heads": heads}
    parts |= {name: (lambda name=name: banks[name].distances(asked[name])) for name in banks}
    spent: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(repeats + 1):
        for name, part in parts.items():
            began = time.process_time()
            part()
            if turn:
                spent[name].append(time.process_time() - began)
    took = {name: float(np.median(values)) for name, values in spent.items()}
    print("| part | ms |\n|---|---|")
    for name, value in took.items():
        print(f"| {name} | {1000 * value:.0f} |")
    took["heads"] = took["see 448 with heads"] - took["see 448"]
    made = {
        DEFAULT: ("see 448", "search 448, 8"),
        "640": ("see 640", "search 640, 8"),
        "448 and 640": ("see 448", "search 448, 8", "see 640", "search 640, 8"),
        "subspace": ("see 448", "search subspace 448"),
        "nearest and subspace": ("see 448", "search 448, 8", "search subspace 448"),
        "640, nearest and subspace": ("see 640", "search 640, 8", "search subspace 640"),
        "448 and 640, nearest and subspace": (
            *("see 448", "search 448, 8", "search subspace 448"),
            *("see 640", "search 640, 8", "search subspace 640"),
        ),
        "r = 1": ("see 448", "search 448 sharp, 8"),
        "stages 8 + 16 + 32": ("see 448", "search 448 deep, 8"),
        "one angle": ("see 448", "search 448, 1"),
        "640, one angle": ("see 640", "search 640, 1"),
        "448 and 640, one angle": ("see 448", "search 448, 1", "see 640", "search 640, 1"),
    }
    base = sum(took[part] for part in (*made[DEFAULT], "heads"))
    print(f"\nThe default takes {1000 * base:.0f} ms.\n\n| candidate | time |\n|---|---|")
    for name, some in made.items():
        print(f"| {name} | {sum(took[part] for part in (*some, 'heads')) / base:.2f} |")


def _kind(found: dict[str, Tensor], kind: str, turn: int) -> Tensor:
    """Tokens of a kind as `Seen.tokens` gives them."""
    if kind == "448 deep":
        return torch.cat([math.sqrt(2) * found[f"448.{turn}"].float(), found[f"448 far.{turn}"].float()], dim=1)
    return found[f"{kind}.{turn}"].float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("lines", "real", "mutual", "time"))
    parser.add_argument("roots", type=Path, nargs="*")
    parser.add_argument("--cache", type=Path, default=Path("runs/seeing"))
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    eye = Eye()
    if options.table == "time":
        times(eye)
    elif options.table == "mutual":
        mutual(eye, real(options.roots) if options.roots else lines(), options.cache)
    else:
        beside_references(eye, real(options.roots) if options.table == "real" else lines(), options.cache)


if __name__ == "__main__":
    main()
