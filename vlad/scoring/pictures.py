"""Scores of whole pictures: text, references, or both fused, for pictures of any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vlad.backbones.base import DENSE
from vlad.errors import warn
from vlad.pictures.appearance import with_light
from vlad.pictures.roi import Part, Roi, in_short, patches_inside
from vlad.pictures.tiling import TileGrid

_LONG, _LARGE = 2, 1.5  # of the shorter side, of the model's input

if TYPE_CHECKING:
    from torch import Tensor

    from vlad.backbones.base import PatchTokens
    from vlad.backbones.encoder import Encoder, View
    from vlad.scoring.base import Comparison
    from vlad.scoring.text import TextScores


WORDS = "words"  # in place of a scoring method where there are no references


@dataclass(frozen=True)
class Scored:
    """Image score, float32 map (H, W) or None, partial scores, unit embedding (E,), and remarks on one picture."""

    score: float
    map: np.ndarray | None
    parts: dict[str, float]
    embedding: np.ndarray
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextSide:
    """The zero-shot side: unit vectors (2, D) of normal and anomalous text, and how embeddings are compared with them.

    Attributes:
        noun: the class name in the sentences.
        prompts: fingerprint of the prompt set.
        white_level: of pictures of 16 bits.
        tile_long: whether pictures far from square are looked at in tiles.
        adapt: what is matched to the references before pictures are looked at.
        is_coarse: windows are looked at from coarse to fine; see `vlad.scoring.coarse`.
        by_layer: unit vectors (L, 2, D) for dense maps of the last L blocks, None without.
        rarity: weight of rarity inside the picture.
        rarity_centre: the rarity that speaks neither for nor against an anomaly.
    """

    vectors: Tensor
    grid: tuple[int, int]
    scales: tuple[int, ...]
    temperature: float
    noun: str = ""
    prompts: str = ""
    by_layer: Tensor | None = None
    is_coarse: bool = False
    rarity: float = 0.0
    rarity_centre: float = 0.25

    def with_rarity(self, text: Tensor, rare: Tensor) -> Tensor:
        """Text scores in [0, 1], their log odds moved by rarity, as scores in [0, 1]."""
        import torch

        return torch.sigmoid(torch.logit(text, eps=1e-6) + self.rarity * (rare - self.rarity_centre))


class Remembered(Protocol):
    """Normal pictures, as a scorer needs them; `vlad.references.ReferenceMemory` is one."""

    @property
    def method(self) -> str:
        """Name of the scoring method."""
        ...

    @property
    def search(self) -> str | None:
        """How the nearest normal token is looked for where that is not exact."""
        ...

    @property
    def scales(self) -> tuple[int, ...]:
        """Scales of the windows that `compare` needs in a view, beside patch tokens."""
        ...

    def compare(self, view: View, *, top_share: float, without: int | None = None) -> Comparison:
        """How far a view lies from them, as if the one numbered `without` had never been seen."""
        ...


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """All that decides the score of a picture beside the picture, the model and the references themselves. A threshold is worth something
    only for scores made under the conditions that it was made under.

    Attributes:
        scorer: the scoring method; `WORDS` without references.
        top_share: share of the patches whose mean is the score.
        tile, tile_overlap: how large pictures are looked at; the overlap is None without tiles.
        roi, ignore: where is looked.
        rarity: weight of rarity inside the picture; None beside references, where it plays no part.
        search: how the nearest normal token is looked for; None where that is exact.
        text_maps: "coarse" where windows are looked at from coarse to fine.
        text_weight: weight of the text score. Where it is 0 the words decide nothing, and all below is None.
        scales, temperature, prompts, noun: windows, softmax temperature, fingerprint of the prompt set and class name of the text score.
    """

    scorer: str
    top_share: float
    tile: int | None
    tile_overlap: float | None
    text_weight: float
    scales: tuple[int, ...] | None = None
    temperature: float | None = None
    prompts: str | None = None
    noun: str | None = None
    roi: str | None = None
    ignore: str | None = None
    rarity: float | None = None
    white_level: int | None = None
    tile_long: bool = False
    adapt: str | None = None
    search: str | None = None
    text_maps: str | None = None

    def changed(self, before: Conditions) -> list[str]:
        """Each field that differs from `before`, as "NAME=NOW instead of BEFORE"."""
        names = (field.name for field in fields(self) if getattr(self, field.name) != getattr(before, field.name))
        return [f"{name}={self._shown(name)} instead of {before._shown(name)}" for name in names]

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        return in_short(value) if name in ("roi", "ignore") else repr(value)


@dataclass(frozen=True, kw_only=True)
class PictureScorer:
    """Scores pictures with text, references or both.

    Zero-shot, a rarity weight v moves the log odds of the text score by v * (rarity inside the picture - centre), for score and map; v = 0
    leaves the text score bit for bit.

    With a text weight w, score and map are w * text + (1 - w) * references. With w = 0.5 and the scorer `winclip` that is WinCLIP+'s
    (s + max F) / 2 and (M + F) / 2. A patch backbone keeps the formula with its own distances as F; they are of the same range,
    (1 - cos) / 2. At w = 0 the text score of the whole picture is still reported among the parts where it costs nothing, or where
    `reports_text` asks for it.

    Attributes:
        encoder: the backbones.
        text: the zero-shot side, None for a backbone that knows no words.
        memory: the references, None for zero-shot.
        text_weight: w, ignored without references.
        top_share: share of the highest patch distances whose mean is the score beside references; `winclip` takes the maximum.
        tile: side in pixels of overlapping tiles for pictures larger than that; None looks at them as a whole, unless `tile_long`.
        tile_long: pictures beyond 2 : 1 whose longer side is beyond one and a half times the model's input are looked at in tiles of
            their shorter side; squeezed into a square, as line scans would be, they lose what is small.
        tile_overlap: share of a tile's side that neighbours share at least.
        maps: False gives image scores alone.
        batch_size: pictures or tiles that go through a backbone together.
        roi: the part of each picture that counts; None: all of it.
        white_level: with which pictures of 16 bits are read.
        light: what the light of every picture is matched to; None leaves it.
        reports_text: the text score is worth a pass of its own although it has no weight.
    """

    encoder: Encoder
    text: TextSide | None
    memory: Remembered | None
    text_weight: float
    top_share: float
    tile: int | None = None
    tile_overlap: float = 0.25
    maps: bool = True
    batch_size: int = 8
    roi: Roi | None = None
    white_level: int | None = None
    tile_long: bool = False
    light: tuple[float, ...] | None = None
    reports_text: bool = False

    @property
    def conditions(self) -> Conditions:
        """What the scores are made under."""
        weight = 1.0 if self.memory is None else self.text_weight
        text = self.text if weight > 0 else None
        return Conditions(
            scorer=WORDS if self.memory is None else self.memory.method,
            top_share=self.top_share,
            tile=self.tile,
            tile_overlap=self.tile_overlap if self.tile or self.tile_long else None,
            text_weight=weight,
            scales=None if text is None else tuple(max(scale, DENSE) for scale in text.scales),
            temperature=None if text is None else text.temperature,
            prompts=None if text is None else text.prompts,
            noun=None if text is None else text.noun,
            roi=None if self.roi is None else self.roi.look,
            ignore=None if self.roi is None else self.roi.ignore,
            rarity=None if text is None or self.memory is not None else text.rarity,
            search=None if self.memory is None else self.memory.search,
            text_maps="coarse" if text is not None and text.is_coarse else None,
            white_level=self.white_level,
            tile_long=self.tile_long,
            adapt=None if self.light is None else "exposure",
        )

    def parts(self, picture: np.ndarray) -> Iterator[Part]:
        """All that is looked at of a picture uint8 (H, W, 3): what counts of it, and then, if that is larger than a tile, its tiles."""
        whole = self._matched((picture, None) if self.roi is None else self.roi.cut(picture))
        yield whole
        if (side := self._tile_of(whole[0])) is not None:
            yield from (tile for tile in _tiles(whole, self._tile_grid(whole[0], side)) if _counts(tile))

    def _tile_of(self, picture: np.ndarray) -> int | None:
        """The side of a picture's tiles; None where it is looked at as a whole."""
        short, long = sorted(picture.shape[:2])
        if self.tile is not None:
            return self.tile if long > self.tile else None
        is_long = self.tile_long and long > _LONG * short and long > _LARGE * self.encoder.size
        return max(short, self.encoder.size) if is_long else None

    def score(self, pictures: list[np.ndarray], *, without: int | None = None) -> list[Scored]:
        """Score pictures uint8 (H, W, 3): those that fit in a tile in one batch, each larger one by its tiles; as if the reference
        numbered `without` had never been added."""
        if self.roi is None:
            return self._score_parts([(picture, None) for picture in pictures], without)
        found = self._score_parts([self.roi.cut(picture) for picture in pictures], without)
        sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
        placed = (None if one.map is None else self.roi.whole(one.map, size) for one, size in zip(found, sizes, strict=True))
        return [replace(one, map=values) for one, values in zip(found, placed, strict=True)]

    def _matched(self, part: Part) -> Part:
        """A picture in the light of the references, where that is wanted."""
        return part if self.light is None else (with_light(part[0], self.light), part[1])

    def _score_parts(self, parts: list[Part], without: int | None) -> list[Scored]:
        parts = [self._matched(part) for part in parts]
        is_large = [self._tile_of(picture) is not None for picture, _ in parts]
        words = self.reports_text
        small = iter(self._score([part for part, large in zip(parts, is_large, strict=True) if not large], self.maps, without, words))
        whole = iter(self._score([part for part, large in zip(parts, is_large, strict=True) if large], False, without, words))
        return [
            self._score_tiles(part, next(whole), without) if large else next(small) for part, large in zip(parts, is_large, strict=True)
        ]

    def _score(self, parts: list[Part], maps: bool, without: int | None, words: bool = False) -> list[Scored]:
        """Score each part as a whole, in one batch; with `words` also by text without a weight."""
        weight = 1.0 if self.memory is None else self.text_weight
        scales = set(self.text.scales if self.text is not None and maps and weight > 0 and not self.text.is_coarse else ())
        scales |= set(() if self.memory is None else self.memory.scales)
        # Without a weight, text alone is no reason for a pass of its own.
        patches = self.memory is not None or (self.text is not None and self.text.rarity > 0)
        views = self.encoder.see([picture for picture, _ in parts], patches=patches, scales=tuple(sorted(scales)), text=weight > 0 or words)
        # One by one, so that a picture's score is bit for bit the same in every batch.
        return [self._fuse(of_inside(view, part[1]), part, weight, maps, without) for view, part in zip(views, parts, strict=True)]

    def _fuse(self, view: View, part: Part, weight: float, maps: bool, without: int | None) -> Scored:
        import torch

        from vlad.scoring.base import mean_of_top

        height, width = part[0].shape[:2]
        text = self._score_text(view, part[0], maps and weight > 0)
        score, anomaly_map, parts = 0.0, None, {}
        if text is not None:
            parts = {"text_image": float(text.image)} | {_named(scale): float(values.max()) for scale, values in text.scales.items()}
            score = weight * parts["text_image"]
        if text is not None and text.multi_scale is not None and self.text is not None:
            anomaly_map = weight * upsampled(text.multi_scale, self.text.grid, (1.0, 1.0), (height, width))
            parts["text_map_max"] = float(text.multi_scale.max())
        if self.memory is None and self.text is not None and self.text.rarity > 0 and view.patches is not None:
            rare = self._score_rarity(view.patches)
            parts["rarity"] = mean_of_top(rare, self.top_share, view.inside)
            score = float(self.text.with_rarity(torch.tensor(score), torch.tensor(parts["rarity"])))
            if anomaly_map is not None:
                spread = torch.from_numpy(upsampled(rare[None], view.patches.grid, view.patches.shown, (height, width)))
                anomaly_map = self.text.with_rarity(torch.from_numpy(anomaly_map), spread).numpy()
        if self.memory is not None:
            found = self.memory.compare(view, top_share=self.top_share, without=without)
            score += (1 - weight) * found.score
            parts["reference"] = found.score
            parts["reference_map_max"] = float(found.distances.max())
            if maps:
                distances = (1 - weight) * upsampled(found.distances[None], found.grid, found.shown, (height, width))
                anomaly_map = distances if anomaly_map is None else anomaly_map + distances
        if anomaly_map is not None:
            if part[1] is not None:
                anomaly_map = np.where(part[1], anomaly_map, np.float32(0))
            is_text_alone = self.memory is None and "rarity" not in parts
            parts["map_max"] = parts.pop("text_map_max") if is_text_alone else float(anomaly_map.max())
        return Scored(score, anomaly_map, parts, view.embedding.cpu().numpy())

    def _score_text(self, view: View, picture: np.ndarray, with_windows: bool) -> TextScores | None:
        from vlad.scoring.text import score_text

        if self.text is None or view.image is None:
            return None
        if self.text.is_coarse and with_windows:
            from vlad.scoring.coarse import coarse_to_fine

            how: dict[str, Any] = {"grid": self.text.grid, "scales": self.text.scales, "temperature": self.text.temperature}
            return coarse_to_fine(self.encoder.some_windows(picture), view.image, self.text.vectors, **how)
        windows = {scale: values for scale, values in view.windows.items() if with_windows and scale in self.text.scales}
        of = self.text
        return score_text(view.image, windows, of.vectors, grid=of.grid, temperature=of.temperature, by_layer=of.by_layer)

    def _score_rarity(self, patches: PatchTokens) -> Tensor:
        """Rarity (P,) inside the picture."""
        from vlad.scoring.rarity import rarity

        return rarity(patches.tokens[None], patches.grid)[0]

    def _score_tiles(self, part: Part, whole: Scored, without: int | None) -> Scored:
        """The blended map of a picture's tiles; its score is the highest of the tiles and of the whole, so that a small defect counts."""
        side = self._tile_of(part[0])
        assert side is not None  # only a larger picture than a tile comes here
        grid = self._tile_grid(part[0], side)
        if self.tile is None:
            height, width = part[0].shape[:2]
            size = self.encoder.size
            note = (
                f"pictures of {width} x {height} are looked at in {len(grid)} tiles of {grid.tile_width} x {grid.tile_height} as well: "
                f"squeezed into the model's {size} x {size} they lose what is small; tile=0 (--tile 0) leaves it at that"
            )
            warn(note)
            whole = replace(whole, notes=(note,))
        best: list[float] = []

        def tile_maps() -> Iterator[np.ndarray]:
            tiles = _tiles(part, grid)
            while some := list(islice(tiles, self.batch_size)):
                found = iter(self._score([tile for tile in some if _counts(tile)], self.maps, without))
                for tile in some:
                    if not _counts(tile):
                        yield np.zeros(tile[0].shape[:2], np.float32)
                        continue
                    scored = next(found)
                    best.append(scored.score)
                    if scored.map is not None:
                        yield scored.map

        blended = grid.blend(tile_maps())
        parts = whole.parts | {"text_tile_max" if self.memory is None else "tile_max": max(best), "tiles": float(len(best))}
        score = max(whole.score, *best)
        if not self.maps or (self.memory is None and self.text is not None and not self.text.scales):
            return replace(whole, score=score, map=None, parts=parts)
        return replace(whole, score=score, map=blended, parts=parts | {"map_max": float(blended.max())})

    def _tile_grid(self, picture: np.ndarray, tile: int) -> TileGrid:
        return TileGrid.over(picture.shape[0], picture.shape[1], tile, overlap=self.tile_overlap, least=self.encoder.size)


def _named(scale: int) -> str:
    return f"text_scale_{scale}_max" if scale else "text_dense_max"


def _tiles(part: Part, grid: TileGrid) -> Iterator[Part]:
    """Crops of a picture and of what counts of it, in the order of the grid's boxes."""
    picture, inside = part
    for left, top, right, bottom in grid.boxes():
        yield picture[top:bottom, left:right], None if inside is None else inside[top:bottom, left:right]


def _counts(part: Part) -> bool:
    """Whether anything of a tile does."""
    return part[1] is None or bool(part[1].any())


def of_inside(view: View, inside: np.ndarray | None) -> View:
    """The view of a picture of which only bool (h, w) counts; None: all of it."""
    import torch

    if inside is None or view.patches is None:
        return view
    found = torch.from_numpy(patches_inside(inside, view.patches.grid, view.patches.shown))
    return replace(view, inside=found.to(view.patches.tokens.device))


def upsampled(values: Tensor, grid: tuple[int, int], shown: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """Patch values (1, P) to a map (H, W); the padded rest of the grid is cut off."""
    from vlad.scoring.windows import upsample

    padded = (round(size[0] / shown[0]), round(size[1] / shown[1]))
    upsampled: np.ndarray = upsample(values, grid, padded)[0, : size[0], : size[1]].cpu().numpy()
    return upsampled
