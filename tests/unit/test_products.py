"""Which pictures show the same product."""

import numpy as np
import pytest

from vlad.scoring.products import product_groups


def product(count: int, seed: int, *, spread: float = 0.05) -> np.ndarray:
    """Unit embeddings (N, 16) around a direction of their own."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=16) + spread * rng.normal(size=(count, 16))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 40, 600])
def test_one_product_is_one_group(count):
    assert (product_groups(product(count, 1)) == 0).all()


def test_products_are_told_apart_whatever_their_order_sizes_and_spreads():
    values = np.concatenate([product(6, 1), product(30, 2, spread=0.2), product(12, 3, spread=0.02)])
    truth = np.repeat([2, 0, 1], [6, 30, 12])
    order = np.random.default_rng(0).permutation(len(values))
    assert (product_groups(values[order]) == truth[order]).all()


def test_bad_pictures_stay_with_their_product():
    rng = np.random.default_rng(5)
    good = product(20, 1)
    bad = good[:8] + 0.3 * rng.normal(size=(8, 16)) / 4  # each another way
    values = np.concatenate([good, bad / np.linalg.norm(bad, axis=1, keepdims=True)])
    assert (product_groups(values) == 0).all()


def test_a_few_strange_pictures_are_no_product():
    values = np.concatenate([product(20, 1), product(3, 2), product(10, 4)])
    groups = product_groups(values)
    assert set(groups[:20]) == {0} and set(groups[23:]) == {1} and set(groups[20:23]) <= {0, 1}


def test_copies_are_one_product():
    assert (product_groups(np.repeat(product(1, 1), 9, axis=0)) == 0).all()


def test_nearly_equal_pictures_are_one_product_however_they_bunch():
    bunched = np.concatenate([product(6, 1, spread=0.001), product(6, 1, spread=0.001) + 0.01])
    bunched /= np.linalg.norm(bunched, axis=1, keepdims=True)
    assert set(product_groups(bunched)) == {0, 1} and set(product_groups(bunched, near=0.01)) == {0}
