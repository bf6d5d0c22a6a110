"""The register of object families: what draws each of them and how it is usually posed."""

from __future__ import annotations

from collections.abc import Callable

from vlad.synthetic import goods, hardware
from vlad.synthetic.drawing import Frame, Rng
from vlad.synthetic.solids import Solid

OBJECTS: dict[str, Callable[[Rng, Rng, Frame], Solid]] = {
    "disc": hardware.disc,
    "washer": hardware.washer,
    "nut": hardware.nut,
    "capsule": goods.capsule,
    "pill": goods.pill,
    "screw": hardware.screw,
    "bottle": goods.bottle,
    "package": goods.package,
    "cookie": goods.cookie,
    "hazelnut": goods.hazelnut,
    "plate": hardware.plate,
    "impeller": hardware.impeller,
    "cable": goods.cable,
    "brush": goods.brush,
    "transistor": goods.transistor,
    "circuit": goods.circuit,
    "zipper": goods.zipper,
    "candle": goods.candle,
    "pipe": hardware.pipe,
    "connector": goods.connector,
    "gear": hardware.gear,
    "handle": hardware.handle,
    "spanner": hardware.spanner,
    "bearing": hardware.bearing,
}
REPEATABLE = frozenset({"disc", "washer", "nut", "pill", "candle", "hazelnut", "bearing", "cookie"})
PERMANENTLY_UPRIGHT = frozenset({"package", "circuit", "zipper", "brush"})  # mostly photographed square to the picture
ROUND = frozenset({"disc", "washer", "bottle", "impeller", "cable", "candle", "gear", "handle", "bearing"})
HOLLOW = frozenset({"washer", "nut", "handle", "bearing"})  # too close up, only the hole would be in view
