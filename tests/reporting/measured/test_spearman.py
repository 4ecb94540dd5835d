"""Rank correlations against scipy, by simulation, and against what the published tables give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mobileone_core.errors import InputError
from mobileone_core.latency.zoo import TABLE_9
from mobileone_core.reporting.measured import table9
from mobileone_core.reporting.measured.correlation import published_correlations, spearman
from mobileone_core.reporting.measured.table9 import figure2_models, paper_name

pairs = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=30)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_rho_and_p_are_scipys(values):
    x, y = ([float(pair[side]) for pair in values] for side in (0, 1))
    result = spearman(x, y)
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert result.rho is None
        return
    wanted = stats.spearmanr(x, y)
    assert result.rho == pytest.approx(wanted.statistic, abs=1e-12)
    if len(x) > 8:
        assert result.p == pytest.approx(wanted.pvalue, abs=1e-9)
    if result.low is not None:
        assert -1 <= result.low <= result.rho <= result.high <= 1


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 7])
def test_p_of_few_is_the_permutation_s(n):
    random = np.random.default_rng(n)
    x, y = random.normal(size=n), random.normal(size=n)

    def statistic(first):
        return stats.spearmanr(first, y).statistic

    wanted = stats.permutation_test((x,), statistic, permutation_type="pairings", n_resamples=np.inf)
    assert spearman(x, y).p == pytest.approx(wanted.pvalue, abs=1e-9)


def test_interval_is_bonett_and_wright_s():
    x = list(range(10))
    y = [1, 0, 3, 2, 5, 4, 9, 8, 6, 7]
    result = spearman(x, y)
    half = 1.959963984540054 * ((1 + result.rho**2 / 2) / 7) ** 0.5
    assert np.arctanh(result.high) - np.arctanh(result.rho) == pytest.approx(half)
    assert np.arctanh(result.rho) - np.arctanh(result.low) == pytest.approx(half)


def test_no_interval_where_it_would_be_invented():
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]).low is None
    assert spearman(range(9), range(9)).low is None
    assert spearman([1, 1, 1], [1, 2, 3]).rho is None
    with pytest.raises(InputError, match="pairs"):
        spearman([1], [1, 2])


@pytest.mark.slow
@pytest.mark.parametrize(("n", "r"), [(15, 0.0), (21, 0.4), (30, 0.8)])
def test_interval_covers_the_true_rank_correlation(n, r):
    """Normal pairs have a rank correlation of 6 / pi asin(r / 2): 93 to 97.5 % of 3000 intervals hold it."""
    random, true = np.random.default_rng(0), 6 / np.pi * np.arcsin(r / 2)
    held = 0
    for _ in range(3000):
        x, noise = random.normal(size=(2, n))
        result = spearman(x, r * x + (1 - r**2) ** 0.5 * noise)
        held += result.low is not None and result.low <= true <= result.high
    assert 0.93 <= held / 3000 <= 0.975


@pytest.mark.parametrize(
    ("rows", "latency", "flops", "params", "n"),
    [
        (figure2_models(), "mobile", 0.457, 0.301, 21),
        (figure2_models(), "cpu", 0.082, 0.129, 21),
        (table9.rows(), "mobile", 0.379, 0.310, 30),
        (table9.rows(), "cpu", 0.425, 0.473, 30),
    ],
)
def test_table_1_from_table_9(rows, latency, flops, params, n):
    with_flops, with_params = published_correlations(rows, latency)
    assert [with_flops.n, with_params.n] == [n, n]
    assert with_flops.rho == pytest.approx(flops, abs=6e-4)
    assert with_params.rho == pytest.approx(params, abs=6e-4)


def test_names_of_table_9():
    assert paper_name("mobileone_s0") == "MobileOne-S0"
    assert paper_name("another") == paper_name("mobileone_tiny") == ""
    assert {paper_name(name) for name in TABLE_9} == {row["model"] for row in table9.rows()}
