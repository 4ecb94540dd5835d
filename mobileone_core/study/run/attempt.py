"""One attempt at a claimed trial: a cell is trained or a comparison measured, and its runs are recorded."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from pkgutil import resolve_name

from mobileone_core.benchmark.spec import EntryResult, read_spec
from mobileone_core.errors import InputError
from mobileone_core.study.locks import measuring
from mobileone_core.study.plan import PlannedCell, PlannedComparison
from mobileone_core.study.queue.queue import Claim, Queue
from mobileone_core.study.record.record import WEIGHTS, Record
from mobileone_core.study.record.tables import COUNT
from mobileone_core.study.record.writer import RunWriter
from mobileone_core.study.state import CellState, study_names, study_states
from mobileone_core.study.workspace import Job, Workspace
from mobileone_core.training.cell import CellSpec, teacher_cell
from mobileone_core.training.observer import CellResult, EpochRecord, TrainingFailed, TrainingStopped
from mobileone_core.training.recipe import Teacher

POLL = 1.0  # seconds between looks at a machine that others use
CONTROL = "control/"  # prefix of a comparison's control metrics, which are 1 on a quiet machine


@dataclass(frozen=True)
class RunLog:
    """Runs that an attempt has opened in the record."""

    record: Record
    claim: Claim
    run_ids: list[str] = field(default_factory=list)

    def add(self, writer: RunWriter) -> RunWriter:
        """Remember a run that was opened."""
        self.run_ids.append(writer.run_id)
        return writer

    def publish(self) -> bool:
        """Write the run ids to the trial. False if the trial belongs to another worker by now."""
        return self.claim.note("runs", self.run_ids)

    def end(self, status: str, error: str = "") -> None:
        """Set all runs to FAILED, with an error, or to KILLED."""
        for run_id in self.run_ids:
            self.record.end(run_id, status, error)


class AttemptObserver:
    """Logs epochs, reports them to the queue, and stops the attempt if should_stop, or if the trial was taken away."""

    def __init__(self, claim: Claim, should_stop: Callable[[], bool]) -> None:
        self.claim = claim
        self.should_stop = should_stop
        self.role = str(claim.attributes.get("role", "cell"))
        self.metric = str(claim.attributes["metric"])
        self.shown_metric = self.metric.replace("test/", "val/")
        self.last = EpochRecord(0, 0, time.time_ns() // 1_000_000, {})
        self.log: Callable[[Sequence[EpochRecord]], None] = lambda _: None  # a comparison's rounds are not logged

    def resumed(self, history: Sequence[EpochRecord]) -> None:
        """Log the epochs of earlier attempts again, so that this run's curves are complete."""
        self._log(history)

    def epoch_finished(self, record: EpochRecord) -> None:
        """Log an epoch. Raises TrainingStopped before its checkpoint is written if the attempt must stop."""
        self._log([record])

    def round_finished(self, number: int) -> None:
        """Report a round of a measurement; number 0 is a step before the first round."""
        self.batch_finished()
        if number:
            self.epoch_finished(EpochRecord(number, 0, time.time_ns() // 1_000_000, {}))

    def batch_finished(self) -> None:
        """Raise TrainingStopped if the worker must stop."""
        if self.should_stop():
            raise TrainingStopped

    def _log(self, history: Sequence[EpochRecord]) -> None:
        self.batch_finished()
        self.last = history[-1]
        if not self.claim.report(self.last.epoch, self.last.metrics.get(self.shown_metric, float("nan"))):
            raise TrainingStopped
        self.log(history)


class Attempt:
    """One attempt at the trial that a worker has claimed."""

    def __init__(self, job: Job, queue: Queue, runs: RunLog, should_stop: Callable[[], bool]) -> None:
        self.job = job
        self.queue = queue
        self.runs = runs
        self.record = runs.record
        self.claim = runs.claim
        self.observer = AttemptObserver(runs.claim, should_stop)
        self.has_waited = False

    def __call__(self, tags: Mapping[str, str]) -> float:
        """Run the attempt; returns a cell's metric, or the largest distance of a comparison's controls from 1."""
        attributes = self.claim.attributes
        tags = {"trial": str(self.claim.number), "attempt": str(attributes["attempt"]), **tags}
        names = {name: attributes[name] for name in ("study", "variant")}
        with _warnings_to_queue(self.claim):
            if self.observer.role == "comparison":
                spec = read_spec(attributes["spec"])
                return self._compare(PlannedComparison(spec, needs=(), **names), tags)
            cell = PlannedCell(CellSpec.from_json(attributes["spec"]), factors=attributes["factors"], **names)
            return self._train(cell, tags)

    def _train(self, cell: PlannedCell, tags: Mapping[str, str]) -> float:
        writer = self.runs.add(self.record.start(cell, tags))
        self.runs.publish()
        self.observer.log = writer.log_epochs
        self._await_neighbours(cell.key)
        result: CellResult = resolve_name(self.job.setup.engine.train)(
            cell.spec,
            execution=self.job.setup.execution,
            data_root=self.job.setup.data_root,
            directory=self._directory(cell.key),
            observer=self.observer,
            teachers={teacher: self._weights(cell, teacher) for teacher in cell.spec.recipe.teachers},
        )
        value = result.metrics.get(self.observer.metric)
        if value is None or not math.isfinite(value):
            raise TrainingFailed(f"{self.observer.metric} is {value}")
        writer.log_result(cell, result.metrics, self.observer.last, result.weights)
        return value

    def _compare(self, comparison: PlannedComparison, tags: Mapping[str, str]) -> float:
        """Measure while nothing else runs on this machine; runs are opened only after the measurement."""
        self._await_neighbours(comparison.key)
        with measuring(self.job.workspace.runs, self._wait):
            results: Sequence[EntryResult] = resolve_name(self.job.setup.engine.measure)(
                comparison.spec, execution=self.job.setup.execution, progress=self.observer.round_finished
            )
        for result in results:
            self.observer.batch_finished()
            tags_of_run = {COUNT: str(len(results)), **tags}
            self.runs.add(self.record.start_entry(comparison, result, tags_of_run)).log_entry(comparison, result)
        if not self.runs.publish():
            raise TrainingStopped
        controls = [value for item in results for name, value in item.metrics.items() if name.startswith(CONTROL)]
        return max((abs(value - 1) for value in controls if math.isfinite(value)), default=0.0)

    def _await_neighbours(self, key: str) -> None:
        timeout = self.job.setup.engine.timing.claim
        while neighbours(self.job.workspace, self.job.queue, key, timeout):
            self._wait()

    def _wait(self) -> None:
        self.observer.batch_finished()
        if not self.has_waited:
            self.claim.note("warning", f"a {self.observer.role} waits: a comparison is measured alone on its machine")
        self.has_waited = True
        time.sleep(POLL)

    def _weights(self, cell: PlannedCell, teacher: Teacher) -> Path:
        """Path of a teacher's weights: the file given on this machine, or the artifact of the teacher's own run."""
        if teacher.weights:
            path = self.job.setup.teachers.get(teacher)
            if path is None:
                named = f"{teacher.network}={teacher.weights}"
                raise InputError.of("teachers", named, "on this machine no file with these weights is named")
            return path
        key = teacher_cell(cell.spec, teacher).key
        run = next((trial.runs[0] for trial in self.queue.trials("COMPLETE") if trial.key == key), None)
        if run is None:
            raise InputError(f"teachers: cell {key} is not complete")
        return self.record.file(run, WEIGHTS, self._directory(cell.key) / "teachers" / key)

    def _directory(self, key: str) -> Path:
        return self.job.workspace.checkpoints(self.job.queue, key)


def neighbours(workspace: Workspace, queue: str, key: str, timeout: float) -> list[CellState]:
    """Attempts that a claimed cell or comparison must wait for, because a comparison is measured alone.

    A pair excludes each other if one of them is a comparison. The one that began later waits, whatever queue of the
    workspace the other is in, so two never wait for each other. On PostgreSQL two that begin within milliseconds may
    miss each other; the comparison's control shows it.

    timeout: seconds after which an attempt that has not named its process counts as dead.
    """
    running = [
        (item.started, name, item)
        for name in study_names(workspace)
        for item in study_states(workspace, name)
        if item.state == "running" and item.started
    ]
    claimed = next((entry for entry in running if (entry[1], entry[2].key) == (queue, key)), None)
    if claimed is None:  # the trial belongs to another worker by now; the next report to the queue says so
        return []
    earlier = [item for *start, item in running if (*start, item.key) < (claimed[0], queue, key)]
    return [item for item in earlier if "comparison" in (item.role, claimed[2].role) and _may_run_here(item, timeout)]


def _may_run_here(item: CellState, timeout: float) -> bool:
    """Whether an attempt runs on this machine, or might because its process is not named yet."""
    if item.owner is None:
        return item.started is not None and (datetime.now() - item.started).total_seconds() < timeout
    return item.owner.is_here and not item.owner.is_gone


@contextlib.contextmanager
def _warnings_to_queue(claim: Claim) -> Iterator[None]:
    """Write UserWarnings to the trial, from where the display shows them, instead of to standard error."""

    def note(message: Warning | str, category: type[Warning], *_: object) -> None:
        if issubclass(category, UserWarning):
            claim.note("warning", " ".join(str(message).split()))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = note  # type: ignore[assignment]
        yield
