"""`positioned` and `histogram`: against plain loops, and on pictures whose parts are all normal and wrong all the same."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError, VladWarning
from vlad.scoring.histogram import FEWEST, HistogramBank, Words
from vlad.scoring.nearest import MemoryBank
from vlad.scoring.positioned import PositionedBank

sys.path.insert(0, str(Path(__file__).parents[2] / "eval"))

GRID = (5, 7)


def tokens(seed: int, count: int = 35, width: int = 6) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def filled(bank, references: int, count: int = 35):
    for number in range(references):
        bank.add(tokens(number, count), torch.full((count,), number))
    return bank


class TestPositioned:
    @pytest.mark.parametrize(("pictures", "reach"), [(8, 2), (2, 1), (1, 0), (3, 99)])
    @pytest.mark.parametrize("without", [None, 1])
    def test_against_plain_loops(self, pictures, reach, without):
        bank = filled(PositionedBank(pictures, reach), 4)
        query = tokens(77)
        found = bank.matched(query, GRID, without=without).numpy()

        unit = {number: (tokens(number) / tokens(number).norm(dim=1, keepdim=True)).numpy() for number in range(4) if number != without}
        shown = (query / query.norm(dim=1, keepdim=True)).numpy()

        def whole(rows: np.ndarray) -> np.ndarray:
            return rows.mean(0) / np.linalg.norm(rows.mean(0))

        nearest = sorted(unit, key=lambda number: -float(whole(unit[number]) @ whole(shown)))[:pictures]
        for row in range(GRID[0]):
            for column in range(GRID[1]):
                best = max(
                    float(shown[row * 7 + column] @ unit[number][r * 7 + c])
                    for number in nearest
                    for r in range(max(0, row - reach), min(GRID[0], row + reach + 1))
                    for c in range(max(0, column - reach), min(GRID[1], column + reach + 1))
                )
                assert found[row * 7 + column] == pytest.approx((1 - best) / 2, abs=1e-6)

    def test_changed_views_count_too(self):
        bank = filled(PositionedBank(), 2)
        bank.add(tokens(9), torch.full((35,), 0))
        assert bank.matched(tokens(9), GRID).max() < 1e-6

    def test_other_framing_and_nothing_left_are_told(self):
        bank = filled(PositionedBank(), 1)
        with pytest.raises(ConfigError, match="needs pictures of the same framing; this picture has 30 patches, the references have 35"):
            bank.matched(tokens(0, 30), (5, 6))
        with pytest.raises(ConfigError, match="there is no normal picture to compare with"):
            bank.matched(tokens(0), GRID, without=0)

    def test_anywhere_is_near_if_the_reach_is_long(self):
        bank = filled(PositionedBank(8, 99), 3)
        torch.testing.assert_close(bank.distances(tokens(5)), bank.matched(tokens(5), GRID))

    def test_state_and_copy(self):
        bank = filled(PositionedBank(), 3)
        again = PositionedBank()
        again.load_state(bank.state())
        assert torch.equal(again.matched(tokens(5), GRID), bank.matched(tokens(5), GRID))
        other = bank.copy()
        other.remove(0)
        assert len(bank) == 105 and len(other) == 70
        assert torch.equal(other.matched(tokens(5), GRID), bank.matched(tokens(5), GRID, without=0))


class TestHistogram:
    def test_shares_and_distance(self):
        words = Words(torch.eye(3), torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.01, 0.04, 0.01]))
        seen = torch.eye(3)[[0, 0, 0, 1]]
        assert words.shares(seen).tolist() == [0.75, 0.25, 0.0]
        assert words.distance(seen) == pytest.approx(np.sqrt((0.25**2 / 0.01 + 0 + 0.25**2 / 0.01) / 3))

    def test_few_references_leave_it_at_patches(self):
        few, plain = filled(HistogramBank(), FEWEST - 1), filled(MemoryBank(), FEWEST - 1)
        assert few.words() is None and few.fused(tokens(9), 0.25, 0.01, None) == 0.25
        assert torch.equal(few.distances(tokens(9)), plain.distances(tokens(9)))

    def test_it_only_raises_scores_and_forgets_what_it_knew(self):
        bank = filled(HistogramBank(), 6)
        unit = torch.nn.functional.normalize(tokens(0), dim=1)
        assert bank.fused(unit[:1].repeat(35, 1), 0.1, 0.01, None) > 0.1, "a picture of one kind of patch alone"
        assert bank.fused(unit, 0.9, 0.01, None) == 0.9
        before = bank.words()
        bank.add(tokens(50), torch.full((35,), 50))
        assert bank.words() is not before
        again = HistogramBank()
        again.load_state(bank.state())
        assert again.fused(unit, 0.1, 0.01, 0) == bank.fused(unit, 0.1, 0.01, 0)

    @pytest.mark.parametrize("references", [8, 34])
    def test_who_asks_first_does_not_matter(self, references):
        one, other = (filled(HistogramBank(), references) for _ in range(2))
        first, then = one.words((0,)), one.words()
        then_first = other.words()
        assert torch.equal(then.centres, then_first.centres) and torch.equal(first.centres, other.words((0,)).centres)

    def test_the_words_of_a_reference_left_out_do_not_know_it(self):
        bank = filled(HistogramBank(), 6)
        rest = filled(HistogramBank(), 6)
        rest.remove(5)
        assert torch.equal(bank.words((5,)).centres, rest.words().centres)


@pytest.fixture(scope="module")
def lite():
    return LiteBackbone(device="cpu")


def test_whole_parts_in_the_wrong_place_or_number(lite):
    from logical_lines import Line

    rng = np.random.default_rng(5)
    fixed, loose = Line(0, is_loose=False), Line(0, is_loose=True)
    placed = AnomalyDetector(lite, scorer="positioned").fit([fixed.picture(rng) for _ in range(5)])
    good, swapped = (np.mean([placed.predict(fixed.picture(rng, fault)).pred_score for _ in range(3)]) for fault in ("", "swapped"))
    assert swapped > 1.3 * good
    counted = AnomalyDetector(lite, scorer="histogram", rotations=1).fit([loose.picture(rng) for _ in range(6)])
    normal, extra = ([counted.predict(loose.picture(rng, fault)).pred_score for _ in range(4)] for fault in ("", "extra"))
    assert np.mean(extra) > np.mean(normal)


@pytest.mark.parametrize("scorer", ["positioned", "histogram"])
def test_saved_and_loaded(lite, tmp_path, scorer):
    from logical_lines import Line

    rng = np.random.default_rng(5)
    line = Line(1, is_loose=False)
    detector = AnomalyDetector(lite, scorer=scorer).fit([line.picture(rng) for _ in range(5)])
    picture = line.picture(rng)
    result = detector.predict(picture)
    loaded = AnomalyDetector.load(detector.save(tmp_path / "model"), backbone=lite).predict(picture)
    assert (loaded.pred_score, loaded.threshold) == (result.pred_score, result.threshold) and 0 <= result.pred_score <= 1
    assert (loaded.anomaly_map == result.anomaly_map).all()


def test_random_angles_are_kept(lite, tmp_path):
    from logical_lines import Line

    rng = np.random.default_rng(5)
    normal = [Line(1, is_loose=False).picture(rng) for _ in range(2)]
    even = AnomalyDetector(lite, rotations=3).fit(normal)
    drawn = AnomalyDetector(lite, rotations=3, random_angles=True).fit(normal)
    result = drawn.predict(normal[0][::-1].copy())
    assert result.pred_score != even.predict(normal[0][::-1].copy()).pred_score
    loaded = AnomalyDetector.load(drawn.save(tmp_path / "model"), backbone=lite)
    assert loaded.config.random_angles and loaded.predict(normal[0][::-1].copy()).pred_score == result.pred_score


@pytest.mark.parametrize("scorer", ["positioned", "histogram", "gaussian", "subspace"])
def test_a_coreset_that_would_do_nothing_is_told(lite, scorer):
    picture = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    with pytest.warns(VladWarning, match=rf"coreset=0.1 has no effect with scorer '{scorer}'"):
        AnomalyDetector(lite, scorer=scorer, coreset=0.1, rotations=1).fit([picture, picture[::-1]])


def test_histogram_counts_over_the_whole_picture(lite):
    with pytest.raises(ConfigError, match="scorer 'histogram' counts over the whole picture, so it takes no tiles"):
        AnomalyDetector(lite, scorer="histogram", tile=200)
    with pytest.raises(ConfigError, match="so it takes no tiles"):
        AnomalyDetector(lite, scorer="histogram").predict(np.zeros((96, 96, 3), np.uint8), tile=64)
    strips = [np.random.default_rng(seed).integers(90, 120, (300, 1500, 3), dtype=np.uint8) for seed in range(2)]
    detector = AnomalyDetector(lite, scorer="histogram", threshold=0.5, rotations=1).fit(strips[0])
    assert "tiles" not in detector.predict(strips[1]).scores, "nor are line scans looked at in tiles"


def test_positioned_takes_no_tiles(lite):
    with pytest.raises(ConfigError, match="scorer 'positioned' compares place with place, so it takes neither tiles nor turned copies"):
        AnomalyDetector(lite, scorer="positioned", tile=200)
