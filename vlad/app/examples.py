"""Example pictures with good ones of the same product, from the folder `demos` of a source tree or from inside the wheel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlad.pictures.reading import find_images

# Picture, product, class name, what the visitor is told.
_KNOWN = (
    ("washer_scratch", "washer", "washer", "Scratch"),
    ("leather_cut", "leather", "leather", "Cut"),
    ("circuit_board_debris", "circuit_board", "circuit board", "Debris"),
    ("screw_bent", "screw", "screw", "Bent"),
    ("capsule_crack", "capsule", "capsule", "Crack"),
    ("washer_good", "washer", "washer", "Good washer"),
    ("leather_good", "leather", "leather", "Good leather"),
    ("capsule_good", "capsule", "capsule", "Good capsule"),
)


@dataclass(frozen=True)
class Example:
    """One picture to try.

    Attributes:
        path: of the picture.
        product: folder of its references.
        class_name: noun for the prompts.
        caption: for people.
        references: good pictures of the same product.
    """

    path: Path
    product: str
    class_name: str
    caption: str
    references: tuple[Path, ...]


def find_examples() -> tuple[Example, ...]:
    """The shipped examples; empty where neither place has them."""
    folder = _folder()
    if folder is None:
        return ()
    return tuple(
        Example(folder / f"{name}.png", product, noun, caption, tuple(find_images([folder / "references" / product])))
        for name, product, noun, caption in _KNOWN
        if (folder / f"{name}.png").is_file()
    )


def find_example_batch() -> tuple[Path, ...]:
    """Pictures of one product, a few of them bad, to be judged by each other; empty where neither place has them."""
    folder = _folder()
    return tuple(find_images([folder / "gears"])) if folder is not None and (folder / "gears").is_dir() else ()


def _folder() -> Path | None:
    package = Path(__file__).resolve().parents[1]
    places = (package / "_examples", package.parent / "demos" / "examples")
    return next((folder for folder in places if folder.is_dir()), None)
