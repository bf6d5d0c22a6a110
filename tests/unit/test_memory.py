"""The memory bank, its coreset and the subspace scorer: values worked out by hand, and properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vlad.errors import ConfigError
from vlad.scoring import nearest
from vlad.scoring.association import winclip_map
from vlad.scoring.base import mean_of_top
from vlad.scoring.coreset import CoresetLoss, greedy_coreset
from vlad.scoring.nearest import MemoryBank
from vlad.scoring.subspace import SubspaceBank

KINDS = [MemoryBank, SubspaceBank]


def tokens(count: int, seed: int = 0, width: int = 8) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def filled(kind: type, *references: torch.Tensor):
    bank = kind()
    for owner, rows in enumerate(references):
        bank.add(rows, torch.full((len(rows),), owner))
    return bank


class TestNearest:
    def test_by_hand(self):
        """Angles of 0 and 90 degrees in the bank: at 30 degrees (1 - cos 30) / 2, whatever the lengths."""
        bank = filled(MemoryBank, torch.tensor([[2.0, 0.0], [0.0, 0.5]]))
        query = 7 * torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (0, 30, 70, 180)])
        expected = [(1 - math.cos(math.radians(a))) / 2 for a in (0, 30, 20, 90)]
        torch.testing.assert_close(bank.distances(query), torch.tensor(expected), atol=1e-7, rtol=0)

    def test_opposite_is_one_and_equal_is_exactly_zero(self):
        rows = tokens(50)
        assert bank_distances(rows, rows).max() == 0
        assert float(filled(MemoryBank, rows[:1]).distances(-rows[:1])) == pytest.approx(1, abs=1e-6)

    def test_chunks_are_exact(self, monkeypatch):
        bank, query = filled(MemoryBank, tokens(700, 1), tokens(500, 2)), tokens(90, 3)
        cosines = F.normalize(query.double(), dim=1) @ F.normalize(torch.cat([tokens(700, 1), tokens(500, 2)]).double(), dim=1).T
        whole = (1 - cosines.max(1).values) / 2
        monkeypatch.setattr(nearest, "_SIMILARITIES", 1)  # chunks of the least size, 256
        torch.testing.assert_close(bank.distances(query).double(), whole, atol=1e-6, rtol=0)
        without = (1 - cosines[:, 700:].max(1).values) / 2
        torch.testing.assert_close(bank.distances(query, without=0).double(), without, atol=1e-6, rtol=0)

    @given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
    @settings(deadline=None, max_examples=40)
    def test_adding_never_raises_a_distance_and_order_never_matters(self, first, second, seed):
        a, b, query = tokens(first, seed), tokens(second, seed + 1), tokens(20, seed + 2)
        alone, both, swapped = filled(MemoryBank, a), filled(MemoryBank, a, b), filled(MemoryBank, b, a)
        assert (both.distances(query) <= alone.distances(query) + 1e-7).all()
        torch.testing.assert_close(both.distances(query), swapped.distances(query), atol=1e-7, rtol=0)


def bank_distances(rows: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    return filled(MemoryBank, rows).distances(query)


@pytest.mark.parametrize("kind", KINDS)
class TestBanks:
    def test_without_is_never_added(self, kind):
        query = tokens(10, 9)
        both, first = filled(kind, tokens(30, 1), tokens(30, 2)), filled(kind, tokens(30, 1))
        torch.testing.assert_close(both.distances(query, without=1), first.distances(query), atol=1e-6, rtol=0)
        both.remove(1)
        torch.testing.assert_close(both.distances(query), first.distances(query), atol=1e-6, rtol=0)
        assert len(both) == 30

    def test_copy_is_another(self, kind):
        bank = filled(kind, tokens(30, 1))
        before, other = bank.distances(tokens(5, 3)), bank.copy()
        other.add(tokens(30, 2), torch.full((30,), 1))
        other.distances(tokens(5, 3))
        assert torch.equal(bank.distances(tokens(5, 3)), before) and len(other) == 60

    def test_state(self, kind):
        bank, again = filled(kind, tokens(30, 1), tokens(30, 2)), kind()
        again.load_state(bank.state())
        assert torch.equal(bank.distances(tokens(9, 4)), again.distances(tokens(9, 4)))
        assert torch.equal(bank.distances(tokens(9, 4), without=0), again.distances(tokens(9, 4), without=0))

    @pytest.mark.parametrize("without", [None, 0])
    def test_nothing_to_compare_with(self, kind, without):
        bank = kind() if without is None else filled(kind, tokens(3))
        with pytest.raises(ConfigError, match="no normal picture"):
            bank.distances(tokens(2), without=without)


class TestSubspace:
    def test_by_hand(self):
        """Normal tokens on a great circle: what leaves its plane is the residual."""
        angles = torch.arange(0, 360, 10).deg2rad()
        circle = torch.stack([angles.cos(), angles.sin(), torch.zeros(36)], dim=1)
        found = filled(SubspaceBank, circle).distances(torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.6, 0.8], [0.0, 0.0, -3.0]]))
        torch.testing.assert_close(found, torch.tensor([0.0, 0.64 / 4, 1 / 4]), atol=1e-6, rtol=0)

    def test_keeps_the_variance_asked_for(self):
        scales = torch.tensor([3.0, 1.0, 0.3, 0.1, 0.03])
        rows = tokens(4000, width=5) * scales + torch.tensor([9.0, 0, 0, 0, 0])
        unit = F.normalize(rows, dim=1).double()
        values = torch.linalg.eigvalsh(torch.cov(unit.T)).flip(0)
        for variance in (0.5, 0.9, 0.99, 0.9999):
            bank = SubspaceBank(variance)
            bank.add(rows, torch.zeros(len(rows), dtype=torch.long))
            _, components = bank._fit()
            kept = (values[: components.shape[1]].sum() / values.sum(), values[: components.shape[1] - 1].sum() / values.sum())
            assert kept[0] >= variance > kept[1]

    def test_one_token_alone(self):
        bank = filled(SubspaceBank, tokens(1))
        assert float(bank.distances(tokens(1))[0]) < 1e-12 and torch.isfinite(bank.distances(tokens(5, 7))).all()


class TestCoreset:
    def test_by_hand(self):
        """Three tight groups and room for three: one of each is kept."""
        groups = torch.tensor([[1.0, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 1, 0.01], [0, 0, 1], [0.01, 0, 1]])
        kept, loss = greedy_coreset(groups, 0.5)
        assert sorted(index // 2 for index in kept.tolist()) == [0, 1, 2]
        assert loss.tokens == 6 and loss.kept == 3 and 0 < loss.mean < loss.radius < 1e-4

    @given(st.integers(2, 60), st.floats(0.05, 1), st.integers(0, 1000))
    @settings(deadline=None, max_examples=40)
    def test_the_loss_is_the_true_one(self, count, share, seed):
        rows = tokens(count, seed)
        kept, loss = greedy_coreset(rows, share)
        assert len(kept) == max(1, round(share * count)) == loss.kept and len(set(kept.tolist())) == len(kept)
        true = bank_distances(rows[kept], rows)
        assert loss.radius == pytest.approx(float(true.max()), abs=1e-6) and loss.mean == pytest.approx(float(true.mean()), abs=1e-6)

    def test_at_most_twice_the_best_angle(self):
        """Gonzalez' bound, against every choice of two of eight."""
        rows = tokens(8, 5)
        angles = (F.normalize(rows, dim=1) @ F.normalize(rows, dim=1).T).clamp(-1, 1).arccos()
        best = min(float(torch.minimum(angles[i], angles[j]).max()) for i in range(8) for j in range(i))
        kept, _ = greedy_coreset(rows, 0.25)
        assert float(angles[kept].min(0).values.max()) <= 2 * best + 1e-6

    def test_equal_tokens(self):
        kept, loss = greedy_coreset(torch.ones(10, 4), 0.5)
        assert len(set(kept.tolist())) == 5 and loss.radius == 0

    def test_losses_add_up(self):
        total = CoresetLoss(10, 1, 0.2, 0.1) + CoresetLoss(30, 3, 0.1, 0.02)
        assert (total.tokens, total.kept, total.radius) == (40, 4, 0.2) and total.mean == pytest.approx(0.04)


class TestScores:
    @pytest.mark.parametrize(
        ("count", "share", "expected"), [(400, 0.01, 397.5), (50, 0.01, 49.0), (10, 0.3, 8.0), (7, 0.0, 6.0), (4, 1.0, 1.5)]
    )
    def test_mean_of_top(self, count, share, expected):
        values = torch.arange(count).float()[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
        assert mean_of_top(values, share) == pytest.approx(expected)

    def test_winclip_map_is_the_mean_over_scales(self):
        """2 x 3 patches, two windows of 2 x 2: the middle column takes their harmonic mean."""
        patch = torch.full((6,), 0.3)
        middle = 2 / (1 / 0.2 + 1 / 0.6)
        expected = [(0.3 + value) / 2 for value in (0.2, middle, 0.6, 0.2, middle, 0.6)]
        torch.testing.assert_close(winclip_map(patch, {2: torch.tensor([0.2, 0.6])}, (2, 3)), torch.tensor(expected))
        torch.testing.assert_close(winclip_map(patch, {}, (2, 3)), patch)
