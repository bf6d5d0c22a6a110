"""AnomalyDINO's and SubspaceAD's numbers on a tiny ViT against plain scripts of the papers' formulas, without the package's code."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from vlad import AnomalyDetector
from vlad.backbones import TimmBackbone

SIDE = 80  # pixels: 10 x 10 patches of 8
RUN = {"device": "cpu", "dtype": "float32", "resolution": SIDE}


@pytest.fixture(scope="module")
def vit() -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, depth=12, embed_dim=24, num_heads=2, patch_size=8, img_size=SIDE
    )
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2)
        model.norm.bias.uniform_(-1, 1)
    return model.eval()


def pictures(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.integers(60, 200, (SIDE, SIDE, 3))
    return [np.clip(base + rng.normal(0, 12, base.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def odd_one() -> np.ndarray:
    picture = pictures(5, 1)[4].copy()
    picture[24:40, 48:64] = [255, 0, 0]
    return picture


def plain_tokens(model: torch.nn.Module, picture: np.ndarray, blocks: tuple[int, ...], *, norm: bool) -> np.ndarray:
    """Patch tokens (P, C), the mean over blocks, by hooks; the picture has the model's own size, so nothing is resized."""
    mean, std = np.array([0.5, 0.5, 0.5]), np.array([0.5, 0.5, 0.5])
    pixels = torch.from_numpy(((picture / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32))
    seen: list[torch.Tensor] = []
    hooks = [model.blocks[number].register_forward_hook(lambda module, given, out: seen.append(out)) for number in blocks]
    with torch.inference_mode():
        model(pixels)
        found = [model.norm(one) if norm else one for one in seen]
    for hook in hooks:
        hook.remove()
    return torch.stack([one[0, 1:] for one in found]).mean(0).double().numpy()


def top_mean(distances: np.ndarray, share: float = 0.01) -> float:
    return float(np.sort(distances)[::-1][: max(1, round(share * len(distances)))].mean())


@pytest.mark.parametrize("rotations", [1, 2])
def test_anomalydino(vit, rotations):
    """arXiv 2405.14529: cosine distance to the nearest of all patch tokens of the references and their turned copies; the score is the mean
    of the highest 1 %. Distances are (1 - cos) / 2 here, half of theirs."""
    backbone = TimmBackbone(vit, mean=(0.5,) * 3, std=(0.5,) * 3, **RUN)
    references, query = pictures(3, 1), odd_one()
    result = AnomalyDetector(backbone, rotations=rotations).fit(references).predict(query)

    bank = []
    for picture in references:
        for turned in (picture, picture[::-1, ::-1])[:rotations]:  # by 180 degrees nothing leaves the picture
            bank += [plain_tokens(vit, np.ascontiguousarray(turned), (11,), norm=True)]
    rows = np.concatenate(bank)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    shown = plain_tokens(vit, query, (11,), norm=True)
    shown /= np.linalg.norm(shown, axis=1, keepdims=True)
    distances = np.array([min((1 - float(token @ row)) / 2 for row in rows) for token in shown])
    assert result.pred_score == pytest.approx(top_mean(distances), abs=1e-6)
    assert result.scores["reference_map_max"] == pytest.approx(distances.max(), abs=1e-6)


def test_subspacead(vit):
    """SubspaceAD: the mean of middle blocks without the final norm; principal components that keep 99 % of the variance; a patch's distance
    is the squared length of what they leave of it. Tokens are brought to unit length and distances divided by 4 here, so that they lie in
    [0, 1]; blocks 6 to 8 of 12 follow from its 22 to 28 of 40."""
    backbone = TimmBackbone(vit, mean=(0.5,) * 3, std=(0.5,) * 3, layers="middle", **RUN)
    references, query = pictures(3, 1), odd_one()
    result = AnomalyDetector(backbone, scorer="subspace", rotations=1).fit(references).predict(query)

    rows = np.concatenate([plain_tokens(vit, picture, (6, 7, 8), norm=False) for picture in references])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mean = rows.mean(0)
    _, values, vectors = np.linalg.svd(rows - mean, full_matrices=False)
    explained = np.cumsum(values**2) / (values**2).sum()
    kept = vectors[: int((explained < 0.99).sum()) + 1]
    shown = plain_tokens(vit, query, (6, 7, 8), norm=False)
    shown /= np.linalg.norm(shown, axis=1, keepdims=True)
    left = (shown - mean) - (shown - mean) @ kept.T @ kept
    distances = (left**2).sum(1) / 4
    assert result.pred_score == pytest.approx(top_mean(distances), abs=1e-6)
    assert result.scores["reference_map_max"] == pytest.approx(distances.max(), abs=1e-6)
