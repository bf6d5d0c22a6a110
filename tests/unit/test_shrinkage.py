"""The bound with a prior for the spread: against a t distribution that is integrated here, and what one odd reference does to it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from vlad.references.calibration import threshold
from vlad.references.shrinkage import IMAGE_PRIOR, PIXEL_PRIOR, SpreadPrior, shrinkage_bound

EVEN = (0.100, 0.106, 0.095, 0.103, 0.098, 0.109, 0.092, 0.101)  # eight references, none odd


def posterior_predictive_tail(bound: float, scores: tuple[float, ...], prior: SpreadPrior) -> float:
    """The probability that a new score exceeds `bound`, by integrating the model over the unknown variance: its posterior is a scaled
    inverse chi-square, and given it a new log score is normal around the mean with variance (1 + 1 / k). Nothing of `shrinkage` is used."""
    logs = np.log(scores)
    count = len(logs)
    degrees = prior.degrees + count - 1
    total = prior.degrees * prior.spread**2 + ((logs - logs.mean()) ** 2).sum()
    shift = math.log(bound) - (logs.mean() - prior.decline / count)
    chi = np.linspace(1e-6, degrees + 60 * math.sqrt(2 * degrees), 20_001)  # total / variance is chi-square distributed
    density = np.exp((degrees / 2 - 1) * np.log(chi) - chi / 2 - math.lgamma(degrees / 2) - degrees / 2 * math.log(2))
    tails = np.array([math.erfc(value) / 2 for value in shift / np.sqrt(2 * total / chi * (1 + 1 / count))])
    return float(trapezoid(tails * density, chi))


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("prior", [IMAGE_PRIOR, PIXEL_PRIOR, SpreadPrior(0.2, 8.0, 0.0)])
@pytest.mark.parametrize("scores", [EVEN[:2], EVEN[:4], EVEN], ids=len)
def test_the_share_above_it_is_what_was_asked_for(scores, prior, limit):
    bound = shrinkage_bound(scores, limit, prior)
    assert posterior_predictive_tail(bound, scores, prior) == pytest.approx(limit, rel=2e-3)


def test_by_hand():
    """Three scores of log spread 0.1: prior and sample agree, so the bound is t(0.95, 5) x 0.1 x sqrt(4 / 3) above the mean."""
    scores = np.exp(math.log(0.2) + np.array([-0.1, 0.0, 0.1]))
    expected = 0.2 * math.exp(-0.2 / 3 + 2.015048 * 0.1 * math.sqrt(4 / 3))
    assert shrinkage_bound(scores, 0.05, SpreadPrior(0.1, 3.0, 0.2)) == pytest.approx(expected, rel=1e-6)


def test_one_score_has_the_spread_of_the_prior():
    expected = 0.2 * math.exp(2.353363 * 0.1 * math.sqrt(2))  # t(0.95, 3)
    assert shrinkage_bound([0.2], 0.05, SpreadPrior(0.1, 3.0, 0.2), are_held_out=False) == pytest.approx(expected, rel=1e-6)


def test_one_odd_reference_of_eight_moves_it_little():
    """A good part that stands out fivefold: the bound of `student` more than doubles, so that no defect reaches it."""
    odd = (*EVEN[:7], 5 * EVEN[7])
    moved = {method: threshold(odd, method, 0.05) / threshold(EVEN, method, 0.05) for method in ("shrinkage", "student")}
    assert 1 < moved["shrinkage"] < 1.35
    assert moved["student"] > 2


def test_how_odd_it_is_does_not_matter_any_more():
    assert shrinkage_bound((*EVEN[:7], 0.5), 0.05, IMAGE_PRIOR) == shrinkage_bound((*EVEN[:7], 0.9), 0.05, IMAGE_PRIOR)
    without = [shrinkage_bound((*EVEN[:7], value), 0.05, IMAGE_PRIOR, cut=math.inf) for value in (0.5, 0.9)]
    assert without[1] > 1.2 * without[0]


def test_order_never_matters():
    scores = (0.1, 0.13, 0.11, 0.4, 0.09)
    assert len({shrinkage_bound(order, 0.05, IMAGE_PRIOR) for order in itertools.permutations(scores)}) == 1


@given(st.lists(st.floats(1e-4, 0.2), min_size=1, max_size=20), st.floats(0.5, 4.0))
@settings(deadline=None, max_examples=100)
def test_scores_in_other_units_give_it_in_other_units(scores, factor):
    scaled = shrinkage_bound([factor * value for value in scores], 0.05, IMAGE_PRIOR)
    assert scaled == pytest.approx(factor * shrinkage_bound(scores, 0.05, IMAGE_PRIOR), rel=1e-9)


def test_equal_references_still_leave_room():
    assert shrinkage_bound((0.1,) * 4, 0.05, IMAGE_PRIOR) > 0.1
    assert shrinkage_bound((0.0,) * 4, 0.05, IMAGE_PRIOR) > 0  # of pictures that are the same to the encoder


@pytest.mark.parametrize("count", [2, 4, 8])
def test_it_keeps_what_its_model_says(count):
    """Products whose spread follows the prior, each with references and one more picture."""
    prior = SpreadPrior(0.1, 3.0, 0.0)
    rng = np.random.default_rng(count)
    spreads = prior.spread * np.sqrt(prior.degrees / rng.chisquare(prior.degrees, 4000))
    draws = np.exp(math.log(0.1) + spreads[:, None] * rng.normal(size=(4000, count + 1)))
    shares = [np.mean([row[-1] > shrinkage_bound(row[:-1], 0.05, prior, cut=cut) for row in draws]) for cut in (math.inf, 3.0)]
    error = 3 * math.sqrt(0.05 * 0.95 / 4000)
    assert abs(shares[0] - 0.05) < error
    assert shares[0] <= shares[1] < 0.05 + 2 * error  # cutting off costs false alarms, a few
