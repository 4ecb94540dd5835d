"""Least squares of a study's cells, and contrasts of levels with their intervals and tests.

BlockModel is y = level + seed. Levels may also be readings of one training: its raw and its averaged weights, or its
network in int8. Then a part of the error is common to all readings of a training, which LevelFit takes into account.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import nctdtrinc, stdtr, stdtrit

from mobileone_core.errors import require

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Sample = Mapping[str, Mapping[int, float]]  # level, seed, value
Verdict = Literal[
    "baseline", "better", "worse", "no difference shown",
    "raises", "lowers", "no effect shown",
    "borderline", "no spread", "not enough seeds", "not estimable", "not trained", "too few steps",
]  # fmt: skip

POWER = 0.80
SINGULAR = 1e-10  # eigenvalues below this share of the largest are 0 and rounding
ROUNDING = 1e-10  # a spread below this share of the values is rounding, not noise


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


def detectable_effect(standard_error: float, df: float, alpha: float) -> float:
    """The true difference that a two-sided t test at alpha finds, with the right sign, at 80 % power."""
    return float(nctdtrinc(df, 1 - POWER, critical(df, alpha))) * standard_error


class ContrastEstimate(NamedTuple):
    """A weighted sum of level means with its standard error (None if it cannot be tested) and degrees of freedom."""

    value: float
    error: float | None
    df: float


def training_totals(weights: Mapping[str, float], trainings: Mapping[str, str]) -> dict[str, float]:
    """The sum of the weights of each training's readings; trainings names that of every level."""
    totals = defaultdict[str, float](float)
    for level, weight in weights.items():
        totals[trainings[level]] += weight
    return dict(totals)


class BlockModel:
    """Least squares of y = level + seed on the cells that exist.

    Seeds are eliminated first (the intrablock analysis of incomplete block designs), which leaves one equation per
    level: work and memory grow linearly with the cells, whether all of them exist or not. residual_sd is None if it
    cannot be estimated; df are its degrees of freedom.
    """

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.levels = list(sample)
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
        self.df, self.residual_sd = cells - len(seeds) - rank, None
        if self.df > 0:
            residual = _without_seed_means(np.where(exists, centred - self.coefficients[:, None], 0.0), exists)
            sd = math.sqrt(float((residual**2).sum()) / self.df)
            self.residual_sd = unless_rounding(sd, self.scale)

    def estimate(self, weights: Mapping[str, float]) -> ContrastEstimate | None:
        """The sum of weight times level mean; None if no seeds connect the levels."""
        contrast = np.array([weights.get(level, 0.0) for level in self.levels])
        if not np.allclose(contrast @ self.projection, contrast, atol=1e-8):
            return None
        error = None
        if self.residual_sd is not None and min(len(self.sample[level]) for level in weights) >= 2:
            error = self.residual_sd * math.sqrt(float(contrast @ self.inverse @ contrast))
        return ContrastEstimate(unless_rounding(float(contrast @ self.coefficients), self.scale), error, self.df)


class LevelFit:
    """y = level + seed + error of the training + error of the reading, for levels that are readings of trainings.

    Means of a training's readings are compared as BlockModel compares levels, differences between its readings by their
    own spread over seeds; a contrast of both has Satterthwaite's degrees of freedom. A seed at which a training lacks a
    reading is left out of it. (Split plots: R. A. Fisher, The Design of Experiments.) Where every level has a training
    of its own, this is BlockModel.

    residual_sd is the standard deviation of a cell between seeds, None if it cannot be estimated; df are the degrees of
    freedom between trainings, and df_within those within. Raises InputError if a value is not finite.

    Args:
        sample: values by level and seed.
        trainings: the training that a level reads, for levels that read the same; others have their own.
    """

    def __init__(self, sample: Sample, trainings: Mapping[str, str] | None = None) -> None:
        for level, value in ((level, value) for level, values in sample.items() for value in values.values()):
            require(math.isfinite(value), f"value at {level}", value, "a finite number")
        self.trainings = {level: (trainings or {}).get(level, level) for level in sample}
        self.readings = Counter(self.trainings.values())
        means, squares, df = dict[str, dict[int, float]](), 0.0, 0
        self.counts, self.offsets = dict[str, int](), dict[str, float]()  # seeds; a level's mean less its training's
        for training, readings in self.readings.items():
            levels = [level for level in sample if self.trainings[level] == training]
            seeds = sorted(set.intersection(*(set(sample[level]) for level in levels)))
            table = np.array([[sample[level][seed] for level in levels] for seed in seeds]).reshape(-1, readings)
            means[training] = dict(zip(seeds, table.mean(axis=1).tolist(), strict=True))
            own = table - table.mean(axis=1, keepdims=True)
            offsets = own.sum(axis=0) / max(1, len(seeds))
            squares += float(((own - offsets) ** 2).sum())
            df += max(0, len(seeds) - 1) * (readings - 1)
            self.counts |= dict.fromkeys(levels, len(seeds))
            self.offsets |= dict(zip(levels, offsets.tolist(), strict=True))
        self.between, self.df_within = BlockModel(means), df
        self.df, self.scale = self.between.df, self.between.scale
        self.within_sd = unless_rounding(math.sqrt(squares / df), self.scale) if df else None
        averaged = 1 - len(self.readings) / max(1, len(self.trainings))  # of a reading's variance, in means
        between_sd = self.between.residual_sd
        self.residual_sd = None if averaged else between_sd
        if between_sd is not None and self.within_sd is not None:
            self.residual_sd = math.sqrt(between_sd**2 + averaged * self.within_sd**2)

    def contrast(self, weights: Mapping[str, float], alpha: float) -> Contrast:
        """Estimate the sum of weight times level mean, with its interval at 1 - alpha.

        It is tested if every weighted level has two values and seeds connect them.
        """
        estimate = self.estimate(weights)
        row = Contrast(verdict="not enough seeds", difference=estimate and estimate.value)
        if estimate is None or estimate.error is None:
            return row
        value, error, df = estimate
        if not error:
            return replace(row, verdict="no spread")
        half, p = critical(df, alpha) * error, two_sided(value / error, df)
        detectable = detectable_effect(error, df, alpha)
        return replace(row, low=value - half, high=value + half, p=p, detectable=detectable)

    def estimate(self, weights: Mapping[str, float]) -> ContrastEstimate | None:
        """The sum of weight times level mean; None if no seeds connect the levels, or one of them has no value."""
        totals = training_totals(weights, self.trainings)
        within = {
            level: weights.get(level, 0.0) - totals.get(training, 0.0) / self.readings[training]
            for level, training in self.trainings.items()
        }
        parts = [self.between.estimate(kept)] if (kept := _without_zeros(totals)) else []
        parts += [self._within(kept)] if (kept := _without_zeros(within)) else []
        known = [part for part in parts if part is not None]
        return _sum(known, self.scale) if len(known) == len(parts) else None

    def _within(self, weights: Mapping[str, float]) -> ContrastEstimate | None:
        """The sum of weight times level mean, where the weights of every training's readings add up to 0."""
        counts = [self.counts[level] for level in weights]
        if not all(counts):
            return None
        value = sum(weight * self.offsets[level] for level, weight in weights.items())
        error = None
        if self.within_sd is not None and min(counts) >= 2:
            variances = (weight**2 / count for weight, count in zip(weights.values(), counts, strict=True))
            error = self.within_sd * math.sqrt(sum(variances))
        return ContrastEstimate(unless_rounding(value, self.scale), error, self.df_within)


def _without_zeros(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if abs(weight) > SINGULAR}


def _sum(parts: Sequence[ContrastEstimate], scale: float) -> ContrastEstimate:
    """The sum of independent estimates of values of a scale, with Satterthwaite's degrees of freedom."""
    if len(parts) == 1:
        return parts[0]
    value = unless_rounding(sum(part.value for part in parts), scale)
    errors = [part.error for part in parts if part.error is not None]
    if len(errors) < len(parts):
        return ContrastEstimate(value, None, 0)
    error = math.hypot(*errors)
    freedom = sum(item**4 / part.df for item, part in zip(errors, parts, strict=True))
    return ContrastEstimate(value, error, error**4 / freedom if freedom else 0)


def _without_seed_means(values: Array, exists: Mask) -> Array:
    """Values (levels, seeds), 0 where there is no cell, less the mean of each seed's cells."""
    return np.where(exists, values - values.sum(axis=0) / exists.sum(axis=0), 0.0)


def _pseudoinverse(matrix: Array) -> tuple[Array, Array, int]:
    """Pseudoinverse of a symmetric positive semidefinite matrix, the projection onto its range, and its rank."""
    values, vectors = np.linalg.eigh(matrix)
    is_range = values > SINGULAR * values.max(initial=0.0)
    values, vectors = values[is_range], vectors[:, is_range]
    return (vectors / values) @ vectors.T, vectors @ vectors.T, len(values)


def unless_rounding(value: float, scale: float) -> float:
    """The value, or 0 if it is rounding against a scale."""
    return value if abs(value) > ROUNDING * scale else 0.0


def critical(df: float, alpha: float) -> float:
    """The quantile of a two-sided t interval at 1 - alpha."""
    return float(stdtrit(df, 1 - alpha / 2))


def two_sided(t: float, df: float) -> float:
    """The p value of a two-sided t test."""
    return float(2 * stdtr(df, -abs(t)))
