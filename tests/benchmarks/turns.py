"""Calls of a benchmark that take turns, timed by the package's own engine."""

from collections.abc import Callable, Mapping
from statistics import median

from mobileone_core.benchmark.interleave import TimedCall, interleave
from mobileone_core.benchmark.protocol import Protocol

Times = Mapping[str, list[float]]


def milliseconds(calls: Mapping[str, Callable[[], object]], rounds: int, *, processor: bool) -> Times:
    """One time per round and call, by label; processor: of this process's processor time instead of wall time."""
    timed = {label: TimedCall(call) for label, call in calls.items()}
    samples = interleave(timed, Protocol(rounds=rounds, burst=1, warmup=1, untimed=0), lambda _: None)
    return {label: (samples.process[label] if processor else samples.round_medians(label)).tolist() for label in calls}


def ratio(times: Times, label: str, base: str) -> float:
    """The median over rounds of the ratio of two calls' times."""
    return median(one / other for one, other in zip(times[label], times[base], strict=True))
