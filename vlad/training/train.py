"""Train a head and a text encoder on procedural pictures and photographs with painted defects, the trunk frozen.

    python -m vlad.training --out DIR --photographs-from PHOTOGRAPHS [--seed 0]     # or --photographs 0

The pictures are made once and kept as trunk features in DIR/pictures; DIR/log.jsonl tells what happened; a second call with the same
arguments goes on where the first stopped. DIR/weights.safetensors is the best checkpoint on families that were kept from training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vlad.backbones.lite.backbone import Member, load, save
from vlad.backbones.lite.head import HeadConfig
from vlad.errors import ConfigError
from vlad.training.measure import measure
from vlad.training.pictures import KINDS, Pictures, Recipe, make_pictures, read_pictures
from vlad.training.trainer import TrainConfig, Trainer

VERSION = "0.2"
VALIDATION_FAMILIES = ("wood", "capsule", "cookie", "circuit")  # never trained on; the checkpoint is chosen on them


def train(
    out: Path,
    config: TrainConfig,
    *,
    photographs: Path | None = None,
    processes: int = 2,
    pictures: Pictures | None = None,
    head: HeadConfig | None = None,
    stop_after: int | None = None,
) -> Path:
    """Train, or go on training, in the folder `out`, for all epochs or at most `stop_after` of them; returns the weights file.

    Args:
        photographs: folder of photographs, for a share above 0 of `config.photographs`.
        pictures: made already; None makes those of `config` in `out`/pictures.
        head: sizes of the head; None takes the usual ones.

    Raises:
        ConfigError: the folder holds a run with other settings, or there are no photographs.
    """
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True, exist_ok=True)
    settings = out / "config.json"
    asked = json.loads(json.dumps({**asdict(config), "head": asdict(head or HeadConfig())}))
    if settings.exists() and json.loads(settings.read_text()) != asked:
        raise ConfigError(f"expected the run in {out} to have the settings {asked}, got {settings.read_text()}; choose another folder")
    settings.write_text(json.dumps(asked, indent=1))
    if pictures is None:
        recipe = Recipe(config.pictures, config.data_seed, hard=config.hard, photographs=config.photographs)
        pictures = make_pictures(out / "pictures", recipe, photographs=photographs, processes=processes)
    kept = np.isin(pictures.family, VALIDATION_FAMILIES)
    trainer, validation = Trainer(config, pictures.select(~kept), head), pictures.select(kept)
    checkpoint, progress, weights = out / "checkpoint.safetensors", out / "progress.json", out / "weights.safetensors"
    done, best = 0, 0.0
    if checkpoint.exists():
        state = json.loads(progress.read_text())
        done, best = state["epochs"], state["best"]
        trainer.restore(load_file(checkpoint))
    last = config.epochs if stop_after is None else min(config.epochs, done + stop_after)
    for number in range(done, last):
        start = time.time()
        losses = trainer.epoch(number)
        numbers = measure(*trainer.averaged, validation)
        value = (numbers["image_auroc"] + numbers["pixel_auroc"]) / 2
        entry = {"epoch": number, "losses": losses, "validation": numbers, "seconds": round(time.time() - start, 1)}
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")
        if value > best:
            best = value
            save(weights, [Member(*trainer.averaged)], card(config, trainer, validation, number, numbers))
        save_file(trainer.state(), checkpoint)
        progress.write_text(json.dumps({"epochs": number + 1, "best": best}))
    return weights


def card(config: TrainConfig, trainer: Trainer, validation: Pictures, epoch: int, numbers: dict[str, float]) -> dict[str, str]:
    """What the weights file says about itself."""
    kinds = ", ".join(f"{int((trainer.pictures.kind == kind).sum())} {kind}" for kind in KINDS)
    return {
        "version": VERSION,
        "seed": str(config.seed),
        "data": f"{len(trainer.pictures)} pictures ({kinds}), {len(trainer.nouns)} families, {len(trainer.defects)} defect types",
        "training": json.dumps(asdict(config)),
        "validation": json.dumps({"pictures": len(validation), "families": VALIDATION_FAMILIES, "epoch": epoch, **numbers}),
        "licence": "Apache-2.0",
    }


def join(files: Sequence[Path], out: Path) -> None:
    """One weights file of the members of several runs, whose cosines are averaged.

    Raises:
        ConfigError: the runs differ in their sizes or their vocabulary.
        WeightsNotFoundError: one of the files is no weights file.
    """
    loaded = [load(file) for file in files]
    cards = [card for _, card in loaded]
    seeds = ", ".join(card["seed"] for card in cards)
    validation = json.dumps([json.loads(card["validation"]) for card in cards])
    save(out, [member for members, _ in loaded for member in members], {**cards[0], "seed": seeds, "validation": validation})


def main(arguments: Sequence[str] | None = None) -> None:
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(prog="python -m vlad.training", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing one is continued")
    parser.add_argument("--photographs-from", type=Path, help="folder filled by `python -m vlad.synthetic.photographs`")
    parser.add_argument("--pictures-from", type=Path, help="pictures of an earlier run, instead of making them anew")
    parser.add_argument("--processes", type=int, default=2, help="processes that make pictures")
    parser.add_argument(
        "--join", type=Path, nargs="+", metavar="FILE", help="train nothing: write the members of these weights to OUT/weights.safetensors"
    )
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default {value}")
    options = vars(parser.parse_args(arguments))
    out, processes, files, earlier = (options.pop(name) for name in ("out", "processes", "photographs_from", "pictures_from"))
    if files_to_join := options.pop("join"):
        out.mkdir(parents=True, exist_ok=True)
        join(files_to_join, out / "weights.safetensors")
        return
    pictures = read_pictures(earlier) if earlier else None
    print(train(out, TrainConfig(**options), photographs=files, processes=processes, pictures=pictures))
