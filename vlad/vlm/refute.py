"""Propose, then refute: a VLM sees each marked place beside the same place of a good part and says whether they differ.

Training-free; published gains are 3.5 to 8 points of image AUROC with large models, where the answer decides. Here it does not: the verdict
stays the detector's, and the answer tells which of its places the VLM could not confirm.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from vlad.errors import VlmError
from vlad.vlm.answer import Box, Place, PlaceCheck
from vlad.vlm.backends.base import Limits, Message, VlmBackend
from vlad.vlm.choice import choose, read_strictly
from vlad.vlm.exhibits import fit
from vlad.vlm.places import crop_around, list_in_words
from vlad.vlm.templates import Templates

_PLACEHOLDERS: dict[str, set[str]] = {
    "system": set(),
    "pair": {"class_name"},
    "choice": {"first", "second"},
    "differs": set(),
    "same": set(),
}
_LETTERS = ("A", "B")


def check_places(
    backend: VlmBackend,
    picture: np.ndarray,
    reference: np.ndarray,
    places: Sequence[Place],
    class_name: str,
    *,
    limits: Limits,
    max_side: int = 448,
) -> tuple[PlaceCheck, ...]:
    """One check for each place. Each is asked twice, with the options in both orders, because many models prefer one letter.

    Args:
        backend: the VLM.
        picture, reference: uint8 (H, W, 3); the same place of a reference of another size is the same share of it.
        places: of the picture, the most important first.
        class_name: noun.
        limits: of one reply; its seconds are also those of all replies together.
        max_side: longest side in pixels of what is shown.
    """
    templates = Templates.load("refute", _PLACEHOLDERS)
    end = time.monotonic() + limits.seconds
    found = []
    for place in places:
        left = end - time.monotonic()
        if left <= 0:
            found.append(PlaceCheck(label=place.label, differs=None, why=f"the {limits.seconds:g} seconds were up"))
            continue
        places_of = ((picture, place.box), (reference, _same_place(place.box, picture, reference)))
        shown = [fit(crop_around(image, box), max_side) for image, box in places_of]
        try:
            found.append(_check(backend, templates, shown, place.label, class_name, limits, end))
        except VlmError as error:  # the other places are not lost to it
            found.append(PlaceCheck(label=place.label, differs=None, why=str(error)))
    return tuple(found)


def in_words(checks: Sequence[PlaceCheck], name: str, left_out: int = 0) -> str:
    """A sentence on the places that were refuted, and on further ones that were not asked about; empty if there are neither."""
    refuted = [check.label for check in checks if check.is_refuted]
    sentences = []
    if refuted:
        which = f"place {refuted[0]}" if len(refuted) == 1 else f"places {list_in_words(refuted)}"
        sentences.append(f"Beside the nearest good part, {name} sees no difference at {which}. The verdict is the detector's.")
    if left_out:
        sentences.append(f"{left_out} further place{' was' if left_out == 1 else 's were'} not checked beside a good part.")
    return " ".join(sentences)


def _check(
    backend: VlmBackend, templates: Templates, shown: Sequence[np.ndarray], label: str, class_name: str, limits: Limits, end: float
) -> PlaceCheck:
    shares = []
    for order in (("differs", "same"), ("same", "differs")):
        if time.monotonic() >= end:
            return PlaceCheck(label=label, differs=None, why=f"the {limits.seconds:g} seconds were up")
        options = dict(zip(_LETTERS, (templates.fill(key) for key in order), strict=True))
        choice = templates.fill("choice", first=options["A"], second=options["B"])
        asked = "\n\n".join([templates.fill("pair", class_name=class_name), choice])
        messages = [
            Message("system", (templates.fill("system"),)),
            Message("user", ("Picture 1:", shown[0], "Picture 2:", shown[1], asked)),
        ]
        seconds = end - time.monotonic()
        chosen = choose(backend, messages, options, limits=Limits(tokens=min(limits.tokens, 64), seconds=seconds))
        letter = _LETTERS[order.index("differs")]
        if chosen.shares is not None:
            shares.append(chosen.shares[letter])
            continue
        said = read_strictly(chosen.reply, options)
        if said is None:
            return PlaceCheck(label=label, differs=None, why=f"it gave no plain answer: {chosen.reply[:80]!r}")
        shares.append(float(said == letter))
    mean = float(np.mean(shares))
    if set(shares) == {0.0, 1.0}:
        return PlaceCheck(label=label, differs=None, why="it said both, once in each order of the options")
    return PlaceCheck(label=label, differs=mean)


def _same_place(box: Box, picture: np.ndarray, reference: np.ndarray) -> Box:
    down, across = reference.shape[0] / picture.shape[0], reference.shape[1] / picture.shape[1]
    left, top, right, bottom = box
    x, y = round(left * across), round(top * down)
    return x, y, max(x + 1, round(right * across)), max(y + 1, round(bottom * down))
