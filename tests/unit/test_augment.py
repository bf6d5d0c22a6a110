"""Rotated references and their valid pixels, slightly changed views, and the foreground."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlad.references.augment import rotations, slight_changes, valid_patches
from vlad.scoring.foreground import Foreground, find_foreground

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_right_angles_are_exact():
    turned = list(rotations(PICTURE, 4))
    for quarter, (picture, mask) in enumerate(turned):
        assert np.array_equal(picture, np.rot90(PICTURE, quarter))
        assert mask[1:-1, 1:-1].all()


def test_masked_are_the_corners_that_were_not_in_the_picture():
    """Of a white picture turned by 45 degrees over its own grey border, every valid pixel is white."""
    _, (_, mask), *_ = rotations(PICTURE, 8)
    assert not mask[0, 0] and not mask[-1, -1] and mask[32, 32] and mask[0, 32]
    assert mask.mean() == pytest.approx(2 * (np.sqrt(2) - 1), abs=0.02)  # the octagon of two squares


def test_valid_patches():
    mask = np.ones((32, 64), bool)
    assert valid_patches(mask, (2, 4), (1.0, 1.0)).all()
    mask[0, 0] = mask[20, 63] = False
    assert valid_patches(mask, (2, 4), (1.0, 1.0)).tolist() == [False, True, True, True, True, True, True, False]
    mask = np.ones((28, 60), bool)  # padded to 32 x 64: the padding of a valid border is valid
    mask[27, 59] = False
    assert valid_patches(mask, (2, 4), (28 / 32, 60 / 64)).tolist() == [True] * 7 + [False]


def test_slight_changes_are_slight_and_the_same_each_time():
    smooth = np.linspace(40, 200, 96 * 128 * 3).reshape(96, 128, 3).astype(np.uint8)
    views, again = list(slight_changes(smooth)), list(slight_changes(smooth))
    assert len(views) == 8 and all(np.array_equal(a, b) for a, b in zip(views, again, strict=True))
    for view in views:
        difference = np.abs(view.astype(float) - smooth).mean()
        assert view.shape == smooth.shape and view.dtype == np.uint8 and 0 < difference < 16


def scene(inside: tuple[slice, slice], side: int = 12, seed: int = 0) -> torch.Tensor:
    """Tokens (P, 8) of a part on a background, with noise."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.zeros(side, side, 8)
    base[..., 0] = 1
    base[inside] = torch.tensor([0.0, 1, 0, 0, 0, 0, 0, 0])
    return (base + 0.05 * torch.randn(side, side, 8, generator=generator)).flatten(0, 1)


def test_a_part_on_a_plain_background():
    inside = (slice(3, 9), slice(4, 8))
    found = find_foreground([scene(inside, seed=1), scene(inside, seed=2)], [(12, 12)] * 2)
    assert found is not None
    mask = found.mask(scene(inside, seed=3), (12, 12)).reshape(12, 12)
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[2:10, 3:9] = True  # one patch around it
    assert torch.equal(mask, expected)


def test_holes_belong_to_the_part():
    found = Foreground(torch.eye(8)[1], 0.5)
    tokens = scene((slice(3, 9), slice(3, 9))).reshape(12, 12, 8)
    tokens[5:7, 5:7] = torch.eye(8)[0]
    assert found.mask(tokens.flatten(0, 1), (12, 12)).reshape(12, 12)[3:9, 3:9].all()


@pytest.mark.parametrize(
    "tokens",
    [
        torch.randn(144, 8, generator=torch.Generator().manual_seed(0)),
        scene((slice(0, 12), slice(3, 9))),
        scene((slice(5, 7), slice(5, 7))),
        scene((slice(2, 10), slice(2, 10))),
        torch.ones(144, 8),
    ],
    ids=["texture", "a part that touches the border", "too little", "a frame", "all alike"],
)
def test_nothing_is_cut_where_it_is_not_safe(tokens):
    assert find_foreground([tokens], [(12, 12)]) is None


def test_angles_that_are_drawn():
    drawn = [list(rotations(PICTURE, count, random=True)) for count in (5, 5, 3)]
    assert (drawn[0][0][0] == PICTURE).all() and drawn[0][0][1].all()
    assert all((one == other).all() for (one, _), (other, _) in zip(drawn[0], drawn[1], strict=True)), "once and for all"
    assert all((one == other).all() for (one, _), (other, _) in zip(drawn[0], drawn[2], strict=False)), "more are further ones"
    assert not any((one == other).all() for (one, _), (other, _) in zip(drawn[0][1:], list(rotations(PICTURE, 5))[1:], strict=True))
