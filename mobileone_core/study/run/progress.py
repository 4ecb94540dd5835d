"""Progress of a run, as a live display on a terminal or as plain lines, and states of cells as tables of text."""

import heapq
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mobileone_core.errors import require
from mobileone_core.study.columns import text_table
from mobileone_core.study.plan import Plan
from mobileone_core.study.state import STATES, CellState, study_names, study_states, validation_name
from mobileone_core.study.workspace import Workspace, redacted

DROPPED = ("host", "attempt", "run", "cell", "epoch")  # columns that a narrow terminal has no room for, first to last
HEADS = ("cell", "what", "state", "attempt", "epoch", "metric", "host", "run")
EVENTS = ("running", "complete", "failed")  # states that a line tells of
FORECAST = 20.0  # seconds after which the time left is printed, once it can be estimated
SUMMARY_INTERVAL = 30.0  # seconds between two summaries if the output is not a terminal


class Progress:
    """Shows the cells of a run. costs, by key, weight the cells in the estimate of the time left."""

    def __init__(self, costs: Mapping[str, float] | None = None, console: Console | None = None) -> None:
        self.costs = defaultdict[str, float](lambda: 1.0, costs or {})
        self.console = console or Console()
        is_live = self.console.is_terminal and not self.console.is_dumb_terminal
        self.live = Live(console=self.console, auto_refresh=False) if is_live else None
        self.shown: dict[str, tuple[str, int | None]] = {}  # by key: state and trial
        self.done_at_start: frozenset[str] = frozenset()
        self.started = self.summed_up = time.monotonic()
        self.has_forecast = False
        self.workers = 1
        self.ended: dict[str, float] = {}  # by key: when it was first seen complete
        self.starts: dict[str, tuple[float, float]] = {}  # by key: when, and the share done then
        self.warned: set[str] = set()

    def begin(self, states: Sequence[CellState], workers: int) -> None:
        """Print the number of cells to run, and start the display."""
        self.started = self.summed_up = time.monotonic()
        self.workers = max(1, workers)
        self.shown = {item.key: (item.state, item.trial) for item in states if item.state == "complete"}
        self.done_at_start = frozenset(self.shown)
        todo, done = len(states) - len(self.shown), len(self.shown)
        complete = f", {done} already complete" if done else ""
        cells, processes = "cell" if todo == 1 else "cells", "worker" if workers == 1 else "workers"
        self.say(f"{todo} {cells} to run on {workers} {processes}{complete}")
        if self.live:
            self.live.start()

    def update(self, states: Sequence[CellState]) -> None:
        """Show the current states; print a line for every cell that began, ended or failed, and for every warning."""
        new = [item for item in states if item.state in EVENTS and self.shown.get(item.key) != (item.state, item.trial)]
        events = sorted(new, key=lambda item: item.state == "running")  # ends made room first
        self.shown |= {item.key: (item.state, item.trial) for item in states}
        left = self.seconds_left(states)
        if self.live:
            self.live.update(self._view(states, left), refresh=True)
        for item in events:
            if self.live is None or item.state == "failed":
                self.say(_event(item))
        for text in {item.warning for item in states if item.key not in self.done_at_start} - {"", *self.warned}:
            self.warned.add(text)
            self.say(f"warning: {text}")
        if left and not self.has_forecast and time.monotonic() - self.started > FORECAST:
            self.has_forecast = True
            self.say(f"about {duration(left)} to go")
        if self.live is None and time.monotonic() - self.summed_up > SUMMARY_INTERVAL:
            self.summed_up = time.monotonic()
            self.say(summary(states, left))

    def say(self, line: str) -> None:
        """Print one line above the display."""
        self.console.print(Text(line), soft_wrap=True)

    def end(self) -> None:
        """Stop the display and leave its last view on the screen."""
        if self.live and self.live.is_started:
            self.live.stop()

    def seconds_left(self, states: Sequence[CellState]) -> float | None:
        """Seconds left, by cells of the same levels that this run completed, else by cost; None before any progress.

        Waiting cells go to the worker that is free first, so that the last ones count as long as they take.
        """
        now, done, seconds = time.monotonic(), 0.0, 0.0
        durations: dict[str, list[float]] = {}
        for item in states:
            is_begun = item.state == "complete" or (item.state == "running" and _share(item))  # not starting up
            if is_begun and item.key not in self.done_at_start:
                is_running = item.state == "running"
                first = (now, _share(item)) if is_running else (now - _seconds(item), 0.0)
                since, share = self.starts.setdefault(item.key, first)
                took = (now if is_running else self.ended.setdefault(item.key, now)) - since
                if item.state == "complete" and item.attempt <= 1 and _seconds(item):  # all of it, in this run
                    took, share = _seconds(item), 0.0
                    durations.setdefault(_levels(item), []).append(took)
                done += self.costs[item.key] * (_share(item) - share)
                seconds += took
        if done <= 0:
            return None

        def left(item: CellState) -> float:
            same = durations.get(_levels(item))
            return (fmean(same) if same else self.costs[item.key] * seconds / done) * (1 - _share(item))

        workers = [left(item) for item in states if item.state == "running"]
        workers += [0.0] * (self.workers - len(workers))
        heapq.heapify(workers)
        for item in (item for item in states if item.state == "waiting"):
            heapq.heapreplace(workers, workers[0] + left(item))
        return max(workers)

    def _view(self, states: Sequence[CellState], left: float | None) -> Group:
        head = Table.grid(padding=(0, 1))
        head.add_row(ProgressBar(len(states), sum(map(_share, states)), width=40), summary(states, left))
        table = Table.grid(padding=(0, 2))
        for item in (item for item in states if item.state == "running"):
            epoch = f"{'round' if item.role == 'comparison' else 'epoch'} {item.epoch}/{item.epochs}"
            attempt = f"attempt {item.attempt}" if item.attempt > 1 else ""
            table.add_row(item.label, epoch, value_text(item), _speed_text([item]), attempt)
        return Group(head, table)


def summary(states: Sequence[CellState], left: float | None) -> str:
    """Counts of the states, speed, and time left: "12 complete, 2 running, 980 images/s, about 2 min left"."""
    counts = Counter(item.state for item in states)
    texts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return ", ".join(filter(None, [*texts, _speed_text(states), f"about {duration(left)} left" if left else ""]))


def _speed_text(states: Sequence[CellState]) -> str:
    """The speed of all that is running: "980 images/s"; empty if it is not noted."""
    speed = sum(item.speed for item in states if item.state == "running")
    return f"{speed:,.0f} images/s" if speed else ""


def duration(seconds: float) -> str:
    """Seconds as text: "40 s", "3 min" or "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def value_text(item: CellState) -> str:
    """A cell's metric with its name and four decimals; empty for a comparison, or before the first epoch.

    Until the cell is complete the metric is that of validation.
    """
    if item.value is None or item.role == "comparison":
        return ""
    name = item.metric if item.state == "complete" else validation_name(item.metric)
    return f"{name} {item.value:.4f}".strip()


def status_lines(workspace: Workspace, studies: Sequence[str] = ()) -> list[str]:
    """Every cell of the studies named, or of all, by queue. Raises InputError for a study that was never planned."""
    queues = study_names(workspace)
    for name in studies:
        planned = ", ".join(queues) or "none yet"
        require(any(_is_of(queue, name) for queue in queues), "study", name, f"planned are {planned}")
    if not queues:
        return [f"no study was planned in {redacted(workspace.queue)}"]
    lines: list[str] = []
    for queue in (item for item in queues if not studies or any(_is_of(item, name) for name in studies)):
        states = study_states(workspace, queue)
        lines += [f"{queue}: {summary(states, None) or 'no cells'}", *_table(states), ""]
    return lines[:-1]


def _is_of(queue: str, study: str) -> bool:
    return queue == study or queue.startswith(f"{study}-")


def plan_lines(plan: Plan, states: Sequence[CellState]) -> list[str]:
    """Lines about a plan's work, then about every cell and its state."""
    return [*plan.overview(summary(states, None)), *_table(states)]


def _table(states: Sequence[CellState]) -> list[str]:
    lines = text_table([HEADS, *map(_row, states)], DROPPED)
    return [*lines, *(f"{item.key} failed: {item.error}" for item in states if item.state == "failed")]


def _row(item: CellState) -> tuple[str, ...]:
    host = f"{item.owner.host}:{item.owner.job or item.owner.pid}" if item.owner else ""
    epoch = f"{item.epoch}/{item.epochs}" if item.trial is not None else ""
    runs = f"{item.run_id} and {len(item.runs) - 1} more" if len(item.runs) > 1 else item.run_id
    state = f"{epoch} epochs kept, waiting" if item.state == "waiting" and item.epoch else item.state
    return (item.key, item.label, state, str(item.attempt or ""), epoch, value_text(item), host, runs)


def _event(item: CellState) -> str:
    attempt = f" (attempt {item.attempt})" if item.attempt > 1 else ""
    if item.state == "failed":
        return f"failed: {item.label}{attempt}: {item.error}"
    if item.state == "running":
        return f"started: {item.label}{attempt}"
    return f"complete: {': '.join(filter(None, [item.label, value_text(item)]))} after {duration(_seconds(item))}"


def _seconds(item: CellState) -> float:
    return (item.ended - item.started).total_seconds() if item.ended and item.started else 0.0


def _levels(item: CellState) -> str:
    """The label that cells share which differ by their seed alone."""
    return f"{item.role} {item.variant} {sorted(item.factors.items())}"


def _share(item: CellState) -> float:
    """The part of a cell's epochs that is done, or kept while it waits."""
    if item.state == "complete":
        return 1.0
    is_begun = item.state in ("running", "waiting") and item.epochs
    return max(item.epoch, item.part) / item.epochs if is_begun else 0.0
