"""The words of the procedural pictures: nouns of every family, wordings of every defect and captions made of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlad.synthetic.drawing import Rng

FAMILY_NOUNS: dict[str, tuple[str, ...]] = {
    # surfaces
    "concrete": ("concrete", "stone", "plaster", "wall", "cement surface", "surface"),
    "brushed metal": ("brushed metal", "metal", "steel sheet", "metal surface", "aluminium sheet"),
    "turned metal": ("turned metal", "machined surface", "metal surface", "machined metal"),
    "fabric": ("fabric", "textile", "woven cloth", "canvas", "cloth"),
    "carpet": ("carpet", "rug", "textile", "felt"),
    "wood": ("wood", "wooden board", "plank", "veneer", "timber"),
    "granite": ("granite", "terrazzo", "stone tile", "stone", "tile"),
    "marble": ("marble", "marble slab", "ceramic tile", "tile", "magnetic tile"),
    "mesh": ("grid", "mesh", "wire mesh", "grating", "screen"),
    "ribbed sheet": ("corduroy", "ribbed sheet", "striped fabric", "striped surface", "textile"),
    "perforated sheet": ("perforated sheet", "perforated plate", "dotted surface", "dotted fabric"),
    "foam": ("foam", "sponge", "rubber", "foam pad"),
    "leather": ("leather", "leatherette", "hide", "artificial leather"),
    "panel": ("panel", "painted panel", "plastic", "plastic sheet", "painted surface", "glass", "film"),
    "sandpaper": ("sandpaper", "asphalt", "rough surface", "abrasive paper", "electrical commutator"),
    "cast metal": ("casting", "cast metal", "metal part", "cast surface"),
    "cardboard": ("cardboard", "paper", "paperboard", "carton"),
    "tiles": ("tiles", "tiled floor", "mosaic", "checkered surface"),
    "brick": ("brick wall", "bricks", "masonry"),
    "corrugated sheet": ("corrugated sheet", "corrugated metal", "wavy sheet"),
    "knitwear": ("knitwear", "knitted fabric", "wool"),
    # objects
    "disc": ("disc", "coin", "lid", "cap", "button", "round plate"),
    "washer": ("washer", "ring", "gasket", "seal", "o-ring"),
    "nut": ("metal nut", "hex nut", "nut", "hexagon nut"),
    "capsule": ("capsule", "pill capsule", "fuse", "cartridge"),
    "pill": ("pill", "tablet", "candy", "chewing gum"),
    "screw": ("screw", "bolt", "threaded rod", "fastener"),
    "bottle": ("bottle", "bottle from above", "jar", "can", "cup"),
    "package": ("package", "box", "carton", "packaging"),
    "cookie": ("cookie", "biscuit", "bread", "cracker", "food"),
    "hazelnut": ("hazelnut", "cashew", "almond", "seed", "acorn"),
    "plate": ("metal plate", "bracket", "metal part", "mounting plate", "machined part"),
    "impeller": ("impeller", "pump impeller", "fan", "wheel", "casting"),
    "cable": ("cable", "wire", "cable cross section", "cable end"),
    "brush": ("brush", "toothbrush", "hairbrush"),
    "transistor": ("transistor", "electronic component", "voltage regulator"),
    "circuit": ("circuit board", "printed circuit board", "pcb", "electronic board"),
    "zipper": ("zipper", "zip", "zip fastener"),
    "candle": ("candle", "tealight", "wax candle"),
    "pipe": ("pipe", "tube", "rod", "shaft", "cylinder"),
    "connector": ("connector", "plug", "socket", "terminal block"),
    "gear": ("gear", "cog wheel", "sprocket"),
    "handle": ("valve handle", "handwheel", "valve wheel"),
    "spanner": ("spanner", "wrench", "hand tool"),
    "bearing": ("ball bearing", "bearing", "roller bearing"),
}
HELD_OUT_FAMILIES = ("brick", "corrugated sheet", "knitwear", "gear", "handle", "spanner", "bearing")
FAMILIES = tuple(name for name in FAMILY_NOUNS if name not in HELD_OUT_FAMILIES)

DEFECT_NOUNS: dict[str, tuple[str, ...]] = {
    "scratch": ("scratch", "scratch mark", "scratches"),
    "crack": ("crack", "cracks", "fracture", "break"),
    "cut": ("cut", "tear", "slit", "gash"),
    "stain": ("stain", "contamination", "dirt", "blot", "spill"),
    "burn": ("burn", "burn mark", "scorch mark"),
    "discoloration": ("discoloration", "colour defect", "uneven colour", "color defect"),
    "spots": ("spots", "rust", "corrosion", "pits", "blowholes", "speckles"),
    "dent": ("dent", "bump", "deformation", "impression"),
    "scuff": ("scuff", "abrasion", "wear mark", "rubbed area"),
    "crease": ("crease", "fold", "wrinkle"),
    "chip": ("chip", "chipped edge", "missing chunk", "breakage"),
    "missing part": ("missing part", "missing piece", "broken off piece"),
    "distortion": ("distortion", "broken pattern", "misaligned pattern", "warp"),
    "bent": ("bend", "bent part", "deformation", "bent edge"),
    "foreign patch": ("foreign patch", "wrong part", "misplaced part", "swapped region"),
    "extra object": ("foreign object", "debris", "contamination", "foreign particle"),
    "hole": ("hole", "poke", "puncture"),
    "thread": ("thread", "fiber", "hair", "fibre"),
    "smear": ("smear", "glue", "smudge"),
    "bubble": ("bubble", "blister", "bubbles"),
}
DEFECT_ADJECTIVES: dict[str, tuple[str, ...]] = {
    "scratch": ("scratched",),
    "crack": ("cracked", "broken", "fractured"),
    "cut": ("cut", "torn", "slit"),
    "stain": ("stained", "contaminated", "dirty"),
    "burn": ("burnt", "scorched"),
    "discoloration": ("discolored", "discoloured", "unevenly coloured"),
    "spots": ("rusty", "corroded", "spotted", "pitted"),
    "dent": ("dented", "deformed"),
    "scuff": ("scuffed", "worn", "abraded"),
    "crease": ("creased", "folded", "wrinkled"),
    "chip": ("chipped", "broken"),
    "missing part": ("incomplete", "broken"),
    "distortion": ("distorted", "misaligned", "warped"),
    "bent": ("bent", "deformed", "squeezed"),
    "foreign patch": ("wrongly assembled", "patched"),
    "extra object": ("contaminated", "dirty"),
    "hole": ("perforated", "punctured"),
    "thread": ("contaminated",),
    "smear": ("smeared", "smudged"),
    "bubble": ("blistered",),
}
HELD_OUT_DEFECTS = ("hole", "thread", "smear", "bubble")
DEFECTS = tuple(name for name in DEFECT_NOUNS if name not in HELD_OUT_DEFECTS)

NORMAL_ADJECTIVES = ("flawless", "perfect", "undamaged", "intact", "normal", "clean", "unblemished", "good")
ABNORMAL_ADJECTIVES = ("damaged", "defective", "faulty", "flawed", "imperfect", "abnormal")
_WITHOUT_ARTICLE = """
concrete, stone, plaster, brushed metal, metal, turned metal, machined metal, fabric, textile, woven cloth, canvas,
cloth, felt, wood, veneer, timber, granite, terrazzo, marble, corduroy, striped fabric, dotted fabric, foam, rubber,
leather, leatherette, artificial leather, plastic, glass, film, sandpaper, asphalt, abrasive paper, cast metal,
cardboard, paper, paperboard, tiles, bricks, masonry, corrugated metal, knitwear, knitted fabric, wool, packaging,
bread, food, chewing gum, scratches, cracks, contamination, dirt, uneven colour, spots, rust, corrosion, pits,
blowholes, speckles, breakage, debris, glue, bubbles, discoloration, deformation, distortion
"""
WITHOUT_ARTICLE = frozenset(_WITHOUT_ARTICLE.strip().replace("\n", " ").split(", "))


def with_article(words: str) -> str:
    """`words` with "a" or "an" in front where English wants one."""
    if words in WITHOUT_ARTICLE:
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def place_of(mask: npt.NDArray[np.bool_]) -> str:
    """Where in the picture the mask (H, W) lies: "in the centre", "at the upper left", ..."""
    rows, columns = np.nonzero(mask)
    y, x = rows.mean() / mask.shape[0], columns.mean() / mask.shape[1]
    vertical = "upper" if y < 0.38 else "lower" if y > 0.62 else ""
    horizontal = "left" if x < 0.38 else "right" if x > 0.62 else ""
    if vertical and horizontal:
        return f"at the {vertical} {horizontal}"
    if vertical:
        return "at the top" if vertical == "upper" else "at the bottom"
    return f"on the {horizontal}" if horizontal else "in the centre"


def size_of(mask: npt.NDArray[np.bool_]) -> str:
    """The word "tiny", "small", "" or "large" for the share of the picture that the mask (H, W) covers."""
    share = mask.mean()
    return "tiny" if share < 0.002 else "small" if share < 0.008 else "" if share < 0.04 else "large"


def caption_good(noun: str, rng: Rng) -> str:
    return _article_before(str(rng.choice(NORMAL_ADJECTIVES)), noun)


def caption_defective(noun: str, defect: str, mask: npt.NDArray[np.bool_], rng: Rng) -> str:
    """One of several plain sentences that name the defect, often with its size and place."""
    place = place_of(mask)
    if rng.random() < 0.25:
        return f"{_article_before(str(rng.choice(DEFECT_ADJECTIVES[defect])), noun)}, {place}"
    word = str(rng.choice(DEFECT_NOUNS[defect]))
    size = size_of(mask) if rng.random() < 0.6 else ""
    flaw = _article_before(size, word) if size else with_article(word)
    return f"{with_article(noun)} with {flaw} {place}"


def _article_before(adjective: str, noun: str) -> str:
    if noun in WITHOUT_ARTICLE:
        return f"{adjective} {noun}"
    return f"{'an' if adjective[0] in 'aeiou' else 'a'} {adjective} {noun}"
