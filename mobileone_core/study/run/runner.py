"""A run as its parent sees it: plan, start workers, watch them, and leave everything so that it can go on."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mobileone_core.errors import InputError
from mobileone_core.study.job import TRAIN, Job, Setup
from mobileone_core.study.plans import AnyPlan
from mobileone_core.study.run.worker_pool import Team
from mobileone_core.study.state import (
    CellState,
    State,
    cell_states,
    is_settled,
    study_names,
    study_states,
    waiting_for_failed,
)
from mobileone_core.study.workspace import redacted
from mobileone_core.training.cell import CellSpec

POLL = 0.3  # seconds between looks at the queue
QUIET = 3.0  # the same while a comparison is measured
LINGER = 30.0  # seconds that a worker may outlive the last cell

Read = Callable[[], list[CellState]]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the states of its cells, whether it was interrupted, and what else is to be told."""

    states: tuple[CellState, ...]
    interrupted: bool = False
    notes: tuple[str, ...] = ()

    def count(self, state: State) -> int:
        """Cells in a state."""
        return sum(item.state == state for item in self.states)

    @property
    def failures(self) -> tuple[CellState, ...]:
        """The failed cells, each with its error."""
        return tuple(item for item in self.states if item.state == "failed")

    @property
    def is_complete(self) -> bool:
        return self.count("complete") == len(self.states)


class Display(Protocol):
    """Shows a run while it goes on."""

    def begin(self, states: Sequence[CellState], workers: int) -> None:
        """Before the first worker starts."""

    def update(self, states: Sequence[CellState]) -> None:
        """A few times a second."""

    def say(self, line: str) -> None:
        """Something happened that is worth a line."""

    def end(self) -> None:
        """At the end, whatever the end is."""


def run_study(plan: AnyPlan, setup: Setup, display: Display) -> Outcome:
    """Run what is missing of a plan; nothing is imported, written or started where nothing is missing.

    An interrupted run ends in order and is told by its outcome; InputError for what a person must mend.
    """
    workspace = setup.workspace
    states = cell_states(workspace, plan)
    if is_settled(workspace, plan, states):
        return Outcome(tuple(states))
    job = Job(setup, plan.queue, frozenset(cell.key for cell in plan.queued))
    run = Run(job, lambda: cell_states(workspace, plan), display, samples(plan))

    def prepare() -> list[str]:
        from mobileone_core.study.run.planner import plan_cells

        return plan_cells(plan, workspace, setup.engine.timing)

    return run(prepare)


def join(plan: AnyPlan, setup: Setup, display: Display) -> Outcome:
    """Work on what waits in a plan's queue, planning nothing: what a second machine runs."""
    workspace = setup.workspace
    if not study_states(workspace, plan.queue):
        raise InputError.of("queue", plan.queue, f"nothing of it is in {redacted(workspace.queue)}; plan it first")
    job = Job(setup, plan.queue)
    return Run(job, lambda: study_states(workspace, plan.queue), display, samples(plan))(list)


def samples(plan: AnyPlan) -> list[CellSpec]:
    """One cell of every precision and choice of teachers: what keeps one from running keeps its like."""
    specs = [cell.spec for cell in (*plan.teachers, *plan.cells)]
    return list({(spec.recipe.precision, spec.recipe.teachers): spec for spec in reversed(specs)}.values())


def is_measuring(states: Sequence[CellState]) -> bool:
    """Whether a comparison is all that runs."""
    roles = {item.role for item in states if item.state == "running"}
    return roles == {"comparison"}


class Run:
    """One run of a job: read tells where its cells stand."""

    def __init__(self, job: Job, read: Read, display: Display, samples: Sequence[CellSpec]) -> None:
        self.samples = samples
        self.job = job
        self.read = read
        self.display = display
        self.notes: list[str] = []
        self.interrupt = SignalGuard()

    def __call__(self, prepare: Callable[[], list[str]]) -> Outcome:
        """Prepare while the workers' imports go on, work until all is done, mend what was left behind."""
        is_interrupted = False
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.interrupt.installed())
            stack.callback(self.display.end)
            team = Team(self.job)
            stack.callback(team.stop)
            try:
                for line in prepare():
                    self._note(line)
                if self.job.setup.engine.train == TRAIN:
                    team.check(self.samples)
                self._work(team)
            except KeyboardInterrupt:
                is_interrupted = True
                self.display.say("stopping; cells at work go on from their last epoch next time")
            team.stop()
            self._mend()
            states = self.read()
            self.display.update(states)
            self._tell_stuck(states)
        return Outcome(tuple(states), is_interrupted, tuple(self.notes))

    def _work(self, team: Team) -> None:
        states = self.read()
        todo = sum(item.state in ("waiting", "running") for item in states)
        workers = min(self.job.setup.workers, todo)
        self.display.begin(states, workers)
        team.start(workers)
        last_seen = time.monotonic()
        while team.members and time.monotonic() - last_seen < LINGER:
            team.rest(QUIET if is_measuring(states) else POLL)
            self.interrupt.check()
            dead = team.bury()
            for line in dead:
                self._note(line)
            states = self.read()
            if any(item.state in ("waiting", "running") for item in states):
                last_seen = time.monotonic()
                team.replace(len(dead))
            self.display.update(states)

    def _mend(self) -> None:
        """Bring back the cells of workers that were killed."""
        from mobileone_core.study.run.repair import mend_study

        if self.job.queue in study_names(self.job.workspace):
            for line in mend_study(self.job):
                self._note(line)

    def _tell_stuck(self, states: Sequence[CellState]) -> None:
        stuck = waiting_for_failed(states)
        if stuck:
            number = "1 waits" if len(stuck) == 1 else f"{len(stuck)} wait"
            self._note(f"{number} for a failed cell: {stuck[0].label}{', ...' if len(stuck) > 1 else ''}")

    def _note(self, line: str) -> None:
        self.notes.append(line)
        self.display.say(line)


class SignalGuard:
    """What Ctrl-C, SIGTERM and SIGHUP do: they raise KeyboardInterrupt, and are remembered.

    Python drops an exception that a signal raises inside a destructor or a callback of the garbage collector.
    """

    def __init__(self) -> None:
        self.told = False

    def __call__(self, *_: object) -> None:
        self.told = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise what was dropped."""
        if self.told:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Answer the signals, and put back who answered them before."""
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, self) for number in signals]
        try:
            yield
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)
