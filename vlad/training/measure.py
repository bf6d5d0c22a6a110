"""Zero-shot scores of a head on pictures kept as features, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vlad.backbones.lite.backbone import SCALES, TEMPERATURE
from vlad.backbones.lite.head import GRID, Head, unflatten, windows
from vlad.backbones.lite.text import TextEncoder
from vlad.training.pictures import FINE, Pictures
from vlad.training.sentences import sides


def logits(embeddings: Tensor, both: Tensor) -> Tensor:
    """The log odds (N, W) of "anomalous" of embeddings (N, W, D) against each picture's normal and abnormal vectors (N, 2, D)."""
    direction = (both[:, 1] - both[:, 0]).unsqueeze(-1)
    return (embeddings @ direction).squeeze(-1) / embeddings.norm(dim=-1).clamp_min(1e-6) / TEMPERATURE


def spread(scores: Tensor, scale: int) -> Tensor:
    """Window scores (N, W) to places (N, 20, 20): the harmonic mean over the windows that cover a place."""
    side = GRID - scale + 1
    inverse = 1 / scores.clamp_min(1e-6).unflatten(1, (side, side)).unsqueeze(1)
    kernel = torch.ones(1, 1, scale, scale)
    return (F.conv_transpose2d(torch.ones_like(inverse), kernel) / F.conv_transpose2d(inverse, kernel)).squeeze(1)


@torch.inference_mode()
def score(
    head: Head, text: TextEncoder, pictures: Pictures, nouns: Sequence[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Zero-shot image scores (N,) and multi-scale maps (N, 20, 20) of pictures whose objects are called `nouns`."""
    head.eval()
    text.eval()
    known = {noun: sides(text, noun) for noun in sorted(set(nouns))}
    images, maps = [], []
    for start in range(0, len(pictures), 64):
        rows = np.arange(start, min(start + 64, len(pictures)))
        places, picture, _ = head(unflatten(pictures.read(rows).float()))
        both = torch.stack([known[nouns[row]] for row in rows.tolist()])
        image = torch.sigmoid(logits(picture.unsqueeze(1), both)).squeeze(1)
        parts = [spread(torch.sigmoid(logits(windows(places, scale), both)), scale) for scale in SCALES]
        inverse = torch.stack([image[:, None, None].expand_as(parts[0]), *parts]).clamp_min(1e-6).reciprocal()
        images.append(image)
        maps.append(1 / inverse.mean(dim=0))
    return torch.cat(images).numpy(), torch.cat(maps).numpy()


def measure(head: Head, text: TextEncoder, pictures: Pictures, nouns: Sequence[str] | None = None) -> dict[str, float]:
    """Image and pixel AUROC, and at the threshold 0.5 the share of good and of defective pictures called anomalous."""
    from sklearn.metrics import roc_auc_score

    image, maps = score(head, text, pictures, list(pictures.noun) if nouns is None else nouns)
    fine = F.interpolate(torch.from_numpy(maps).unsqueeze(1), size=(FINE, FINE), mode="bilinear", align_corners=False).numpy()
    bad = pictures.anomalous
    numbers = {
        "image_auroc": roc_auc_score(bad, image),
        "pixel_auroc": roc_auc_score(pictures.mask.ravel(), fine.ravel()),
        "called_of_good": (image[~bad] > 0.5).mean(),
        "called_of_defective": (image[bad] > 0.5).mean(),
    }
    return {name: round(float(number), 4) for name, number in numbers.items()}
