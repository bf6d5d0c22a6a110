"""Pictures judged by each other: distances against a plain implementation, and what must not change them."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vlad.errors import ConfigError
from vlad.scoring.mutual import (
    ANGLES,
    NEAREST,
    SAMPLE_TURNED,
    SHARE,
    TokenStore,
    choose_plan,
    mutual_distances,
    rescored,
    ring_pairs,
    smooth,
)


def tokens(count: int, *, patches: int = 12, channels: int = 8, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(patches, channels, generator=generator), dim=-1).half().float() for _ in range(count)]


def stored(pictures, *, limit_bytes: int = 2**20) -> TokenStore:
    store = TokenStore(limit_bytes=limit_bytes)
    for angles in pictures:
        store.append(angles if isinstance(angles, list) else [angles])
    return store


def distances(pictures, **settings) -> dict[int, torch.Tensor]:
    return dict(mutual_distances(stored(pictures), **settings))


def plainly(pictures: list[list[torch.Tensor]], share: float) -> list[torch.Tensor]:
    """MuSc's equations, word for word, over all others and all their angles."""
    found = []
    for i, (own, *_) in enumerate(pictures):
        rows = []
        for patch in own:
            nearest = []
            for j, angles in enumerate(pictures):
                if j != i:
                    nearest.append(min(float(1 - F.cosine_similarity(patch, other, dim=0)) / 2 for turned in angles for other in turned))
            lowest = sorted(nearest)[: max(1, int(share * len(nearest)))]
            rows.append(sum(lowest) / len(lowest))
        found.append(torch.tensor(rows))
    return found


@pytest.mark.parametrize(("count", "share"), [(2, 0.3), (3, 0.3), (5, 1.0), (8, 0.3), (9, 0.5)])
@pytest.mark.parametrize("angles", [1, 3])
def test_distances_are_those_of_the_plain_equations(count, share, angles):
    flat = tokens(count * angles)
    pictures = [flat[start : start + angles] for start in range(0, len(flat), angles)]
    found = distances(pictures, share=share)
    for index, expected in enumerate(plainly(pictures, share)):
        torch.testing.assert_close(found[index], expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("count", "others"), [(2, 2), (2, 32), (3, 2), (8, 32), (33, 32), (34, 32), (34, 33), (10, 5), (100, 8)])
def test_each_has_the_same_number_of_others_and_no_pair_comes_twice(count, others):
    pairs = [frozenset(pair) for pair in ring_pairs(count, others)]
    assert len(set(pairs)) == len(pairs) and all(len(pair) == 2 for pair in pairs)
    degree = [sum(place in pair for pair in pairs) for place in range(count)]
    assert set(degree) == {count - 1 if others >= count - 1 else others // 2 * 2}


def test_the_order_of_the_pictures_changes_nothing():
    pictures, keys = tokens(40), [f"{number * 7919 % 1000:03}" for number in range(40)]
    found = distances(pictures, others=6, keys=keys)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1)).tolist()
    moved = distances([pictures[index] for index in order], others=6, keys=[keys[index] for index in order])
    assert all(torch.equal(moved[place], found[index]) for place, index in enumerate(order))


def test_two_runs_are_equal_bit_for_bit_and_another_seed_is_not():
    pictures = tokens(20)
    first, again, other = (distances(pictures, others=4, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[index], again[index]) for index in range(20))
    assert not all(torch.equal(first[index], other[index]) for index in range(20))


def test_a_file_holds_what_memory_does_not():
    pictures = [tokens(3, seed=seed) for seed in range(12)]
    size = sum(values.numel() * 2 for values in pictures[0])
    with stored(pictures, limit_bytes=4 * size) as store:
        found = dict(mutual_distances(store, others=4))
        assert all(torch.equal(read, F.normalize(kept, dim=-1)) for read, kept in zip(store[11], pictures[11], strict=True))
    in_memory = distances(pictures, others=4)
    assert all(torch.equal(found[index], in_memory[index]) for index in range(12))


def test_what_nobody_else_shows_is_far_and_a_copy_is_not():
    same = tokens(1)[0]
    odd = same.clone()
    odd[3] = -same[3]
    found = distances([same] * 6 + [odd])
    assert all(float(found[index].max()) < 1e-6 for index in range(6))
    assert int(found[6].argmax()) == 3 and float(found[6][3]) > 0.1 and float(found[6].sort().values[-2]) < 1e-6


def test_a_turned_picture_is_explained_by_turned_others():
    upright, turned = tokens(2)
    straight, either = distances([upright, upright, turned]), distances([[upright, turned], [upright, turned], [turned, upright]])
    assert float(straight[2].mean()) > 0.1 and float(either[2].max()) < 1e-6


def test_too_few_pictures_or_numbers_out_of_range():
    with pytest.raises(ConfigError, match="at least two are needed, got 1"):
        distances(tokens(1))
    for settings in ({"share": 0.0}, {"share": 1.1}, {"others": 1}):
        with pytest.raises(ConfigError, match="expected a share above 0"):
            distances(tokens(3), **settings)


def test_smoothing_averages_the_neighbours_that_there_are():
    values = F.normalize(tokens(1, patches=12)[0], dim=-1)
    found = smooth(values, (3, 4))
    corner = F.normalize(values[[0, 1, 4, 5]].mean(0), dim=0)
    centre = F.normalize(values[[0, 1, 2, 4, 5, 6, 8, 9, 10]].mean(0), dim=0)
    torch.testing.assert_close(found[0], corner)
    torch.testing.assert_close(found[5], centre)
    torch.testing.assert_close(smooth(values, (3, 4), 1), values)


def still(count: int) -> list[torch.Tensor]:
    """A part that lies still, with noise."""
    (part,) = tokens(1, patches=200, channels=32)
    return [
        F.normalize(part + 0.05 * torch.randn(part.shape, generator=torch.Generator().manual_seed(seed)), dim=-1) for seed in range(count)
    ]


def views(count: int, kinds: int) -> list[list[torch.Tensor]]:
    """Pictures of a part that looks different from each of `kinds` sides, each of them turned as often: angle a shows side + a."""
    sides = tokens(kinds, patches=200, channels=32)
    return [[sides[(number + angle) % kinds] for angle in range(kinds)] for number in range(count)]


def test_a_part_that_lies_still_is_not_turned():
    pictures, others = still(10), tokens(ANGLES, patches=200, channels=32, seed=9)
    plan = choose_plan(pictures, lambda number: others[1:])
    assert (plan.angles, plan.share, plan.elsewhere) == (1, SHARE, 0.0) and plan.agreement > 0.9
    assert "lie still" in plan.describe() and "30%" in plan.describe()


def test_a_part_that_lies_at_any_angle_is_turned():
    pictures, asked = views(16, ANGLES), []

    def turn(number: int) -> list[torch.Tensor]:
        asked.append(number)
        return pictures[number][1:]

    plan = choose_plan([angles[0] for angles in pictures], turn)
    assert plan.angles == ANGLES and plan.elsewhere > 0.75 and plan.gain > 0.9 and sorted(asked) == list(range(16))
    assert "at 8 of them" in plan.describe()


def test_without_turning_few_others_share_a_view_and_the_nearest_counts():
    plan = choose_plan([angles[0] for angles in views(16, ANGLES)])
    assert (plan.angles, plan.share) == (1, NEAREST) and plan.agreement < 0.1
    assert "the nearest other counts" in plan.describe()


def test_a_texture_that_gains_nothing_is_not_turned():
    pictures, asked = still(12), []

    def turn(number: int) -> list[torch.Tensor]:
        asked.append(number)
        return [F.normalize(pictures[number] + 1e-3 * angle, dim=-1) for angle in range(1, ANGLES)]

    assert choose_plan(pictures, turn).angles == 1 and asked == list(range(SAMPLE_TURNED))


def test_rescored_by_hand_and_one_neighbour_changes_nothing():
    embeddings = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    scores = np.array([1.0, 2.0, 4.0])
    assert rescored(scores, embeddings, 1).tolist() == [1.0, 2.0, 4.0]
    expected = [(1 + (1 + 0.8 * 2) / 1.8) / 2, (2 + (2 + 0.8 * 1) / 1.8) / 2, (4 + (4 + 0.6 * 2) / 1.6) / 2]
    assert rescored(scores, embeddings, 2) == pytest.approx(expected)
    assert rescored(np.array([1.0, 3.0]), np.ones((2, 1)), 9).tolist() == [1.5, 2.5]  # copies: each itself first
