"""The registry of scoring methods, and the one that compares place with place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError
from vlad.scoring.gaussian import FLOOR, GaussianBank
from vlad.scoring.methods import NAMES, find_method, listed


def tokens(count: int, seed: int, width: int = 12) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def filled(*references: torch.Tensor) -> GaussianBank:
    bank = GaussianBank()
    for owner, rows in enumerate(references):
        bank.add(rows, torch.full((len(rows),), owner))
    return bank


def test_every_method_is_whole_and_the_page_says_what_it_says():
    page = (Path(__file__).parents[2] / "docs" / "references.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page and find_method(name).summary in page for name in NAMES)
    assert all(find_method(name).summary and len(find_method(name).new_bank()) == 0 for name in NAMES)
    with pytest.raises(
        ConfigError, match="scorer must be 'winclip', 'nearest', 'subspace', 'gaussian', 'positioned' or 'histogram', got 'best'"
    ):
        find_method("best")
    assert "winclip" not in listed(without_windows=True)


def test_names_wait_for_no_torch():
    code = "import sys, vlad.config, vlad.scoring.methods; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_gaussian_by_hand():
    """Against the formulas written out in NumPy for one place."""
    references, query = [tokens(6, seed) for seed in range(5)], tokens(6, 9)
    found = filled(*references).distances(query)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).sort().values
    unit = np.stack([F.normalize(rows, dim=-1)[:, order].double().numpy() for rows in references])
    z = F.normalize(query, dim=-1)[:, order].double().numpy()
    for place in range(6):
        rows = unit[:, place]
        covariance = np.cov(rows.T, bias=True)
        n, p = rows.shape
        trace, square = np.trace(covariance), (covariance**2).sum()
        shrinkage = min(1.0, ((1 - 2 / p) * square + trace**2) / ((n + 1 - 2 / p) * (square - trace**2 / p)))
        shrunk = (1 - shrinkage) * covariance + (shrinkage * trace / p + FLOOR) * np.eye(p)
        difference = z[place] - rows.mean(0)
        assert float(found[place]) == pytest.approx(FLOOR / 4 * difference @ np.linalg.solve(shrunk, difference), rel=1e-3)


def test_gaussian_properties():
    references = [tokens(6, seed) for seed in range(4)]
    bank = filled(*references)
    distances = bank.distances(tokens(6, 9))
    assert ((distances >= 0) & (distances <= 1)).all()
    without = bank.distances(references[3], without=3)
    assert torch.equal(without, filled(*references[:3]).distances(references[3]))
    bank.remove(3)
    assert torch.equal(bank.distances(references[3]), without)
    one = filled(references[0])  # nothing varies: half the squared distance to the only picture, on the scale of `nearest`
    difference = F.normalize(references[1], dim=-1) - F.normalize(references[0], dim=-1)
    assert torch.allclose(one.distances(references[1]), difference.square().sum(-1) / 4, rtol=1e-3)
    again = GaussianBank()
    again.load_state(bank.state())
    assert torch.equal(again.distances(references[3]), without)


def test_gaussian_with_changed_views_of_the_references():
    """They count like pictures of their own, and go with the picture that they were made of."""
    references, views = [tokens(6, seed) for seed in range(3)], [tokens(6, seed) for seed in range(10, 13)]
    bank = GaussianBank()
    for owner, (reference, view) in enumerate(zip(references, views, strict=True)):
        bank.add(torch.cat([reference, view]), torch.full((12,), owner))
    by_hand = filled(*(rows for pair in zip(references, views, strict=True) for rows in pair))
    query = tokens(6, 20)
    assert torch.equal(bank.distances(query), by_hand.distances(query))
    assert torch.equal(bank.distances(query, without=2), filled(references[0], views[0], references[1], views[1]).distances(query))
    again = GaussianBank()
    again.load_state(bank.state())
    assert torch.equal(again.distances(query), bank.distances(query))
    lite = LiteBackbone(device="cpu")
    pictures = [np.random.default_rng(seed).integers(100, 140, (96, 96, 3), dtype=np.uint8) for seed in range(3)]
    detector = AnomalyDetector(lite, scorer="gaussian", mild_changes=True).fit(pictures)
    assert 0 <= detector.predict(pictures[0]).pred_score <= 1


def test_gaussian_asks_for_the_same_framing():
    with pytest.raises(ConfigError, match="same framing; this picture has 5 patches"):
        filled(tokens(6, 1)).distances(tokens(5, 1))
    with pytest.raises(ConfigError, match="same framing; this picture has 6 patches, the references have 5, 6"):
        filled(tokens(6, 1), tokens(5, 1)).distances(tokens(6, 2))
    lite = LiteBackbone(device="cpu")
    for setting in ({"tile": 64}, {"rotations": 4}):
        with pytest.raises(ConfigError, match="takes neither tiles nor turned copies"):
            AnomalyDetector(lite, scorer="gaussian", **setting)
    with pytest.raises(ConfigError, match="takes neither tiles nor turned copies"):
        AnomalyDetector(lite, scorer="gaussian").predict(np.zeros((96, 96, 3), np.uint8), tile=64)


def test_gaussian_sees_that_places_are_others_though_as_many():
    timm = pytest.importorskip("timm")
    from vlad.backbones import TimmBackbone

    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True)
    detector = AnomalyDetector(TimmBackbone(model, resolution=64, device="cpu", dtype="float32"), scorer="gaussian", threshold=0.5)
    wide = [np.random.default_rng(seed).integers(0, 255, (96, 160, 3)).astype(np.uint8) for seed in range(3)]
    detector.fit(wide)
    assert detector.predict(wide[0]).anomaly_map is not None
    with pytest.raises(ConfigError, match="same framing; this picture has"):
        detector.predict(wide[0].transpose(1, 0, 2))
    with pytest.raises(ConfigError, match="same framing; a reference has"):
        detector.fit([*wide, wide[0].transpose(1, 0, 2)])
