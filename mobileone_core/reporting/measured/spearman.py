"""Spearman's rank correlation with an interval and a p value. No torch here."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobileone_core.errors import require

EXACT = 8  # models up to which all permutations are counted
METHOD = (
    "intervals by Fisher's z with Bonett and Wright's standard error, sqrt((1 + rho^2 / 2) / (n - 3)), at 95 %; p "
    f"against no association, two-sided, by Student's t, and over all permutations where n is {EXACT} or less"
)


@dataclass(frozen=True)
class Correlation:
    """rho over n pairs; no interval where n < 5 or the ranks agree entirely, no rho where a side is constant."""

    n: int
    rho: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def spearman(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """The correlation of the ranks, ties at their mean rank. Raises InputError where lengths differ."""
    from scipy.stats import norm, rankdata, spearmanr

    require(len(x) == len(y), "pairs", (len(x), len(y)), "as many values of one as of the other")
    n = len(x)
    if n < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return Correlation(n)
    found = spearmanr(x, y)
    rho = min(1.0, max(-1.0, float(found.statistic)))
    p = _permutation_p(rankdata(x), rankdata(y)) if n <= EXACT else float(found.pvalue)
    if n < 5 or 1 - abs(rho) < 1e-12:
        return Correlation(n, rho, p=p)
    half = float(norm.ppf(0.975)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Correlation(n, rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half), p)


def _permutation_p(x: Sequence[float], y: Sequence[float]) -> float:
    """The part of all orders whose correlation is as far from 0 or farther."""
    first, second = np.asarray(x) - np.mean(x), np.asarray(y) - np.mean(y)
    orders = np.array(list(itertools.permutations(range(len(first)))))
    products = np.abs(second[orders] @ first)
    return float(np.mean(products >= abs(first @ second) - 1e-9))
