"""From an unlabelled folder to references: pictures are judged by each other, and what does not stand out is worth remembering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlad.errors import ConfigError, ImageReadError
from vlad.pictures.batches import is_one_picture
from vlad.pictures.reading import DEFAULT_READER, Reader
from vlad.references.fitting import each_picture
from vlad.references.unlabelled import Judged, MutualSettings, judge
from vlad.scoring.batch_threshold import FEWEST

if TYPE_CHECKING:
    from vlad.backbones.encoder import Encoder
    from vlad.pictures.reading import ImageSource
    from vlad.pictures.roi import Roi

MANY = 32  # above so many references a coreset keeps the detector fast
CORESET = 0.1  # share of their tokens that is then kept


@dataclass(frozen=True)
class Sorted:
    """Unlabelled pictures of one product, told apart.

    Attributes:
        kept: sources of those that do not stand out, in the order given.
        stood_out: those that do, the highest score first.
        failed: why a picture could not be read, one error each.
    """

    kept: tuple[ImageSource, ...]
    stood_out: tuple[Judged, ...]
    failed: tuple[ImageReadError, ...]


def sort_out(
    images: Any,
    encoder: Encoder,
    settings: MutualSettings,
    *,
    roi: Roi | None = None,
    read: Reader = DEFAULT_READER,
    top_share: float = 0.01,
    on_error: str = "warn",
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Sorted:
    """Judge pictures of one product by each other (see `judge`) and tell those above the batch's threshold from the rest.

    Args:
        images: pictures, folders, or a mixture; see `read_image`. Each is read again when it is remembered.
        encoder, settings, roi, read, top_share, on_progress: as of `judge`.
        on_error: an unreadable picture is reported ("warn") or raises its ImageReadError ("raise").

    Raises:
        ImageReadError: a picture cannot be read and `on_error` is "raise".
        ConfigError: fewer than eight pictures can be read, or they show several kinds of product, or no one kind.
    """
    if on_error not in ("warn", "raise"):
        raise ConfigError(f"on_error must be 'warn' or 'raise', got {on_error!r}")
    failed: list[ImageReadError] = []
    sources = [images] if is_one_picture(images) else images
    judged = judge(
        each_picture(sources, failed, on_error),
        encoder,
        settings,
        roi=roi,
        read=read,
        top_share=top_share,
        on_error="raise" if on_error == "raise" else "return",
        on_progress=on_progress,
    )
    failed += [one for one in judged if isinstance(one, ImageReadError)]
    readable = [one for one in judged if isinstance(one, Judged)]
    if len(readable) < FEWEST:
        first = f" ({len(failed)} could not be read, the first: {failed[0]})" if failed else ""
        raise ConfigError(
            f"expected at least {FEWEST} pictures of one product, to tell what stands out among them, got {len(readable)}{first}; "
            "give more, or fit() pictures that you know to be good"
        )
    sizes = [sum(one.group == group for one in readable) for group in range(1 + max(one.group for one in readable))]
    if len(sizes) > 1:
        raise ConfigError(
            f"the {len(readable)} pictures show {len(sizes)} kinds of product ({', '.join(map(str, sizes))} pictures), and a detector "
            "is for one; sort them into a folder for each and fit one detector a folder"
        )
    if undecided := next((one.undecided for one in readable if one.undecided), ""):
        raise ConfigError(f"{undecided}; a detector is for one product")
    stood_out = [one for one in readable if _stands_out(one)]
    return Sorted(
        kept=tuple(one.source for one in readable if not _stands_out(one)),
        stood_out=tuple(sorted(stood_out, key=lambda one: -_score(one))),
        failed=tuple(failed),
    )


def _score(one: Judged) -> float:
    return 0.0 if one.comparison is None else one.comparison.score


def _stands_out(one: Judged) -> bool:
    return one.threshold is not None and _score(one) > one.threshold
