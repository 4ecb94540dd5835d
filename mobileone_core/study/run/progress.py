"""Progress of a run, as a live display on a terminal or as plain lines, and states of cells as tables of text."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mobileone_core.errors import InputError
from mobileone_core.study.plan import Plan
from mobileone_core.study.state import STATES, CellState, study_names, study_states
from mobileone_core.study.workspace import Workspace, redacted

HEADS = ("cell", "what", "state", "attempt", "epoch", "metric", "host", "run")
SUMMARY_INTERVAL = 30.0  # seconds between two summaries if the output is not a terminal


class Progress:
    """Shows the cells of a run. costs, by key, weight the cells in the estimate of the time left."""

    def __init__(self, costs: Mapping[str, float] | None = None, console: Console | None = None) -> None:
        self.costs = costs or {}
        self.console = console or Console()
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.before: dict[str, CellState] = {}
        self.done_at_start: frozenset[str] = frozenset()
        self.started = self.summed_up = time.monotonic()
        self.has_forecast = False
        self.warned: set[str] = set()

    def begin(self, states: Sequence[CellState], workers: int) -> None:
        """Print the number of cells to run, and start the display."""
        self.started = self.summed_up = time.monotonic()
        self.before = {item.key: item for item in states if item.state == "complete"}
        self.done_at_start = frozenset(self.before)
        todo, done = len(states) - len(self.before), len(self.before)
        complete = f", {done} already complete" if done else ""
        cells, processes = "cell" if todo == 1 else "cells", "worker" if workers == 1 else "workers"
        self.say(f"{todo} {cells} to run on {workers} {processes}{complete}")
        if self.live:
            self.live.start()

    def update(self, states: Sequence[CellState]) -> None:
        """Show the current states; print a line for every cell that began, ended or failed, and for every warning."""
        events = sorted(filter(self._is_new, states), key=lambda item: item.state == "running")  # ends made room first
        self.before |= {item.key: item for item in states}
        left = self.seconds_left(states)
        if self.live:
            self.live.update(self._view(states, left), refresh=True)
        for item in events:
            if self.live is None or item.state == "failed":
                self.say(_event(item))
        for text in {item.warning for item in states if item.key not in self.done_at_start} - {"", *self.warned}:
            self.warned.add(text)
            self.say(f"warning: {text}")
        if left and not self.has_forecast:
            self.has_forecast = True
            self.say(f"first cell done; about {duration(left)} to go")
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
        """Seconds left at the pace so far; None before the first cell of this run is complete."""
        done = part = todo = 0.0
        for item in (item for item in states if item.key not in self.done_at_start):
            cost = self.costs.get(item.key, 1.0)
            done += cost * (item.state == "complete")
            todo += cost * (item.state in ("waiting", "running"))
            part += cost * _share(item)
        return (time.monotonic() - self.started) / (done + part) * (todo - part) if done else None

    def _is_new(self, item: CellState) -> bool:
        before = self.before.get(item.key)
        is_reported = item.state in ("running", "complete", "failed")
        return is_reported and (before is None or (before.state, before.trial) != (item.state, item.trial))

    def _view(self, states: Sequence[CellState], left: float | None) -> Group:
        head = Table.grid(padding=(0, 1))
        done = _counts(states)["complete"] + sum(map(_share, states))
        head.add_row(ProgressBar(len(states), done, width=40), summary(states, left))
        table = Table.grid(padding=(0, 2))
        for item in (item for item in states if item.state == "running"):
            unit = "round" if item.role == "comparison" else "epoch"
            attempt = f"attempt {item.attempt}" if item.attempt > 1 else ""
            table.add_row(item.label, f"{unit} {item.epoch}/{item.epochs}", value_text(item), attempt)
        return Group(head, table)


def summary(states: Sequence[CellState], left: float | None) -> str:
    """Counts of the states, and the seconds left: "12 complete, 2 running, 11 waiting, about 2 min left"."""
    counts = [f"{number} {state}" for state, number in _counts(states).items() if number]
    return ", ".join([*counts, f"about {duration(left)} left"] if left else counts)


def duration(seconds: float) -> str:
    """Seconds as text: "40 s", "3 min" or "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def value_text(item: CellState) -> str:
    """A cell's metric with four decimals; empty for a comparison, or before the first epoch."""
    return "" if item.value is None or item.role == "comparison" else f"{item.value:.4f}"


def status_lines(workspace: Workspace, studies: Sequence[str] = ()) -> list[str]:
    """Every cell of the studies named, or of all, by queue. Raises InputError for a study that was never planned."""
    queues = study_names(workspace)
    for name in studies:
        if not any(_is_of(queue, name) for queue in queues):
            raise InputError.of("study", name, f"planned are {', '.join(queues) or 'none yet'}")
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
    """What a plan runs, then every cell and its state."""
    return [*plan.overview(summary(states, None)), *_table(states)]


def _table(states: Sequence[CellState]) -> list[str]:
    rows = [HEADS, *(_row(item) for item in states)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    errors = [f"{item.key} failed: {item.error}" for item in states if item.state == "failed"]
    return [*lines, *errors]


def _row(item: CellState) -> tuple[str, ...]:
    host = f"{item.owner.host}:{item.owner.pid}" if item.owner else ""
    epoch = f"{item.epoch}/{item.epochs}" if item.trial is not None else ""
    attempt = str(item.attempt) if item.attempt else ""
    runs = f"{item.run_id} and {len(item.runs) - 1} more" if len(item.runs) > 1 else item.run_id
    return (item.key, item.label, item.state, attempt, epoch, value_text(item), host, runs)


def _event(item: CellState) -> str:
    attempt = f" (attempt {item.attempt})" if item.attempt > 1 else ""
    if item.state == "failed":
        return f"failed: {item.label}{attempt}: {item.error}"
    if item.state == "running":
        return f"started: {item.label}{attempt}"
    seconds = (item.ended - item.started).total_seconds() if item.ended and item.started else 0.0
    return f"complete: {': '.join(filter(None, [item.label, value_text(item)]))} after {duration(seconds)}"


def _share(item: CellState) -> float:
    """The part of a running cell's epochs that is done; 0 in every other state."""
    return item.epoch / item.epochs if item.state == "running" and item.epochs else 0.0


def _counts(states: Sequence[CellState]) -> dict[str, int]:
    counts = Counter(item.state for item in states)
    return {state: counts[state] for state in STATES}
