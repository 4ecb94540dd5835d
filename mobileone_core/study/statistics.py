"""What n seeds say about each level against the pre-declared baseline. No torch here.

Difference, interval, decision and detectable effect come from one model, y = level + seed + noise: least squares on
the cells that exist, one pooled residual. Decisions are Holm's over the levels; the intervals hold all at once
(each at 1 - alpha / (levels - 1), Bonferroni). Holm rejects a little more than such intervals do, and intervals that
fit Holm exactly say no more than a sign. So a level is called better or worse only where both agree: its interval
then leaves out 0 and its Holm p is alpha at most. Where one of them reaches and the other does not, it is borderline.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import nctdtrinc, stdtr, stdtrit

from mobileone_core.errors import require

Sample = Mapping[str, Mapping[int, float]]  # level, seed, value
Verdict = Literal["baseline", "better", "worse", "borderline", "no difference shown", "no spread", "not enough seeds"]

ALPHA = 0.05
POWER = 0.80
ROUNDING = 1e-10  # a spread this small beside the values is rounding, not noise


@dataclass(frozen=True)
class Summary:
    """One level alone: n values, mean, standard deviation (ddof 1) and 95 % t interval; None where n is too small."""

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Paired:
    """A level against the baseline over the seeds that both have: plain paired t, not adjusted; wins and ties."""

    pairs: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    wins: int = 0
    ties: int = 0


@dataclass(frozen=True)
class Comparison:
    """A level's row. difference, low, high, p, p_holm and detectable belong to the block model.

    detectable is the smallest true difference whose interval leaves out 0, on the right side, at 80 % power.
    """

    level: str
    summary: Summary
    paired: Paired
    verdict: Verdict
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class Analysis:
    """All levels in their order. confidence is that of one simultaneous interval; residual_sd is pooled over df."""

    comparisons: tuple[Comparison, ...]
    baseline: str
    confidence: float
    residual_sd: float | None
    df: int


def summarize(values: Iterable[float]) -> Summary:
    """Mean, spread and t interval of one level's values."""
    data = np.array(list(values), dtype=np.float64)
    n = len(data)
    if n == 0:
        return Summary(0)
    mean = float(data.mean())
    if n == 1:
        return Summary(1, mean)
    sd = float(data.std(ddof=1))
    half = _critical(n - 1, ALPHA) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def paired(level: Mapping[int, float], baseline: Mapping[int, float], higher_is_better: bool = True) -> Paired:
    """Plain paired t of level minus baseline over common seeds; a win is the better value, a tie neither's."""
    scale = max((abs(value) for value in (*level.values(), *baseline.values())), default=0.0)
    seeds = sorted(level.keys() & baseline.keys())
    gaps = [_unless_rounding(level[seed] - baseline[seed], scale) for seed in seeds]
    alone = summarize(gaps)
    mean = None if alone.mean is None else _unless_rounding(alone.mean, scale)
    p = None
    if mean is not None and alone.sd is not None and _unless_rounding(alone.sd, scale):
        p = _two_sided(mean / (alone.sd / math.sqrt(alone.n)), alone.n - 1)
    wins = sum(gap > 0 if higher_is_better else gap < 0 for gap in gaps)
    return Paired(alone.n, mean, alone.low, alone.high, p, wins, gaps.count(0.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given (Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    reached = 0.0
    for rank, index in enumerate(order):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = reached
    return adjusted


def detectable_effect(standard_error: float, df: int, alpha: float) -> float:
    """The true difference that a two-sided t test at alpha finds, with the right sign, at 80 % power."""
    return float(nctdtrinc(df, 1 - POWER, _critical(df, alpha))) * standard_error


def compare(sample: Sample, baseline: str, *, higher_is_better: bool = True) -> Analysis:
    """Every level of the sample against the baseline level.

    Missing cells are left out of the fit; a level is compared where it and the baseline have two values each and
    seeds connect them. Holm and the intervals count every declared level, compared or not.
    Raises InputError where the baseline is no level of the sample or a value is not finite.
    """
    require(baseline in sample, "baseline", baseline, f"one of {', '.join(sample)}")
    for level, values in sample.items():
        for value in values.values():
            require(math.isfinite(value), f"value at {level}", value, "a finite number")
    each = ALPHA / max(1, len(sample) - 1)
    fit = _BlockModel(sample)
    rows = [_compared(fit, level, baseline, higher_is_better, each) for level in sample]
    adjusted = iter(holm([1.0 if row.p is None else row.p for row in rows if row.level != baseline]))
    rows = [row if row.level == baseline else _decided(row, next(adjusted), higher_is_better) for row in rows]
    return Analysis(tuple(rows), baseline, 1 - each, fit.residual_sd, fit.df)


class _BlockModel:
    """Least squares of y = level + seed on the cells that exist."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.levels = list(sample)
        cells = [(level, seed, value) for level in sample for seed, value in sorted(sample[level].items())]
        seeds = sorted({seed for _, seed, _ in cells})
        design = np.zeros((len(cells), len(self.levels) + len(seeds)))
        for row, (level, seed, _) in enumerate(cells):
            design[row, self.levels.index(level)] = 1
            design[row, len(self.levels) + seeds.index(seed)] = 1
        values = np.array([value for _, _, value in cells], dtype=np.float64)
        # Centred values keep the digits where the spread is small beside the mean.
        centred = values - values.mean() if len(values) else values
        self.inverse = np.linalg.pinv(design.T @ design, hermitian=True)
        self.projection = self.inverse @ (design.T @ design)
        self.coefficients = self.inverse @ (design.T @ centred)
        self.df = len(cells) - int(np.linalg.matrix_rank(design)) if cells else 0
        self.scale = max((abs(value) for *_, value in cells), default=0.0)
        self.residual_sd: float | None = None
        if self.df > 0:
            residual = centred - design @ self.coefficients
            sd = math.sqrt(float(residual @ residual) / self.df)
            self.residual_sd = _unless_rounding(sd, self.scale)

    def difference(self, level: str, baseline: str) -> tuple[float, float] | None:
        """Estimate and its variance in units of the residual variance; None where no seeds connect the two."""
        contrast = np.zeros(len(self.coefficients))
        contrast[self.levels.index(level)] += 1
        contrast[self.levels.index(baseline)] -= 1
        if not np.allclose(contrast @ self.projection, contrast, atol=1e-8):
            return None
        estimate = _unless_rounding(float(contrast @ self.coefficients), self.scale)
        return estimate, float(contrast @ self.inverse @ contrast)


def _compared(fit: _BlockModel, level: str, baseline: str, higher_is_better: bool, alpha: float) -> Comparison:
    """A level's row up to its own p; the decision needs those of all levels."""
    values, base = fit.sample[level], fit.sample[baseline]
    row = Comparison(level, summarize(values.values()), Paired(0), "baseline")
    if level == baseline:
        return row
    row = replace(row, paired=paired(values, base, higher_is_better), verdict="not enough seeds")
    estimate = fit.difference(level, baseline)
    if estimate is None:
        return row
    row = replace(row, difference=estimate[0])
    if min(len(values), len(base)) < 2 or fit.residual_sd is None:
        return row
    if fit.residual_sd == 0:
        return replace(row, verdict="no spread")
    error = fit.residual_sd * math.sqrt(estimate[1])
    half = _critical(fit.df, alpha) * error
    interval: dict[str, Any] = {"low": estimate[0] - half, "high": estimate[0] + half}
    detectable = detectable_effect(error, fit.df, alpha)
    return replace(row, **interval, p=_two_sided(estimate[0] / error, fit.df), detectable=detectable)


def _decided(row: Comparison, p_holm: float, higher_is_better: bool) -> Comparison:
    if row.p is None or row.difference is None or row.low is None or row.high is None:
        return row
    rejected, excluded = p_holm <= ALPHA, row.low > 0 or row.high < 0
    verdict: Verdict = "borderline" if rejected or excluded else "no difference shown"
    if rejected and excluded:
        verdict = "better" if (row.difference > 0) == higher_is_better else "worse"
    return replace(row, p_holm=p_holm, verdict=verdict)


def _unless_rounding(value: float, scale: float) -> float:
    return value if abs(value) > ROUNDING * scale else 0.0


def _critical(df: int, alpha: float) -> float:
    return float(stdtrit(df, 1 - alpha / 2))


def _two_sided(t: float, df: int) -> float:
    return float(2 * stdtr(df, -abs(t)))
