"""What `fit` and `add_references` have to say of the pictures that they were given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlad.errors import ImageReadError
    from vlad.references.memory import Reference

_ASPECT_TOLERANCE = 1.15
_ENLARGED = 0.5  # a reference smaller than this share of the model's input has little to show


@dataclass(frozen=True)
class FitReport:
    """What was left out of the references, and what is odd about the others.

    Attributes:
        left_out: why a picture could not be read, one error each.
        duplicates: pictures that were a reference already, by path or number.
        notes: remarks in words.
    """

    left_out: tuple[ImageReadError, ...] = ()
    duplicates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def messages(self) -> Iterator[str]:
        """Everything in words, one line each."""
        for error in self.left_out:
            yield f"left out of the references: {error}"
        if self.duplicates:
            more = f" and {len(self.duplicates) - 1} more" if len(self.duplicates) > 1 else ""
            yield f"{self.duplicates[0]}{more}: the same picture is a reference already, left out"
        yield from self.notes


def odd_sizes(references: Sequence[Reference], size: int) -> Iterator[str]:
    """Remarks about references that are small beside the `size` in pixels that the model sees, or that differ in shape."""
    if not references:
        return
    least = _ENLARGED * size
    small = sorted((reference for reference in references if min(reference.size) < least), key=lambda reference: min(reference.size))
    if small:
        yield (
            f"{small[0].path or 'a reference'}: {small[0].size[1]} x {small[0].size[0]} pixels are enlarged to {size}, "
            f"they show little ({len(small)} of {len(references)} references are below {least:.0f} pixels)"
        )
    aspects = [width / height for height, width in (reference.size for reference in references)]
    if max(aspects) > _ASPECT_TOLERANCE * min(aspects):
        yield (
            f"the references have different shapes, width to height from {min(aspects):.2f} to {max(aspects):.2f}; compare pictures of the "
            "same framing"
        )
