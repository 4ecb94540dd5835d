"""The statistics against statsmodels, scipy and closed forms."""

import math
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileone_core.errors import InputError
from mobileone_core.study.least_squares import LevelFit, detectable_effect
from mobileone_core.study.statistics import compare, holm, paired, summarize

# Percent, five levels and five seeds, written down by hand.
TABLE = {
    "1": {0: 96.1, 1: 97.2, 2: 95.8, 3: 96.9, 4: 96.4},
    "2": {0: 96.4, 1: 97.0, 2: 96.1, 3: 97.1, 4: 96.2},
    "3": {0: 97.9, 1: 98.6, 2: 97.7, 3: 98.3, 4: 98.0},
    "4": {0: 95.0, 1: 95.9, 2: 94.4, 3: 95.8, 4: 95.2},
    "5": {0: 96.9, 1: 97.5, 2: 96.5, 3: 97.2, 4: 97.0},
}
HOLES = {level: {s: v for s, v in row.items() if (level, s) not in {("1", 3), ("2", 0), ("2", 1), ("5", 4)}}
         for level, row in TABLE.items()}  # fmt: skip


def by_level(analysis):
    return {row.level: row for row in analysis.comparisons}


def block_oracle(sample, level, confidence):
    """statsmodels' least squares with dummies; level '1' and one seed are the references."""
    import statsmodels.api as sm

    levels, seeds = list(sample), sorted({seed for row in sample.values() for seed in row})
    cells = [(lv, seed, value) for lv in levels for seed, value in sample[lv].items()]
    design = [[1.0, *(lv == x for x in levels[1:]), *(seed == x for x in seeds[1:])] for lv, seed, _ in cells]
    fit = sm.OLS([value for *_, value in cells], np.array(design, dtype=float)).fit()
    contrast = np.zeros(len(design[0]))
    contrast[levels.index(level)] = 1
    return fit, fit.t_test(contrast), fit.t_test(contrast).conf_int(alpha=1 - confidence)[0]


@pytest.mark.parametrize("sample", [TABLE, HOLES], ids=["balanced", "missing cells"])
@pytest.mark.parametrize("level", ["2", "3", "4", "5"])
def test_block_model_equals_statsmodels(sample, level):
    analysis = compare(sample, "1")
    fit, test, interval = block_oracle(sample, level, 1 - 0.05 / 4)
    row = by_level(analysis)[level]
    assert analysis.df == fit.df_resid
    assert analysis.residual_sd == pytest.approx(math.sqrt(fit.mse_resid), rel=1e-9)
    assert row.difference == pytest.approx(test.effect[0], rel=1e-9)
    assert (row.low, row.high) == pytest.approx(tuple(interval), rel=1e-9)
    assert row.p == pytest.approx(float(test.pvalue), rel=1e-7)


def test_balanced_difference_is_that_of_the_means():
    rows = by_level(compare(TABLE, "1"))
    for row in rows.values():
        if row.level != "1":
            assert row.difference == pytest.approx(row.summary.mean - rows["1"].summary.mean, rel=1e-9)


def test_decisions_are_holms():
    from statsmodels.stats.multitest import multipletests

    rows = [row for row in compare(TABLE, "1").comparisons if row.level != "1"]
    expected = multipletests([row.p for row in rows], method="holm")[1]
    assert [row.p_holm for row in rows] == pytest.approx(list(expected), rel=1e-9)
    assert [row.verdict for row in rows] == ["no difference shown", "better", "worse", "better"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_its_definition(p_values):
    """The greatest, over all p values no larger, of p times the number of p values no smaller."""
    steps = {p: min(1.0, p * sum(q >= p for q in p_values)) for p in p_values}
    assert holm(p_values) == pytest.approx([max(steps[q] for q in p_values if q <= p) for p in p_values])


@pytest.mark.parametrize("values", [[0.5, 0.7], [96.1, 97.2, 95.8, 96.9, 96.4], [-3.0, 0.0, 11.0, 4.0]])
def test_summary_is_the_t_interval(values):
    summary = summarize(values)
    error = scipy.stats.sem(values)
    expected = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
    assert (summary.low, summary.high) == pytest.approx(expected, rel=1e-9)
    assert summary.sd == pytest.approx(np.std(values, ddof=1))


def test_paired_equals_scipy():
    level, base = TABLE["2"], TABLE["1"]
    oracle = scipy.stats.ttest_rel(list(level.values()), list(base.values()))
    mine = paired(level, base)
    assert mine.p == pytest.approx(oracle.pvalue, rel=1e-9)
    assert (mine.low, mine.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)), rel=1e-9)
    assert (mine.pairs, mine.wins, mine.ties) == (5, 3, 0)


def test_wins_follow_the_direction_and_ties_are_nobodys():
    level, base = {0: 2.0, 1: 1.0, 2: 5.0, 7: 9.0}, {0: 1.0, 1: 1.0, 2: 9.0, 8: 0.0}
    higher, lower = paired(level, base), paired(level, base, higher_is_better=False)
    assert (higher.pairs, higher.wins, higher.ties) == (3, 1, 1)
    assert (lower.pairs, lower.wins, lower.ties) == (3, 1, 1)
    assert paired({0: 2.0}, {0: 1.0}, higher_is_better=False).wins == 0


@pytest.mark.parametrize("df", [2, 4, 16, 36])
@pytest.mark.parametrize("alpha", [0.05, 0.0125])
def test_detectable_effect_has_the_power_it_says(df, alpha):
    """Noncentral t: the power at the effect is 0.8."""
    effect = detectable_effect(0.3, df, alpha)
    critical = scipy.stats.t.isf(alpha / 2, df)
    assert 1 - scipy.stats.nct.cdf(critical, df, effect / 0.3) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(("n", "expected"), [(5, 1.68), (10, 0.996)])
def test_detectable_effect_of_a_paired_t(n, expected):
    """In standard deviations of the difference: the textbook figures for 5 and 10 pairs."""
    assert detectable_effect(1 / math.sqrt(n), n - 1, 0.05) == pytest.approx(expected, abs=5e-3)


def test_detectable_effect_of_a_row():
    analysis = compare(TABLE, "1")
    error = analysis.residual_sd * math.sqrt(2 / 5)
    for row in analysis.comparisons[1:]:
        assert row.detectable == pytest.approx(detectable_effect(error, 16, 0.0125), rel=1e-9)


def test_lower_is_better_turns_the_verdicts():
    rows = by_level(compare(TABLE, "1", higher_is_better=False))
    assert [rows[level].verdict for level in "12345"] == ["baseline", "no difference shown", "worse", "better", "worse"]


def test_intervals_hold_all_at_once():
    """Coverage over 1,000 drawn tables, seeds strong and two levels shifted: 95 % at least, up to counting error."""
    random = np.random.default_rng(20)
    shift = np.array([0.0, 0.0, 0.4, 0.0, -0.7])
    held = 0
    for _ in range(1000):
        values = shift[:, None] + random.normal(0, 2, size=(1, 5)) + random.normal(0, 0.5, size=(5, 5))
        rows = compare({str(k): dict(enumerate(row)) for k, row in enumerate(values)}, "0").comparisons[1:]
        held += all(row.low <= shift[k] <= row.high for k, row in enumerate(rows, start=1))
    assert held / 1000 > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 1000)


def test_level_with_one_seed_is_not_judged():
    rows = by_level(compare({**TABLE, "3": {0: 97.9}}, "1"))
    assert rows["3"].summary.n == 1
    assert rows["3"].summary.sd is None
    assert (rows["3"].verdict, rows["3"].p, rows["3"].low) == ("not enough seeds", None, None)
    assert rows["3"].paired.difference == pytest.approx(1.8)
    assert rows["5"].verdict == "better"


def test_one_seed_everywhere_has_no_spread_to_test_with():
    analysis = compare({level: {0: row[0]} for level, row in TABLE.items()}, "1")
    assert analysis.df == 0
    assert {row.verdict for row in analysis.comparisons} == {"baseline", "not enough seeds"}


def test_empty_levels_stay_in_the_family():
    full, gap = compare(TABLE, "1"), compare({**TABLE, "5": {}}, "1")
    rows = by_level(gap)
    assert (rows["5"].summary.n, rows["5"].difference, rows["5"].verdict) == (0, None, "not enough seeds")
    assert gap.confidence == full.confidence == pytest.approx(0.9875)
    assert rows["3"].difference == pytest.approx(by_level(full)["3"].difference)


def test_nothing_measured_yet():
    analysis = compare({"1": {}, "2": {}}, "1")
    assert [row.verdict for row in analysis.comparisons] == ["baseline", "not enough seeds"]
    assert analysis.comparisons[0].summary.mean is None


def test_levels_without_a_common_seed_are_not_compared():
    """Block effects cannot be told from level effects there."""
    rows = by_level(compare({"1": {0: 1.0, 1: 2.0}, "2": {0: 1.5, 1: 2.4}, "3": {5: 9.0, 6: 8.0}}, "1"))
    assert (rows["3"].difference, rows["3"].verdict) == (None, "not enough seeds")
    assert rows["2"].p is not None


def test_values_without_spread_are_not_tested():
    rows = by_level(compare({"1": {0: 0.1, 1: 0.1, 2: 0.1}, "2": {0: 0.3, 1: 0.3, 2: 0.3}}, "1"))
    assert (rows["2"].verdict, rows["2"].p) == ("no spread", None)
    assert rows["2"].difference == pytest.approx(0.2)
    assert rows["2"].paired.p is None


def test_equal_levels_differ_by_nothing():
    """Sums of tenths leave rounding behind; it is no difference, and no win."""
    base = {0: 0.1 + 0.2, 1: 0.7, 2: 0.4}
    row = by_level(compare({"1": base, "2": {0: 0.3, 1: 0.7, 2: 0.4}, "3": {0: 0.9, 1: 0.2, 2: 0.6}}, "1"))["2"]
    assert (row.difference, row.p, row.verdict) == (0.0, 1.0, "no difference shown")
    assert (row.paired.difference, row.paired.p, row.paired.wins, row.paired.ties) == (0.0, None, 0, 3)


def test_holm_alone_does_not_make_a_row_better():
    """Four strong levels and one whose p lies between alpha / 5 and alpha: Holm rejects, its interval holds 0."""
    noise = np.array([[0, 1, -1, 0, 0], [1, -1, 0, 0, 0], [0, 0, 1, -1, 0], [-1, 0, 0, 1, 0], [0, 0, 0, -1, 1]])
    values = {"0": dict.fromkeys(range(5), 0.0)} | {str(k): dict(enumerate(20 + noise[k] * 1.0)) for k in range(1, 5)}
    values["5"] = dict(enumerate(1.0 + noise[0]))
    row = by_level(compare(values, "0"))["5"]
    assert row.p_holm <= 0.05 < 5 * row.p
    assert row.low < 0 < row.high
    assert row.verdict == "borderline"


def test_refuses_what_cannot_be_used():
    with pytest.raises(InputError, match="baseline: '9' is not allowed; one of 1, 2"):
        compare({"1": {0: 1.0}, "2": {0: 1.0}}, "9")
    with pytest.raises(InputError, match="value at 2: nan is not allowed"):
        compare({"1": {0: 1.0}, "2": {0: math.nan}}, "1")


values = st.floats(-100, 100).map(lambda value: round(value, 3))
samples = st.lists(st.dictionaries(st.integers(0, 6), values, max_size=6), min_size=2, max_size=5).map(
    lambda rows: {str(level): row for level, row in enumerate(rows)}
)


@given(samples, st.booleans())
@settings(max_examples=300, deadline=None)
def test_row_never_contradicts_itself(sample, higher_is_better):
    for row in compare(sample, "0", higher_is_better=higher_is_better).comparisons:
        if row.verdict in ("better", "worse"):
            positive = (row.verdict == "better") == higher_is_better
            assert row.low > 0 if positive else row.high < 0
            assert row.p_holm <= 0.05
        if row.verdict == "no difference shown":
            assert row.low <= 0 <= row.high
            assert row.p_holm > 0.05
        if row.low is not None:
            assert row.low <= row.difference <= row.high
            assert row.p <= row.p_holm <= 1
            assert row.detectable > 0


@given(samples, st.integers(-1000, 1000), st.permutations(range(7)))
@settings(max_examples=200, deadline=None)
def test_shift_and_seed_names_change_nothing(sample, shift, names):
    moved = {level: {names[seed]: value + shift for seed, value in row.items()} for level, row in sample.items()}
    before, after = compare(sample, "0"), compare(moved, "0")
    assert before.df == after.df
    for one, other in zip(before.comparisons, after.comparisons, strict=True):
        assert (one.difference is None, one.p is None) == (other.difference is None, other.p is None)
        for name in ("difference", "low", "high", "detectable"):
            if getattr(one, name) is not None:
                assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-6, abs=1e-6)


def dense_least_squares(sample, weights):
    """Estimate, its variance per residual variance, residual standard deviation and degrees of freedom."""
    levels, seeds = list(sample), sorted({seed for row in sample.values() for seed in row})
    cells = [(level, seed, value) for level in levels for seed, value in sample[level].items()]
    design = np.array([[*(level == x for x in levels), *(seed == x for x in seeds)] for level, seed, _ in cells], float)
    observed = np.array([value for *_, value in cells])
    coefficients, _, rank, _ = np.linalg.lstsq(design, observed, rcond=None)
    residual, df = observed - design @ coefficients, len(cells) - rank
    contrast = np.array([*(weights.get(level, 0.0) for level in levels), *[0.0] * len(seeds)])
    variance = contrast @ np.linalg.pinv(design.T @ design, hermitian=True) @ contrast
    return contrast @ coefficients, variance, math.sqrt(residual @ residual / df), df


@pytest.mark.parametrize("missing", [0, 1, 40], ids=["balanced", "one missing", "40 missing"])
def test_eliminating_the_seeds_is_dense_least_squares(missing):
    random = np.random.default_rng(missing)
    table = random.normal(0.9, 0.01, (7, 60)) + random.normal(0, 0.05, 60)
    cells = [(level, seed) for level in range(7) for seed in range(60)]
    gone = {cells[index] for index in random.choice(len(cells), missing, replace=False)}
    sample = {str(k): {s: float(table[k, s]) for s in range(60) if (k, s) not in gone} for k in range(7)}
    model = LevelFit(sample)
    for weights in ({"3": 1.0, "0": -1.0}, {"1": 0.5, "2": 0.5, "4": -0.25, "5": -0.75}):
        estimate, variance, sd, df = dense_least_squares(sample, weights)
        row = model.contrast(weights, 0.05)
        assert row.difference == pytest.approx(estimate, rel=0, abs=1e-12)
        half = scipy.stats.t.isf(0.025, df) * sd * math.sqrt(variance)
        assert (row.low, row.high) == pytest.approx((estimate - half, estimate + half), rel=0, abs=1e-12)
        assert (model.residual_sd, model.df) == (pytest.approx(sd, rel=1e-12), df)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_large_sample_takes_memory_in_proportion_to_its_cells(missing):
    """10,000 cells: a dense design would be 115 MB."""
    values = np.random.default_rng(0).normal(0.9, 0.01, (7, 1429))
    sample = {str(k): dict(enumerate(row[missing * (k == 0) :])) for k, row in enumerate(values)}
    tracemalloc.start()
    try:
        assert compare(sample, "0").df == 6 * 1428 - missing
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_equal_means_of_readings_of_two_trainings_differ_by_nothing():
    """Not by rounding, which is another on another processor."""
    random = np.random.default_rng(0)
    for _ in range(20):
        one, raw, ema = random.normal(0.9, 0.01, (3, 5))
        values = {"a raw": one, "a ema": ema, "b raw": raw, "b ema": one[::-1]}
        sample = {level: dict(enumerate(row.tolist())) for level, row in values.items()}
        model = LevelFit(sample, {level: level[0] for level in sample})
        assert model.contrast({"b ema": 1.0, "a raw": -1.0}, 0.05).difference == 0
