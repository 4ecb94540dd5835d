"""Comparison of every level with the declared baseline, over n seeds.

Difference, interval, verdict and detectable effect come from one model, y = level + seed + noise: least squares on
the cells that exist, with one pooled residual. The tests are Holm's over the levels; the intervals hold simultaneously
(each at 1 - alpha / (levels - 1), Bonferroni). Holm's test rejects a little more often than these intervals exclude 0,
and intervals that match Holm's test exactly give no more than a sign. So a level is better or worse if both agree: the
interval excludes 0 and Holm's p is at most alpha. If only one of them does, the level is borderline.
The effects of factors (effects.py) are contrasts of the same model, judged by the same rule.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc, nctdtrinc, stdtr, stdtrit

from mobileone_core.errors import require

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Sample = Mapping[str, Mapping[int, float]]  # level, seed, value
Verdict = Literal[
    "baseline", "better", "worse", "no difference shown",
    "raises", "lowers", "no effect shown",
    "borderline", "no spread", "not enough seeds", "not estimable", "not trained", "too few steps",
]  # fmt: skip
Answers = tuple[Verdict, Verdict, Verdict]  # for a contrast above 0, below 0, and not distinguished from 0

ALPHA = 0.05
POWER = 0.80
GUESSING = 0.01
SINGULAR = 1e-10  # eigenvalues below this share of the largest are 0 and rounding
ROUNDING = 1e-10  # a spread below this share of the values is rounding, not noise


@dataclass(frozen=True)
class Summary:
    """One level: n values, mean, standard deviation (ddof 1) and 95 % t interval; None if n is too small."""

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Paired:
    """A level against the baseline over their common seeds: unadjusted paired t interval and test, wins and ties."""

    pairs: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    wins: int = 0
    ties: int = 0


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A weighted sum of level means in the block model; None where it cannot be estimated or tested.

    detectable: smallest true difference whose interval excludes 0, with the right sign, at 80 % power.
    """

    verdict: Verdict
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class Comparison(Contrast):
    """A level's row: its values alone, paired with the baseline's, and the contrast of the two."""

    level: str
    summary: Summary
    paired: Paired


@dataclass(frozen=True)
class Analysis:
    """All levels in order, against base_of; confidence of one interval; residual_sd with df degrees of freedom."""

    comparisons: tuple[Comparison, ...]
    baseline: str
    confidence: float
    residual_sd: float | None
    df: int
    base_of: Mapping[str, str]


def summarize(values: Iterable[float]) -> Summary:
    """Mean, spread and t interval of one level's values."""
    data = np.array(list(values), dtype=np.float64)
    n = len(data)
    if n < 2:
        return Summary(n, *data.tolist())
    mean, sd = float(data.mean()), float(data.std(ddof=1))
    half = _critical(n - 1, ALPHA) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def paired(level: Mapping[int, float], baseline: Mapping[int, float], higher_is_better: bool = True) -> Paired:
    """Unadjusted paired t of level minus baseline over common seeds; a win is the better value of a pair."""
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
    values = np.array(p_values, np.float64)
    order = np.argsort(values, stable=True)
    values[order] = np.maximum.accumulate(np.minimum(1.0, values[order] * np.arange(len(values), 0, -1)))
    return [float(value) for value in values]


def detectable_effect(standard_error: float, df: int, alpha: float) -> float:
    """The true difference that a two-sided t test at alpha finds, with the right sign, at 80 % power."""
    return float(nctdtrinc(df, 1 - POWER, _critical(df, alpha))) * standard_error


def compare(
    sample: Sample, baseline: str, *, higher_is_better: bool = True, baselines: Mapping[str, str] | None = None
) -> Analysis:
    """Compare every level of the sample with the baseline level, or with its own one of baselines.

    Missing cells are left out of the fit. A level is compared if it and the baseline have two values each and seeds
    connect them; Holm's test and the intervals count every declared level, compared or not. Raises InputError if the
    baseline is no level of the sample or a value is not finite.
    """
    require(baseline in sample, "baseline", baseline, f"one of {', '.join(sample)}")
    model = BlockModel(sample)
    base_of = dict.fromkeys(sample, baseline) | dict(baselines or {})
    others = [level for level in sample if level != base_of[level]]
    each = ALPHA / max(1, len(others))
    answers: tuple[Verdict, Verdict] = ("better", "worse") if higher_is_better else ("worse", "better")
    contrasts = [model.contrast({level: 1.0, base_of[level]: -1.0}, each) for level in others]
    contrasts = with_verdicts(contrasts, (*answers, "no difference shown"))
    by_level = dict.fromkeys(sample, Contrast(verdict="baseline")) | dict(zip(others, contrasts, strict=True))
    rows = []
    for level, values in sample.items():
        pairs = Paired(0) if level not in others else paired(values, sample[base_of[level]], higher_is_better)
        rows.append(Comparison(level, summarize(values.values()), pairs, **vars(by_level[level])))
    return Analysis(tuple(rows), baseline, 1 - each, model.residual_sd, model.df, base_of)


def with_verdicts(contrasts: Sequence[Contrast], answers: Answers) -> list[Contrast]:
    """Add Holm's p over the whole family of contrasts, and the verdict that follows from it and the interval."""
    above, below, neither = answers
    rows = []
    adjusted = holm([1.0 if row.p is None else row.p for row in contrasts])
    for row, p_holm in zip(contrasts, adjusted, strict=True):
        if row.difference is None or row.low is None or row.high is None:
            rows.append(row)
            continue
        rejected, excluded = p_holm <= ALPHA, row.low > 0 or row.high < 0
        verdict: Verdict = "borderline" if rejected or excluded else neither
        if rejected and excluded:
            verdict = above if row.difference > 0 else below
        rows.append(replace(row, p_holm=p_holm, verdict=verdict))
    return rows


def is_guessing(accuracy: float, images: float, chance: float) -> bool:
    """Whether an accuracy over a number of images is no better than chance: binomial test, one-sided, at 1 %."""
    return bool(bdtrc(round(accuracy * images) - 1, round(images), chance) > GUESSING)


class BlockModel:
    """Least squares of y = level + seed on the cells that exist.

    Seeds are eliminated first (the intrablock analysis of incomplete block designs), which leaves one equation per
    level: work and memory grow linearly with the cells, whether all of them exist or not. Raises InputError if a value
    is not finite.
    """

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.levels = list(sample)
        for level, value in ((level, value) for level, values in sample.items() for value in values.values()):
            require(math.isfinite(value), f"value at {level}", value, "a finite number")
        seeds = sorted({seed for values in sample.values() for seed in values})
        table = np.array([[sample[level].get(seed, np.nan) for seed in seeds] for level in self.levels], np.float64)
        table = table.reshape(len(self.levels), len(seeds))  # of no seeds, too
        exists = np.isfinite(table)
        cells = int(exists.sum())
        self.scale = float(np.abs(table[exists]).max(initial=0.0))
        # Centred values keep their digits where the spread is small against the mean.
        centred = np.where(exists, table - (table[exists].mean() if cells else 0.0), 0.0)
        ones = exists.astype(np.float64)  # the normal equations of the levels, once the seeds are eliminated
        reduced = np.diag(ones.sum(axis=1)) - (ones / ones.sum(axis=0)) @ ones.T
        self.inverse, self.projection, rank = _pseudoinverse(reduced)
        self.coefficients = self.inverse @ _without_seed_means(centred, exists).sum(axis=1)
        self.df = cells - len(seeds) - rank
        self.residual_sd: float | None = None
        if self.df > 0:
            residual = _without_seed_means(np.where(exists, centred - self.coefficients[:, None], 0.0), exists)
            sd = math.sqrt(float((residual**2).sum()) / self.df)
            self.residual_sd = _unless_rounding(sd, self.scale)

    def contrast(self, weights: Mapping[str, float], alpha: float) -> Contrast:
        """Estimate the sum of weight times level mean, with its interval at 1 - alpha.

        It is tested if every weighted level has two values and seeds connect them.
        """
        contrast = np.array([weights.get(level, 0.0) for level in self.levels])
        if not np.allclose(contrast @ self.projection, contrast, atol=1e-8):
            return Contrast(verdict="not enough seeds")
        difference = _unless_rounding(float(contrast @ self.coefficients), self.scale)
        row = Contrast(verdict="not enough seeds", difference=difference)
        if self.residual_sd is None or min(len(self.sample[level]) for level in weights) < 2:
            return row
        if self.residual_sd == 0:
            return replace(row, verdict="no spread")
        error = self.residual_sd * math.sqrt(float(contrast @ self.inverse @ contrast))
        half = _critical(self.df, alpha) * error
        return replace(
            row,
            low=difference - half,
            high=difference + half,
            p=_two_sided(difference / error, self.df),
            detectable=detectable_effect(error, self.df, alpha),
        )


def _without_seed_means(values: Array, exists: Mask) -> Array:
    """Values (levels, seeds), 0 where there is no cell, less the mean of each seed's cells."""
    return np.where(exists, values - values.sum(axis=0) / exists.sum(axis=0), 0.0)


def _pseudoinverse(matrix: Array) -> tuple[Array, Array, int]:
    """Pseudoinverse of a symmetric positive semidefinite matrix, the projection onto its range, and its rank."""
    values, vectors = np.linalg.eigh(matrix)
    is_range = values > SINGULAR * values.max(initial=0.0)
    values, vectors = values[is_range], vectors[:, is_range]
    return (vectors / values) @ vectors.T, vectors @ vectors.T, len(values)


def _unless_rounding(value: float, scale: float) -> float:
    return value if abs(value) > ROUNDING * scale else 0.0


def _critical(df: int, alpha: float) -> float:
    return float(stdtrit(df, 1 - alpha / 2))


def _two_sided(t: float, df: int) -> float:
    return float(2 * stdtr(df, -abs(t)))
