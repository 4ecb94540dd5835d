"""Splits: disjoint, covering, stratified; the test set fixed, validation following the seed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.memory import ImageTensor
from mobileone_core.data.seeding import derive_seed
from mobileone_core.data.sets import carve, load_scans, open_splits
from mobileone_core.errors import InputError

DIGITS = resolve_data("digits", None)


def rows(data: object) -> set[tuple[int, ...]]:
    """A split's images as a set; every scan is unlike any other."""
    assert isinstance(data, ImageTensor)
    return {tuple(row) for row in data.images.flatten(1).tolist()}


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
def test_carve_is_a_stratified_partition(counts: list[int], fraction: float, seed: int):
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(len(counts)), counts))
    kept, carved = carve(labels, fraction, seed, "validation")
    assert sorted([*kept, *carved]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        taken = int((labels[carved] == label).sum())
        assert 1 <= taken <= count - 1
        assert abs(taken - fraction * count) <= 1


def test_carve_follows_seed_and_purpose():
    labels = np.repeat(np.arange(10), 30)
    first = carve(labels, 0.1, 3, "validation")[1]
    assert np.array_equal(first, carve(labels, 0.1, 3, "validation")[1])
    assert not np.array_equal(first, carve(labels, 0.1, 4, "validation")[1])
    assert not np.array_equal(first, carve(labels, 0.1, 3, "test")[1])


def test_carve_is_pinned():
    assert carve(np.repeat([0, 1], 8), 0.4, 0, "validation")[1].tolist() == [0, 3, 7, 8, 12, 14]


def test_carve_refuses_a_class_of_one():
    with pytest.raises(InputError, match=r"images of class 1: 1 is not allowed; two or more"):
        carve(np.array([0, 0, 1]), 0.5, 0, "validation")


def test_digits_splits_partition_the_scans():
    splits = open_splits(DIGITS, None, 0)
    train, val, test = splits.train, splits.val, splits.test()
    assert (len(train), len(val), len(test)) == (1210, 136, 451)
    assert len(rows(train) | rows(val) | rows(test)) == 1797 == len(rows(train)) + len(rows(val)) + len(rows(test))
    shares = np.bincount(test.labels) / np.bincount(load_scans()[1])
    assert np.allclose(shares, 0.25, atol=0.005)


def test_digits_test_is_fixed_and_validation_follows_the_seed():
    first, again, other = (open_splits(DIGITS, None, seed) for seed in (0, 0, 1))
    assert isinstance(first.test(), ImageTensor)
    assert torch.equal(first.test().images, other.test().images)
    assert torch.equal(first.val.images, again.val.images)
    assert rows(first.val) != rows(other.val)
    assert rows(first.train) | rows(first.val) == rows(other.train) | rows(other.val)


def test_scans_are_scikit_learns():
    from sklearn.datasets import load_digits

    scans, labels = load_scans()
    assert np.allclose(scans[:, 0].numpy() / 255 * 16, load_digits().images, atol=16 / 255)
    assert np.array_equal(labels, load_digits().target)


def test_seeds_differ_by_every_part_of_the_purpose():
    seeds = {derive_seed(seed, purpose, epoch) for seed in range(4) for purpose in ("a", "b") for epoch in range(4)}
    assert len(seeds) == 32
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, "a", 23) != derive_seed(1, "a", 2, 3) != derive_seed(1, "a2", 3)
    assert derive_seed(0, "order", 0) == derive_seed(0, "order", 0)
