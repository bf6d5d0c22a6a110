"""Judged by each other beside references or words: two opinions of the same pictures joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlad import AnomalyDetector
from vlad.backbones.lite.backbone import LiteBackbone
from vlad.errors import ConfigError
from vlad.references.beside import Opinion, join
from vlad.references.unlabelled import MutualSettings
from vlad.scoring.base import Comparison
from vlad.scoring.batch_threshold import batch_threshold
from vlad.scoring.pictures import Scored
from vlad.synthetic import ProductLine
from vlad.together import predict_together

RNG = np.random.default_rng(0)
FOUND = [
    Comparison(float(score), torch.from_numpy(RNG.uniform(0, score, 12).astype(np.float32)), (3, 4), (1.0, 1.0))
    for score in RNG.uniform(0.05, 0.1, 10)
]
OPINIONS = [Opinion(float(score), RNG.uniform(0, score, (3, 4)).astype(np.float16), {"text": 1.0}) for score in RNG.uniform(0.2, 0.6, 10)]


@pytest.fixture(scope="module")
def gears() -> list[np.ndarray]:
    line = ProductLine("gear", 3, 160)
    return [line.sample(number, "crack" if number in (2, 7) else None).image for number in range(13)]


def test_weights_at_both_ends_keep_one_opinion():
    alone = join(FOUND, OPINIONS, 0.0)
    assert [one.score for one in alone] == pytest.approx([one.score for one in FOUND])
    assert all(torch.allclose(one.distances, other.distances) for one, other in zip(alone, FOUND, strict=True))
    only = join(FOUND, OPINIONS, 1.0)
    assert np.argsort([one.score for one in only]).tolist() == np.argsort([one.score for one in OPINIONS]).tolist()
    ranks = [np.argsort(one.distances.numpy()[one.distances.numpy() > 0]).tolist() for one in only]
    assert ranks == [np.argsort(one.heat.ravel()[found.distances.numpy() > 0]).tolist() for one, found in zip(OPINIONS, only, strict=True)]


def test_scores_are_joined_as_deviations():
    own, other = (batch_threshold([one.score for one in some]) for some in (FOUND, OPINIONS))
    expected = [own.z([a.score])[0] + other.z([b.score])[0] for a, b in zip(FOUND, OPINIONS, strict=True)]
    got = own.z([one.score for one in join(FOUND, OPINIONS, 0.5)])
    inside = np.array([one.score for one in join(FOUND, OPINIONS, 0.5)]) > 0  # what would lie below 0 is 0
    assert inside.sum() > 5 and np.allclose(2 * got[inside], np.array(expected)[inside])


def test_an_opinion_lies_on_the_shown_part_of_the_grid():
    heat = np.zeros((40, 80), np.float32)
    heat[:20, :40] = 1
    opinion = Opinion.of(Scored(0.5, heat, {}, np.ones(2)), (4, 4), (0.5, 1.0))
    assert opinion.heat.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_references_beside_the_folder(gears):
    fitted = AnomalyDetector(LiteBackbone(device="cpu"), rotations=1).fit(gears[9:])
    found = fitted.predict_mutual(gears[:9])
    plain = fitted.predict_mutual(gears[:9], settings=MutualSettings(beside=0.0))
    assert {2, 7} <= set(np.argsort([-result.pred_score for result in found])[:3].tolist())
    assert [result.pred_score for result in found] != [result.pred_score for result in plain]
    assert {result.threshold_source for result in found} == {"mutual"} and found[0].anomaly_map.shape == (160, 160)
    assert set(found[0].scores) > set(plain[0].scores)  # and what the references say
    few = list(predict_together(fitted, gears[:3], mutual=True))  # too few to be judged by each other: the references decide
    assert {result.threshold_source for result in few} == {"references"}


def test_words_beside_the_folder_where_their_weight_is_set(gears):
    detector = AnomalyDetector(LiteBackbone(device="cpu"))
    plain, mixed = detector.predict_mutual(gears[:9]), detector.copy(text_weight=0.3).predict_mutual(gears[:9])
    assert "text_image" in mixed[0].scores and "text_image" not in plain[0].scores
    assert [result.pred_score for result in plain] != [result.pred_score for result in mixed]
    with pytest.raises(ConfigError, match="beside"):
        MutualSettings(beside=1.5)
