"""Patch distances between the pictures of one product, from which any choice of references is scored: what eval/thresholds.py draws on.

A product is a category of a data set, or a procedural line of which a fixed design is made again and again: as it is, with light, focus
and place that vary, with harmless marks on some, or at any angle. Distances are those of scorer `nearest` without turned copies, of `lite`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vlad import read_image
from vlad.backbones import load_backbone
from vlad.backbones.encoder import Encoder
from vlad.evaluation.datasets import Category
from vlad.references.augment import mirrored, slight_changes
from vlad.synthetic import DEFECTS, FAMILY_NOUNS, ProductLine
from vlad.synthetic.hard_normals import disguise
from vlad.synthetic.sampling import finish
from vlad.synthetic.scene import compose

KINDS = ("plain", "varying", "marked", "turned", "varying")
GOOD, BAD, VIEWED = 40, 20, 8  # pictures of a line; of so many good ones slightly changed views are seen too
MOST = 50  # pictures of each kind of a real product
CHANGED, MIRRORED = 8, 2  # views of each
SIDE = 320


class Pictures(NamedTuple):
    """Of a product: good ones that may be references, good ones that may not, anomalous ones; uint8 (H, W, 3)."""

    name: str
    references: list[np.ndarray]
    good: list[np.ndarray]
    bad: list[np.ndarray]


@dataclass(frozen=True)
class Product:
    """Distances within a product of N good and B anomalous pictures, of which the first R may be references.

    Attributes:
        distances: (N + B, R, P) of each patch of a picture to the nearest of each that may be a reference.
        views: of slightly changed and mirrored views of the first few, `CHANGED` and `MIRRORED` of each:
            (viewed, CHANGED + MIRRORED, viewed, P) of each patch to the nearest of each of those few.
    """

    name: str
    distances: Tensor
    views: Tensor
    good: int

    @property
    def bad(self) -> int:
        return len(self.distances) - self.good

    @property
    def references(self) -> int:
        return self.distances.shape[1]

    @property
    def viewed(self) -> int:
        return len(self.views)


class Eye:
    """Sees pictures once; distances follow."""

    def __init__(self) -> None:
        self._encoder = Encoder(load_backbone("lite", device="cpu", dtype="float32"))

    def product(self, pictures: Pictures) -> Product:
        """All distances of a product."""
        normal = [self._tokens(picture) for picture in pictures.references]
        shown = [[*slight_changes(picture), *mirrored(picture)] for picture in pictures.references[:VIEWED]]
        views = [[self._tokens(view) for view in changed] for changed in shown]
        queries = [*normal, *(self._tokens(picture) for picture in (*pictures.good, *pictures.bad))]
        distances = torch.stack([_to_each(query, normal) for query in queries])
        of_views = torch.stack([torch.stack([_to_each(view, normal[:VIEWED]) for view in changed]) for changed in views])
        return Product(pictures.name, distances, of_views, len(normal) + len(pictures.good))

    def _tokens(self, picture: np.ndarray) -> Tensor:
        (view,) = self._encoder.see([picture], patches=True, text=False)
        assert view.patches is not None
        return F.normalize(view.patches.tokens, dim=-1)


def _to_each(query: Tensor, normal: list[Tensor]) -> Tensor:
    """(N, P): distances in [0, 1] of the patches to each normal picture; kept in half precision, 0.05 % off at most."""
    cosines = torch.stack([(query @ tokens.T).amax(1) for tokens in normal])
    return ((1 - cosines) / 2).clamp_(0, 1).half()


def line_pictures(number: int) -> Pictures:
    """Of procedural line `number`; any good one may be a reference. Design, kind and severity follow from the number alone."""
    families = np.random.default_rng(7).permutation(sorted(FAMILY_NOUNS)).tolist()
    family, kind = families[number % len(families)], KINDS[number % len(KINDS)]
    severity = np.random.default_rng((number, 1)).uniform(0.2, 1.2)
    found = []
    for index in range(GOOD + BAD):
        rng = np.random.default_rng((number, 2, index))
        line = ProductLine(family, (number, 3), SIDE)
        defect = None if index < GOOD else str(rng.choice(DEFECTS))
        try:
            picture = line.sample((number, 4, index), defect).image
        except RuntimeError:  # a defect that does not show on this product
            defect = "stain"
            picture = line.sample((number, 4, index), defect).image
        if kind == "marked" and rng.random() < 0.5 * severity:
            design = np.random.default_rng(line.seed)
            view, camera, words, strike = np.random.default_rng((number, 4, index)).spawn(4)
            scene = disguise(compose(family, SIDE, design, view), rng)
            picture = finish(scene, family, family, camera, words, strike, (defect,) if defect else ()).image
        if kind == "turned":
            picture = _moved(picture, rng.uniform(0, 360))
        if kind == "varying":
            picture = _varied(picture, severity, rng)
        found.append(picture)
    return Pictures(f"{family} {number}, {kind}", found[:GOOD], [], found[GOOD:])


def _varied(picture: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Light, focus and place as they vary from picture to picture."""
    right, down = rng.normal(0, 0.015 * SIDE * severity, 2)
    picture = _moved(picture, rng.normal(0, 1.5 * severity), right, down)
    blur = abs(rng.normal(0, 0.8 * severity))
    picture = cv2.GaussianBlur(picture, (0, 0), blur) if blur > 0.2 else picture
    return cv2.convertScaleAbs(picture, alpha=float(np.exp(rng.normal(0, 0.1 * severity))), beta=0)


def _moved(picture: np.ndarray, degrees: float, right: float = 0.0, down: float = 0.0) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D(((SIDE - 1) / 2, (SIDE - 1) / 2), degrees, 1.0)
    matrix[:, 2] += np.array([right, down])
    return cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def category_pictures(category: Category) -> Pictures:
    """Of a category: its training pictures may be references, its good test pictures may not."""
    rng = np.random.default_rng(0)
    good, bad = ([one.path for one in category.test if one.is_anomalous == flag] for flag in (False, True))
    kinds = ([one.path for one in category.references], good, bad)
    references, good, bad = ([kind[index] for index in rng.permutation(len(kind))[:MOST]] for kind in kinds)
    return Pictures(category.name, *([read_image(path) for path in kind] for kind in (references, good, bad)))


def cached(eye: Eye, cache: Path, key: str, pictures: Callable[[], Pictures]) -> Product:
    """The product under `key` in `cache`, seen now where it is not there yet, or with other views."""
    path = cache / f"{key}.pt"
    if path.exists():
        found = Product(**torch.load(path, weights_only=True))
        if found.views.shape[1] == CHANGED + MIRRORED:
            return found
    product = eye.product(pictures())
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(vars(product), path)
    return product
