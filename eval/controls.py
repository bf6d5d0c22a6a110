"""The embedded model beside its parts and controls, each a backbone that `vlad eval` measures like any other.

    python eval/controls.py DATA_ROOT --out runs/controls [--before OLD.safetensors] [--only "rarity,patch deviation"]

One run in OUT for each, with every number; then one table. "One head" and "random head" are three runs, mean ± sample standard deviation
over them: the three training seeds of the shipped file, and three first weights. "Rarity" is the model with words that say nothing. "Patch
deviation" knows no model at all: how much the brightness varies inside each patch. A run that OUT holds already is gone on with.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad import AnomalyDetector
from vlad.backbones import Advice, ImageEmbeddings
from vlad.backbones.lite.backbone import GRID, LiteBackbone, Member
from vlad.backbones.lite.head import Head
from vlad.backbones.lite.text import TextEncoder
from vlad.evaluation.datasets import load_dataset
from vlad.evaluation.results import summarise
from vlad.evaluation.runner import EvalSettings, run
from vlad.evaluation.table import runs_table
from vlad.prompts import PromptEnsemble


def lite(weights: Path | None = None) -> LiteBackbone:
    return LiteBackbone(device="cpu", dtype="float32", weights=weights)


def one_head(number: int) -> LiteBackbone:
    """One of the heads of the shipped file, with its text encoder."""
    backbone = lite()
    return _of(backbone, [backbone.members[number]], f"head {number}")


def random_head(seed: int) -> LiteBackbone:
    """Sizes and vocabulary of the shipped heads, weights as they are before training."""
    backbone = lite()
    head, text = backbone.members[0]
    torch.manual_seed(seed)
    return _of(backbone, [Member(Head(head.config).eval(), TextEncoder(text.vocabulary, text.config).eval())], f"random head {seed}")


def _of(backbone: LiteBackbone, members: list[Member], what: str) -> LiteBackbone:
    backbone.members = members
    backbone.name, backbone.fingerprint, backbone.source = f"lite, {what}", f"{backbone.fingerprint} {what}", None
    return backbone


class Wordless(LiteBackbone):
    """All sentences mean the same, so the text score is 0.5 everywhere and rarity alone ranks."""

    def __init__(self) -> None:
        super().__init__(device="cpu", dtype="float32")
        _of(self, self.members, "rarity alone")

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        return torch.ones_like(super().encode_text(sentences))


class PatchDeviation:
    """Standard deviation of the brightness inside each patch as an angle between two words, smooth and rough; a picture's is the mean of
    its highest hundredth."""

    name, source, fingerprint = "standard deviation inside a patch (no model)", None, "patch-deviation-1"
    preprocessing, grid, scales, temperature = LiteBackbone.preprocessing, LiteBackbone.grid, (1,), 1.0
    device, dtype, advice = torch.device("cpu"), torch.float32, Advice()
    prompts = PromptEnsemble.from_sentences(normal=["smooth"], anomalous=["rough"])

    def encode_image(self, pixels: Tensor, *, scales: Sequence[int] = (), patches: bool = False) -> ImageEmbeddings:
        side = pixels.shape[-1] // GRID
        deviation = F.unfold(pixels.mean(1, keepdim=True), side, stride=side).std(dim=1)
        top = deviation.topk(max(1, round(0.01 * deviation.shape[1])), dim=1).values.mean(1)
        places = _angle(deviation)
        return ImageEmbeddings(_angle(top), dict.fromkeys(scales, places), places if patches else None)

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        return torch.tensor([[0.0, 1.0] if sentence == "rough" else [1.0, 0.0] for sentence in sentences])


def _angle(values: Tensor) -> Tensor:
    """Values from 0 on as unit vectors (..., 2) from smooth to rough."""
    angle = torch.atan(values)
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def controls(before: Path | None) -> dict[str, list[Callable[[], AnomalyDetector]]]:
    """By name the detectors whose runs are one row; each is made when it is needed."""
    made: dict[str, list[Callable[[], AnomalyDetector]]] = {
        "lite": [lambda: AnomalyDetector(lite())],
        "one head and rarity": [lambda n=n: AnomalyDetector(one_head(n)) for n in range(3)],
        "three heads": [lambda: AnomalyDetector(lite(), rarity=0)],
        "one head": [lambda n=n: AnomalyDetector(one_head(n), rarity=0) for n in range(3)],
        "the head before": [lambda: AnomalyDetector(lite(before), rarity=0)],
        "random head": [lambda n=n: AnomalyDetector(random_head(n), rarity=0) for n in range(3)],
        "rarity": [lambda: AnomalyDetector(Wordless())],
        "patch deviation": [lambda: AnomalyDetector(PatchDeviation(), prompts=PatchDeviation.prompts)],
    }
    return made if before else {name: runs for name, runs in made.items() if name != "the head before"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--dataset", help="its layout; found out if left out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="weights of an earlier version")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names of those wanted")
    options = parser.parse_args()
    dataset, settings = load_dataset(options.root, options.dataset), EvalSettings(bootstrap=0)
    groups: dict[str, list[Path]] = {}
    for name, makers in controls(options.before).items():
        if options.only and name not in options.only:
            continue
        for number, make in enumerate(makers):
            folder = options.out / f"{name.replace(' ', '_')}{number if len(makers) > 1 else ''}"
            summarise(folder, run(make(), dataset, folder, settings, resume=True))
            groups.setdefault(name, []).append(folder)
    print(runs_table(groups))


if __name__ == "__main__":
    main()
