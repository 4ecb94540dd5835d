"""Times calls side by side, so that what disturbs the machine disturbs all of them alike. No torch here."""

import contextlib
import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from mobileone_core.errors import require
from mobileone_core.latency.protocol import Protocol
from mobileone_core.latency.samples import Samples

Call = Callable[[], object]
NANOSECONDS = 1_000_000  # a millisecond


def interleave(
    calls: Mapping[str, Call],
    protocol: Protocol,
    between: Callable[[int], object],
    synchronize: Call | None = None,
) -> Samples:
    """Time every call by the protocol, with collection of garbage off.

    between is told each round's number, from 1, after it; what it raises ends the measurement. synchronize waits for
    a device whose calls return before their work is done.
    """
    require(len(calls) >= 1, "calls", list(calls), "one or more")
    finished = {label: _finished(call, synchronize) for label, call in calls.items()}
    order = random.Random(protocol.seed)
    times = {label: np.empty((protocol.rounds, protocol.burst)) for label in calls}
    with collection_off():
        for call in finished.values():
            _repeat(call, protocol.warmup)
        for index in range(protocol.rounds):
            for label in order.sample(list(finished), len(finished)):
                _repeat(finished[label], protocol.untimed)
                times[label][index] = [_timed(finished[label]) for _ in range(protocol.burst)]
            between(index + 1)
    return Samples(times)


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


def _timed(call: Call) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / NANOSECONDS
