"""The figures that are printed, from the samples that are kept. No torch here."""

from collections.abc import Mapping

import numpy as np

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.samples import Samples, Times

LATENCY, CONTROL, PROCESS = "latency", "latency_control", "process"  # what is kept, by name
OTHER = "reference"
TWIN = "_control"  # ends the name of a call's twin

Kept = Mapping[str, list[list[float]]]


def latency_figures(protocol: Protocol, own: Kept, reference: Kept) -> dict[str, float]:
    """An arm's metrics from its kept samples and those of the arm it refers to; either may be empty.

    latency/median_ms with its ends over rounds, min, p90, mean and process_ms (the process's time a call, all threads,
    the median over rounds); latency/ratio with its ends, round by round; where the protocol trims, low_ms and
    average_ms; control/latency_ratio of a second session to the first, where there was one.
    """
    if not own:
        return {}
    times = {name: np.asarray(rounds) for name, rounds in own.items() if name != PROCESS}
    samples = Samples(times | ({OTHER: np.asarray(reference[LATENCY])} if reference else {}))
    median = samples.median(LATENCY)
    figures = {
        "latency/median_ms": median.value,
        "latency/median_low_ms": median.low,
        "latency/median_high_ms": median.high,
        "latency/min_ms": samples.minimum(LATENCY),
        "latency/p90_ms": samples.p90(LATENCY),
        "latency/mean_ms": float(times[LATENCY].mean()),
        "latency/process_ms": float(np.median(own[PROCESS])),
    }
    if reference:
        ratio = samples.ratio(LATENCY, OTHER)
        figures |= {"latency/ratio": ratio.value, "latency/ratio_low": ratio.low, "latency/ratio_high": ratio.high}
    if protocol.trim:
        figures |= trimmed_figures(times[LATENCY], protocol.trim)
    if CONTROL in own:
        figures["control/latency_ratio"] = samples.ratio(CONTROL, LATENCY).value
    return figures


def trimmed_figures(times: Times, trim: int) -> dict[str, float]:
    """low_ms and average_ms: the smallest and the mean of what is left of (rounds, burst) milliseconds when each
    round has lost its trim lowest and its trim highest."""
    left = np.sort(times, axis=1)[:, trim : times.shape[1] - trim]
    return {"latency/low_ms": float(left.min()), "latency/average_ms": float(left.mean())}


def time_figures(samples: Samples, label: str, name: str) -> dict[str, float]:
    """name_ms, the median over rounds, with its ends _low and _high, and _min and _p90: milliseconds."""
    median = samples.median(label)
    return {
        f"{name}_ms": median.value,
        f"{name}_low_ms": median.low,
        f"{name}_high_ms": median.high,
        f"{name}_min_ms": samples.minimum(label),
        f"{name}_p90_ms": samples.p90(label),
    }


def ratio_figures(samples: Samples, label: str, to: str, name: str) -> dict[str, float]:
    """name, the median of the ratio round by round, with its ends _low and _high."""
    ratio = samples.ratio(label, to)
    return {name: ratio.value, f"{name}_low": ratio.low, f"{name}_high": ratio.high}
