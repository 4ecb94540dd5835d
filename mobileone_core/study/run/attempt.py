"""One attempt at a claimed trial: a cell is trained or a comparison measured, and its runs are recorded."""

import contextlib
import fcntl
import math
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from pkgutil import resolve_name

import psutil

from mobileone_core.benchmark.spec import EntryResult, read_spec
from mobileone_core.errors import InputError, require
from mobileone_core.study.plan import PlannedCell, PlannedComparison
from mobileone_core.study.queue.queue import Claim, Queue
from mobileone_core.study.record.record import WEIGHTS, Record
from mobileone_core.study.record.tables import COUNT
from mobileone_core.study.state import CellState, study_names, study_states, validation_name
from mobileone_core.study.workspace import Job, Workspace
from mobileone_core.training.cell import CellSpec, pretraining_cell, teacher_cell
from mobileone_core.training.model_card import folder_tags
from mobileone_core.training.observer import CellResult, EpochRecord, TrainingFailed, TrainingStopped
from mobileone_core.training.recipe import PRETRAINING, Teacher
from mobileone_core.training.tasks import task_spec

PART_INTERVAL = 5.0  # seconds between two notes of the part of an epoch that is done, and of the speed
POLL = 1.0  # seconds between looks at a machine that others use
CONTROL = "control/"  # prefix of a comparison's control metrics, which are 1 on a quiet machine


class Attempt:
    """One attempt at the trial that a worker has claimed; runs are the ids of those it has opened in the record.

    As the observer of its training it logs epochs and reports them to the queue. It raises TrainingStopped if
    should_stop() or if the trial was taken away.
    """

    def __init__(self, job: Job, queue: Queue, record: Record, claim: Claim, should_stop: Callable[[], bool]) -> None:
        self.job = job
        self.queue = queue
        self.record = record
        self.claim = claim
        self.should_stop = should_stop
        self.role = str(claim.attributes.get("role", "cell"))
        self.metric = ""
        self.last = EpochRecord(0, 0, time.time_ns() // 1_000_000, {})
        self.log: Callable[[Sequence[EpochRecord]], None] = lambda _: None  # a comparison's rounds are not logged
        self.runs: list[str] = []
        self.has_waited = False
        self.noted, self.images = time.monotonic(), 0
        self.first_step: dict[str, float] = {}  # seconds from the command's start

    def __call__(self, tags: Mapping[str, str]) -> float:
        """Run the attempt; returns a cell's metric, or the largest distance of a comparison's controls from 1."""
        attributes = self.claim.attributes
        self.metric = str(attributes["metric"])  # here, where an error ends the attempt: a trial may lack it
        tags = {"trial": str(self.claim.number), "attempt": str(attributes["attempt"]), **tags}
        names = {name: attributes[name] for name in ("study", "variant")}
        with _warnings_to_queue(self.claim):
            if self.role == "comparison":
                return self._compare(PlannedComparison(read_spec(attributes["spec"]), needs=(), **names), tags)
            cell = PlannedCell(CellSpec.from_json(attributes["spec"]), factors=attributes["factors"], **names)
            return self._train(cell, tags)

    def end(self, status: str, error: str = "") -> None:
        """Set the attempt's runs FAILED, with an error, or KILLED."""
        for run_id in self.runs:
            self.record.end(run_id, status, error)

    def resumed(self, history: Sequence[EpochRecord]) -> None:
        """Log the epochs of earlier attempts too, so that this run's curves are complete."""
        self.batch_finished()
        self.last = history[-1]
        value = self.last.metrics.get(validation_name(self.metric), float("nan"))
        if not self.claim.report(self.last.epoch, value):
            raise TrainingStopped
        self.log(history)

    def epoch_finished(self, record: EpochRecord) -> None:
        """Log an epoch. Raises TrainingStopped before its checkpoint is written if the attempt must stop."""
        self.resumed([record])

    def round_finished(self, number: int) -> None:
        """Report a round of a measurement; number 0 is a step before the first round."""
        self.batch_finished()
        if number:
            self.epoch_finished(EpochRecord(number, 0, time.time_ns() // 1_000_000, {}))

    def batch_finished(self, epochs: float = 0.0, images: int = 0) -> None:
        """Raise TrainingStopped if the worker must stop; every PART_INTERVAL note how far and how fast it trains."""
        if self.should_stop():
            raise TrainingStopped
        if images and self.job.setup.command_start and not self.first_step:
            self.first_step["time/first_step"] = time.time() - self.job.setup.command_start
        if epochs and (seconds := time.monotonic() - self.noted) > PART_INTERVAL:
            self.claim.note("part", round(epochs, 3))
            if self.images:  # without the time to begin
                self.claim.note("speed", round((images - self.images) / seconds, 1))
            self.noted, self.images = time.monotonic(), images

    def _train(self, cell: PlannedCell, tags: Mapping[str, str]) -> float:
        writer = self.record.start(cell, {**folder_tags(cell.spec.data, self.job.setup.data_root), **tags})
        self.runs.append(writer.run_id)
        self.claim.note("runs", self.runs)
        self.log = writer.log_epochs
        self._await_neighbours(cell.key)
        result: CellResult = resolve_name(self.job.setup.engine.train)(
            cell.spec,
            execution=self.job.setup.execution,
            data_root=self.job.setup.data_root,
            directory=self.job.workspace.checkpoints(self.job.queue, cell.key),
            observer=self,
            teachers={teacher: self._weights(cell, teacher) for teacher in cell.spec.recipe.teachers},
            **({"trained": self._trained(cell, cell.spec.float32.key)} if cell.spec.is_quantized else {}),
            **({"init": self._initial(cell)} if cell.spec.recipe.init else {}),
        )
        value = result.metrics.get(self.metric, result.metrics.get(task_spec(cell.spec.task).metric))
        if value is None or not math.isfinite(value):
            raise TrainingFailed(f"{self.metric} is {value}")
        writer.log_result(cell, replace(result, metrics={**result.metrics, **self.first_step}), self.last)
        return value

    def _compare(self, comparison: PlannedComparison, tags: Mapping[str, str]) -> float:
        """Measure while nothing else runs on this machine; runs are opened only after the measurement."""
        self._await_neighbours(comparison.key)
        with measuring(self.job.workspace.runs, self._wait):
            measure, execution = resolve_name(self.job.setup.engine.measure), self.job.setup.execution
            results: Sequence[EntryResult] = measure(comparison.spec, execution=execution, progress=self.round_finished)
        for result in results:
            self.batch_finished()
            writer = self.record.start_entry(comparison, result, {COUNT: str(len(results)), **tags})
            self.runs.append(writer.run_id)
            writer.log_entry(comparison, result)
        if not self.claim.note("runs", self.runs):
            raise TrainingStopped
        controls = [value for item in results for name, value in item.metrics.items() if name.startswith(CONTROL)]
        return max((abs(value - 1) for value in controls if math.isfinite(value)), default=0.0)

    def _await_neighbours(self, key: str) -> None:
        timeout = self.job.setup.engine.timing.claim
        while neighbours(self.job.workspace, self.job.queue, key, timeout):
            self._wait()

    def _wait(self) -> None:
        self.batch_finished()
        if not self.has_waited:
            self.claim.note("warning", f"a {self.role} waits: a comparison is measured alone on its machine")
        self.has_waited = True
        time.sleep(POLL)

    def _weights(self, cell: PlannedCell, teacher: Teacher) -> Path:
        """Path of a teacher's weights: the file given on this machine, or the artifact of the teacher's own run."""
        if teacher.weights:
            named, files = f"{teacher.network}={teacher.weights}", self.job.setup.weights
            require(teacher.weights in files, "teachers", named, "on this machine no file with these weights is named")
            return files[teacher.weights]
        return self._trained(cell, teacher_cell(cell.spec, teacher).key)

    def _initial(self, cell: PlannedCell) -> Path | None:
        """Path of the weights to start from: the file given on this machine, or the artifact of a cell's run."""
        if cell.spec.recipe.init == PRETRAINING:
            return self._trained(cell, pretraining_cell(cell.spec).key)
        return self.job.setup.weights.get(cell.spec.recipe.init)

    def _trained(self, cell: PlannedCell, key: str) -> Path:
        """Path of the weights of another cell of the queue, which is complete."""
        run = next((trial.runs[0] for trial in self.queue.trials("COMPLETE") if trial.key == key), None)
        if run is None:
            raise InputError(f"cell {key}, which this one needs, is not complete")
        checkpoints = self.job.workspace.checkpoints(self.job.queue, cell.key)
        return self.record.file(run, WEIGHTS, checkpoints / "teachers" / key)


def neighbours(workspace: Workspace, queue: str, key: str, timeout: float) -> list[CellState]:
    """Attempts that a claimed cell or comparison must wait for, because a comparison is measured alone.

    Of two attempts in any queues of the workspace, one of them a comparison, the later waits. On PostgreSQL two that
    begin within milliseconds may miss each other; the comparison's control shows it.

    timeout: seconds after which an attempt that has not named its process counts as dead.
    """
    running = {
        (item.started, name, item.key): item
        for name in study_names(workspace)
        for item in study_states(workspace, name)
        if item.state == "running" and item.started
    }
    claimed = next((start for start in running if start[1:] == (queue, key)), None)
    if claimed is None:  # the trial belongs to another worker by now; the next report to the queue says so
        return []
    earlier = [item for start, item in running.items() if start < claimed]
    role = running[claimed].role
    return [item for item in earlier if "comparison" in (item.role, role) and _may_run_here(item, timeout)]


def _may_run_here(item: CellState, timeout: float) -> bool:
    """Whether an attempt runs on this machine, or might because its process is not named yet."""
    if item.owner is None:
        return item.started is not None and (datetime.now() - item.started).total_seconds() < timeout
    return item.owner.is_here and not item.owner.is_gone


@contextlib.contextmanager
def measuring(runs: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold this machine's lock for comparisons, across all queues of a runs directory, which is created if missing.

    wait is called between two tries; it sleeps, or raises to give up. A holder stopped by SIGSTOP blocks nobody: its
    trial belongs to another worker by then, and it ends when it wakes up.
    """
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / f".{socket.gethostname()}.lock"
    with path.open("a+") as lock:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.truncate(0)
                lock.write(str(os.getpid()))
                lock.flush()
                break
            if _is_holder_stopped(path):
                break
            wait()
        yield


def _is_holder_stopped(path: Path) -> bool:
    """Whether the process named in a lock file was stopped by SIGSTOP."""
    try:
        return bool(psutil.Process(int(path.read_text())).status() == psutil.STATUS_STOPPED)
    except (psutil.NoSuchProcess, ValueError):
        return False


@contextlib.contextmanager
def _warnings_to_queue(claim: Claim) -> Iterator[None]:
    """Write UserWarnings to the trial, from where the display shows them, instead of to standard error."""

    def note(message: Warning | str, category: type[Warning], *_: object) -> None:
        if issubclass(category, UserWarning):
            claim.note("warning", " ".join(str(message).split()))

    with warnings.catch_warnings(action="always", category=UserWarning):
        warnings.showwarning = note  # type: ignore[assignment]
        yield
