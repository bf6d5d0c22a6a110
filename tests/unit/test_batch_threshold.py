"""A threshold from the scores of an unlabelled batch: accuracy on simulated mixtures, and what must not change it."""

import numpy as np
import pytest

from vlad.errors import ConfigError
from vlad.scoring.batch_threshold import LOWER, PRIOR_COUNT, PRIOR_SPREAD, SPREADS, batch_threshold


def mixture(rng: np.random.Generator, count: int, share: float, apart: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N,) of normal pictures around 0.05 with deviation 0.01, of anomalous ones `apart` deviations higher and three times as
    spread; and which are anomalous (N,)."""
    is_bad = np.arange(count) < round(share * count)
    return np.where(is_bad, rng.normal(0.05 + 0.01 * apart, 0.03, count).clip(0.04), rng.normal(0.05, 0.01, count)), is_bad


def accuracy(count: int, share: float, *, draws: int = 100, **settings: float) -> float:
    """Mean over draws of the balanced accuracy, or of the accuracy where all are good."""
    found = []
    for seed in range(draws):
        scores, is_bad = mixture(np.random.default_rng(seed), count, share)
        called = scores > batch_threshold(scores, **settings).value
        found.append(np.mean([(called[is_bad == kind] == kind).mean() for kind in np.unique(is_bad)]))
    return float(np.mean(found))


@pytest.mark.parametrize("count", [8, 16, 32, 200])
@pytest.mark.parametrize(("share", "least"), [(0.0, 0.83), (0.2, 0.85), (0.5, 0.80)])
def test_mixtures_of_good_and_bad(count, share, least):
    assert accuracy(count, share) >= least


def test_an_expected_share_that_is_right_helps_and_is_kept():
    assert accuracy(32, 0.25, expect_anomalous=0.25) > 0.93
    scores = np.random.default_rng(0).random(40)
    for share, called in ((0.0, 0), (0.05, 2), (0.5, 20), (0.99, 39)):
        assert (scores > batch_threshold(scores, expect_anomalous=share).value).sum() == called


def test_a_small_share_of_few_is_one():
    scores = [0.1, 0.11, 0.1, 0.12, 0.1, 0.1, 0.11, 0.5]
    assert (np.array(scores) > batch_threshold(scores, expect_anomalous=0.05).value).tolist() == [False] * 7 + [True]


def test_the_rule_by_hand():
    scores = [4.0, 1.0, 9.0, 2.0, 3.0, 5.0]
    lower = np.log([1 / 3, 2 / 3, 1])  # 1, 2 and 3 lie up to the quantile, 3
    spread = np.sqrt((np.sum(lower**2) + PRIOR_COUNT * PRIOR_SPREAD**2) / (3 + PRIOR_COUNT))
    found = batch_threshold(scores)
    assert (found.centre, found.count) == (pytest.approx(3.0), 6)
    assert (found.spread, found.value) == pytest.approx((spread, 3.0 * np.exp(SPREADS * spread)))
    assert found.z([3.0, found.value]) == pytest.approx([0.0, SPREADS]) and found.at(SPREADS) == found.value


def test_order_and_units_change_nothing():
    rng = np.random.default_rng(3)
    scores, _ = mixture(rng, 30, 0.2)
    found = batch_threshold(scores)
    assert batch_threshold(rng.permutation(scores)) == found
    scaled = batch_threshold(3 * scores)
    assert scaled.value == pytest.approx(3 * found.value)
    assert scaled.z(3 * scores) == pytest.approx(found.z(scores))


def test_scores_above_the_lower_part_move_nothing():
    scores = np.arange(20.0)
    other = np.where(scores > np.quantile(scores, LOWER) + 1, scores * 100, scores)
    assert batch_threshold(other).value == batch_threshold(scores).value


@pytest.mark.parametrize("scores", [[0.1], [0.1, 0.12], [0.1, 0.1, 0.1], [0.0, 0.0]])
def test_very_few_or_equal_scores_are_all_normal(scores):
    found = batch_threshold(scores)
    assert found.value >= max(scores) and np.isfinite(found.z(scores)).all()
    assert "few" in found.promise()


def test_words():
    few, many, expected = (batch_threshold(range(n), expect_anomalous=share).promise() for n, share in ((5, None), (9, None), (9, 0.2)))
    assert "it is a guess" in few and "guess" not in many and "cannot know" in many
    assert "about 20% of these 9 pictures" in expected


@pytest.mark.parametrize(
    "bad", [{"scores": []}, {"scores": [-0.1, 0.2]}, {"scores": [0.1, float("nan")]}, {"scores": [0.1], "expect_anomalous": 1.0}]
)
def test_bad_input(bad):
    with pytest.raises(ConfigError):
        batch_threshold(**bad)
