"""Times calls side by side, so that what disturbs the machine disturbs all of them alike. No torch here."""

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
Timer = Callable[[], float]  # milliseconds
NANOSECONDS = 1_000_000  # a millisecond
LONG_ENOUGH = 10.0  # milliseconds


@dataclass(frozen=True)
class Handling:
    """What a call has of its own. reload opens it anew; timer makes calls and returns the milliseconds of one."""

    reload: Call | None = None
    timer: Timer | None = None


def interleave(
    calls: Mapping[str, Call],
    protocol: Protocol,
    between: Callable[[int], object],
    synchronize: Call | None = None,
    handling: Mapping[str, Handling] | None = None,
) -> Samples:
    """Time every call by the protocol, with collection of garbage off.

    between is told each round's number, from 1, after it; what it raises ends the measurement. synchronize waits for
    a device whose calls return before their work is done. handling: what calls have of their own. Raises InputError
    where the protocol reloads and a call cannot be.
    """
    require(len(calls) >= 1, "calls", list(calls), "one or more")
    finished = {label: _finished(call, synchronize) for label, call in calls.items()}
    order = random.Random(protocol.seed)
    own = {label: (handling or {}).get(label, Handling()) for label in calls}
    clocks = {label: own[label].timer or _clock(call) for label, call in finished.items()}
    reloads = {label: item.reload for label, item in own.items() if item.reload and protocol.reload}
    require(not protocol.reload or set(reloads) == set(calls), "reload", True, "for calls that can be opened anew")
    times = {label: np.empty((protocol.rounds, protocol.burst)) for label in calls}
    process = {label: np.empty(protocol.rounds) for label in calls}
    with collection_off():
        for call in finished.values():
            _repeat(call, protocol.warmup)
        for index in range(protocol.rounds):
            for label in order.sample(list(finished), len(finished)):
                if protocol.reload:
                    reloads[label]()
                _repeat(finished[label], protocol.untimed)
                start = time.process_time_ns()
                times[label][index] = [clocks[label]() for _ in range(protocol.burst)]
                process[label][index] = (time.process_time_ns() - start) / protocol.burst / NANOSECONDS
            between(index + 1)
    return Samples(times, process)


def averaging(call: Call, synchronize: Call | None = None) -> Timer:
    """Times a short call by the mean of so many that they last LONG_ENOUGH together: a single one is mostly noise."""
    once = _finished(call, synchronize)
    once()
    count = max(1, math.ceil(LONG_ENOUGH / _clock(once)()))
    all_of_them = _clock(lambda: _repeat(once, count))
    return lambda: all_of_them() / count


@contextlib.contextmanager
def collection_off() -> Iterator[None]:
    """Nothing collects garbage inside."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _finished(call: Call, synchronize: Call | None) -> Call:
    if synchronize is None:
        return call

    def both() -> None:
        call()
        synchronize()

    return both


def _repeat(call: Call, count: int) -> None:
    for _ in range(count):
        call()


def _clock(call: Call) -> Timer:
    """Milliseconds of one call, by the host's clock."""

    def timed() -> float:
        start = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - start) / NANOSECONDS

    return timed
