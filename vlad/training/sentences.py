"""What training says about a picture, and the sentences of WinCLIP that measuring uses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad.backbones.lite.text import TextEncoder
from vlad.synthetic.vocabulary import ABNORMAL_ADJECTIVES, NORMAL_ADJECTIVES

ANY_OBJECT = ("object", "surface", "part", "item")
WINCLIP_NORMAL = ("{}", "flawless {}", "perfect {}", "unblemished {}", "{} without flaw", "{} without defect", "{} without damage")
WINCLIP_ABNORMAL = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
NORMAL = (*WINCLIP_NORMAL, *(f"{word} {{}}" for word in NORMAL_ADJECTIVES), "{} without anomaly", "{} in good condition", "new {}")
ABNORMAL = (
    *WINCLIP_ABNORMAL,
    *(f"{word} {{}}" for word in ABNORMAL_ADJECTIVES),
    "broken {}",
    "{} with an anomaly",
    "{} in bad condition",
    "{} with a fault",
)
PLAIN_TEMPLATES = tuple(
    line.format(article=article, state="{}")
    for article in ("a", "the")
    for line in (
        *(
            f"a {kind} of {{article}} {{state}}"
            for kind in ("cropped photo", "close-up photo", "bright photo", "dark photo", "jpeg corrupted photo")
        ),
        "a blurry photo of {article} {state}",
        "a photo of {article} {state}",
        "a photo of {article} small {state}",
        "a photo of {article} large {state}",
        "a photo of {article} {state} for visual inspection",
        "a photo of {article} {state} for anomaly detection",
    )
)
TEMPLATES = (
    *PLAIN_TEMPLATES,
    "{}",
    "a {}",
    "the {}",
    "a picture of a {}",
    "an image of the {}",
    "this is a {}",
    "there is a {} in the picture",
)
DEFECT_SENTENCES = ("a {noun} with a {word}", "a photo of a {noun} with {word}", "a {word} on the {noun}", "{word}", "{noun} with {word}")


def sides(text: TextEncoder, noun: str, normal: Sequence[str] = WINCLIP_NORMAL, abnormal: Sequence[str] = WINCLIP_ABNORMAL) -> Tensor:
    """(2, D): the normalised mean embedding of all normal and of all abnormal sentences about `noun`."""
    groups = [[line.format(state.format(noun)) for line in PLAIN_TEMPLATES for state in states] for states in (normal, abnormal)]
    return torch.stack([F.normalize(text(text.rows(group)).mean(dim=0), dim=0) for group in groups])
