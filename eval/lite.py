"""What the embedded model is worth with words alone, beside controls: one Markdown table over several sets and training seeds.

    python eval/lite.py ROOT... [--weights SEED0.safetensors SEED1.safetensors SEED2.safetensors] [--before OLD.safetensors]

The shipped file holds the heads of three training seeds; the table gives their mean and deviation, and all of them together.

Roots are datasets in any layout that `vlad eval` reads. A category's folder name, "_" as a space, is its class name. Maps and masks are
compared at 256 x 256 pixels. Controls: the standard deviation inside a patch (no model at all), heads with random weights, rarity inside
the picture (the trunk alone), and with --before the head of an earlier version.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vlad import read_image
from vlad.backbones.lite.backbone import SCALES, TEMPERATURE, WEIGHTS, LiteBackbone, Member, joined, load
from vlad.backbones.lite.head import Head, features, windows
from vlad.backbones.lite.text import TextEncoder
from vlad.backbones.lite.trunk import Trunk, patch_tokens
from vlad.backbones.preprocessing import preprocess
from vlad.evaluation.datasets import Category, load_dataset, read_truth
from vlad.metrics import aupro, auroc
from vlad.prompts import PromptEnsemble
from vlad.scoring.base import mean_of_top
from vlad.scoring.pictures import TextSide
from vlad.scoring.rarity import rarity
from vlad.scoring.text import score_text, text_vectors
from vlad.scoring.windows import upsample

SIDE = 256  # of maps and masks in the comparison
METRICS = ("image_auroc", "pixel_auroc", "aupro")
Scored = tuple[float, Tensor, tuple[int, int]]  # image score, patch map (1, P) and its grid


@dataclass(frozen=True)
class Seen:
    """One test picture, passed through the trunk once for all heads."""

    noun: str
    is_anomalous: bool
    mask: np.ndarray | None  # (SIDE, SIDE) bool, None if unknown
    parts: list[Tensor]  # what the head reads
    tokens: Tensor  # (1, P, C)
    deviation: Tensor  # (1, P) standard deviation of the brightness inside each patch


@torch.inference_mode()
def see(category: Category, trunk: Trunk) -> Iterator[Seen]:
    side = LiteBackbone.grid[0]
    for picture in category.test:
        image = read_image(picture.path)
        pixels = preprocess([image], LiteBackbone.preprocessing)
        maps = trunk(pixels)
        truth = read_truth(picture, category, (image.shape[0], image.shape[1]))
        mask = None
        if truth is not None:
            mask = cv2.resize(np.asarray(truth.mask, np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0.5
        cells = F.unfold(pixels.mean(1, keepdim=True), pixels.shape[-1] // side, stride=pixels.shape[-1] // side)
        yield Seen(category.class_name, picture.is_anomalous, mask, features(maps), patch_tokens(maps), cells.std(dim=1))


def with_heads(members: Sequence[Member]) -> Callable[[Seen], Scored]:
    """Zero-shot scores with WinCLIP's sentences, as `LiteBackbone` makes them."""
    known: dict[str, Tensor] = {}
    ensemble = PromptEnsemble.load("winclip")

    def scored(seen: Seen) -> Scored:
        if seen.noun not in known:
            normal, anomalous = ensemble.sentences(seen.noun)
            embeddings = joined([text(text.rows([*normal, *anomalous])) for _, text in members])
            known[seen.noun] = text_vectors(embeddings[: len(normal)], embeddings[len(normal) :])
        looks = [head(seen.parts) for head, _ in members]
        found = {scale: joined([windows(places, scale) for places, _, _ in looks]) for scale in SCALES}
        result = score_text(
            joined([image for _, image, _ in looks]), found, known[seen.noun], grid=LiteBackbone.grid, temperature=TEMPERATURE
        )
        assert result.multi_scale is not None
        return float(result.image), result.multi_scale, LiteBackbone.grid

    return scored


def with_rarity(scorer: Callable[[Seen], Scored]) -> Callable[[Seen], Scored]:
    """Text and rarity fused, as the detector does with `lite`."""
    side = TextSide(torch.empty(0), LiteBackbone.grid, SCALES, TEMPERATURE, LiteBackbone.rarity, LiteBackbone.rarity_centre)

    def scored(seen: Seen) -> Scored:
        text, (rare, rare_map, grid) = scorer(seen), by_rarity(seen)
        return float(side.with_rarity(torch.tensor(text[0]), torch.tensor(rare))), side.with_rarity(text[1], rare_map), grid

    return scored


def by_rarity(seen: Seen) -> Scored:
    found = rarity(seen.tokens, LiteBackbone.grid)
    return mean_of_top(found[0], 0.01), found, LiteBackbone.grid


def by_deviation(seen: Seen) -> Scored:
    return mean_of_top(seen.deviation[0], 0.01), seen.deviation, LiteBackbone.grid


def random_head(seed: int) -> list[Member]:
    """Sizes and vocabulary of the shipped heads, weights as they are before training."""
    ((head, text), *_), _ = load(WEIGHTS)
    torch.manual_seed(seed)
    return [Member(Head(head.config).eval(), TextEncoder(text.vocabulary, text.config).eval())]


@torch.inference_mode()
def measure(pictures: list[Seen], scorer: Callable[[Seen], Scored]) -> dict[str, float]:
    """The metrics of METRICS, and shares called anomalous above 0.5."""
    scores, maps = [], []
    for seen in pictures:
        score, patch_map, grid = scorer(seen)
        scores.append(score)
        maps.append(upsample(patch_map, grid, (SIDE, SIDE))[0].numpy())
    bad = np.array([seen.is_anomalous for seen in pictures])
    called = np.array(scores) > 0.5
    numbers = {"image_auroc": auroc(bad, scores), "recall": called[bad].mean(), "false_alarms": called[~bad].mean()}
    masks = [seen.mask for seen in pictures]
    if all(mask is not None for mask in masks):
        truth, values = np.stack([mask for mask in masks if mask is not None]), np.stack(maps)
        numbers |= {"pixel_auroc": auroc(truth.ravel(), values.ravel()), "aupro": aupro(values, truth)}
    return {name: float(value) for name, value in numbers.items()}


def cell(values: list[float], *, spread: bool) -> str:
    if not values or np.isnan(values).any():
        return "–"
    text = f"{np.mean(values):.3f}"
    return f"{text} ± {np.std(values, ddof=1):.3f}" if spread and len(values) > 1 else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("roots", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, nargs="+", default=[WEIGHTS])
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", type=Path, help="also write every number here")
    options = parser.parse_args()
    members = [member for path in options.weights for member in load(path)[0]]
    contestants: dict[str, list[Callable[[Seen], Scored]]] = {
        "lite": [with_rarity(with_heads(members))],
        "one head and rarity": [with_rarity(with_heads([member])) for member in members],
        "three heads": [with_heads(members)],
        "one head": [with_heads([member]) for member in members],
        **({"the head before": [with_heads(load(options.before)[0])]} if options.before else {}),
        "random head": [with_heads(random_head(seed)) for seed in range(3)],
        "rarity": [by_rarity],
        "patch deviation": [by_deviation],
    }
    trunk, every = Trunk(), {}
    print("| set (good + defective) | metric | " + " | ".join(contestants) + " |")
    print("|---|---|" + "---|" * len(contestants))
    for label, category in (
        (f"{root.name}/{category.name}", category) for root in options.roots for category in load_dataset(root).categories
    ):
        pictures = list(see(category, trunk))
        found = {name: [measure(pictures, scorer) for scorer in scorers] for name, scorers in contestants.items()}
        every[label] = found
        bad = sum(seen.is_anomalous for seen in pictures)
        for metric in (*METRICS, "recall", "false_alarms"):
            cells = [cell([run[metric] for run in runs if metric in run], spread=True) for runs in found.values()]
            if set(cells) != {"–"}:
                print(f"| {label} ({len(pictures) - bad} + {bad}) | {metric} | " + " | ".join(cells) + " |", flush=True)
    for metric in METRICS:
        means = [[np.mean([found[name][k][metric] for found in every.values() if metric in found[name][k]]) for k in range(len(scorers))]
                 for name, scorers in contestants.items()]  # fmt: skip
        print(f"| mean of all | {metric} | " + " | ".join(cell([float(value) for value in row], spread=True) for row in means) + " |")
    if options.json:
        options.json.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
