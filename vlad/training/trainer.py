"""The losses, and one pass over the pictures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vlad.backbones.lite.backbone import SCALES, TEMPERATURE
from vlad.backbones.lite.head import Head, HeadConfig, unflatten, windows
from vlad.backbones.lite.text import UNKNOWN, TextConfig, TextEncoder, vocabulary
from vlad.synthetic.photographs import NOUNS
from vlad.synthetic.vocabulary import DEFECT_ADJECTIVES, DEFECT_NOUNS, FAMILY_NOUNS
from vlad.training.measure import logits
from vlad.training.pictures import Pictures
from vlad.training.sentences import ABNORMAL, ANY_OBJECT, DEFECT_SENTENCES, NORMAL, TEMPLATES

LEAST_COVER = {1: 0.06, 2: 0.04, 3: 0.03}  # share of a window that must be defective to call it so; from there down to none is ambiguous


@dataclass(frozen=True)
class TrainConfig:
    """One training run; with equal settings on one machine the weights come out equal."""

    pictures: int = 20000
    epochs: int = 4
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    average: float = 0.998  # decay of the running mean of the weights, which is what is measured and kept
    seed: int = 0  # of the first weights, the order of the pictures and the sentences
    data_seed: int = 1  # of the pictures
    hard: float = 0.5  # share of procedural pictures with hard normals
    photographs: float = 0.2  # share of photographs
    window: float = 1.0  # weight of the loss on windows
    prompts: int = 3  # sentences drawn for each side of each noun in a step
    drop_noun: float = 0.3  # share of pictures whose noun is replaced by one of ANY_OBJECT
    drop_word: float = 0.05  # share of words replaced by the neutral one
    positive: float = 0.4  # weight of all defective windows of a batch against all sound ones
    attention: float = 0.1  # weight of the loss that pulls two attention queries to the defect
    defect: float = 0.5  # weight of the loss that names the defect
    noun: float = 0.15  # weight of the loss that names the object


class Trainer:
    """The two modules that learn, and one step of learning."""

    def __init__(self, config: TrainConfig, pictures: Pictures, head: HeadConfig | None = None) -> None:
        torch.manual_seed(config.seed)
        self.config, self.pictures = config, pictures
        self.nouns = {family: FAMILY_NOUNS.get(family, NOUNS) for family in sorted(set(pictures.family.tolist()))}
        self.defects = sorted(set(pictures.defect.tolist()) - {"good"})
        self.head = Head(head)
        self.text = TextEncoder(vocabulary(self.sentences()), TextConfig(dim=self.head.config.dim))
        self.parameters = [*self.head.parameters(), *self.text.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._both = nn.ModuleDict({"head": self.head, "text": self.text})
        self.average = AveragedModel(self._both, multi_avg_fn=get_ema_multi_avg_fn(config.average), use_buffers=True)

    @property
    def averaged(self) -> tuple[Head, TextEncoder]:
        """Head and text encoder with the running mean of the weights."""
        modules: Any = self.average.module
        return modules["head"], modules["text"]

    def sentences(self) -> list[str]:
        """Every word that training can say, as a few hundred sentences."""
        nouns = [noun for nouns in self.nouns.values() for noun in nouns]
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
            self.average.update_parameters(self._both)
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss.item()
        return {name: round(total / steps, 4) for name, total in sums.items()}

    def losses(self, rows: npt.NDArray[np.intp], rng: random.Random) -> dict[str, Tensor]:
        """The weighted losses on the pictures `rows`."""
        config, pictures = self.config, self.pictures
        flat, cover = pictures.read(rows).bfloat16(), torch.from_numpy(pictures.cover[rows])
        maps, cover = _turn(unflatten(flat), cover, rng)
        families = [str(pictures.family[row]) for row in rows]
        nouns = [rng.choice(ANY_OBJECT) if rng.random() < config.drop_noun else rng.choice(self.nouns[family]) for family in families]
        spoken = sorted(set(nouns))
        sentences = [line for noun in spoken for states in (NORMAL, self._abnormal(rng)) for line in self._say(states, noun, rng)]
        contrast = len(sentences)
        sentences += [rng.choice(TEMPLATES).format(rng.choice(self.nouns[family])) for family in families]
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
        losses = {"image": image, "window": config.window * window, "noun": config.noun * noun}
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
        noun = rng.choice(self.nouns[rng.choice(list(self.nouns))]) if rng.random() < 0.5 else rng.choice(ANY_OBJECT)
        if rng.random() < 0.2:
            return f"a {rng.choice(DEFECT_ADJECTIVES[defect])} {noun}"
        return rng.choice(DEFECT_SENTENCES).format(noun=noun, word=rng.choice(DEFECT_NOUNS[defect]))

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on: parameters, their running mean and the optimiser's moments."""
        tensors = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        tensors |= {f"text.{name}": value for name, value in self.text.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        return {name: value.detach().clone().contiguous() for name, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Undo `state`."""
        for prefix, module in (("head.", self.head), ("text.", self.text), ("average.", self.average)):
            module.load_state_dict({name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


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
