"""A detector in the manners of scikit-learn: its own checks of the interface, and the parts that hold in a pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

from vlad import AnomalyEstimator
from vlad.errors import ConfigError
from vlad.synthetic import ProductLine

LITE = {"model": "lite", "device": "cpu", "settings": {"rotations": 1}}


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Six good ones and two with a part missing."""
    line = ProductLine("washer", 3, 160)
    return [line.sample(number, "missing part" if number >= 6 else None).image for number in range(8)]


@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_the_checks_of_scikit_learn_that_apply():
    done = [check(one) or getattr(check, "func", check).__name__ for one, check in estimator_checks_generator(AnomalyEstimator("lite"))]
    assert "check_estimator_cloneable" in done


def test_fit_and_predict(pictures):
    estimator = AnomalyEstimator(**LITE).fit(pictures[:5])
    assert estimator.predict(pictures[5:]).tolist() == [1, -1, -1] and estimator.n_references_ == 5
    scores = estimator.score_samples(pictures)
    assert ((scores <= 0) & (scores >= -1)).all() and scores[6:].max() < scores[:6].min()
    np.testing.assert_allclose(estimator.decision_function(pictures), scores - estimator.offset_)
    assert -estimator.offset_ == estimator.detector_.predict(pictures[0], maps=False).threshold


def test_labels_leave_out_what_is_not_normal(pictures):
    labels = [1] * 5 + [-1, -1]
    both = AnomalyEstimator(**LITE).fit(pictures[:5] + pictures[6:], labels), AnomalyEstimator(**LITE).fit(pictures[:5])
    assert both[0].n_references_ == 5
    np.testing.assert_array_equal(*(one.score_samples(pictures[5:]) for one in both))


def test_the_verdict_is_the_detectors(pictures):
    settings = {**LITE, "settings": {"rotations": 1, "min_area": 10**6}}
    assert AnomalyEstimator(**settings).fit(pictures[:5]).predict(pictures[6:]).tolist() == [1, 1], "no marked place is as large"


def test_it_goes_with_model_selection(pictures):
    estimator = AnomalyEstimator(**LITE)
    assert clone(estimator.fit(pictures[:2])).get_params() == estimator.get_params()
    labels = np.array([1] * 6 + [-1] * 2)
    assert cross_val_score(AnomalyEstimator(**LITE), np.stack(pictures), labels, cv=StratifiedKFold(2), scoring="roc_auc").min() == 1
    assert AnomalyEstimator(**LITE).fit_predict(pictures[:4]).shape == (4,)


def test_what_is_wrong_is_told(pictures):
    with pytest.raises(NotFittedError):
        AnomalyEstimator(**LITE).predict(pictures)
    with pytest.raises(ConfigError, match="at least one normal picture"):
        AnomalyEstimator(**LITE).fit(pictures[:2], [-1, 0])
    with pytest.raises(ConfigError, match="X must be a sequence of pictures, got one"):
        AnomalyEstimator(**LITE).fit("part.png")
    with pytest.raises(ConfigError, match="labels must be 1 for normal"):
        AnomalyEstimator(**LITE).fit(pictures[:2], ["good", "bad"])
    with pytest.raises(ConfigError, match="a label for each of 2 pictures, got 3"):
        AnomalyEstimator(**LITE).fit(pictures[:2], [1, 1, 1])
