"""Progress of a run: plain lines into a file, one live display on a terminal."""

import io
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from rich.console import Console

from mobileone_core.study.run import attempt
from mobileone_core.study.run import progress as module
from mobileone_core.study.run.progress import Progress, duration, summary
from mobileone_core.study.state import CellState

START = datetime(2026, 1, 1)


def cell(number, state="waiting", **changes):
    factors = {"k": number}
    return CellState(f"key{number}", 0, factors, state, epochs=4, **{"trial": number, "attempt": 1, **changes})


def complete(number, value=0.5):
    return cell(number, "complete", epoch=4, value=value, started=START, ended=START + timedelta(seconds=20))


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def shown(is_terminal=False):
    out = io.StringIO()
    return out, Console(
        file=out, force_terminal=is_terminal, width=100, color_system=None, force_interactive=is_terminal
    )


def test_plain_lines_tell_every_start_and_end_once(clock):
    out, console = shown()
    progress = Progress(console=console)
    progress.begin([complete(1), cell(2), cell(3)], 2)
    for states in (
        [complete(1), cell(2, "running"), cell(3)],
        [complete(1), cell(2, "running", epoch=1, value=0.25), cell(3)],
        [complete(1), complete(2, 0.75), cell(3, "running", attempt=2)],
        [complete(1), complete(2, 0.75), cell(3, "failed", error="ValueError: it broke")],
    ):
        clock[0] += 10.0
        progress.update(states)
    progress.end()
    assert out.getvalue().splitlines() == [
        "2 cells to run on 2 workers, 1 already complete",
        "started: k=2 seed 0",
        "complete: k=2 seed 0: 0.7500 after 20 s",
        "started: k=3 seed 0 (attempt 2)",
        "about 20 s to go",
        "failed: k=3 seed 0: ValueError: it broke",
        "2 complete, 1 failed",
    ]


def test_a_summary_comes_every_so_often(clock):
    out, console = shown()
    progress = Progress(console=console)
    progress.begin([cell(1), cell(2)], 1)
    for _ in range(100):
        clock[0] += 1.0
        progress.update([cell(1, "running"), cell(2)])
    assert out.getvalue().count("1 running, 1 waiting") == 3


def test_a_terminal_shows_the_running_cells_with_epoch_and_metric(clock):
    out, console = shown(is_terminal=True)
    progress = Progress(console=console)
    progress.begin([cell(1), cell(2)], 2)
    progress.update([cell(1, "running", epoch=3, value=0.875), cell(2, "running", attempt=2)])
    progress.end()
    text = out.getvalue()
    assert "2 cells to run on 2 workers" in text
    assert "2 running" in text
    assert "k=1 seed 0  epoch 3/4  0.8750" in text
    assert "attempt 2" in text


def test_a_comparison_counts_rounds_and_has_no_metric(clock):
    def comparison(state, **more):
        return CellState("key", 0, {"comparison": "forms"}, state, role="comparison", epochs=20, value=0.01, **more)

    out, console = shown(is_terminal=True)
    progress = Progress(console=console)
    progress.begin([comparison("waiting")], 1)
    progress.update([comparison("running", epoch=7)])
    progress.end()
    assert "comparison=forms  round 7/20" in out.getvalue()
    out, console = shown()
    progress = Progress({"key": 0}, console)
    progress.begin([comparison("waiting")], 1)
    progress.update([comparison("complete", started=START, ended=START + timedelta(seconds=20))])
    assert out.getvalue().splitlines()[1:] == ["complete: comparison=forms after 20 s"]


def test_time_left_weighs_cells_by_cost_and_counts_epochs_done(clock):
    progress = Progress({"key1": 1.0, "key2": 3.0, "key3": 2.0}, shown()[1])
    progress.begin([cell(1), cell(2), cell(3)], 1)
    assert progress.seconds_left([cell(1, "running"), cell(2), cell(3)]) is None
    clock[0] = 10.0
    assert progress.seconds_left([complete(1), cell(2, "running"), cell(3)]) == pytest.approx(20.0 * 5)
    clock[0] = 25.0
    half = cell(2, "running", epoch=2)
    assert progress.seconds_left([complete(1), half, cell(3)]) == pytest.approx(20.0 * 3.5)
    assert progress.seconds_left([complete(1), complete(2), replace(cell(3), state="failed")]) == 0.0


def test_words():
    assert [duration(seconds) for seconds in (1.2, 89, 100, 5399, 7800)] == [
        "1 s",
        "89 s",
        "2 min",
        "1 h 30 min",
        "2 h 10 min",
    ]
    assert summary([complete(1), cell(2)], 30.0) == "1 complete, 1 waiting, about 30 s left"


def test_a_warning_is_said_once_however_many_cells_have_it(clock):
    out, console = shown()
    progress = Progress(console=console)
    progress.begin([replace(complete(1), warning="an old one"), cell(2), cell(3)], 2)
    for _ in range(2):
        states = [replace(complete(1), warning="an old one"), *(cell(n, "running", warning="too long") for n in (2, 3))]
        progress.update(states)
    assert out.getvalue().count("warning: too long") == 1
    assert "an old one" not in out.getvalue()


def simulated(costs, durations, workers, step, epochs=10):
    """Yield the time and the states of cells that workers take in turn; costs and durations by cell."""
    ends, spans = [0.0] * workers, []
    for seconds in durations:
        lane = ends.index(min(ends))
        spans.append((ends[lane], ends[lane] + seconds))
        ends[lane] += seconds
    now = 0.0
    while now < max(ends):
        states = []
        for number, (first, last) in enumerate(spans):
            part = epochs * min(1.0, max(0.0, (now - first) / (last - first)))
            state = "complete" if now >= last else "running" if now >= first else "waiting"
            times = {"started": START, "ended": START + timedelta(seconds=last - first)} if state == "complete" else {}
            states.append(cell(number, state, epoch=int(part), part=part, **times))
        levels = [{"k": cost} for cost in costs]
        yield (
            now,
            max(ends) - now,
            [replace(item, epochs=epochs, factors=level) for item, level in zip(states, levels, strict=True)],
        )
        now += step


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize(
    ("costs", "factor"),
    [([16, 8, 4, 2, 1] * 5, 1.0), ([1] * 6, 1.0), ([1], 1.0), ([16, 8, 5, 4, 3, 2, 1] * 5, 0.2)],
    ids=["long first", "equal", "one", "cheaper than thought"],
)
def test_the_time_left_is_right_after_a_tenth_of_the_work(clock, costs, factor, workers):
    durations = [600 * cost**factor for cost in costs] if factor >= 1 else [600 * (1 + 0.06 * cost) for cost in costs]
    estimated = costs if factor >= 1 else [1 + cost / 16 for cost in costs]
    progress = Progress({f"key{number}": cost for number, cost in enumerate(estimated)}, shown()[1])
    total = None
    for now, left, states in simulated(costs, durations, workers, 30.0):
        total = total or left
        clock[0] = now
        if not now:
            progress.begin([replace(item, state="waiting") for item in states], workers)
        progress.update(states)
        estimate = progress.seconds_left(states)
        assert estimate is not None or now < 60
        if now > total / 10 and left > 60:
            assert estimate == pytest.approx(left, rel=0.3), now


def test_starting_up_is_no_measure_of_the_work(clock):
    """A worker imports and compiles for half a minute before its first batch."""
    progress = Progress({}, shown()[1])
    progress.begin([cell(1), cell(2)], 1)
    for now, part in ((0.0, 0.0), (30.0, 0.0), (31.0, 0.01), (32.0, 0.11), (33.0, 0.21)):
        clock[0] = now
        states = [cell(1, "running", part=part), cell(2)]
        progress.update(states)
        left = progress.seconds_left(states)
        assert left is None or left == pytest.approx(80, rel=0.05)
    assert left


def test_epochs_kept_count_as_done_and_are_shown(clock):
    kept = cell(1, epoch=3, part=3.0)
    assert "3/4 epochs kept, waiting" in module._table([kept])[1]
    progress = Progress({}, shown()[1])
    progress.begin([kept, cell(2)], 1)
    for now in (0.0, 30.0):
        clock[0] = now
        states = [replace(kept, state="running", part=3 + now / 60), cell(2)]
        progress.update(states)
    assert progress.seconds_left(states) == pytest.approx(30 + 240)


def test_a_narrow_terminal_has_fewer_columns_in_order_of_importance(monkeypatch):
    states = [complete(1), cell(2, "running", epoch=1, value=0.25, metric="test/top1")]
    heads = {}
    for width in (300, 60, 10):
        monkeypatch.setenv("COLUMNS", str(width))
        heads[width] = module._table(states)[0].split()
    assert heads[300] == list(module.HEADS)
    assert heads[10] == ["what", "state", "metric"]
    assert "host" not in heads[60]
    assert {"what", "state", "metric"} < set(heads[60])


def test_the_metric_says_whether_it_is_of_validation_or_test():
    running = cell(1, "running", value=0.25, metric="test/top1")
    assert module.value_text(running) == "val/top1 0.2500"
    assert module.value_text(replace(running, state="complete")) == "test/top1 0.2500"
    assert module.value_text(replace(running, metric="corrupted/top1")) == "val/top1 0.2500"


def test_images_per_second_are_shown_within_an_epoch(clock):
    states = [cell(1, "running", part=0.5, speed=1200.4), cell(2, "running", part=0.2), cell(3, "waiting", speed=7.0)]
    assert module.summary(states, 90.0) == "2 running, 1 waiting, 1,200 images/s, about 2 min left"
    out, console = shown(is_terminal=True)
    console.print(Progress(console=console)._view(states, None))
    assert any("epoch 0/4" in line and "1,200 images/s" in line for line in out.getvalue().splitlines())
    out, console = shown()
    progress = Progress(console=console)
    progress.begin(states, 2)
    clock[0] = 40.0
    progress.update(states)
    assert "2 running, 1 waiting, 1,200 images/s" in out.getvalue()


def test_an_attempt_notes_part_and_speed(monkeypatch):
    notes, now = [], [0.0]
    monkeypatch.setattr(attempt.time, "monotonic", lambda: now[0])
    claim = SimpleNamespace(attributes={}, note=lambda name, value: notes.append((name, value)))
    monkeypatch.setattr(attempt.time, "time", lambda: 100.0 + now[0])
    job = SimpleNamespace(setup=SimpleNamespace(command_start=90.0))
    made = attempt.Attempt(job, None, None, claim, lambda: False)
    made.batch_finished()  # before training begins
    assert made.first_step == {}
    for seconds, images in ((10.0, 1000), (12.0, 1500), (20.0, 3000)):
        now[0] = seconds
        made.batch_finished(images / 4000, images)
    assert notes == [("part", 0.25), ("part", 0.75), ("speed", 200.0)]
    assert made.first_step == {"time/first_step": 20.0}
