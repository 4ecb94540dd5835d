"""Medians, intervals and ratios against scipy, the binomial distribution and simulated coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mobileone_core.benchmark.samples import Samples, interval_rank, median_interval

milliseconds = st.floats(0.01, 1e4)
bursts = arrays(np.float64, st.tuples(st.integers(6, 40), st.integers(1, 5)), elements=milliseconds)


def test_ranks_are_the_narrowest_that_hold_95_percent():
    rounds = np.arange(6, 300)
    ranks = np.array([interval_rank(int(n)) for n in rounds])
    assert (1 - 2 * stats.binom.cdf(ranks - 1, rounds, 0.5) >= 0.95).all()
    assert (1 - 2 * stats.binom.cdf(ranks, rounds, 0.5) < 0.95).all()


@pytest.mark.parametrize("n", [6, 7, 20, 21, 50, 133])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_is_scipys(n, confidence):
    values = np.random.default_rng(n).lognormal(size=n)
    ours = median_interval(values, confidence)
    theirs = stats.quantile_test(values, q=0, p=0.5).confidence_interval(confidence)
    assert (ours.low, ours.high) == (theirs.low, theirs.high)
    assert ours.value == np.median(values)


def test_the_interval_covers_the_true_median_as_often_as_the_binomial_says():
    """Skewed times: a median of log 2, an exact coverage of 0.9586 at 20 rounds."""
    draws, n = 20_000, 20
    exact = 1 - 2 * stats.binom.cdf(interval_rank(n) - 1, n, 0.5)
    intervals = [median_interval(row) for row in np.random.default_rng(0).exponential(size=(draws, n))]
    covered = np.mean([each.low <= np.log(2) <= each.high for each in intervals])
    assert abs(covered - exact) < 4 * np.sqrt(exact * (1 - exact) / draws)


@given(bursts, st.floats(0.001, 1000), st.randoms())
def test_estimates_follow_units_and_ignore_order(times, unit, random):
    rounds = list(times)
    random.shuffle(rounds)
    shuffled = np.stack([row[random.sample(range(len(row)), len(row))] for row in rounds])
    one, other = Samples({"a": times}), Samples({"a": shuffled * unit})
    expected = {name: unit * value for name, value in one.time_metrics("a", "time").items()}
    assert other.time_metrics("a", "time") == pytest.approx(expected)


@given(bursts, st.floats(0.01, 100))
def test_a_ratio_ignores_what_slows_a_whole_round(times, factor):
    """Interference that differs by round, however large, hits both sides alike."""
    noise = np.random.default_rng(0).lognormal(size=(len(times), 1), sigma=3)
    ratio = Samples({"a": factor * times * noise, "b": times * noise}).ratio("a", "b")
    assert [ratio.value, ratio.low, ratio.high] == pytest.approx([factor] * 3)


@given(bursts)
def test_the_statistics_are_ordered(times):
    samples = Samples({"a": times})
    median = samples.median("a")
    assert median.low <= median.value <= median.high
    metrics = samples.time_metrics("a", "time")
    assert metrics["time_min_ms"] <= median.low
    assert samples.ratio("a", "a").value == 1
    assert np.mean(times <= metrics["time_p90_ms"] * (1 + 1e-12)) >= 0.9 - 1 / times.size


def test_a_single_slow_call_moves_no_median():
    times = np.full((20, 4), 2.0)
    times[3, 1] = 900
    samples = Samples({"a": times, "b": np.full((20, 4), 4.0)})
    assert samples.median("a").high == 2
    assert samples.ratio("a", "b").value == 0.5
    assert samples.time_metrics("a", "time")["time_p90_ms"] == 2


def test_rounds_count_not_calls():
    """Forty calls in 10 rounds have the interval of 10 values: the 2nd and the 9th."""
    times = np.repeat(np.arange(1.0, 11)[:, None], 4, axis=1)
    median = Samples({"a": times}).median("a")
    assert (median.low, median.value, median.high) == (2, 5.5, 9)
