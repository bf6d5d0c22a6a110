"""What `fit` and `add_references` have to say of the pictures that they were given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlad.pictures.reading import describe_source

if TYPE_CHECKING:
    from vlad.errors import ImageReadError
    from vlad.references.memory import Reference
    from vlad.references.unlabelled import Judged

STOOD_OUT = "stood out from the other pictures"  # in the message that says so
_ASPECT_TOLERANCE = 1.15
_NAMED = 3  # of those that stood out, so many are named in a message
_ENLARGED = 0.5  # a reference smaller than this share of the model's input has little to show


@dataclass(frozen=True)
class FitReport:
    """What was left out of the references, and what is odd about the others.

    Attributes:
        left_out: why a picture could not be read, one error each.
        duplicates: pictures that were a reference already, by path or number.
        notes: remarks in words.
        stood_out: of unlabelled pictures those that stood out from the others and are not remembered, the highest score first.
    """

    left_out: tuple[ImageReadError, ...] = ()
    duplicates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stood_out: tuple[Judged, ...] = ()

    def messages(self) -> Iterator[str]:
        """Everything in words, one line each."""
        for error in self.left_out:
            yield f"left out of the references: {error}"
        if self.duplicates:
            more = f" and {len(self.duplicates) - 1} more" if len(self.duplicates) > 1 else ""
            yield f"{self.duplicates[0]}{more}: the same picture is a reference already, left out"
        if self.stood_out:
            named = [f"{describe_source(one.source)} {score:.3f}" for one, score in self.scored()[:_NAMED]]
            more = f" and {len(self.stood_out) - _NAMED} more" if len(self.stood_out) > _NAMED else ""
            yield (
                f"{len(self.stood_out)} {STOOD_OUT} (above {self.stood_out[0].threshold:.3f}) and left out: {', '.join(named)}{more}; "
                "see fit_report.stood_out. Whether they are defective, and the others good, only you can tell"
            )
        yield from self.notes

    def scored(self) -> list[tuple[Judged, float]]:
        """Each picture that stood out with its score in [0, 1]."""
        return [(one, one.comparison.score) for one in self.stood_out if one.comparison is not None]


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
