"""Who is called when, what is timed, and that garbage collection is left as it was. The clock is ours."""

import gc
from itertools import groupby

import pytest

from mobileone_core.benchmark import interleave as module
from mobileone_core.benchmark.interleave import TimedCall, interleave
from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.errors import InputError

PROTOCOL = Protocol(rounds=7, burst=3, warmup=2, untimed=1)


class Clock:
    """Nanoseconds that only calls spend."""

    def __init__(self):
        self.now = 0
        self.called = []

    def spend(self, label, nanoseconds):
        """A function that takes so long."""

        def spend():
            self.called.append(label)
            self.now += nanoseconds

        return spend

    def call(self, label, nanoseconds, **options):
        return TimedCall(self.spend(label, nanoseconds), **options)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module.time, "perf_counter_ns", lambda: clock.now)
    return clock


def test_every_round_holds_every_level_once_in_another_order(clock):
    calls = {label: clock.call(label, 1) for label in "abcd"}
    ends = []
    interleave(calls, PROTOCOL, lambda number: ends.append((number, len(clock.called))))
    warmup, per_round = 4 * PROTOCOL.warmup, 4 * (PROTOCOL.untimed + PROTOCOL.burst)
    assert "".join(clock.called[:warmup]) == "aabbccdd"
    assert ends == [(number, warmup + number * per_round) for number in range(1, PROTOCOL.rounds + 1)]
    orders = []
    for start in range(warmup, len(clock.called), per_round):
        blocks = [(label, len(list(group))) for label, group in groupby(clock.called[start : start + per_round])]
        assert sorted(blocks) == [(label, 4) for label in "abcd"]
        orders.append(tuple(label for label, _ in blocks))
    assert len(set(orders)) > PROTOCOL.rounds / 2


def test_the_seed_decides_the_orders(clock):
    def order(seed):
        clock.called.clear()
        protocol = Protocol(rounds=6, burst=1, seed=seed)
        interleave({label: clock.call(label, 1) for label in "abcd"}, protocol, lambda _: None)
        return "".join(clock.called)

    assert order(1) == order(1) != order(2)


def test_times_are_milliseconds_of_single_calls(clock):
    calls = {"short": clock.call("short", 250_000), "long": clock.call("long", 3_000_000)}
    samples = interleave(calls, PROTOCOL, lambda _: clock.spend("between", 10**9)())
    assert {label: times.shape for label, times in samples.times.items()} == {"short": (7, 3), "long": (7, 3)}
    assert samples.times["short"].tolist() == [[0.25] * 3] * 7
    assert samples.times["long"].tolist() == [[3.0] * 3] * 7


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_off_inside_and_as_before_after(enabled):
    states = []
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        interleave({"a": TimedCall(lambda: states.append(gc.isenabled()))}, PROTOCOL, lambda _: None)
        assert set(states) == {False}
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_what_between_raises_ends_the_measurement(clock):
    def stop(number):
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interleave({"a": clock.call("a", 1)}, PROTOCOL, stop)
    assert len(clock.called) == PROTOCOL.warmup + 2 * (PROTOCOL.untimed + PROTOCOL.burst)
    assert gc.isenabled()


def test_reloads_come_before_the_untimed_calls_and_are_not_timed(clock):
    protocol = Protocol(rounds=6, burst=2, warmup=0, untimed=1, reload=True)
    calls = {label: clock.call(label, 10**6, reload=clock.spend(label.upper(), 10**9)) for label in "ab"}
    samples = interleave(calls, protocol, lambda _: None)
    assert sorted({"".join(clock.called[start : start + 4]) for start in range(0, 48, 4)}) == ["Aaaa", "Bbbb"]
    assert samples.times["a"].tolist() == [[1.0] * 2] * 6


def test_a_protocol_that_reloads_needs_calls_that_can_be(clock):
    protocol = Protocol(reload=True)
    with pytest.raises(InputError, match="reload: True is not allowed; for calls that can be opened anew"):
        interleave({"a": clock.call("a", 1)}, protocol, lambda _: None)


def test_a_call_may_have_a_clock_of_its_own(clock):
    calls = {"a": clock.call("a", 10**6), "b": clock.call("b", 10**6, timer=lambda: 0.25)}
    samples = interleave(calls, PROTOCOL, lambda _: None)
    assert samples.times["a"].tolist() == [[1.0] * 3] * 7
    assert samples.times["b"].tolist() == [[0.25] * 3] * 7


@pytest.mark.parametrize(("milliseconds", "together"), [(3, 4), (10, 1), (400, 1), (0.25, 40)])
def test_a_short_call_s_time_is_a_mean_over_many(clock, milliseconds, together):
    timer = module.averaging_timer(clock.spend("a", int(milliseconds * 10**6)))
    before = len(clock.called)
    assert timer() == milliseconds
    assert clock.called[before:] == ["a"] * together


def test_the_process_s_time_is_that_of_a_call(clock, monkeypatch):
    monkeypatch.setattr(module.time, "process_time_ns", lambda: 2 * clock.now)  # two threads
    samples = interleave({"a": clock.call("a", 10**6)}, PROTOCOL, lambda _: None)
    assert samples.process["a"].tolist() == [2.0] * 7
