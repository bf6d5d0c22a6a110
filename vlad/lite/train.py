"""Train the head and the text encoder on procedural pictures, the trunk frozen: `python -m vlad.lite.train --out DIR`.

The pictures are made once and kept as trunk features in DIR/pictures; DIR/log.jsonl tells what happened; a second call with the same
arguments goes on where the first stopped. DIR/weights.safetensors is the best checkpoint on families that were kept from training.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vlad.errors import ConfigError
from vlad.lite.backbone import SCALES, SIZE, TEMPERATURE, save
from vlad.lite.data import (
    ABNORMAL_ADJECTIVES,
    DEFECT_ADJECTIVES,
    DEFECT_NOUNS,
    DEFECTS,
    FAMILIES,
    FAMILY_NOUNS,
    NORMAL_ADJECTIVES,
    make_sample,
)
from vlad.lite.head import GRID, LENGTH, Head, HeadConfig, features, flatten, unflatten, windows
from vlad.lite.text import UNKNOWN, TextConfig, TextEncoder, vocabulary
from vlad.lite.trunk import Trunk

VERSION = "0.1"
FINE = 80  # side of the masks kept for measuring
VALIDATION_FAMILIES = ("wood", "capsule", "cookie", "circuit")  # never trained on; the checkpoint is chosen on them
ANY_OBJECT = ("object", "surface", "part", "item")
LEAST_COVER = {1: 0.06, 2: 0.04, 3: 0.03}  # share of a window that must be defective to call it so; from there down to none is ambiguous

WINCLIP_NORMAL = ("{}", "flawless {}", "perfect {}", "unblemished {}", "{} without flaw", "{} without defect", "{} without damage")
WINCLIP_ABNORMAL = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
NORMAL = (*WINCLIP_NORMAL, *(f"{word} {{}}" for word in NORMAL_ADJECTIVES), "{} without anomaly", "{} in good condition", "new {}")
ABNORMAL = (
    *WINCLIP_ABNORMAL,
    *(f"{word} {{}}" for word in ABNORMAL_ADJECTIVES),
    "broken {}",
    "{} with an anomaly",
    "{} in bad condition",
    "{} with a fault",
)
PLAIN_TEMPLATES = tuple(
    line.format(article=article, state="{}")
    for article in ("a", "the")
    for line in (
        *(
            f"a {kind} of {{article}} {{state}}"
            for kind in ("cropped photo", "close-up photo", "bright photo", "dark photo", "jpeg corrupted photo")
        ),
        "a blurry photo of {article} {state}",
        "a photo of {article} {state}",
        "a photo of {article} small {state}",
        "a photo of {article} large {state}",
        "a photo of {article} {state} for visual inspection",
        "a photo of {article} {state} for anomaly detection",
    )
)
TEMPLATES = (
    *PLAIN_TEMPLATES,
    "{}",
    "a {}",
    "the {}",
    "a picture of a {}",
    "an image of the {}",
    "this is a {}",
    "there is a {} in the picture",
)
DEFECT_SENTENCES = ("a {noun} with a {word}", "a photo of a {noun} with {word}", "a {word} on the {noun}", "{word}", "{noun} with {word}")


@dataclass(frozen=True)
class TrainConfig:
    """One training run; with equal settings on one machine the weights come out equal."""

    pictures: int = 16000
    epochs: int = 8
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0
    prompts: int = 3  # sentences drawn for each side of each noun in a step
    drop_noun: float = 0.3  # share of pictures whose noun is replaced by one of ANY_OBJECT
    drop_word: float = 0.05  # share of words replaced by the neutral one
    positive: float = 0.4  # weight of all defective windows of a batch against all sound ones
    attention: float = 0.1  # weight of the loss that pulls two attention queries to the defect
    defect: float = 0.5  # weight of the loss that names the defect
    noun: float = 0.15  # weight of the loss that names the object


@dataclass(frozen=True)
class Pictures:
    """N pictures as the head sees them: `features` (N, LENGTH), `cover` (N, 20, 20) the defective share of places, `mask` (N, 80, 80)."""

    features: npt.NDArray[np.float16]
    cover: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    family: npt.NDArray[np.str_]
    noun: npt.NDArray[np.str_]
    defect: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.family)

    @property
    def anomalous(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.defect != "good")

    def read(self, rows: npt.NDArray[np.intp]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.features[rows]))


_ARRAYS: tuple[tuple[str, Any, tuple[int, ...]], ...] = (
    ("features", np.float16, (LENGTH,)),
    ("cover", np.uint8, (GRID, GRID)),
    ("mask", np.uint8, (FINE * FINE // 8,)),
)


def make_pictures(
    folder: Path, *, count: int, seed: int, families: Sequence[str] = FAMILIES, defects: Sequence[str] = DEFECTS, processes: int = 2
) -> Pictures:
    """Make `count` pictures and keep their trunk features in `folder` (0.26 MB each); goes on where an earlier call stopped.

    Raises:
        ConfigError: the folder holds pictures made with other arguments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = {"count": count, "seed": seed, "families": list(families), "defects": list(defects), "length": LENGTH}
    meta, facts = folder / "meta.json", folder / "facts.jsonl"
    if meta.exists() and json.loads(meta.read_text()) != asked:
        raise ConfigError(f"expected {folder} to hold pictures made with {asked}, got {meta.read_text()}; choose another folder")
    done = len(facts.read_text().splitlines()) if facts.exists() else 0
    if done < count:
        mode = "r+" if meta.exists() else "w+"
        arrays = [np.lib.format.open_memmap(folder / f"{name}.npy", mode, dtype, (count, *shape)) for name, dtype, shape in _ARRAYS]
        meta.write_text(json.dumps(asked))
        work = partial(_picture, seed=seed, families=tuple(families), defects=tuple(defects))
        with multiprocessing.get_context("spawn").Pool(processes, initializer=_start_worker) as pool, facts.open("a") as log:
            for index, (values, fact) in enumerate(pool.imap(work, range(done, count), chunksize=4), start=done):
                for array, value in zip(arrays, values, strict=True):
                    array[index] = value
                log.write(json.dumps(fact) + "\n")
    return read_pictures(folder)


def read_pictures(folder: Path) -> Pictures:
    """The pictures finished so far in `folder`."""
    facts = [json.loads(line) for line in (folder / "facts.jsonl").read_text().splitlines()]
    flat, cover, mask = (np.load(folder / f"{name}.npy", mmap_mode="r")[: len(facts)] for name, _, _ in _ARRAYS)
    family, noun, defect = (np.array([fact[key] for fact in facts]) for key in ("family", "noun", "defect"))
    fine = np.unpackbits(mask, axis=1).reshape(-1, FINE, FINE).astype(bool)
    return Pictures(flat, cover.astype(np.float32) / 255, fine, family, noun, defect)


_trunk: list[Trunk] = []  # of a worker process, so that it is loaded once


def _start_worker() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _trunk.append(Trunk())


@torch.inference_mode()
def _picture(
    number: int, *, seed: int, families: Sequence[str], defects: Sequence[str]
) -> tuple[tuple[npt.NDArray[Any], ...], dict[str, str]]:
    sample = make_sample((seed, number), families=families, defects=defects, size=SIZE)
    pixels = torch.from_numpy(sample.image).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1
    flat = flatten(features(_trunk[0](pixels)))[0].half().numpy()
    cover = np.ceil(_shares(sample.mask, GRID) * 255).astype(np.uint8)  # rounded up: the smallest defect leaves its mark
    fine = np.packbits(_shares(sample.mask, FINE) > 0.4)
    return (flat, cover, fine), {"family": sample.family, "noun": sample.class_name, "defect": sample.defect}


def _shares(mask: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.float64]:
    cell = mask.shape[0] // side
    shares: npt.NDArray[np.float64] = mask.reshape(side, cell, side, cell).mean((1, 3))
    return shares


def sides(text: TextEncoder, noun: str, normal: Sequence[str] = WINCLIP_NORMAL, abnormal: Sequence[str] = WINCLIP_ABNORMAL) -> Tensor:
    """(2, D): the normalised mean embedding of all normal and of all abnormal sentences about `noun`."""
    groups = [[line.format(state.format(noun)) for line in PLAIN_TEMPLATES for state in states] for states in (normal, abnormal)]
    return torch.stack([F.normalize(text(text.rows(group)).mean(dim=0), dim=0) for group in groups])


def logits(embeddings: Tensor, both: Tensor) -> Tensor:
    """The log odds (N, W) of "anomalous" of embeddings (N, W, D) against each picture's normal and abnormal vectors (N, 2, D)."""
    direction = (both[:, 1] - both[:, 0]).unsqueeze(-1)
    return (embeddings @ direction).squeeze(-1) / embeddings.norm(dim=-1).clamp_min(1e-6) / TEMPERATURE


def spread(scores: Tensor, scale: int) -> Tensor:
    """Window scores (N, W) to places (N, 20, 20): the harmonic mean over the windows that cover a place."""
    side = GRID - scale + 1
    inverse = 1 / scores.clamp_min(1e-6).unflatten(1, (side, side)).unsqueeze(1)
    kernel = torch.ones(1, 1, scale, scale)
    return (F.conv_transpose2d(torch.ones_like(inverse), kernel) / F.conv_transpose2d(inverse, kernel)).squeeze(1)


@torch.inference_mode()
def score(
    head: Head, text: TextEncoder, pictures: Pictures, nouns: Sequence[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Zero-shot image scores (N,) and multi-scale maps (N, 20, 20) of pictures whose objects are called `nouns`."""
    head.eval()
    text.eval()
    known = {noun: sides(text, noun) for noun in sorted(set(nouns))}
    images, maps = [], []
    for start in range(0, len(pictures), 64):
        rows = np.arange(start, min(start + 64, len(pictures)))
        places, picture, _ = head(unflatten(pictures.read(rows).float()))
        both = torch.stack([known[nouns[row]] for row in rows.tolist()])
        image = torch.sigmoid(logits(picture.unsqueeze(1), both)).squeeze(1)
        parts = [spread(torch.sigmoid(logits(windows(places, scale), both)), scale) for scale in SCALES]
        inverse = torch.stack([image[:, None, None].expand_as(parts[0]), *parts]).clamp_min(1e-6).reciprocal()
        images.append(image)
        maps.append(1 / inverse.mean(dim=0))
    return torch.cat(images).numpy(), torch.cat(maps).numpy()


def measure(head: Head, text: TextEncoder, pictures: Pictures, nouns: Sequence[str] | None = None) -> dict[str, float]:
    """Image and pixel AUROC, and at the threshold 0.5 the share of good and of defective pictures called anomalous."""
    from sklearn.metrics import roc_auc_score

    image, maps = score(head, text, pictures, list(pictures.noun) if nouns is None else nouns)
    fine = F.interpolate(torch.from_numpy(maps).unsqueeze(1), size=(FINE, FINE), mode="bilinear", align_corners=False).numpy()
    bad = pictures.anomalous
    numbers = {
        "image_auroc": roc_auc_score(bad, image),
        "pixel_auroc": roc_auc_score(pictures.mask.ravel(), fine.ravel()),
        "called_of_good": (image[~bad] > 0.5).mean(),
        "called_of_defective": (image[bad] > 0.5).mean(),
    }
    return {name: round(float(number), 4) for name, number in numbers.items()}


class Trainer:
    """The two modules that learn, and one step of learning."""

    def __init__(self, config: TrainConfig, pictures: Pictures, head: HeadConfig | None = None) -> None:
        torch.manual_seed(config.seed)
        self.config, self.pictures = config, pictures
        self.families = sorted(set(pictures.family.tolist()))
        self.defects = sorted(set(pictures.defect.tolist()) - {"good"})
        self.head = Head(head)
        self.text = TextEncoder(vocabulary(self.sentences()), TextConfig(dim=self.head.config.dim))
        self.parameters = [*self.head.parameters(), *self.text.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay)

    def sentences(self) -> list[str]:
        """Every word that training can say, as a few hundred sentences."""
        nouns = [noun for family in self.families for noun in FAMILY_NOUNS[family]]
        words = [word for defect in self.defects for word in (*DEFECT_NOUNS[defect], *DEFECT_ADJECTIVES[defect])]
        return [*nouns, *words, *ANY_OBJECT, *(line.format("") for line in (*TEMPLATES, *NORMAL, *ABNORMAL)), "with a on the"]

    def epoch(self, number: int) -> dict[str, float]:
        """One pass over the pictures; all chance in it comes from (seed, number). Returns the mean losses."""
        config, count = self.config, len(self.pictures)
        torch.manual_seed(config.seed * 1000 + number)
        rng = random.Random(config.seed * 1000 + number)
        order = np.random.default_rng((config.seed, number)).permutation(count)
        steps = max(1, count // config.batch)
        sums: dict[str, float] = {}
        self.head.train()
        self.text.train()
        for step in range(steps):
            progress = (number * steps + step) / (config.epochs * steps)
            warm = min(1.0, (number * steps + step + 1) / 100)
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate * warm * (0.5 + 0.5 * np.cos(np.pi * progress))
            losses = self.losses(np.sort(order[step * config.batch : (step + 1) * config.batch]), rng)
            self.optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss.item()
        return {name: round(total / steps, 4) for name, total in sums.items()}

    def losses(self, rows: npt.NDArray[np.intp], rng: random.Random) -> dict[str, Tensor]:
        """The weighted losses on the pictures `rows`."""
        config, pictures = self.config, self.pictures
        flat, cover = pictures.read(rows).bfloat16(), torch.from_numpy(pictures.cover[rows])
        maps, cover = _turn(unflatten(flat), cover, rng)
        families = [str(pictures.family[row]) for row in rows]
        nouns = [rng.choice(ANY_OBJECT) if rng.random() < config.drop_noun else rng.choice(FAMILY_NOUNS[family]) for family in families]
        spoken = sorted(set(nouns))
        sentences = [line for noun in spoken for states in (NORMAL, self._abnormal(rng)) for line in self._say(states, noun, rng)]
        contrast = len(sentences)
        sentences += [rng.choice(TEMPLATES).format(rng.choice(FAMILY_NOUNS[family])) for family in families]
        named = len(sentences)
        sentences += [self._name(defect, rng) for defect in self.defects]
        tokens = self.text.rows(sentences)
        tokens = tokens.masked_fill((torch.rand(tokens.shape) < config.drop_word) & (tokens > UNKNOWN), UNKNOWN)

        with torch.autocast("cpu", torch.bfloat16):
            places, picture, attention = (output.float() for output in self.head(maps))
        spoken_embeddings = self.text(tokens)  # float32: the CPU's bfloat16 attention is slower

        groups = spoken_embeddings[:contrast].unflatten(0, (len(spoken), 2, config.prompts))
        both = F.normalize(groups.mean(dim=2), dim=-1)[[spoken.index(noun) for noun in nouns]]
        bad = torch.from_numpy(pictures.anomalous[rows])
        image = F.binary_cross_entropy_with_logits(logits(picture.unsqueeze(1), both).squeeze(1), bad.float())
        window = torch.stack([self._window_loss(places, both, cover, scale) for scale in SCALES]).mean()
        noun = _name_loss(picture, spoken_embeddings[contrast:named], families)
        losses = {"image": image, "window": window, "noun": config.noun * noun}
        marked = cover.flatten(1)[bad]
        if len(marked):
            on_defect = (attention[bad, :2] * (marked > 0).unsqueeze(1)).sum(-1)
            losses["attention"] = -config.attention * torch.log(on_defect + 1e-4).mean()
            found = torch.einsum("np,ndp->nd", marked, places.flatten(2)[bad])
            similarity = F.normalize(found, dim=-1) @ F.normalize(spoken_embeddings[named:], dim=-1).T
            target = torch.tensor([self.defects.index(defect) for defect in pictures.defect[rows][bad.numpy()]])
            losses["defect"] = config.defect * F.cross_entropy(similarity / TEMPERATURE, target)
        return losses

    def _window_loss(self, places: Tensor, both: Tensor, cover: Tensor, scale: int) -> Tensor:
        odds = logits(windows(places, scale), both)
        share = F.avg_pool2d(cover.unsqueeze(1), scale, stride=1).flatten(1)
        positive, negative = odds[share >= LEAST_COVER[scale]], odds[share == 0]
        loss = (1 - self.config.positive) * F.softplus(negative).mean()
        return loss + self.config.positive * F.softplus(-positive).mean() if len(positive) else loss

    def _abnormal(self, rng: random.Random) -> Sequence[str]:
        """General states, and a few that name a defect: a user's list may hold both."""
        return (
            *ABNORMAL,
            *(f"{{}} with a {rng.choice(DEFECT_NOUNS[defect])}" for defect in rng.sample(self.defects, min(4, len(self.defects)))),
        )

    def _say(self, states: Sequence[str], noun: str, rng: random.Random) -> list[str]:
        return [rng.choice(TEMPLATES).format(state.format(noun)) for state in rng.sample(states, self.config.prompts)]

    def _name(self, defect: str, rng: random.Random) -> str:
        noun = rng.choice(FAMILY_NOUNS[rng.choice(self.families)]) if rng.random() < 0.5 else rng.choice(ANY_OBJECT)
        if rng.random() < 0.2:
            return f"a {rng.choice(DEFECT_ADJECTIVES[defect])} {noun}"
        return rng.choice(DEFECT_SENTENCES).format(noun=noun, word=rng.choice(DEFECT_NOUNS[defect]))

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on: parameters and the optimiser's moments."""
        tensors = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        tensors |= {f"text.{name}": value for name, value in self.text.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        return {name: value.detach().clone().contiguous() for name, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Undo `state`."""
        for prefix, module in (("head.", self.head), ("text.", self.text)):
            module.load_state_dict({name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


def train(out: Path, config: TrainConfig, *, processes: int = 2, pictures: Pictures | None = None, stop_after: int | None = None) -> Path:
    """Train, or go on training, in the folder `out`, for all epochs or at most `stop_after` of them; returns the weights file.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True, exist_ok=True)
    settings = out / "config.json"
    if settings.exists() and json.loads(settings.read_text()) != asdict(config):
        raise ConfigError(
            f"expected the run in {out} to have the settings {asdict(config)}, got {settings.read_text()}; choose another folder"
        )
    settings.write_text(json.dumps(asdict(config), indent=1))
    if pictures is None:
        pictures = make_pictures(out / "pictures", count=config.pictures, seed=config.seed + 1, processes=processes)
    kept = np.isin(pictures.family, VALIDATION_FAMILIES)
    trainer, validation = Trainer(config, _select(pictures, ~kept)), _select(pictures, kept)
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
        numbers = measure(trainer.head, trainer.text, validation)
        value = (numbers["image_auroc"] + numbers["pixel_auroc"]) / 2
        with (out / "log.jsonl").open("a") as log:
            log.write(
                json.dumps({"epoch": number, "losses": losses, "validation": numbers, "seconds": round(time.time() - start, 1)}) + "\n"
            )
        if value > best:
            best = value
            save(weights, trainer.head, trainer.text, card(config, trainer, validation, number, numbers))
        save_file(trainer.state(), checkpoint)
        progress.write_text(json.dumps({"epochs": number + 1, "best": best}))
    return weights


def card(config: TrainConfig, trainer: Trainer, validation: Pictures, epoch: int, numbers: dict[str, float]) -> dict[str, str]:
    """What the weights file says about itself."""
    return {
        "version": VERSION,
        "seed": str(config.seed),
        "data": f"{len(trainer.pictures)} procedural pictures, {len(trainer.families)} families, {len(trainer.defects)} defect types",
        "training": json.dumps(asdict(config)),
        "validation": json.dumps({"pictures": len(validation), "families": VALIDATION_FAMILIES, "epoch": epoch, **numbers}),
        "licence": "Apache-2.0",
    }


def _select(pictures: Pictures, keep: npt.NDArray[np.bool_]) -> Pictures:
    rows = np.flatnonzero(keep)
    columns = (pictures.cover, pictures.mask, pictures.family, pictures.noun, pictures.defect)
    return Pictures(_Rows(pictures.features, rows), *(column[rows] for column in columns))  # type: ignore[arg-type]


class _Rows:
    """Some rows of an array on disk, read only when asked for."""

    def __init__(self, array: npt.NDArray[np.float16], rows: npt.NDArray[np.intp]) -> None:
        self.array, self.rows = array, rows

    def __getitem__(self, index: npt.NDArray[np.intp]) -> npt.NDArray[np.float16]:
        return self.array[self.rows[index]]


def _turn(parts: list[Tensor], cover: Tensor, rng: random.Random) -> tuple[list[Tensor], Tensor]:
    """The batch mirrored and transposed at random."""
    *maps, tone = parts
    tensors = [*maps, cover]
    for axis in (-1, -2):
        if rng.random() < 0.5:
            tensors = [tensor.flip(axis) for tensor in tensors]
    if rng.random() < 0.5:
        tensors = [tensor.transpose(-1, -2) for tensor in tensors]
    *maps, cover = tensors
    return [*maps, tone], cover


def _name_loss(picture: Tensor, words: Tensor, families: Sequence[str]) -> Tensor:
    """Each picture (B, D) picks its own family's sentence among the batch's (B, D)."""
    chances = (F.normalize(picture, dim=-1) @ F.normalize(words, dim=-1).T / TEMPERATURE).softmax(dim=1)
    same = torch.tensor([[a == b for b in families] for a in families])
    return -torch.log((chances * same).sum(dim=1) + 1e-6).mean()


def main(arguments: Sequence[str] | None = None) -> None:
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(prog="python -m vlad.lite.train", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing one is continued")
    parser.add_argument("--processes", type=int, default=2, help="processes that make pictures")
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default {value}")
    options = vars(parser.parse_args(arguments))
    out, processes = options.pop("out"), options.pop("processes")
    print(train(out, TrainConfig(**options), processes=processes))


if __name__ == "__main__":
    main()
