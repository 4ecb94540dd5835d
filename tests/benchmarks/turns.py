"""Calls of a benchmark that take turns, timed by the package's own engine."""

from collections.abc import Callable, Mapping

from mobileone_core.benchmark.interleave import TimedCall, interleave
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.samples import Samples


def take_turns(calls: Mapping[str, Callable[[], object]], rounds: int, *, processor: bool) -> Samples:
    """One time per round and call; processor: of this process's processor time instead of wall time."""
    timed = {label: TimedCall(call) for label, call in calls.items()}
    samples = interleave(timed, Protocol(rounds=rounds, burst=1, warmup=1, untimed=0), lambda _: None)
    return Samples({label: times[:, None] for label, times in samples.process.items()}) if processor else samples
