"""Windows from coarse to fine, and the speed setting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vlad import AnomalyDetector
from vlad.backbones import ClipBackbone
from vlad.backbones.grid import window_indices
from vlad.backbones.preprocessing import preprocess
from vlad.errors import ConfigError, VladWarning
from vlad.scoring.coarse import WARM, coarse_to_fine, side_by_side, some_windows_to_patches
from vlad.scoring.windows import windows_to_patches


def test_windows_side_by_side_cover_every_patch():
    for grid, scale, count in (((15, 15), 3, 25), ((7, 5), 3, 6), ((4, 4), 4, 1), ((6, 9), 2, 15)):
        which = side_by_side(grid, scale)
        assert len(which) == count
        assert len(window_indices(grid, scale)[which].unique()) == grid[0] * grid[1]


def test_all_windows_give_the_map_of_all():
    scores = torch.rand(1, 9)
    found = some_windows_to_patches(scores[0], (4, 4), 2, torch.arange(9))
    torch.testing.assert_close(found, windows_to_patches(scores, (4, 4), 2)[0])
    one = some_windows_to_patches(scores[0, 4:5], (4, 4), 2, torch.tensor([4]))
    assert one.isnan().sum() == 12 and torch.allclose(one[~one.isnan()], scores[0, 4])


@pytest.fixture
def backbone(tiny_clip) -> ClipBackbone:
    return ClipBackbone(tiny_clip, device="cpu", dtype="float32", name="tiny")


def test_some_windows_are_those_of_all(backbone, golden):
    pixels = preprocess(golden.pictures()[:2], backbone.preprocessing)
    windows = backbone.encode_image(pixels, scales=(2, 3)).windows
    for scale in (2, 3):
        which = torch.tensor([0, 5, 7])
        torch.testing.assert_close(backbone.some_windows(pixels[:1])(scale, which), windows[scale][:1, which], atol=1e-6, rtol=0)


def test_against_a_loop_over_patches(backbone, golden, prompts):
    """From the embeddings of all windows, patch by patch."""
    detector = AnomalyDetector(backbone, prompts=prompts, text_maps="coarse")
    picture = golden.pictures()[0]
    seen = backbone.encode_image(preprocess([picture], backbone.preprocessing), scales=(2, 3))
    normal, anomalous = detector.text_vectors().double()

    def score(embedding: torch.Tensor) -> float:
        unit = F.normalize(embedding.double(), dim=0)
        return float(torch.sigmoid((unit @ anomalous - unit @ normal) / detector.temperature))

    rows, cols = backbone.grid
    whole = score(seen.image[0])
    looked: dict[int, list[list[float]]] = {scale: [[] for _ in range(rows * cols)] for scale in (2, 3)}
    starts = [*range(0, rows - 3, 3), rows - 3]
    for top in starts:
        for left in starts:
            value = score(seen.windows[3][0, top * (cols - 2) + left])
            for patch in (row * cols + col for row in range(top, top + 3) for col in range(left, left + 3)):
                looked[3][patch].append(value)

    def mean(values: list[float]) -> float:
        return len(values) / sum(1 / value for value in values)

    coarse = [mean(values) for values in looked[3]]
    warm = set(sorted(range(rows * cols), key=lambda patch: -coarse[patch])[: round(WARM * rows * cols)])
    for top in range(rows - 1):
        for left in range(cols - 1):
            inside = [row * cols + col for row in (top, top + 1) for col in (left, left + 1)]
            if warm >= set(inside):
                for patch in inside:
                    looked[2][patch].append(score(seen.windows[2][0, top * (cols - 1) + left]))
    expected = [mean([whole, *(mean(looked[scale][patch]) for scale in (3, 2) if looked[scale][patch])]) for patch in range(rows * cols)]
    found = coarse_to_fine(
        lambda scale, which: seen.windows[scale][:, which], seen.image, detector.text_vectors(), grid=backbone.grid, scales=(2, 3),
        temperature=detector.temperature,
    )  # fmt: skip
    np.testing.assert_allclose(found.multi_scale[0].numpy(), expected, atol=1e-5)
    result = detector.predict(picture)
    assert result.scores["map_max"] == pytest.approx(max(expected), abs=1e-5)
    assert result.pred_score == AnomalyDetector(backbone, prompts=prompts).predict(picture).pred_score


@pytest.mark.parametrize(("speed", "maps"), [("exact", "windows"), ("balanced", "coarse"), ("fast", "dense")])
def test_speed_names_the_maps(backbone, golden, prompts, speed, maps, tmp_path):
    picture = golden.pictures()[0]
    quick, named = AnomalyDetector(backbone, prompts=prompts, speed=speed), AnomalyDetector(backbone, prompts=prompts, text_maps=maps)
    result = quick.predict(picture)
    assert (result.anomaly_map == named.predict(picture).anomaly_map).all()
    assert result.pred_score == pytest.approx(AnomalyDetector(backbone, prompts=prompts).predict(picture).pred_score, abs=1e-6)
    loaded = AnomalyDetector.load(quick.save(tmp_path / "model"), backbone=backbone)
    assert (loaded.predict(picture).anomaly_map == result.anomaly_map).all()


def test_beside_references_the_words_alone_are_faster(backbone, golden, prompts, tmp_path):
    detector = AnomalyDetector(backbone, prompts=prompts, speed="balanced").fit(golden.pictures("reference"))
    assert detector.memory.calibration.conditions.text_maps == "coarse"
    exact = AnomalyDetector(backbone, prompts=prompts).fit(golden.pictures("reference"))
    found, true = (one.predict(golden.pictures()[0]) for one in (detector, exact))
    assert found.scores["reference"] == pytest.approx(true.scores["reference"], abs=1e-6) and found.threshold == true.threshold
    loaded = AnomalyDetector.load(detector.save(tmp_path / "model"), backbone=backbone)
    assert loaded.predict(golden.pictures()[0]).pred_score == found.pred_score


def test_who_has_none_of_them(backbone, tiny_clip, prompts):
    from vlad.backbones.lite.backbone import LiteBackbone

    with pytest.warns(VladWarning, match="speed='balanced' changes nothing: lite"):
        assert AnomalyDetector(LiteBackbone(device="cpu"), speed="balanced").text_maps == "windows"
    with pytest.raises(ConfigError, match="text_maps 'coarse' needs a CLIP and windows of two scales"):
        AnomalyDetector(backbone, prompts=prompts, scales=(2,), text_maps="coarse")
    with pytest.raises(ConfigError, match="speed 'fast' takes text_maps 'dense', got 'coarse' too"):
        AnomalyDetector(backbone, prompts=prompts, speed="fast", text_maps="coarse")
    with pytest.raises(ConfigError, match="speed must be one of 'exact', 'balanced', 'fast', got 'slow'"):
        AnomalyDetector(backbone, prompts=prompts, speed="slow")


def test_through_the_cache(backbone, golden, prompts, tmp_path):
    from vlad.evaluation.cache import on_cache

    detector = AnomalyDetector(backbone, prompts=prompts, speed="balanced")
    cached = on_cache(detector, tmp_path)
    for _ in range(2):
        assert (cached.predict(golden.pictures()[0]).anomaly_map == detector.predict(golden.pictures()[0]).anomaly_map).all()
