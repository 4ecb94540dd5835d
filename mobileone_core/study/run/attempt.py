"""One attempt at what waits in a queue: a cell is trained, a comparison measured, and the record written."""

import contextlib
import importlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from mobileone_core.benchmark.spec import EntryResult, FormsSpec, LatencySpec, read_spec
from mobileone_core.errors import InputError
from mobileone_core.study.job import Job
from mobileone_core.study.locks import measuring
from mobileone_core.study.plan import AnyComparison, PlannedCell, PlannedComparison
from mobileone_core.study.queue.queue import Claim, Queue
from mobileone_core.study.record.record import COUNT, WEIGHTS, Record
from mobileone_core.study.state import CellState, study_names, study_states
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec, teacher_cell
from mobileone_core.training.observer import CellResult, EpochRecord, TrainingFailed, TrainingStopped
from mobileone_core.training.recipe import Teacher

PAUSE = 1.0  # seconds between looks at a machine that others use
CONTROL = "control/"  # metrics of a comparison that are 1 where the machine was quiet


class Stopping(Protocol):
    """True once the worker was told to end."""

    def __bool__(self) -> bool: ...


class Attempt:
    """One attempt at a claimed trial; runs is given the ids of those that it opens in the record."""

    def __init__(  # noqa: PLR0913, PLR0917
        self, job: Job, queue: Queue, record: Record, claim: Claim, stop: Stopping, runs: list[str]
    ) -> None:
        self.job = job
        self.queue = queue
        self.record = record
        self.claim = claim
        self.watch = Watch(claim, stop)
        self.runs = runs
        self.has_waited = False

    def __call__(self, tags: Mapping[str, str]) -> float:
        """Do it and give the trial's value: a cell's metric, or how far a comparison's control is from 1."""
        attributes = self.claim.attributes
        tags = {"trial": str(self.claim.number), "attempt": str(attributes["attempt"]), **tags}
        place = {name: attributes[name] for name in ("study", "variant")}
        with _noting(self.claim):
            if self.watch.role == "comparison":
                spec = read_spec(attributes["spec"])
                return self._compared(PlannedComparison(spec, needs=(), **place), tags)
            cell = PlannedCell(CellSpec.from_json(attributes["spec"]), factors=attributes["factors"], **place)
            return self._trained(cell, tags)

    def _trained(self, cell: PlannedCell, tags: Mapping[str, str]) -> float:
        writer = self.record.start(cell, tags)
        self.runs.append(writer.run_id)
        self.claim.note("runs", self.runs)
        self.watch.log = writer.epochs
        self._await_neighbours(cell.key)
        result: CellResult = require_function(self.job.setup.engine.train)(
            cell.spec,
            execution=self.job.setup.execution,
            data_root=self.job.setup.data_root,
            directory=self._directory(cell.key),
            observer=self.watch,
            teachers=self._teachers(cell),
        )
        value = result.metrics.get(self.watch.metric)
        if value is None or not math.isfinite(value):
            raise TrainingFailed(f"{self.watch.metric} is {value}")
        writer.result(cell, result.metrics, self.watch.last, result.weights)
        return value

    def _compared(self, comparison: PlannedComparison, tags: Mapping[str, str]) -> float:
        """Measure with nothing else on the machine; the runs are opened once all is known."""
        self._await_neighbours(comparison.key)
        with measuring(self.job.workspace.runs, self._wait):
            results = self._measured(comparison.spec)
        for result in results:
            self.watch.batch_finished()
            writer = self.record.start_arm(comparison, result, {COUNT: str(len(results)), **tags})
            self.runs.append(writer.run_id)
            writer.arm(comparison, result)
        if not self.claim.note("runs", self.runs):
            raise TrainingStopped
        controls = [value for item in results for name, value in item.metrics.items() if name.startswith(CONTROL)]
        return max((abs(value - 1) for value in controls if math.isfinite(value)), default=0.0)

    def _measured(self, spec: AnyComparison) -> Sequence[EntryResult]:
        setup, engine = self.job.setup, self.job.setup.engine
        results: Sequence[EntryResult]
        if isinstance(spec, FormsSpec):
            results = require_function(engine.compare)(
                spec, execution=setup.execution, data_root=setup.data_root, observer=self.watch
            )
        else:
            measure = engine.latency if isinstance(spec, LatencySpec) else engine.steps
            results = require_function(measure)(spec, self.watch.round_finished)
        return results

    def _await_neighbours(self, key: str) -> None:
        patience = self.job.setup.engine.timing.claim
        while neighbours(self.job.workspace, self.job.queue, key, patience):
            self._wait()

    def _wait(self) -> None:
        self.watch.batch_finished()
        if not self.has_waited:
            self.claim.note("warning", f"a {self.watch.role} waits: a comparison is measured with nothing beside it")
        self.has_waited = True
        time.sleep(PAUSE)

    def _teachers(self, cell: PlannedCell) -> dict[Teacher, Path]:
        """Where the weights of a cell's teachers lie."""
        return {teacher: self._weights(cell, teacher) for teacher in cell.spec.recipe.teachers}

    def _weights(self, cell: PlannedCell, teacher: Teacher) -> Path:
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


class Watch:
    """The observer of one attempt: logs epochs, shows how far it is, and stops it where it must."""

    def __init__(self, claim: Claim, stop: Stopping) -> None:
        self.claim = claim
        self.stop = stop
        self.role = str(claim.attributes.get("role", "cell"))
        self.metric = str(claim.attributes["metric"])
        self.shown = self.metric.replace("test/", "val/")
        self.last = EpochRecord(0, 0, time.time_ns() // 1_000_000, {})
        self.log: Callable[[Sequence[EpochRecord]], None] = lambda _: None  # a comparison's rounds are no curve

    def resumed(self, history: Sequence[EpochRecord]) -> None:
        """Log the epochs of earlier attempts again, so that this run's curves are whole."""
        self._take(history)

    def epoch_finished(self, record: EpochRecord) -> None:
        """Log an epoch; stop before its checkpoint where the trial is another's or the worker is to end."""
        self._take([record])

    def round_finished(self, number: int) -> None:
        """Count a round of a measurement; number 0 is a step before the first one."""
        self.batch_finished()
        if number:
            self.epoch_finished(EpochRecord(number, 0, time.time_ns() // 1_000_000, {}))

    def batch_finished(self) -> None:
        if self.stop:
            raise TrainingStopped

    def _take(self, history: Sequence[EpochRecord]) -> None:
        self.batch_finished()
        self.last = history[-1]
        if not self.claim.report(self.last.epoch, self.last.metrics.get(self.shown, float("nan"))):
            raise TrainingStopped
        self.log(history)


def neighbours(workspace: Workspace, queue: str, key: str, patience: float) -> list[CellState]:
    """What a claimed cell or comparison has to wait for: attempts of this machine that it must not run beside.

    One of the two is a comparison, and the other began earlier, in any queue of the workspace: so nobody waits in a
    circle. On PostgreSQL two that begin within milliseconds may miss each other; the control then tells.
    patience: seconds within which an attempt names its process.
    """
    running = [
        (item.started, name, item)
        for name in study_names(workspace)
        for item in study_states(workspace, name)
        if item.state == "running" and item.started
    ]
    own = next((place for place in running if (place[1], place[2].key) == (queue, key)), None)
    if own is None:  # taken away; the next report says so
        return []
    earlier = [item for *place, item in running if (*place, item.key) < (own[0], queue, key)]
    return [item for item in earlier if "comparison" in (item.role, own[2].role) and _is_here(item, patience)]


def _is_here(item: CellState, patience: float) -> bool:
    """Whether an attempt runs on this machine, or may do."""
    if item.owner is None:
        return item.started is not None and (datetime.now() - item.started).total_seconds() < patience
    return item.owner.is_here and not item.owner.is_gone


def require_function(name: str) -> Callable[..., Any]:
    """A function by module:function; raises where it is not there."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


@contextlib.contextmanager
def _noting(claim: Claim) -> Iterator[None]:
    """Warnings that are meant for people go to the queue, and so to the display, instead of standard error."""

    def note(message: Warning | str, category: type[Warning], *_: object) -> None:
        if issubclass(category, UserWarning):
            claim.note("warning", " ".join(str(message).split()))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = note  # type: ignore[assignment]
        yield
