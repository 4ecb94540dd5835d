"""Times calls side by side, so that whatever disturbs the machine disturbs all of them alike."""

import contextlib
import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.samples import Samples
from mobileone_core.errors import require

Call = Callable[[], object]
Timer = Callable[[], float]  # makes the call and returns its milliseconds
Progress = Callable[[int], object]
NANOSECONDS = 1_000_000  # per millisecond
LONG_ENOUGH = 10.0  # milliseconds


@dataclass(frozen=True)
class TimedCall:
    """A call that is done when it returns. reload opens it anew; timer replaces the host's clock."""

    call: Call
    reload: Call | None = None
    timer: Timer | None = None


def interleave(calls: Mapping[str, TimedCall], protocol: Protocol, progress: Progress) -> Samples:
    """Time every call by the protocol, with garbage collection off.

    progress is called with n after round n; what it raises ends the measurement. Raises InputError if the protocol
    reloads and a call cannot be reloaded.
    """
    reloads = {label: item.reload for label, item in calls.items() if item.reload and protocol.reload}
    require(not protocol.reload or set(reloads) == set(calls), "reload", True, "for calls that can be opened anew")
    order = random.Random(protocol.seed)
    timers = {label: item.timer or _host_clock(item.call) for label, item in calls.items()}
    times = {label: np.empty((protocol.rounds, protocol.burst)) for label in calls}
    process = {label: np.empty(protocol.rounds) for label in calls}
    with collection_off():
        for item in calls.values():
            _repeat(item.call, protocol.warmup)
        for index in range(protocol.rounds):
            for label in order.sample(list(calls), len(calls)):
                if protocol.reload:
                    reloads[label]()
                _repeat(calls[label].call, protocol.untimed)
                start = time.process_time_ns()
                times[label][index] = [timers[label]() for _ in range(protocol.burst)]
                process[label][index] = (time.process_time_ns() - start) / protocol.burst / NANOSECONDS
            progress(index + 1)
    return Samples(times, process)


def averaging_timer(call: Call) -> Timer:
    """A timer for short calls: the mean over repetitions that last LONG_ENOUGH together, since one is mostly noise."""
    call()
    count = max(1, math.ceil(LONG_ENOUGH / _host_clock(call)()))
    repeated = _host_clock(lambda: _repeat(call, count))
    return lambda: repeated() / count


@contextlib.contextmanager
def collection_off() -> Iterator[None]:
    """Collect no garbage inside."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _repeat(call: Call, count: int) -> None:
    for _ in range(count):
        call()


def _host_clock(call: Call) -> Timer:
    """A timer that measures one call by the host's clock."""

    def timed() -> float:
        start = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - start) / NANOSECONDS

    return timed
