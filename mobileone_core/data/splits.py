"""Stratified splits. No torch here."""

import numpy as np
from numpy.typing import NDArray

from mobileone_core.data.seeding import derive_seed
from mobileone_core.errors import require

Indices = NDArray[np.int64]


def carve(labels: Indices, fraction: float, seed: int, purpose: str) -> tuple[Indices, Indices]:
    """Indices that stay and indices carved out, each sorted: the nearest to fraction of every class, at least one.

    labels is (N,). Raises InputError where a class has a single image.
    """
    # RandomState: its stream is frozen across numpy's versions (NEP 19), so a split is too.
    random = np.random.RandomState(derive_seed(seed, purpose) % 2**32)
    carved = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        allowed = "two or more, so that a split can take one"
        require(len(members) > 1, f"images of class {label}", len(members), allowed)
        count = min(max(1, int(len(members) * fraction + 0.5)), len(members) - 1)
        carved[random.permutation(members)[:count]] = True
    return np.flatnonzero(~carved), np.flatnonzero(carved)
