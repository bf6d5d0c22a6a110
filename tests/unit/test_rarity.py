"""Rarity inside one picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlad import AnomalyDetector
from vlad.errors import ConfigError
from vlad.scoring.base import mean_of_top
from vlad.scoring.rarity import rarity
from vlad.synthetic import make_sample


def checkerboard(side: int = 12) -> torch.Tensor:
    """Tokens (1, P, 2) of a pattern in which every token occurs many times."""
    rows, cols = np.indices((side, side))
    return torch.tensor(np.where(((rows + cols) % 2)[..., None], [1.0, 0.0], [0.0, 1.0]), dtype=torch.float32).reshape(1, -1, 2)


def test_what_has_its_like_elsewhere_is_common() -> None:
    assert rarity(checkerboard(), (12, 12)).max() < 1e-6


def test_what_has_none_is_rare_and_by_how_much() -> None:
    tokens = checkerboard()
    tokens[0, 5 * 12 + 5] = torch.tensor([-1.0, 0.0])  # opposite to one half, at right angles to the other
    found = rarity(tokens, (12, 12)).reshape(12, 12)
    assert found[5, 5].item() == pytest.approx(0.5)
    found[5, 5] = 0
    assert found.max() < 1e-6


def test_neighbours_do_not_explain_a_place_away() -> None:
    tokens = checkerboard()
    for row in (5, 6):  # an alien blob of four places, alike among themselves
        for col in (5, 6):
            tokens[0, row * 12 + col] = torch.tensor([-1.0, 0.0])
    grid = (12, 12)
    assert rarity(tokens, grid, reach=2).reshape(grid)[5, 5] > 0.4
    assert rarity(tokens, grid, reach=0, share=0.001).reshape(grid)[5, 5] < 1e-6


def test_length_of_tokens_does_not_matter_and_pictures_are_apart() -> None:
    tokens = torch.randn(3, 144, 8, generator=torch.Generator().manual_seed(0))
    together = rarity(tokens, (12, 12))
    assert ((together >= 0) & (together <= 1)).all()
    for index in range(3):
        torch.testing.assert_close(rarity(7 * tokens[index : index + 1], (12, 12))[0], together[index])
    assert rarity(tokens[:0], (12, 12)).shape == (0, 144)


@pytest.mark.parametrize(("tokens", "grid", "words"), [((1, 9, 4), (3, 4), "12"), ((1, 16, 4), (4, 4), "more than 5")])
def test_bad_input_is_named(tokens: tuple[int, ...], grid: tuple[int, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        rarity(torch.ones(tokens), grid)


def test_a_setting_of_the_detector_moves_the_log_odds() -> None:
    picture = make_sample(3, families=("perforated sheet",), defects=("stain",), anomalous=True).image
    detectors = {weight: AnomalyDetector.from_pretrained("lite", device="cpu", rarity=weight) for weight in (0, 10, None)}
    none, ten, default = (detector.predict(picture) for detector in detectors.values())
    assert "rarity" not in none.scores
    advice = detectors[0].backbone.advice
    for weight, result in ((10, ten), (advice.rarity, default)):
        text = result.scores["text_image"]
        assert text == pytest.approx(none.pred_score)
        odds = np.log(text / (1 - text)) + weight * (result.scores["rarity"] - advice.rarity_centre)
        assert result.pred_score == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-5)
        assert result.anomaly_map.shape == none.anomaly_map.shape and not np.allclose(result.anomaly_map, none.anomaly_map)
    tokens = detectors[10].encoder.see([picture], patches=True)[0].patches
    assert tokens is not None
    assert ten.scores["rarity"] == pytest.approx(mean_of_top(rarity(tokens.tokens[None], tokens.grid)[0], 0.01))


def test_beside_references_it_plays_no_part() -> None:
    pictures = [make_sample((4, number), families=("leather",), anomalous=False).image for number in range(2)]
    results = [
        AnomalyDetector.from_pretrained("lite", device="cpu", rarity=w, rotations=1).fit(pictures[:1]).predict(pictures[1]) for w in (0, 20)
    ]
    assert results[0].pred_score == results[1].pred_score


def test_the_weight_is_checked() -> None:
    with pytest.raises(ConfigError, match="rarity"):
        AnomalyDetector.from_pretrained("lite", rarity=-1)
