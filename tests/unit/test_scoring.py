"""Windows to patches, harmonic means, regions: values worked out by hand, and properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlad.backbones.grid import window_indices
from vlad.errors import ConfigError
from vlad.scoring.regions import find_regions
from vlad.scoring.text import anomaly_probability, score_text
from vlad.scoring.windows import harmonic_mean, upsample, windows_to_patches


class TestWindowIndices:
    def test_order_is_row_major(self):
        assert window_indices((2, 3), 2).tolist() == [[0, 1, 3, 4], [1, 2, 4, 5]]

    @pytest.mark.parametrize(("grid", "scale", "count"), [((15, 15), 2, 196), ((15, 15), 3, 169), ((4, 7), 4, 4), ((3, 3), 1, 9)])
    def test_count(self, grid, scale, count):
        assert window_indices(grid, scale).shape == (count, scale * scale)

    @pytest.mark.parametrize("scale", [0, -1, 4])
    def test_window_larger_than_the_grid(self, scale):
        with pytest.raises(ConfigError, match=f"{scale} x {scale}.*3 x 9.*1 to 3"):
            window_indices((3, 9), scale)


class TestHarmonicMean:
    def test_by_the_true_coverage_count(self):
        """2 x 3 patches, two windows of 2 x 2: the middle column is covered twice."""
        scores = torch.tensor([[0.2, 0.6]])
        expected = [0.2, 2 / (1 / 0.2 + 1 / 0.6), 0.6] * 2
        torch.testing.assert_close(windows_to_patches(scores, (2, 3), 2), torch.tensor([expected]))

    @pytest.mark.parametrize(("scale", "most"), [(2, 4), (3, 9)])
    def test_equal_windows_give_equal_patches(self, scale, most):
        windows = torch.full((1, (8 - scale + 1) ** 2), 0.3)
        torch.testing.assert_close(windows_to_patches(windows, (8, 8), scale), torch.full((1, 64), 0.3))
        ones = torch.zeros(64).scatter_add(0, window_indices((8, 8), scale).flatten(), torch.ones(windows.shape[1] * scale**2))
        assert int(ones.max()) == most and int(ones.min()) == 1

    def test_zero_is_guarded(self):
        result = windows_to_patches(torch.tensor([[0.0, 0.5]]), (2, 3), 2)
        assert torch.isfinite(result).all() and result.min() >= 0 and result[0, 0] < 1e-9
        assert torch.isfinite(harmonic_mean([torch.zeros(2), torch.ones(2)])).all()

    def test_broadcasts_the_image_score(self):
        result = harmonic_mean([torch.tensor([[0.5]]), torch.tensor([[0.25, 1.0]])])
        torch.testing.assert_close(result, torch.tensor([[2 / (2 + 4), 2 / (2 + 1)]]))

    @given(st.lists(st.floats(0.001, 1), min_size=9, max_size=9))
    @settings(deadline=None, max_examples=50)
    def test_lies_between_its_extremes(self, values):
        scores = torch.tensor([values])
        result = windows_to_patches(scores, (4, 4), 2)
        assert result.min() >= scores.min() * (1 - 1e-4) and result.max() <= scores.max() * (1 + 1e-4)


class TestTextScore:
    vectors = torch.eye(2)

    @pytest.mark.parametrize(
        ("embedding", "expected"),
        [
            ([1.0, 1.0], 0.5),
            ([0.0, 9.0], 1 / (1 + np.exp(-1 / 0.07))),
            ([2.0, 0.0], 1 / (1 + np.exp(1 / 0.07))),
            ([0.6, 0.8], 1 / (1 + np.exp(-0.2 / 0.07))),
        ],
        ids=["as near to both", "anomalous", "normal", "between"],
    )
    def test_softmax_of_cosines(self, embedding, expected):
        assert float(anomaly_probability(torch.tensor(embedding), self.vectors, 0.07)) == pytest.approx(expected, rel=1e-5)

    def test_multi_scale_map(self):
        """M = 3 / (1 / s_image + 1 / M_2 + 1 / M_3)."""
        windows = {2: torch.tensor([[[0.6, 0.8]] * 4]), 3: torch.tensor([[[0.8, 0.6]]])}
        scores = score_text(torch.tensor([[1.0, 1.0]]), windows, self.vectors, grid=(3, 3), temperature=0.07)
        up, down = 1 / (1 + np.exp(-0.2 / 0.07)), 1 / (1 + np.exp(0.2 / 0.07))
        torch.testing.assert_close(scores.multi_scale, torch.full((1, 9), 3 / (1 / 0.5 + 1 / up + 1 / down), dtype=torch.float32))

    def test_without_windows_there_is_no_map(self):
        assert score_text(torch.ones(1, 2), {}, self.vectors, grid=(3, 3), temperature=0.07).multi_scale is None


def test_upsample_is_bilinear_without_aligned_corners():
    result = upsample(torch.tensor([[0.0, 1.0]]), (1, 2), (1, 4))
    torch.testing.assert_close(result, torch.tensor([[[0.0, 0.25, 0.75, 1.0]]]))


class TestRegions:
    def test_values(self):
        anomaly_map = np.zeros((6, 8), np.float32)
        anomaly_map[1:3, 1:4] = 0.6
        anomaly_map[2, 3] = 0.9
        anomaly_map[5, 7] = 0.7
        first, second = find_regions(anomaly_map, anomaly_map > 0.5)
        assert (first.box, first.area, first.peak_at) == ((1, 1, 4, 3), 6, (3, 2))
        assert first.share == 6 / 48 and first.peak == pytest.approx(0.9) and first.mean == pytest.approx((5 * 0.6 + 0.9) / 6)
        assert (second.box, second.area, second.peak) == ((7, 5, 8, 6), 1, pytest.approx(0.7))

    def test_corners_connect(self):
        mask = np.eye(5, dtype=bool)
        (region,) = find_regions(mask.astype(np.float32), mask)
        assert region.area == 5

    def test_a_region_inside_the_box_of_another_is_its_own(self):
        mask = np.zeros((7, 7), bool)
        mask[0], mask[-1], mask[:, 0], mask[:, -1] = True, True, True, True
        mask[3, 3] = True
        anomaly_map = np.where(mask, 0.6, 0).astype(np.float32)
        anomaly_map[3, 3] = 0.95
        inner, ring = find_regions(anomaly_map, mask)
        assert inner.area == 1 and ring.area == 24 and ring.peak == pytest.approx(0.6)

    def test_against_a_loop_over_scipys_labels(self):
        from scipy import ndimage

        rng = np.random.default_rng(0)
        anomaly_map = (rng.integers(0, 20, (60, 80)) / 20).astype(np.float32)  # with ties
        mask = anomaly_map > 0.6
        found = {region.box: region for region in find_regions(anomaly_map, mask)}
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        assert len(found) == count > 20
        for number, (rows, cols) in enumerate(ndimage.find_objects(labels), start=1):
            region, inside = found[cols.start, rows.start, cols.stop, rows.stop], labels == number
            values = np.where(inside, anomaly_map, -1)
            assert region.area == inside.sum() and region.peak == values.max()
            assert region.mean == pytest.approx(anomaly_map[inside].mean(dtype=np.float64), rel=1e-12)
            y, x = np.unravel_index(values.argmax(), values.shape)
            assert region.peak_at == (x, y)

    def test_empty_mask(self):
        assert find_regions(np.ones((4, 4), np.float32), np.zeros((4, 4), bool)) == ()
