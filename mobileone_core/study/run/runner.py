"""A run, seen from its parent process: plan, start workers, watch them, and leave everything resumable."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mobileone_core.errors import require
from mobileone_core.study.database import at_work
from mobileone_core.study.plan import Plan
from mobileone_core.study.process import ENDING
from mobileone_core.study.record.access import recorded_plans
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.run.progress import Progress
from mobileone_core.study.run.worker_pool import WorkerPool, signals_to
from mobileone_core.study.state import CellState, cell_states, is_settled, study_names, study_states, waiting_for_failed
from mobileone_core.study.workspace import TRAIN, Job, Setup, Workspace, redacted

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

    @property
    def failures(self) -> tuple[CellState, ...]:
        """The failed cells, each with its error."""
        return tuple(item for item in self.states if item.state == "failed")

    @property
    def is_complete(self) -> bool:
        """Whether every cell is complete."""
        return all(item.state == "complete" for item in self.states)


class SignalGuard:
    """Raises KeyboardInterrupt on Ctrl-C, SIGTERM, SIGHUP and a cluster's SIGUSR1 and SIGUSR2, and remembers it.

    Python drops an exception that a signal handler raises inside a destructor or a callback of the garbage collector;
    check() raises it again, and Python's traceback of it is not shown.
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
        hook = sys.unraisablehook
        with signals_to(self, (signal.SIGINT, *ENDING)):
            sys.unraisablehook = lambda event: None if event.exc_type is KeyboardInterrupt else hook(event)
            try:
                yield
            finally:
                sys.unraisablehook = hook


def run_study(plan: Plan, setup: Setup, display: Progress) -> Outcome:
    """Run the missing cells of a plan. If none is missing, nothing is imported, written or started.

    Ctrl-C, SIGTERM and SIGHUP end the run in order; the outcome is interrupted, and the next run resumes. Raises
    InputError if a database, the data or the device cannot be used.

    Example: ``run_study(plan, Setup(Workspace.at(Path("runs")), workers=2), Progress()).is_complete``
    """
    states = cell_states(setup.workspace, plan)
    if is_settled(setup.workspace, plan, states):
        return Outcome(tuple(states))
    return StudyRun(Job(setup, plan.queue, frozenset(cell.key for cell in plan.queued)), plan, display)()


def join(plan: Plan, setup: Setup, display: Progress) -> Outcome:
    """Work on the waiting cells of a plan's queue, as a second machine does. Raises InputError if there is no queue."""
    allowed = f"nothing of it is in {redacted(setup.workspace.queue)}; plan it first"
    require(bool(study_states(setup.workspace, plan.queue)), "queue", plan.queue, allowed)
    return StudyRun(Job(setup, plan.queue), plan, display)()


def run_plan(plan: Plan, setup: Setup, display: Callable[[Plan], Progress]) -> tuple[Plan, Outcome]:
    """Run what a plan lacks and what its results add to it; return the final plan and the last outcome.

    A proposed cell is recorded before it is queued, so that after a kill the next command continues the same search.
    A candidate that fails has no offspring.
    """
    plan = resumed(plan, setup.workspace)
    while True:
        outcome = run_study(plan, setup, display(plan))
        is_open = any(item.state not in ("complete", "failed") for item in outcome.states)
        is_unmeasured = any(item.role == "comparison" for item in outcome.failures)
        is_last = plan.is_final or outcome.interrupted or is_open or is_unmeasured
        grown = plan if is_last else plan.grown(read_record(setup.workspace.tracking, plan))
        if grown == plan:
            return plan, outcome
        plan = grown


def resumed(plan: Plan, workspace: Workspace) -> Plan:
    """The plan with what the record already added to it."""
    if plan.is_final:
        return plan
    recorded = recorded_plans(workspace.tracking, plan.study.name)
    return plan.resumed([item for item in recorded if type(item) is type(plan)])


@dataclass
class StudyRun:
    """One run of a job: create the databases and queue the cells of its plan, unless it joins a queue, work, repair."""

    job: Job
    plan: Plan
    display: Progress
    notes: list[str] = field(default_factory=list)
    guard: SignalGuard = field(default_factory=SignalGuard)

    def __call__(self) -> Outcome:
        """Plan, work until all is done, then repair.

        The planner is imported while the fork server imports the heavy packages.
        """
        repair: Callable[[Job], list[str]] | None = None  # modules whose import was interrupted are imported no more
        setup, plans, is_interrupted = self.job.setup, self.job.cells is not None, False
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.guard.installed())
            stack.callback(self.display.end)
            pool = WorkerPool(self.job)
            stack.callback(pool.stop)
            try:
                from mobileone_core.study.run.planner import create_databases, plan_cells, repair_job

                repair = repair_job
                if plans:
                    create_databases(setup.workspace)
                self._check(pool)
                stack.enter_context(at_work(setup.workspace.runs, self.job.queue))
                if plans:
                    self._note(*plan_cells(self.plan, setup.workspace, setup.engine.timing, setup.declared))
                self._work(pool)
            except KeyboardInterrupt:
                is_interrupted = True
                self.display.say("stopping; running cells resume from their last epoch next time")
            pool.stop()
            if repair and self.job.queue in study_names(setup.workspace):
                self._note(*repair(self.job))  # queues the cells of killed workers again
            states = self._read()
            self.display.update(states)
            blocked = waiting_for_failed(states)
            if blocked:
                number = "1 waits" if len(blocked) == 1 else f"{len(blocked)} wait"
                self._note(f"{number} for a failed cell: {blocked[0].label}{', ...' if len(blocked) > 1 else ''}")
        return Outcome(tuple(states), is_interrupted, tuple(self.notes))

    def _read(self) -> list[CellState]:
        if self.job.cells is None:
            return study_states(self.job.workspace, self.job.queue)
        return cell_states(self.job.workspace, self.plan)

    def _check(self, pool: WorkerPool) -> None:
        """Check a sample cell per precision, teachers and init on this machine."""
        if self.job.setup.engine.train == TRAIN:
            samples = {}
            for cell in reversed((*self.plan.teachers, *self.plan.cells)):
                spec, recipe = cell.spec, cell.spec.recipe
                samples[recipe.precision, recipe.teachers, recipe.init, spec.model if recipe.init else None] = spec
            self._note(*pool.check(list(samples.values())))

    def _work(self, pool: WorkerPool) -> None:
        states = self._read()
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
            states = self._read()
            seconds = time.monotonic() - began
            if any(item.state in UNDONE for item in states):
                last_undone = time.monotonic()
                pool.replace(len(dead))
            self.display.update(states)

    def _note(self, *lines: str) -> None:
        for line in lines:
            self.notes.append(line)
            self.display.say(line)
