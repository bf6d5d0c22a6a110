"""From trunk features to the joint space: one embedding per place of a 20 x 20 grid, one embedding per picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlad.backbones.lite.trunk import CHANNELS

TRAIN_SIZE = 320  # pixels of the pictures that the head is trained on; it runs on larger ones as well
GRID = TRAIN_SIZE // 16
SIZES = (  # channels and side of every map of `features` at that size
    (2 * CHANNELS[0], GRID),
    (2 * CHANNELS[1], GRID),
    (CHANNELS[2], GRID),
    (CHANNELS[3], GRID // 2),
    (9, GRID),
)
TONE = 2 * sum(channels for channels, _ in SIZES[:4])  # length of the vector that `features` puts last
LENGTH = sum(channels * side * side for channels, side in SIZES) + TONE  # numbers per picture in the flat form that training caches
QUIET = (1.0, 0.6, 0.4, 0.2)  # a tenth of what each stage typically varies by; less variation than that is not blown up


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of the head; written beside its weights."""

    dim: int = 128  # of the joint space
    width: int = 96  # channels of the hidden map
    blocks: int = 3  # residual blocks; each sees one place further
    attention: int = 4  # queries of the attention pooling
    dropout: float = 0.1
    noise: float = 0.2  # training only: standard deviation of the noise on standardised features
    stages: Sequence[int] = (0, 1, 2, 3, 4)  # which of the maps of `features` it reads


def features(maps: list[Tensor]) -> list[Tensor]:
    """What the head reads, without parameters: where each place differs from its own picture, and what the picture is like as a whole.

    Every stage is standardised over the picture: "unlike the rest of this picture" carries over to pictures never seen, absolute
    values do not. Finer stages come to the grid as mean and standard deviation of each cell, so that thin defects are not averaged away.

    Returns:
        Float32 maps (N, C, side, side) with (C, side) as in `SIZES` (for larger pictures, larger sides), and the statistics that were
        taken out, (N, TONE).
    """
    stages = [stage.float() for stage in maps]
    stages = [_mean_and_std(stages[0], 4), _mean_and_std(stages[1], 2), stages[2], stages[3]]
    local, tone = [], []
    for stage, quiet in zip(stages, QUIET, strict=True):
        mean = stage.mean(dim=(2, 3), keepdim=True)
        deviation = (stage - mean).square().mean(dim=(2, 3), keepdim=True).sqrt()
        local.append(((stage - mean) / (deviation + quiet)).clamp(-8, 8))
        tone += [mean.flatten(1) / (10 * quiet), torch.log(deviation + quiet).flatten(1)]
    return [*local, torch.cat([rarity(stage) for stage in local[:3]], dim=1), torch.cat(tone, dim=1)]


def rarity(local: Tensor) -> Tensor:
    """How well each place of (N, C, side, side) is explained by the rest of its own picture: (N, 3, side, side), high where its like is.

    Cosine similarity with the places outside its neighbourhood: the soft maximum at two sharpnesses, and the maximum.
    """
    tokens = F.normalize(local.flatten(2), dim=1)
    side = local.shape[-1]
    axis = torch.arange(side, device=local.device)
    close = (axis[:, None] - axis[None]).abs() <= 2
    near = (close[:, None, :, None] & close[None, :, None, :]).reshape(side * side, side * side)
    similarity = (tokens.transpose(1, 2) @ tokens).masked_fill_(near, -1.0)
    # Cosines are bounded, so that the soft maxima need no shift; the sharper one is the cube of the other's terms.
    terms = (4.0 * similarity).exp_()
    soft = [terms.sum(-1).log() / 4.0, (terms * terms).mul_(terms).sum(-1).log() / 12.0]
    return (torch.stack([*soft, similarity.amax(-1)], dim=1) * 5).unflatten(2, (side, side))


def _mean_and_std(stage: Tensor, step: int) -> Tensor:
    mean = F.avg_pool2d(stage, step)
    variance = F.avg_pool2d(stage.square(), step) - mean.square()
    return torch.cat([mean, variance.clamp_min(0).sqrt()], dim=1)


def flatten(parts: list[Tensor]) -> Tensor:
    """(N, LENGTH) from what `features` returns."""
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def unflatten(flat: Tensor) -> list[Tensor]:
    """What `features` returns, from (N, LENGTH)."""
    *maps, tone = flat.split([*(channels * side * side for channels, side in SIZES), TONE], dim=1)
    return [*(part.unflatten(1, (c, side, side)) for part, (c, side) in zip(maps, SIZES, strict=True)), tone]


class Head(nn.Module):
    """A small convolutional head on frozen features: places, and the picture by attention over them."""

    def __init__(self, config: HeadConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HeadConfig()
        self.enter = nn.ModuleList(nn.Linear(SIZES[stage][0], config.width, bias=False) for stage in config.stages)
        self.norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.dropout) for _ in range(config.blocks))
        self.place = nn.Linear(config.width, config.dim)
        self.tone = nn.Sequential(nn.LayerNorm(TONE), nn.Dropout(0.3), nn.Linear(TONE, config.width), nn.GELU())
        self.whole = nn.Linear(2 * config.width, config.dim)
        self.query = nn.Linear(config.width, config.attention)
        self.value = nn.Linear(config.attention * config.dim, config.dim)

    def forward(self, parts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of places (N, D, side, side) and of the picture (N, D), and the attention (N, queries, P) that made the latter.

        The picture is its overall look plus attended places, by which a small defect moves the whole.
        """
        *maps, tone = parts
        side = maps[0].shape[-1]
        hidden = self.hidden(maps)
        places = self.place(hidden)
        attention = self.query(hidden).softmax(dim=1).transpose(1, 2)
        overall = torch.cat([hidden.mean(dim=1), self.tone(tone)], dim=1)
        picture = self.whole(overall) + self.value((attention @ places).flatten(1))
        return places.transpose(1, 2).unflatten(2, (side, side)), picture, attention

    def hidden(self, maps: list[Tensor]) -> Tensor:
        """The hidden map (N, P, width) from the maps of `features`."""
        total: Tensor | None = None
        side = maps[0].shape[-1]
        for part, enter in zip((maps[stage] for stage in self.config.stages), self.enter, strict=True):
            row = enter((self._disturb(part) if self.training else part).flatten(2).transpose(1, 2))
            if part.shape[-1] != side:
                coarse = row.transpose(1, 2).unflatten(2, part.shape[-2:])
                row = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
            total = row if total is None else total + row
        assert total is not None
        hidden = self.norm(total)
        if self.training:
            hidden = hidden + self.config.noise * torch.randn_like(hidden)
        hidden = F.gelu(hidden)
        for block in self.blocks:
            hidden = block(hidden, side)
        return hidden

    def _disturb(self, part: Tensor) -> Tensor:
        """Training noise: whole channels of a picture dropped or rescaled."""
        factor = 1 + self.config.noise * torch.randn(*part.shape[:2], 1, 1, device=part.device)
        return part * F.dropout(factor, self.config.dropout).to(part.dtype)


class Block(nn.Module):
    """A residual block on (N, P, width): a 3 x 3 depthwise convolution over the grid, then two linear layers at each place."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.dropout = dropout

    def forward(self, hidden: Tensor, side: int) -> Tensor:
        spread = self.spread(hidden.transpose(1, 2).unflatten(2, (side, side))).flatten(2).transpose(1, 2)
        change = self.mix(self.norm(spread))
        if self.training:  # whole channels of a picture
            change = change * F.dropout(torch.ones_like(change[:, :1]), self.dropout)
        return hidden + change


def windows(places: Tensor, scale: int) -> Tensor:
    """Window embeddings (N, W, D) from the map of places (N, D, rows, cols): averages over `scale` x `scale` places at stride 1."""
    return F.avg_pool2d(places, scale, stride=1).flatten(2).transpose(1, 2)
