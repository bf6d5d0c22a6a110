"""A detector as one module from pixels to score and map, made of the very functions that score pictures.

Axes: N pictures, P patches, Q = N * P tokens, C channels, D joint embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlad.backbones.base import DENSE
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.backbones.timm import TimmBackbone
from vlad.errors import ConfigError
from vlad.scoring.association import winclip_map
from vlad.scoring.base import PATCHES, window_bank
from vlad.scoring.positioned import near_their_places
from vlad.scoring.text import score_text
from vlad.scoring.windows import upsample

if TYPE_CHECKING:
    from vlad.scoring.pictures import PictureScorer

SCORERS = ("nearest", "winclip", "subspace", "gaussian", "positioned", "histogram")


class ScoringGraph(nn.Module):
    """Pixels (N, 3, h, w), preprocessed, to a dictionary of tensors.

    Outputs: "score" (N,) and "map" (N, rows, cols), both in [0, 1]; "embedding" (N, E), the picture as a unit vector. Where the map is made
    of several, they come as well, because they are joined after upsampling: "text_map", "rarity_map", "reference_map". "text_image",
    "rarity" and "reference" (N,) are partial scores.

    Args:
        scorer: with what the detector scores, its memory included.
        size: (h, w) of the pixels.

    Raises:
        ConfigError: something of it cannot be exported.
    """

    def __init__(self, scorer: PictureScorer, size: tuple[int, int]) -> None:
        super().__init__()
        self.text, self.top_share, self.weight = scorer.text, scorer.top_share, scorer.text_weight
        memory: Any = scorer.memory
        self.method = None if memory is None else memory.method
        if self.method not in (None, *SCORERS):
            raise ConfigError(f"scorer {self.method!r} cannot be exported; use {', '.join(SCORERS)}")
        encoder = scorer.encoder
        self.joint: Any = encoder.joint
        self.patches: Any = encoder.patch_backbone
        needs_joint = self.patches is None or memory is None or (self.text is not None and self.weight > 0)
        if not needs_joint:
            self.text = None
        if needs_joint and self.patches is not None and memory is not None:
            raise ConfigError("words of a CLIP beside a patch backbone take a second input; set text_weight=0, or leave one out")
        if self.text is not None and self.text.is_coarse:
            raise ConfigError("windows from coarse to fine depend on the picture and cannot be exported; use speed 'exact' or 'fast'")
        self.banks = {} if memory is None else {name: _frozen_bank(bank, memory, self.top_share) for name, bank in memory.banks.items()}
        self.scales = () if memory is None else tuple(memory.scales)
        self.size = size
        used = (self.joint if needs_joint else None, self.patches)
        modules = [getattr(one, name) for one in used for name in ("model", "trunk") if hasattr(one, name)]
        if isinstance(self.joint, LiteBackbone) and needs_joint:
            modules += [member.head for member in self.joint.members]
        self.models = nn.ModuleList(modules)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """See the class."""
        image, windows, tokens, grid = self._encode(pixels)
        by_words = image is not None and self.method is None and self.text is not None and self.text.rarity == 0
        found: dict[str, Tensor] = {"embedding": F.normalize(image, dim=1) if by_words and image is not None else _whole(tokens)}
        weight = 1.0 if self.method is None else self.weight
        score, maps = pixels.new_zeros(len(pixels)), {}
        text = None
        if self.text is not None and image is not None and weight > 0:
            of = self.text
            text = score_text(image, {scale: values for scale, values in windows.items() if scale in of.scales}, of.vectors, grid=of.grid,
                              temperature=of.temperature, by_layer=of.by_layer)  # fmt: skip
            found["text_image"] = text.image
            score = weight * text.image
            if text.multi_scale is not None:
                maps["text_map"] = text.multi_scale.unflatten(1, of.grid)
        if self.method is None and self.text is not None and self.text.rarity > 0:
            from vlad.scoring.rarity import rarity

            rare = rarity(tokens, grid)
            found["rarity"] = _top_mean(rare, self.top_share)
            score = self.text.with_rarity(score, found["rarity"])
            maps["rarity_map"] = rare.unflatten(1, grid)
        if self.method is not None:
            distances, reference = self._compare(tokens, windows, grid)
            found["reference"] = reference
            score = score + (1 - weight) * reference
            maps["reference_map"] = distances.unflatten(1, grid)
        found["score"] = score
        found["map"] = self._fused(maps, weight)
        return found | (maps if len(maps) > 1 else {})

    def _fused(self, maps: dict[str, Tensor], weight: float) -> Tensor:
        """One map for whoever reads no other; the finest grid where there are several."""
        rows = max(one.shape[1] for one in maps.values())
        cols = max(one.shape[2] for one in maps.values())
        fine = {}
        for name, one in maps.items():
            grid = (int(one.shape[1]), int(one.shape[2]))
            fine[name] = one if grid == (rows, cols) else upsample(one.flatten(1), grid, (rows, cols))
        if "rarity_map" in fine and self.text is not None:
            return self.text.with_rarity(fine["text_map"], fine["rarity_map"]) if "text_map" in fine else fine["rarity_map"]
        if "reference_map" not in fine:
            return fine["text_map"]
        return (1 - weight) * fine["reference_map"] + (weight * fine["text_map"] if "text_map" in fine else 0)

    def _encode(self, pixels: Tensor) -> tuple[Tensor | None, dict[int, Tensor], Tensor, tuple[int, int]]:
        """Joint embedding (N, D), windows, patch tokens (N, P, C) and their grid."""
        if self.patches is not None and self.method is not None:
            tokens, grid = _timm_tokens(self.patches, pixels)
            return None, {}, tokens, grid
        scales = set(self.scales)
        if self.text is not None and (self.method is None or self.weight > 0):
            scales |= set(self.text.scales)
        if isinstance(self.joint, LiteBackbone):
            seen = self.joint._encode_one(pixels, sorted(scales), True)
            assert seen.patches is not None
            return seen.image, seen.windows, seen.patches, self.joint.grid
        tower, windows = self.joint.tower, {}
        embedded = tower.embed(pixels)
        dense = next((scale for scale in scales if scale <= DENSE), None)
        if dense is None:
            image, last = tower.encode(embedded)
        else:
            image, last, values = tower.encode_dense(embedded, self.joint.dense_attention, -dense)
            windows[dense] = values.flatten(1, -2)
        windows |= tower.encode_windows(embedded, sorted(scale for scale in scales if scale > DENSE))
        return image, windows, last, self.joint.grid

    def _compare(self, tokens: Tensor, windows: dict[int, Tensor], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Distances (N, P) from the references, and the score (N,); as of `Method.compare`."""
        count = tokens.shape[0]
        if self.method == "gaussian":
            distances = torch.stack([self.banks[PATCHES].distances(one) for one in tokens.unbind(0)])
            return distances, _top_mean(distances, self.top_share)
        if self.method == "positioned":
            distances = torch.stack([self.banks[PATCHES].distances(one, grid) for one in tokens.unbind(0)])
            return distances, _top_mean(distances, self.top_share)
        patch = self.banks[PATCHES].distances(tokens.flatten(0, 1)).view(count, -1)
        if self.method == "histogram":
            score = _top_mean(patch, self.top_share)
            return patch, torch.stack([self.banks[PATCHES].fused(*pair) for pair in zip(tokens.unbind(0), score.unbind(0), strict=True)])
        if self.method != "winclip":
            return patch, _top_mean(patch, self.top_share)
        of_windows = {
            scale: self.banks[window_bank(scale)].distances(windows[scale].flatten(0, 1)).view(count, -1) for scale in self.scales
        }
        found = [winclip_map(patch[one], {scale: each[one] for scale, each in of_windows.items()}, grid) for one in range(count)]
        distances = torch.stack(found)
        return distances, distances.amax(1)


class _Gaussian(nn.Module):
    """`GaussianBank` with the inverse factors worked out, because ONNX solves no triangles."""

    def __init__(self, bank: Any, memory: Any) -> None:
        from vlad.scoring.gaussian import FLOOR, chosen_channels

        super().__init__()
        self.floor = FLOOR
        self.channels = chosen_channels(len(next(iter(memory.embeddings.values()))), bank.channels)
        self.mean, factors = bank.fitted(math.prod(memory.grid))
        identity = torch.eye(factors.shape[-1], dtype=torch.float64).expand(factors.shape)
        self.inverse = torch.linalg.solve_triangular(factors.double(), identity, upper=False).float()

    def distances(self, tokens: Tensor) -> Tensor:
        """(P,) of tokens (P, C)."""
        rows = F.normalize(tokens, dim=-1)[:, self.channels]
        white = torch.einsum("pij,pj->pi", self.inverse, rows - self.mean)
        return (white.square().sum(-1) * (self.floor / 4)).clamp(max=1)


class _Positioned(nn.Module):
    """`PositionedBank.matched`, with the references as one tensor."""

    def __init__(self, bank: Any, memory: Any) -> None:
        super().__init__()
        places = math.prod(memory.grid)
        owned = list(bank._tokens.values())
        if len({len(rows) for rows in owned}) != 1 or len(owned[0]) % places:
            raise ConfigError("references of scorer 'positioned' have different numbers of views and cannot be exported; fit them anew")
        self.tokens = torch.stack([rows.view(-1, places, rows.shape[1]) for rows in owned])  # (K, V, P, C)
        self.wholes = F.normalize(self.tokens[:, 0].mean(1), dim=1)
        self.pictures, self.reach = min(bank.pictures, len(owned)), bank.reach

    def distances(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """(P,) of tokens (P, C)."""
        unit, (rows, cols) = F.normalize(tokens, dim=-1), grid
        order = (self.wholes @ F.normalize(unit.mean(0), dim=0)).topk(self.pictures).indices
        normal = self.tokens.index_select(0, order).flatten(0, 1).unflatten(1, (rows, cols))  # (K * V, rows, cols, C)
        return near_their_places(unit.view(rows, cols, -1), normal, self.reach)


class _Histogram(nn.Module):
    """`HistogramBank` with its words and its spread worked out."""

    def __init__(self, bank: Any, top_share: float) -> None:
        super().__init__()
        self.patches = bank
        self.words, self.spread = bank.words(), bank._spread_of(None, top_share)

    def distances(self, tokens: Tensor) -> Tensor:
        """(P,) of tokens (P, C)."""
        return self.patches.distances(tokens)

    def fused(self, tokens: Tensor, score: Tensor) -> Tensor:
        """As `HistogramBank.fused`, of tokens (P, C) and a score ()."""
        if self.words is None or self.spread is None:
            return score
        unit, words, spread = F.normalize(tokens, dim=-1), self.words, self.spread
        nearest = (words.centres.square().sum(1) - 2 * unit @ words.centres.T).argmin(1)
        shares = F.one_hot(nearest, len(words.centres)).float().mean(0)
        distance = ((shares - words.mean).square() / words.variance).mean().sqrt()
        counted = spread.patch + spread.patch_width * (distance - spread.counted) / spread.counted_width
        return torch.maximum(score, counted).clamp(max=1)


def _frozen_bank(bank: Any, memory: Any, top_share: float) -> Any:
    """A bank whose search is exact and can be traced; the detector's own is left alone."""
    from vlad.scoring.gaussian import GaussianBank
    from vlad.scoring.histogram import HistogramBank
    from vlad.scoring.nearest import MemoryBank
    from vlad.scoring.positioned import PositionedBank

    if isinstance(bank, GaussianBank):
        return _Gaussian(bank, memory)
    if isinstance(bank, PositionedBank):
        return _Positioned(bank, memory)
    other = bank.copy()
    if isinstance(other, MemoryBank):
        other.is_exact = True
        _ = other.rows  # joined now
        if isinstance(other, HistogramBank):
            return _Histogram(other, top_share)
    else:
        other.distances(torch.zeros(1, len(next(iter(other._sums.values())))))  # fitted now
    return other


def _top_mean(values: Tensor, share: float) -> Tensor:
    """As `mean_of_top`, of each row of (N, P)."""
    return values.topk(max(1, round(share * values.shape[1])), dim=1).values.mean(1)


def _whole(tokens: Tensor) -> Tensor:
    """The unit mean (N, C) of unit tokens (N, P, C), as `View.embedding`."""
    return F.normalize(F.normalize(tokens, dim=2).mean(1), dim=1)


def _timm_tokens(backbone: TimmBackbone, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
    merged = backbone.merged_maps(pixels)
    return merged.flatten(2).transpose(1, 2), (int(merged.shape[2]), int(merged.shape[3]))


def input_size(scorer: PictureScorer, shown: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width that a picture is resized to, and those of the input, which may be padded, for pictures of (H, W)."""
    patches: Any = scorer.encoder.patch_backbone
    if patches is not None and scorer.memory is not None:
        height, width = patches._size(*shown)
        multiple = patches._multiple
        return (height, width), (math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple)
    joint: Any = scorer.encoder.joint
    return (joint.preprocessing.size,) * 2, (joint.preprocessing.size,) * 2


@contextmanager
def baked_positions(graph: ScoringGraph) -> Iterator[None]:
    """Inside, the position embeddings of a timm ViT are those of the graph's input size, computed once, and no part of the graph."""
    from timm.models import vision_transformer

    backbone = graph.patches
    model = None if backbone is None or not backbone._is_vit else backbone.model
    if model is None or getattr(model, "pos_embed", None) is None or not hasattr(vision_transformer, "resample_abs_pos_embed"):
        yield
        return
    before, resample = model.pos_embed, vision_transformer.resample_abs_pos_embed
    grid = tuple(side // backbone._multiple for side in graph.size)
    prefix = 0 if getattr(model, "no_embed_class", False) else model.num_prefix_tokens
    baked = resample(before.detach(), new_size=list(grid), old_size=list(model.patch_embed.grid_size), num_prefix_tokens=prefix)
    model.pos_embed = nn.Parameter(baked, requires_grad=False)
    vision_transformer.resample_abs_pos_embed = lambda posemb, *_, **__: posemb
    try:
        yield
    finally:
        model.pos_embed, vision_transformer.resample_abs_pos_embed = before, resample
