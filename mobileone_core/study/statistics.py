"""Comparison of every level with the declared baseline, over n seeds.

Difference, interval, verdict and detectable effect come from one model, y = level + seed + noise: least squares on
the cells that exist, with one pooled residual, or two where levels are readings of one training (least_squares.py). The
tests are Holm's over the levels; the intervals hold simultaneously (each at 1 - alpha / (levels - 1), Bonferroni).
Holm's test rejects a little more often than these intervals exclude 0, and intervals that match Holm's test exactly
give no more than a sign. So a level is better or worse if both agree: the interval excludes 0 and Holm's p is at most
alpha. If only one of them does, the level is borderline.
The effects of factors (effects.py) are contrasts of the same model, judged by the same rule.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import bdtrc

from mobileone_core.errors import require
from mobileone_core.study.least_squares import Contrast, LevelFit, Sample, Verdict, critical, two_sided, unless_rounding

ALPHA = 0.05
GUESSING = 0.01


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


@dataclass(frozen=True)
class Comparison(Contrast):
    """A level's row: its values alone, paired with the baseline's, and the contrast of the two."""

    level: str
    summary: Summary
    paired: Paired


@dataclass(frozen=True)
class Analysis:
    """All levels in order, against base_of; confidence of one interval; residual_sd, of a cell between seeds.

    df: degrees of freedom of the residual; where levels share trainings, between them and (df_within) within them.
    """

    comparisons: tuple[Comparison, ...]
    baseline: str
    confidence: float
    residual_sd: float | None
    df: int
    base_of: Mapping[str, str]
    df_within: int = 0


def summarize(values: Iterable[float]) -> Summary:
    """Mean, spread and t interval of one level's values."""
    data = np.array(list(values), dtype=np.float64)
    n = len(data)
    if n < 2:
        return Summary(n, *data.tolist())
    mean, sd = float(data.mean()), float(data.std(ddof=1))
    half = critical(n - 1, ALPHA) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def paired(level: Mapping[int, float], baseline: Mapping[int, float], higher_is_better: bool = True) -> Paired:
    """Unadjusted paired t of level minus baseline over common seeds; a win is the better value of a pair."""
    scale = max((abs(value) for value in (*level.values(), *baseline.values())), default=0.0)
    seeds = sorted(level.keys() & baseline.keys())
    gaps = [unless_rounding(level[seed] - baseline[seed], scale) for seed in seeds]
    alone = summarize(gaps)
    mean = None if alone.mean is None else unless_rounding(alone.mean, scale)
    p = None
    if mean is not None and alone.sd is not None and unless_rounding(alone.sd, scale):
        p = two_sided(mean / (alone.sd / math.sqrt(alone.n)), alone.n - 1)
    wins = sum(gap > 0 if higher_is_better else gap < 0 for gap in gaps)
    return Paired(alone.n, mean, alone.low, alone.high, p, wins, gaps.count(0.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given (Scandinavian Journal of Statistics 6, 1979)."""
    values = np.array(p_values, np.float64)
    order = np.argsort(values, stable=True)
    values[order] = np.maximum.accumulate(np.minimum(1.0, values[order] * np.arange(len(values), 0, -1)))
    return [float(value) for value in values]


def compare(
    sample: Sample,
    baseline: str,
    *,
    higher_is_better: bool = True,
    baselines: Mapping[str, str] | None = None,
    trainings: Mapping[str, str] | None = None,
) -> Analysis:
    """Compare every level of the sample with the baseline level, or with its own one of baselines.

    trainings names the training that a level's cells read, for levels that read the same; others have their own.
    Missing cells are left out of the fit. A level is compared if it and the baseline have two values each and seeds
    connect them; Holm's test and the intervals count every declared level, compared or not. Raises InputError if the
    baseline is no level of the sample or a value is not finite.
    """
    require(baseline in sample, "baseline", baseline, f"one of {', '.join(sample)}")
    model = LevelFit(sample, trainings)
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
    return Analysis(tuple(rows), baseline, 1 - each, model.residual_sd, model.df, base_of, model.df_within)


def with_verdicts(contrasts: Sequence[Contrast], answers: tuple[Verdict, Verdict, Verdict]) -> list[Contrast]:
    """Add Holm's p over the whole family of contrasts, and the verdict that follows from it and the interval.

    answers: the verdicts for a contrast above 0, below 0, and not distinguished from 0.
    """
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
