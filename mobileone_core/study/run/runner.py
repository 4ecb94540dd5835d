"""A run, seen from its parent process: plan, start workers, watch them, and leave everything resumable."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mobileone_core.errors import InputError
from mobileone_core.study.plan import Plan
from mobileone_core.study.run.worker_pool import WorkerPool
from mobileone_core.study.state import (
    CellState,
    State,
    cell_states,
    is_settled,
    study_names,
    study_states,
    waiting_for_failed,
)
from mobileone_core.study.workspace import TRAIN, Job, Setup, redacted
from mobileone_core.training.cell import CellSpec

POLL = 0.3  # seconds between looks at the queue
POLL_MEASURING = 3.0  # the same while a comparison is measured
POLL_RATIO = 10.0  # a look at a large queue is followed by a pause of at least so many times its duration
EXIT_TIMEOUT = 30.0  # seconds that a worker may outlive the last cell
UNDONE = ("waiting", "running")


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the states of its cells, and one line (note) per repair, dead worker or blocked cell."""

    states: tuple[CellState, ...]
    interrupted: bool = False
    notes: tuple[str, ...] = ()

    def count(self, state: State) -> int:
        """Number of cells in a state."""
        return sum(item.state == state for item in self.states)

    @property
    def failures(self) -> tuple[CellState, ...]:
        """The failed cells, each with its error."""
        return tuple(item for item in self.states if item.state == "failed")

    @property
    def is_complete(self) -> bool:
        """Whether every cell is complete."""
        return self.count("complete") == len(self.states)


class RunDisplay(Protocol):
    """Shows the progress of a run."""

    def begin(self, states: Sequence[CellState], workers: int) -> None:
        """Called before the first worker starts."""

    def update(self, states: Sequence[CellState]) -> None:
        """Called a few times a second."""

    def say(self, line: str) -> None:
        """Show one line."""

    def end(self) -> None:
        """Called at the end of every run, successful or not."""


class SignalGuard:
    """Raises KeyboardInterrupt on Ctrl-C, SIGTERM and SIGHUP, and remembers it.

    Python drops an exception that a signal handler raises inside a destructor or a callback of the garbage collector;
    check() raises it again.
    """

    def __init__(self) -> None:
        self.signalled = False

    def __call__(self, *_: object) -> None:
        """Handle a signal."""
        self.signalled = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has arrived."""
        if self.signalled:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Install the handlers; the earlier ones are restored at the end."""
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, self) for number in signals]
        try:
            yield
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)


def run_study(plan: Plan, setup: Setup, display: RunDisplay) -> Outcome:
    """Run the missing cells of a plan. If none is missing, nothing is imported, written or started.

    Ctrl-C, SIGTERM and SIGHUP end the run in order; the outcome is interrupted, and the next run resumes. Raises
    InputError if a database, the data or the device cannot be used.

    Example: ``run_study(plan, Setup(Workspace.at(Path("runs")), workers=2), Progress()).is_complete``
    """
    workspace = setup.workspace
    states = cell_states(workspace, plan)
    if is_settled(workspace, plan, states):
        return Outcome(tuple(states))
    job = Job(setup, plan.queue, frozenset(cell.key for cell in plan.queued))

    def prepare() -> list[str]:
        from mobileone_core.study.run.planner import plan_cells

        return plan_cells(plan, workspace, setup.engine.timing)

    return StudyRun(job, lambda: cell_states(workspace, plan), display, sample_cells(plan))(prepare)


def join(plan: Plan, setup: Setup, display: RunDisplay) -> Outcome:
    """Work on the waiting cells of a plan's queue without planning any, as a second machine does.

    Raises InputError if nothing was planned.
    """
    workspace = setup.workspace
    if not study_states(workspace, plan.queue):
        raise InputError.of("queue", plan.queue, f"nothing of it is in {redacted(workspace.queue)}; plan it first")
    job = Job(setup, plan.queue)
    return StudyRun(job, lambda: study_states(workspace, plan.queue), display, sample_cells(plan))(list)


def sample_cells(plan: Plan) -> list[CellSpec]:
    """One sample cell per (precision, teachers) pair.

    If the sample cannot run on this machine, no cell of that pair can.
    """
    specs = [cell.spec for cell in (*plan.teachers, *plan.cells)]
    return list({(spec.recipe.precision, spec.recipe.teachers): spec for spec in reversed(specs)}.values())


@dataclass
class StudyRun:
    """One run of a job: prepare, run the workers, repair. read() returns the states of the job's cells."""

    job: Job
    read: Callable[[], list[CellState]]
    display: RunDisplay
    samples: Sequence[CellSpec]
    notes: list[str] = field(default_factory=list)
    guard: SignalGuard = field(default_factory=SignalGuard)

    def __call__(self, prepare: Callable[[], list[str]]) -> Outcome:
        """Prepare while the workers' imports run in the background, work until all is done, then repair."""
        is_interrupted = False
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.guard.installed())
            stack.callback(self.display.end)
            pool = WorkerPool(self.job)
            stack.callback(pool.stop)
            try:
                self._note(*prepare())
                if self.job.setup.engine.train == TRAIN:
                    pool.check(self.samples)
                self._work(pool)
            except KeyboardInterrupt:
                is_interrupted = True
                self.display.say("stopping; running cells resume from their last epoch next time")
            pool.stop()
            self._repair()
            states = self.read()
            self.display.update(states)
            self._note_blocked(states)
        return Outcome(tuple(states), is_interrupted, tuple(self.notes))

    def _work(self, pool: WorkerPool) -> None:
        states = self.read()
        workers = min(self.job.setup.workers, sum(item.state in UNDONE for item in states))
        self.display.begin(states, workers)
        pool.start(workers)
        last_undone, seconds = time.monotonic(), 0.0
        while pool.workers and time.monotonic() - last_undone < EXIT_TIMEOUT:
            is_measuring = {item.role for item in states if item.state == "running"} == {"comparison"}
            pool.wait(max(POLL_MEASURING if is_measuring else POLL, POLL_RATIO * seconds))
            self.guard.check()
            dead = pool.reap()
            self._note(*dead)
            began = time.monotonic()
            states = self.read()
            seconds = time.monotonic() - began
            if any(item.state in UNDONE for item in states):
                last_undone = time.monotonic()
                pool.replace(len(dead))
            self.display.update(states)

    def _repair(self) -> None:
        """Queue the cells of killed workers again."""
        from mobileone_core.study.run.planner import repair_job

        if self.job.queue in study_names(self.job.workspace):
            self._note(*repair_job(self.job))

    def _note_blocked(self, states: Sequence[CellState]) -> None:
        blocked = waiting_for_failed(states)
        if blocked:
            number = "1 waits" if len(blocked) == 1 else f"{len(blocked)} wait"
            self._note(f"{number} for a failed cell: {blocked[0].label}{', ...' if len(blocked) > 1 else ''}")

    def _note(self, *lines: str) -> None:
        for line in lines:
            self.notes.append(line)
            self.display.say(line)
