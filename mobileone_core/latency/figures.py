"""The figures that are printed, from the samples that are kept. No torch here."""

from collections.abc import Mapping

import numpy as np

from mobileone_core.latency.protocol import Protocol
from mobileone_core.latency.samples import Samples, Times

LATENCY, CONTROL, PROCESS = "latency", "latency_control", "process"  # what is kept, by name
OTHER = "reference"

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
