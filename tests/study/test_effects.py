"""Effects of factors against statsmodels with sum coding, and against their closed form."""

import itertools
import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mobileone_core.errors import InputError
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.effects import effect_weights, effects
from mobileone_core.study.factor import level_label
from mobileone_core.study.statistics import compare

SWITCHES = tuple(
    Factor(name, settings={"off": {f"recipe.{field}": 0.0}, "on": {}}, baseline="off")
    for name, field in (("progressive", "momentum"), ("annealing", "weight_decay"), ("ema", "ema_decay"))
)
CUBE = Study("strategy", "What do the settings bring?", SWITCHES)
GRID = Study(
    "size", "Wider or deeper?",
    (Factor("width", "model.width", (0.5, 1.0, 2.0), 1.0), Factor("depth", "model.depth", (1.0, 2.0), 1.0)),
)  # fmt: skip
NAMES = [factor.name for factor in SWITCHES]


def drawn(study, seeds=4, holes=()):
    """Values with strong seeds, a shift an arm and noise; holes are (arm's place, seed)."""
    random = np.random.default_rng(5)
    blocks = random.normal(90, 2, size=seeds)
    return {
        level_label(arm): {
            seed: blocks[seed] + shift + random.normal(0, 0.3) for seed in range(seeds) if (place, seed) not in holes
        }
        for place, (arm, shift) in enumerate(zip(study.settings, random.normal(0, 0.5, size=99), strict=False))
    }


HOLES = {(0, 1), (2, 0), (2, 3), (7, 2)}


def cube_oracle(sample, names, confidence):
    """statsmodels with factors coded -1 and 1, all their products, and seed dummies."""
    import statsmodels.api as sm

    subsets = [subset for order in range(4) for subset in itertools.combinations(NAMES, order)]
    rows, values = [], []
    for arm in CUBE.settings:
        for seed, value in sample[level_label(arm)].items():
            signs = {name: 1.0 if level == "on" else -1.0 for name, level in arm.items()}
            products = [math.prod(signs[name] for name in subset) for subset in subsets]
            rows.append([*products, *(float(seed == other) for other in range(1, 4))])
            values.append(value)
    fit = sm.OLS(values, np.array(rows)).fit()
    contrast = np.zeros(len(rows[0]))
    contrast[subsets.index(names)] = 2 ** len(names)
    test = fit.t_test(contrast)
    return test.effect[0], *test.conf_int(alpha=1 - confidence)[0], float(test.pvalue), fit


@pytest.mark.slow
@pytest.mark.parametrize("holes", [(), HOLES], ids=["balanced", "missing cells"])
def test_effects_equal_statsmodels(holes):
    sample = drawn(CUBE, holes=holes)
    found = effects(CUBE, sample)
    assert [row.order for row in found] == [1, 1, 1, 2, 2, 2, 3]
    for row in found:
        effect, low, high, p, _ = cube_oracle(sample, tuple(row.levels), 1 - 0.05 / 7)
        assert (row.difference, row.low, row.high) == pytest.approx((effect, low, high), rel=1e-8)
        assert row.p == pytest.approx(p, rel=1e-7)


@pytest.mark.slow
def test_decisions_are_holms_over_all_effects():
    from statsmodels.stats.multitest import multipletests

    found = effects(CUBE, drawn(CUBE))
    expected = multipletests([row.p for row in found], method="holm")[1]
    assert [row.p_holm for row in found] == pytest.approx(list(expected), rel=1e-9)


def test_verdicts_name_the_side_whatever_is_better():
    """Planted: progressive + 3, annealing - 3, ema nothing, progressive and annealing together 2 more."""
    noise = np.random.default_rng(2).normal(0, 0.1, size=(8, 4))
    shift = {"progressive": 3.0, "annealing": -3.0, "ema": 0.0}
    sample = {}
    for place, arm in enumerate(CUBE.settings):
        on = [name for name, level in arm.items() if level == "on"]
        value = sum(shift[name] for name in on) + 2.0 * ({"progressive", "annealing"} <= set(on))
        sample[level_label(arm)] = dict(enumerate(value + noise[place]))
    found = {row.label: row for row in effects(CUBE, sample)}
    assert {label: row.verdict for label, row in found.items() if row.verdict != "no effect shown"} == {
        "progressive": "raises", "annealing": "lowers", "progressive x annealing": "raises"
    }  # fmt: skip
    assert found["progressive"].difference == pytest.approx(4.0, abs=0.2)  # half of the 2 more is in the mean
    assert found["progressive x annealing"].difference == pytest.approx(2.0, abs=0.3)


def test_detectable_effect_has_the_power_it_says():
    import scipy.stats

    sample = drawn(CUBE)
    fit = cube_oracle(sample, ("ema",), 0.95)[-1]
    for row in effects(CUBE, sample):
        error = 2**row.order * math.sqrt(fit.mse_resid / 32)  # the standard error of a coefficient, coded -1 and 1
        critical = scipy.stats.t.isf(0.05 / 14, fit.df_resid)
        power = 1 - scipy.stats.nct.cdf(critical, fit.df_resid, row.detectable / error)
        assert power == pytest.approx(0.8, abs=1e-6)


def test_balanced_effects_are_differences_of_means():
    sample = drawn(CUBE)
    mean = {tuple(level == "on" for level in arm.values()): fmean(sample[level_label(arm)].values())
            for arm in CUBE.settings}  # fmt: skip
    found = {row.label: row.difference for row in effects(CUBE, sample)}
    on, off = True, False
    assert found["progressive"] == pytest.approx(
        fmean(mean[on, a, e] for a in (on, off) for e in (on, off))
        - fmean(mean[off, a, e] for a in (on, off) for e in (on, off))
    )
    gains = {cell: mean[cell] - mean[cell[0], off, off] for cell in mean}
    beyond_alone = [gains[p, on, on] - gains[p, on, off] - gains[p, off, on] for p in (on, off)]
    assert found["annealing x ema"] == pytest.approx(fmean(beyond_alone))
    assert found["progressive x annealing x ema"] == pytest.approx(beyond_alone[0] - beyond_alone[1])


def test_more_than_two_levels_have_marginal_differences_alone():
    """Against statsmodels' sum contrasts, whose coefficients are levels minus the mean of all levels."""
    import pandas as pd
    import statsmodels.formula.api as smf

    sample = drawn(GRID, holes={(1, 0), (4, 2)})
    cells = [{**arm, "seed": seed, "value": value}
             for arm in GRID.settings for seed, value in sample[level_label(arm)].items()]  # fmt: skip
    fit = smf.ols("value ~ C(width, Sum) * C(depth, Sum) + C(seed)", pd.DataFrame(cells)).fit()
    half, one, shallow = "C(width, Sum)[S.0.5]", "C(width, Sum)[S.1.0]", "C(depth, Sum)[S.1.0]"
    expected = {
        "width = 0.5": f"{half} - {one} = 0",
        "width = 2.0": f"-{half} - 2 * {one} = 0",
        "depth = 2.0": f"-2 * {shallow} = 0",
    }
    found = effects(GRID, sample)
    assert [row.label for row in found] == list(expected)
    for row in found:
        test = fit.t_test(expected[row.label])
        interval = test.conf_int(alpha=0.05 / 3)[0]
        assert (row.difference, row.low, row.high) == pytest.approx((test.effect[0], *interval), rel=1e-8)


def test_an_arm_without_a_value_leaves_nothing_to_estimate():
    found = effects(CUBE, {label: {} if "ema = on" in label and "progressive = on, annealing = on" in label else row
                           for label, row in drawn(CUBE).items()})  # fmt: skip
    assert {(row.difference, row.p, row.verdict) for row in found} == {(None, None, "not estimable")}


def test_effects_that_do_not_span_an_empty_arm_are_still_estimated():
    sample = drawn(GRID)
    sample["width = 2.0, depth = 2.0"] = {}
    found = {row.label: row for row in effects(GRID, sample)}
    assert found["width = 0.5"].p is not None
    assert [found[label].verdict for label in ("width = 2.0", "depth = 2.0")] == ["not estimable"] * 2


def test_one_seed_is_not_judged():
    one = {label: {0: row[0]} for label, row in drawn(CUBE).items()}
    assert {row.verdict for row in effects(CUBE, one)} == {"not enough seeds"}
    assert all(row.difference is not None and row.low is None for row in effects(CUBE, one))
    thin = drawn(CUBE, holes={(0, 0), (0, 1), (0, 2)})
    assert {row.verdict for row in effects(CUBE, thin)} == {"not enough seeds"}


def test_values_without_spread_are_not_tested():
    flat = {label: dict.fromkeys(range(3), float(place)) for place, label in enumerate(drawn(CUBE))}
    found = {row.label: row for row in effects(CUBE, flat)}
    assert {row.verdict for row in found.values()} == {"no spread"}
    assert [found[name].difference for name in NAMES] == pytest.approx([4.0, 2.0, 1.0])
    assert found["progressive x ema"].difference == 0.0


def test_studies_that_vary_one_factor_have_no_effects():
    alone = Study("one", "?", (SWITCHES[0],))
    fixed = Study("two", "?", (SWITCHES[0], Factor("width", "model.width", (2.0,), 2.0)))
    for study in (alone, fixed):
        assert effects(study, drawn(study)) == ()


def test_a_value_that_is_no_number_is_refused():
    sample = drawn(GRID)
    sample["width = 0.5, depth = 1.0"][0] = math.nan
    with pytest.raises(InputError, match=r"value at width = 0\.5, depth = 1\.0: nan is not allowed"):
        effects(GRID, sample)


def test_labels_name_what_is_on():
    study = Study("mixed", "?", (SWITCHES[2], Factor("k", "model.k", (1, 4), 1),
                                 Factor("nesterov", "recipe.nesterov", (False, True), False)))  # fmt: skip
    assert [row.label for row in effects(study, drawn(study))] == [
        "ema", "k = 4", "nesterov", "ema x k = 4", "ema x nesterov", "k = 4 x nesterov", "ema x k = 4 x nesterov"
    ]  # fmt: skip


values = st.lists(st.integers(-50, 50), min_size=8 * 3, max_size=8 * 3)


@given(values, st.sets(st.integers(0, 23), max_size=6))
@settings(max_examples=100, deadline=None)
def test_row_never_contradicts_itself(drawn_values, gone):
    sample = {level_label(arm): {seed: drawn_values[3 * place + seed] / 10 for seed in range(3)
                                 if 3 * place + seed not in gone}
              for place, arm in enumerate(CUBE.settings)}  # fmt: skip
    for row in effects(CUBE, sample):
        if row.verdict in ("raises", "lowers"):
            assert row.low > 0 if row.verdict == "raises" else row.high < 0
            assert row.p_holm <= 0.05
        if row.verdict == "no effect shown":
            assert row.low <= 0 <= row.high
            assert row.p_holm > 0.05
        if row.low is not None:
            assert row.low <= row.difference <= row.high
            assert row.p <= row.p_holm <= 1
        else:
            assert row.verdict in ("not enough seeds", "not estimable", "no spread")


READINGS = Study(
    "readings", "What do branches and averaging bring?",
    (Factor("k", "model.k", (1, 2, 4), 1), SWITCHES[2]),
)  # fmt: skip
TRAININGS = {level_label(arm): str(arm["k"]) for arm in READINGS.settings}


def drawn_readings(seeds, random, training_sd=1.0, reading_sd=0.3):
    """No effects; an error of every training, which both its readings share, and one of every reading."""
    shared = {(k, seed): random.normal(90, training_sd) for k in TRAININGS.values() for seed in range(seeds)}
    return {
        label: {seed: shared[k, seed] + random.normal(0, reading_sd) for seed in range(seeds)}
        for label, k in TRAININGS.items()
    }


def test_effects_of_two_readings_of_a_training_against_a_mixed_model_by_reml():
    """In a balanced design the model of random trainings has the standard errors and estimates of the split plot."""
    import statsmodels.api as sm

    sample = drawn_readings(6, np.random.default_rng(3))
    cells = [(label, seed, value) for label, values in sample.items() for seed, value in values.items()]
    design = [
        [*(float(label == other) for other in sample), *(float(seed == other) for other in range(1, 6))]
        for label, seed, _ in cells
    ]
    groups = [f"{TRAININGS[label]} {seed}" for label, seed, _ in cells]
    fit = sm.MixedLM([value for *_, value in cells], np.array(design), groups=groups).fit(reml=True)
    rows = {row.label: row for row in effects(READINGS, sample, TRAININGS)}
    for label, weights in ((row.label, effect_weights(READINGS, row.levels)) for row in rows.values()):
        contrast = np.array([weights.get(level, 0.0) for level in sample] + [0.0] * 6)[: len(fit.fe_params)]
        error = math.sqrt(contrast @ fit.cov_params()[: len(contrast), : len(contrast)] @ contrast)
        df = 3 * 5 if label == "ema" else 2 * 5
        half = float(stats.t.ppf(1 - 0.05 / 2 / len(rows), df)) * error
        assert rows[label].difference == pytest.approx(contrast @ fit.fe_params, abs=1e-6)
        assert rows[label].high - rows[label].difference == pytest.approx(half, rel=1e-3)
    base, *_, single = compare(sample, level_label(READINGS.baseline), trainings=TRAININGS).comparisons
    both = [(2 * float(fit.cov_re[0, 0]) + fit.scale) / 6, fit.scale / 6]  # of k, between trainings; of ema, within
    df = sum(both) ** 2 / (both[0] ** 2 / 10 + both[1] ** 2 / 15)
    assert base.verdict == "baseline"
    half = float(stats.t.ppf(1 - 0.05 / 2 / 5, df)) * math.sqrt(sum(both))
    assert single.high - single.difference == pytest.approx(half, rel=1e-3)


def test_readings_of_one_training_do_not_pass_for_two():
    """Intervals of 95 % cover the true effect, none, in 95 % of repeats; those that count readings do not."""
    random, covered = np.random.default_rng(4), {True: 0, False: 0}
    for _ in range(400):
        sample = drawn_readings(4, random)
        for knows, trainings in ((True, TRAININGS), (False, None)):
            rows = [row for row in effects(READINGS, sample, trainings) if "k" in row.levels]
            covered[knows] += all(row.low < 0 < row.high for row in rows)
    assert covered[True] > 0.93 * 400
    assert covered[False] < 0.88 * 400


def test_a_seed_of_which_a_reading_is_missing_is_left_out_of_its_training():
    def intervals(sample):
        return [row.difference for row in effects(READINGS, sample, TRAININGS)]

    whole = drawn_readings(5, np.random.default_rng(5))
    *_, off, on = whole
    without = {level: {seed: value for seed, value in whole[level].items() if seed < 4} for level in (on, off)}
    assert intervals(whole | {on: without[on]}) == intervals(whole | without) != intervals(whole)
    single = effects(READINGS, drawn_readings(1, np.random.default_rng(6)), TRAININGS)
    assert {row.verdict for row in single} == {"not enough seeds"}
