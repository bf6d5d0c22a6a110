"""Thresholds from labelled scores, and how certain their rates of error are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from vlad.errors import ConfigError
from vlad.references.rates import Rate, Rule, choose, lowered, pictures_needed

GOOD, BAD = [0.1, 0.2, 0.3, 0.4, 0.5], [0.35, 0.7, 0.8, 0.9]


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [
        (Rule(max_false_alarms=0.0), 0.6),  # none of the good ones
        (Rule(max_false_alarms=0.02), 0.6),  # five are too few to promise 2 %
        (Rule(max_false_alarms=0.34), 0.45),  # one of five, as a sixth would be with 1/3
        (Rule(max_misses=0.0), 0.325),  # none of the bad ones
        (Rule(max_misses=0.4), 0.6),
        (Rule(cost_ratio=1), 0.6),
        (Rule(cost_ratio=20), 0.325),
        (Rule(cost_ratio=20, bad_share=0.01), 0.6),
        (Rule(cost_ratio=1 / 20), 0.6),
    ],
)
def test_what_a_rule_asks_for(rule, threshold):
    assert choose(GOOD, BAD, rule) == pytest.approx(threshold)
    assert choose(GOOD[::-1], BAD[::-1], rule) == pytest.approx(threshold)


def test_where_nothing_is_asked_for():
    assert Rule().settled(10, 0.05) == Rule(cost_ratio=1.0)
    assert Rule().settled(3, 0.05) == Rule(max_false_alarms=0.05)
    assert Rule(max_misses=0.1).settled(3, 0.05) == Rule(max_misses=0.1)


@pytest.mark.parametrize(
    ("start", "bad", "threshold"),
    [
        (0.6, [0.9], 0.6),  # found already
        (0.6, [0.55], 0.525),  # halfway to the highest good one
        (0.6, [0.55, 0.58], 0.525),
        (0.6, [0.45], 0.6),  # would cost a false alarm
        (0.6, [0.45, 0.55], 0.525),  # the one that can be found is
        (0.45, [0.43], 0.415),  # one false alarm is there already
        (0.45, [0.35], 0.45),
        (0.6, [], 0.6),
    ],
)
def test_a_miss_lowers_a_threshold_as_far_as_good_pictures_allow(start, bad, threshold):
    assert lowered(start, GOOD, bad, 0.05) == pytest.approx(threshold)


@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=1, max_size=20), st.lists(st.floats(0, 1), max_size=8))
def test_it_is_never_raised_and_never_costs_more_false_alarms(start, good, bad):
    value = lowered(start, good, bad, 0.04)
    assert 0 <= value <= start and sum(score > value for score in good) <= sum(score > start for score in good)
    assert sum(score > value for score in bad) >= sum(score > start for score in bad)


def test_the_ends():
    assert choose([0.2, 0.2], [0.1], Rule(max_misses=0)) == pytest.approx(0.05)  # below all
    assert 0.2 < choose([0.2, 0.2], [0.1], Rule(max_false_alarms=0)) <= 0.22  # above all
    assert choose([1.0], [1.0], Rule(max_false_alarms=0)) == 1.0
    assert choose([0.3], [], Rule(max_false_alarms=0)) > 0.3
    assert choose([], [0.3], Rule(max_misses=0)) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"max_false_alarms": 0.1, "cost_ratio": 2}, "one of these, got max_false_alarms and cost_ratio"),
        ({"max_false_alarms": 1.0}, "from 0 to below 1"),
        ({"max_misses": -0.1}, "from 0 to below 1"),
        ({"cost_ratio": 0}, "above 0"),
        ({"cost_ratio": float("inf")}, "above 0"),
        ({"bad_share": 1}, "above 0 and below 1"),
    ],
)
def test_rules_out_of_range(rule, said):
    with pytest.raises(ConfigError, match=said):
        Rule(**rule)


@pytest.mark.parametrize(("rule", "good", "bad"), [(Rule(max_misses=0.1), [0.1], []), (Rule(cost_ratio=2), [], [0.1]), (Rule(), [0.1], [])])
def test_a_group_that_is_missing(rule, good, bad):
    with pytest.raises(ConfigError, match=r"there are none; give some"):
        choose(good, bad, rule)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 0.9))
def test_limits_are_kept_on_the_pictures_given_and_cost_is_smallest(good, bad, limit):
    normal, anomalous = np.array(good), np.array(bad)
    few = choose(good, bad, Rule(max_false_alarms=limit))
    assert (normal > few).mean() <= max(limit, 0)
    low = choose(good, bad, Rule(max_misses=limit))
    assert (anomalous <= low).mean() <= limit or min(bad) == 0  # nothing lies below 0
    best = choose(good, bad, Rule(cost_ratio=3.0))
    every = [*good, *bad, 0.0, 1.0, -1.0]

    def cost(value: float) -> float:
        return float((normal > value).mean() + 3 * (anomalous <= value).mean())

    assert cost(best) <= min(cost(value) for value in every if value >= 0) + 1e-9
    assert min(few, low, best) >= 0 and max(few, low, best) <= 1


@given(st.integers(0, 40), st.integers(1, 40))
def test_intervals_are_clopper_and_pearsons(count, of):
    """At either end the count seen is as unlikely as 2.5 %, which is what makes the interval exact."""
    count = min(count, of)
    low, high = Rate(count, of).interval
    assert low == 0 if count == 0 else binom.sf(count - 1, of, low) == pytest.approx(0.025, abs=1e-6)
    assert high == 1 if count == of else binom.cdf(count, of, high) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize(("limit", "needed"), [(0.1, 29), (0.05, 59), (0.02, 149), (0.01, 299)])
def test_how_many_pictures_a_promise_needs(limit, needed):
    assert pictures_needed(limit) == needed  # 1 - 0.05 ** (1 / n) <= limit
    more = pictures_needed(limit, 2)
    assert binom.cdf(2, more, limit) <= 0.05 < binom.cdf(2, more - 1, limit)


def test_no_pictures_say_nothing():
    assert Rate(0, 0).interval == (0.0, 1.0) and np.isnan(Rate(0, 0).share)
    assert str(Rate(0, 40)) == "0 of 40, between 0.0% and 8.8%"


@pytest.mark.parametrize("rule", [Rule(max_false_alarms=0.1), Rule(max_misses=0.1)])
def test_limits_hold_on_average_for_pictures_to_come(rule):
    """500 draws of 40 labelled pictures of each kind: as large a share of further ones is wrong as asked for, or less."""
    rng = np.random.default_rng(0)
    alarms, misses = [], []
    for _ in range(500):
        good, bad = rng.lognormal(-3, 0.3, 140), rng.lognormal(-2.3, 0.5, 140)
        value = choose(good[:40], np.minimum(bad[:40], 1), rule)
        alarms.append((good[40:] > value).mean())
        misses.append((bad[40:] <= value).mean())
    got = np.mean(alarms if rule.max_false_alarms is not None else misses)
    assert 0.06 < got < 0.105  # 4 of 41 at most, and halfway to the next score
