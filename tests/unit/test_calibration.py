"""Thresholds: values by hand, and false-positive rates against what was promised."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlad.config import CALIBRATIONS
from vlad.references.calibration import Calibration, references_needed, threshold
from vlad.references.shrinkage import IMAGE_PRIOR, PIXEL_PRIOR, shrinkage_bound

SCORES = (0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("scores", "method", "fpr_limit", "expected"),
    [
        (SCORES, "quantile", 0.5, 0.25),
        (SCORES, "quantile", 0.05, 0.385),
        (SCORES, "conformal", 0.2, 0.4),  # rank ceil(5 * 0.8) = 4
        (SCORES, "conformal", 0.4, 0.3),
        (SCORES, "conformal", 0.05, 0.4),  # more than four can promise: the highest
        (SCORES, "student", 0.05, 0.25 + 2.353363 * np.std(SCORES, ddof=1) * math.sqrt(1.25)),
        ((0.3,), "student", 0.05, 0.3),
        ((0.2, 0.9), "student", 0.05, 1.0),
        ((0.2, 0.2, 0.2), "student", 0.05, 0.2),
        (tuple(i / 100 for i in range(1, 20)), "conformal", 0.05, 0.19),
        (tuple(i / 100 for i in range(1, 40)), "conformal", 0.05, 0.38),
    ],
)
def test_by_hand(scores, method, fpr_limit, expected):
    assert threshold(scores, method, fpr_limit) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.sampled_from(CALIBRATIONS), st.floats(0.001, 0.5))
@settings(deadline=None, max_examples=100)
def test_in_range_and_blind_to_order(scores, method, fpr_limit):
    value = threshold(scores, method, fpr_limit)
    assert 0 <= value <= 1
    assert value == pytest.approx(threshold(scores[::-1], method, fpr_limit), abs=1e-12)


@pytest.mark.parametrize("limit", [0.05, 0.1, 0.2])
def test_conformal_keeps_its_promise(limit):
    """A skewed distribution, 19 normals, 4,000 fits: the rate stays below the limit, and not far below."""
    draws = np.random.default_rng(0).beta(1, 8, (4000, 20))
    rate = np.mean([row[-1] > threshold(row[:-1], "conformal", limit) for row in draws])
    error = 3 * math.sqrt(limit * (1 - limit) / 4000)
    assert limit - error - 1 / 20 < rate < limit + error


@pytest.mark.parametrize("count", [2, 4, 8])
def test_student_is_exact_for_normal_scores(count):
    draws = np.random.default_rng(1).normal(0.4, 0.02, (4000, count + 1))
    rate = np.mean([row[-1] > threshold(row[:-1], "student", 0.05) for row in draws])
    assert abs(rate - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 4000)


VIEWS = tuple(np.linspace(0.1, 0.2, 16))


@pytest.mark.parametrize(
    ("scores", "views", "expected"),
    [
        ((0.1, 0.15), (), 0.125 + 6.313752 * np.std((0.1, 0.15), ddof=1) * math.sqrt(1.5)),  # 0.40
        ((0.1, 0.15), VIEWS, np.mean((0.1, 0.15, *VIEWS)) + 1.739607 * np.std((0.1, 0.15, *VIEWS), ddof=1) * math.sqrt(1 + 1 / 18)),  # 0.20
        ((0.1, 0.101), VIEWS, 0.1005 + 6.313752 * np.std((0.1, 0.101), ddof=1) * math.sqrt(1.5)),  # equal references need no cap
        ((0.1, 0.4), (0.1,) * 16, 0.4),  # never below the references themselves
    ],
)
def test_views_cap_the_bound_of_two(scores, views, expected):
    assert threshold(scores, "student", 0.05, views=views) == pytest.approx(expected, abs=1e-6)
    assert threshold(scores, "conformal", 0.05, views=views) == max(scores)


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_mirrored_views_are_for_shrinkage_alone(method):
    alone, mirrored = (threshold(VIEWS, method, 0.05, mirrors=mirrors) for mirrors in ((), (0.3, 0.4)))
    assert (alone == mirrored) == (method != "shrinkage")


def test_one_reference_is_judged_by_its_mirrored_views():
    views = tuple(np.linspace(0.01, 0.05, 8))
    calibration = Calibration(views, views, False, image_mirror_scores=(0.1, 0.16), pixel_mirror_scores=(0.2, 0.32))
    middle = math.sqrt(0.1 * 0.16)
    assert calibration.image_threshold("shrinkage", 0.05) == pytest.approx(
        shrinkage_bound([middle], 0.05, IMAGE_PRIOR, are_held_out=False), abs=1e-12
    )
    assert calibration.pixel_threshold("shrinkage", 0.05) == pytest.approx(
        shrinkage_bound([2 * middle], 0.05, PIXEL_PRIOR, are_held_out=False), abs=1e-12
    )


def test_one_reference_without_mirrored_views_is_as_it_was():
    views = tuple(np.linspace(0.01, 0.05, 8))
    calibration = Calibration(views, views, False)  # as folders of earlier versions hold it
    for method in ("shrinkage", "student"):
        assert calibration.image_threshold(method, 0.05) == calibration.pixel_threshold(method, 0.05) == threshold(views, "student", 0.05)


def test_p_values():
    calibration = Calibration(SCORES, SCORES, is_held_out=True)
    assert [calibration.p_value(score) for score in (0.0, 0.15, 0.4, 0.41)] == [1.0, 0.8, 0.4, 0.2]


@pytest.mark.parametrize(("limit", "needed"), [(0.2, 4), (0.05, 19), (0.01, 99), (0.1, 9)])
def test_references_needed(limit, needed):
    assert references_needed(limit) == needed
    scores = [i / 1000 for i in range(needed)]
    assert threshold([*scores, 0.9], "conformal", limit) <= 0.9
    assert threshold(scores, "conformal", limit) == scores[-1]  # the last rank is just reached


@pytest.mark.parametrize(
    ("count", "method", "held_out", "words"),
    [
        (2, "student", True, "2 normal pictures promise nothing, the threshold is a guess; 19 promise 5.0%"),
        (3, "conformal", True, "3 normal pictures promise nothing"),
        (4, "conformal", True, "4 normal pictures: the highest.*20.0%.*52.7% with 95 %.*19 promise 5.0%"),
        (19, "conformal", True, "19 normal pictures: on average over fits, at most 5.0% of normal pictures"),
        (20, "student", True, "student threshold is an estimate of 5.0%.*13.9% with 95 %"),
        (20, "shrinkage", True, "shrinkage threshold is an estimate of 5.0%.*13.9% with 95 %"),
        (8, "student", False, "augmented views.*promises nothing"),
    ],
)
def test_what_is_guaranteed(count, method, held_out, words):
    assert re.search(words, _calibration(count, held_out).guarantee(method, 0.05))


@pytest.mark.parametrize(
    ("count", "method", "held_out", "words"),
    [
        (8, "shrinkage", False, "from 1 good picture, which is a guess and can be far off; give more good pictures"),
        (3, "conformal", True, "from 3 good pictures, which is a guess and can be far off; give more good pictures"),
        (4, "conformal", True, "from 4 good pictures; expect at most 1 false alarm in 5 on average"),
        (19, "conformal", True, "from 19 good pictures; expect at most 1 false alarm in 20 on average"),
        (20, "student", True, "from 20 good pictures; aims at 1 false alarm in 20"),
    ],
)
def test_what_is_promised(count, method, held_out, words):
    assert _calibration(count, held_out).promise(method, 0.05) == words


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.5])
def test_what_is_promised_is_no_better_than_what_was_aimed_at(limit):
    found = re.fullmatch(
        r"from 20 good pictures; expect about 1 false alarm in (\d+) to (\d+)", _calibration(20, True).promise("shrinkage", limit)
    )
    assert found is not None and 2 <= int(found[1]) <= int(found[2]) == round(1 / limit)


def _calibration(count: int, held_out: bool) -> Calibration:
    return Calibration(tuple(np.linspace(0, 1, count)), (0.5,), is_held_out=held_out)
