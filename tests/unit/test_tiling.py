"""Tiles cover the picture, blend to one map, and change nothing where they are not needed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlad import AnomalyDetector
from vlad.pictures.tiling import TileGrid

sizes = st.integers(16, 3000)


class TestTileGrid:
    @given(sizes, sizes, st.integers(32, 1200), st.floats(0, 0.75), st.sampled_from([1, 240]))
    @settings(deadline=None, max_examples=300)
    def test_tiles_cover_the_picture(self, height, width, tile, overlap, least):
        grid = TileGrid.over(height, width, tile, overlap=overlap, least=least)
        for starts, side, length in ((grid.rows, grid.tile_height, height), (grid.cols, grid.tile_width, width)):
            assert starts[0] == 0 and starts[-1] + side == length
            assert side <= max(tile, 1) or side == length
            for a, b in itertools.pairwise(starts):
                assert 0 < b - a <= side
                assert side - (b - a) >= int(side * overlap) - 1

    def test_no_larger_than_a_tile_is_one_tile(self):
        assert list(TileGrid.over(300, 512, 512).boxes()) == [(0, 0, 512, 300)]

    def test_tiles_are_square_on_a_strip(self):
        grid = TileGrid.over(300, 2000, 512, overlap=0.25)
        assert (grid.tile_height, grid.tile_width) == (300, 300)

    def test_a_thread_does_not_become_hundreds_of_tiles(self):
        grid = TileGrid.over(20, 4000, 512, overlap=0.25, least=240)
        assert (grid.tile_height, grid.tile_width) == (20, 240) and len(grid) == 22

    @given(st.integers(20, 300), st.integers(20, 300), st.integers(32, 120), st.floats(0, 0.75))
    @settings(deadline=None, max_examples=50)
    def test_a_constant_stays_constant(self, height, width, tile, overlap):
        grid = TileGrid.over(height, width, tile, overlap=overlap)
        blended = grid.blend(np.full((grid.tile_height, grid.tile_width), 0.7, np.float32) for _ in range(len(grid)))
        np.testing.assert_allclose(blended, 0.7, rtol=0, atol=1e-6)

    def test_weights_follow_the_distance_to_the_border(self):
        grid = TileGrid(1, 6, (0,), (0, 2), 1, 4)
        zeros, ones = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
        np.testing.assert_allclose(grid.blend([zeros, ones])[0], [0, 0, 1 / 3, 2 / 3, 1, 1], atol=1e-6)


@pytest.fixture
def large_picture(golden):
    rng = np.random.default_rng(3)
    picture = np.kron(rng.integers(60, 200, (10, 16, 3)), np.ones((25, 25, 1))).astype(np.uint8)
    picture[120:140, 300:320] = (250, 20, 20)
    return picture


class TestDetector:
    def test_no_larger_than_a_tile_is_exactly_the_untiled_result(self, detector, golden):
        untiled, tiled = (detector.predict(golden.pictures()[0], tile=tile) for tile in (None, 96))
        assert untiled.pred_score == tiled.pred_score and np.array_equal(untiled.anomaly_map, tiled.anomaly_map)
        assert untiled.scores == tiled.scores

    def test_tiles_are_scored_as_pictures_of_their_own(self, detector, large_picture):
        tiled = detector.predict(large_picture, tile=128)
        grid = TileGrid.over(250, 400, 128, overlap=0.25, least=96)
        alone = [detector.predict(large_picture[t:b, l:r]) for l, t, r, b in grid.boxes()]
        assert tiled.anomaly_map.shape == (250, 400) and tiled.anomaly_map.dtype == np.float32
        np.testing.assert_allclose(tiled.anomaly_map, grid.blend(r.anomaly_map for r in alone), atol=1e-6)
        whole = detector.predict(large_picture)
        assert tiled.pred_score == max(whole.pred_score, *(r.pred_score for r in alone))
        assert tiled.scores["tiles"] == len(grid) > 1

    def test_batch_size_changes_nothing(self, detector, large_picture):
        a, b = (detector.predict(large_picture, tile=128, batch_size=size) for size in (1, 5))
        assert a.pred_score == b.pred_score and np.array_equal(a.anomaly_map, b.anomaly_map)

    def test_a_mixed_batch_keeps_its_order(self, detector, golden, large_picture):
        small = golden.pictures()[0]
        results = detector.predict([large_picture, small, large_picture], tile=128)
        alone = [detector.predict(p, tile=128) for p in (large_picture, small)]
        assert [r.pred_score for r in results] == [alone[0].pred_score, alone[1].pred_score, alone[0].pred_score]
        assert np.array_equal(results[1].anomaly_map, alone[1].anomaly_map)

    def test_no_window_is_computed_that_is_not_read(self, backbone, prompts, golden, large_picture, monkeypatch):
        """Of a tiled picture as a whole only the score is used, also beside a small picture."""
        seen = []
        original = type(backbone).encode_image
        monkeypatch.setattr(
            type(backbone), "encode_image", lambda self, pixels, **kw: seen.append(bool(kw["scales"])) or original(self, pixels, **kw)
        )
        AnomalyDetector(backbone, prompts=prompts).predict([large_picture, golden.pictures()[0]], tile=128, batch_size=64)
        assert seen == [True, False, True]  # the small picture, the whole of the large one, its tiles

    def test_score_alone(self, detector, large_picture):
        result = detector.predict(large_picture, tile=128, maps=False)
        assert result.anomaly_map is None and result.pred_score == detector.predict(large_picture, tile=128).pred_score

    def test_the_encoder_never_sees_more_than_a_batch(self, backbone, prompts, large_picture, monkeypatch):
        seen = []
        original = type(backbone).encode_image
        monkeypatch.setattr(
            type(backbone), "encode_image", lambda self, pixels, **kw: seen.append(len(pixels)) or original(self, pixels, **kw)
        )
        AnomalyDetector(backbone, prompts=prompts).predict(large_picture, tile=100, batch_size=4)
        assert max(seen) == 4 and sum(seen) > 8
