"""Times measured side by side, and their statistics: medians, intervals and ratios over rounds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mobileone_core.errors import require

CONFIDENCE = 0.95

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A median and the ends of its interval."""

    value: float
    low: float
    high: float


@cache
def interval_rank(n: int, confidence: float = CONFIDENCE) -> int:
    """The largest j for which the j-th smallest and the j-th largest of n values enclose the median with confidence.

    Exact for any continuous distribution: the number of values below the median is Binomial(n, 1/2). Raises InputError
    if even the smallest and the largest (j = 1) do not.
    """
    outside = 0  # of 2**n outcomes, those with the j-th smallest above the median
    rank = 0
    while 2 * (outside + math.comb(n, rank)) <= (1 - confidence) * 2**n:
        outside += math.comb(n, rank)
        rank += 1
    require(rank >= 1, "rounds", n, f"as many as order statistics need for {confidence:.0%}")
    return rank


def median_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """The median of independent values with its order-statistic interval."""
    data = np.sort(np.asarray(values, dtype=np.float64))
    rank = interval_rank(len(data), confidence)
    return Estimate(float(np.median(data)), float(data[rank - 1]), float(data[-rank]))


@dataclass(frozen=True)
class Samples:
    """Times of calls by label: (rounds, burst) milliseconds. Rounds are the independent units, calls are not.

    process: CPU time of the process per call, over all its threads, by label: (rounds,) milliseconds.
    """

    times: Mapping[str, Times]
    process: Mapping[str, Times] = field(default_factory=dict)

    def round_medians(self, label: str) -> Times:
        """Median of each round's burst: (rounds,) milliseconds."""
        medians: Times = np.median(self.times[label], axis=1)
        return medians

    def median(self, label: str) -> Estimate:
        """Median of the round medians, with its interval over rounds: milliseconds."""
        return median_interval(self.round_medians(label))

    def ratio(self, label: str, to: str) -> Estimate:
        """Ratio of the round medians of two labels: its median, with its interval over rounds."""
        return median_interval(self.round_medians(label) / self.round_medians(to))

    def time_metrics(self, label: str, name: str) -> dict[str, float]:
        """A label's times as metrics: name_ms is the median, with its interval; minimum and 90 % quantile of calls."""
        median, times = self.median(label), self.times[label]
        interval = {f"{name}_ms": median.value, f"{name}_low_ms": median.low, f"{name}_high_ms": median.high}
        return interval | {f"{name}_min_ms": float(times.min()), f"{name}_p90_ms": float(np.quantile(times, 0.9))}

    def ratio_metrics(self, label: str, to: str, name: str) -> dict[str, float]:
        """The ratio of two labels as metrics: name is its median, name_low and name_high are its interval."""
        ratio = self.ratio(label, to)
        return {name: ratio.value, f"{name}_low": ratio.low, f"{name}_high": ratio.high}

    def trimmed(self, label: str, trim: int) -> tuple[float, float]:
        """Smallest and mean time without the trim shortest and the trim longest of each round: milliseconds."""
        times = self.times[label]
        middle = np.sort(times, axis=1)[:, trim : times.shape[1] - trim]
        return float(middle.min()), float(middle.mean())
