"""A worker process: takes cells from the queue, trains them, writes the record, until nothing is left to take."""

import contextlib
import importlib
import math
import multiprocessing
import shutil
import signal
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mobileone_core.study.declaration import PlannedCell
from mobileone_core.study.environment import environment_tags
from mobileone_core.study.job import Job, one_line
from mobileone_core.study.process import Owner
from mobileone_core.study.queue import Claim, Queue
from mobileone_core.study.record import Record, RunWriter
from mobileone_core.study.repair import kill_run
from mobileone_core.study.trials import TrialView
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import CellResult, EpochRecord, TrainingFailed, TrainingStopped
from mobileone_core.training.recipe import Precision

IDLE = 0.5  # seconds between looks at a queue whose last cells others are running


class Stop:
    """Whether this worker was told to end: by SIGTERM, SIGHUP, or the death of the process that started it."""

    def __init__(self) -> None:
        self.told = False
        self.parent = multiprocessing.parent_process()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._hear)

    def _hear(self, *_: object) -> None:
        self.told = True

    def __bool__(self) -> bool:
        return self.told or (self.parent is not None and not self.parent.is_alive())


def work(job: Job, index: int, words: Connection) -> None:
    """Body of worker number index; its last words, where it cannot go on, go through the connection."""
    stop = Stop()
    try:
        Worker(replace(job, execution=_placed(job.execution, index)), stop).run()
    except Exception as error:
        words.send(one_line(error))
        raise SystemExit(1) from None


def probe(job: Job, precisions: Sequence[Precision], words: Connection) -> None:
    """Say what keeps every cell of a job from running on this machine; nothing where they can."""
    from mobileone_core.training.device import resolve_device

    try:
        for precision in precisions:
            resolve_device(_placed(job.execution, 0), precision)
        words.send("")
    except Exception as error:
        words.send(one_line(error))


class Worker:
    """Takes one cell after the other."""

    def __init__(self, job: Job, stop: Stop) -> None:
        self.job = job
        self.stop = stop
        self.record = Record(job.workspace.tracking)
        self.queue = Queue(job.workspace.queue, job.queue, job.engine.timing, kill_run(self.record))
        module, _, name = job.engine.train.partition(":")
        self.train = getattr(importlib.import_module(module), name)
        here = Owner.here()
        self.tags = {"queue": job.queue, "host": here.host, "pid": str(here.pid), **environment_tags(job.execution)}

    def run(self) -> None:
        """Work until nothing waits and nobody else's cell could come back."""
        while not self.stop:
            self.queue.sweep()
            if self._ours("WAITING"):
                self._end(self.queue.claim(self._attempt, self.job.cells))
            elif self._ours("RUNNING"):
                time.sleep(IDLE)
            else:
                return

    def _ours(self, state: str) -> bool:
        cells = self.job.cells
        return any(cells is None or trial.attributes["cell"] in cells for trial in self.queue.trials(state))

    def _end(self, trial: TrialView | None) -> None:
        """After the queue was told: the run of a complete cell is FINISHED, a stopped cell is queued again."""
        if trial is None:
            return
        if trial.state == "COMPLETE":
            self.record.end(trial.attributes["run"], "FINISHED")
            shutil.rmtree(self._directory(trial.attributes), ignore_errors=True)
        elif "error" not in trial.attributes:
            self.queue.requeue(trial)

    def _attempt(self, claim: Claim) -> float:
        """Train the cell of a claim and give its metric; where there is none, the run says how it ended."""
        run_id = ""
        try:
            cell = _cell(claim.attributes)
            tags = {"trial": str(claim.number), "attempt": str(claim.attributes["attempt"])}
            writer = self.record.start(cell, self.tags | tags)
            run_id = writer.run_id
            claim.note("run", run_id)
            with _noting(claim):
                return self._trained(cell, Watch(claim, writer, self.stop, claim.attributes["metric"]))
        except (Exception, SystemExit) as error:  # Lightning answers SIGTERM with SystemExit
            is_stopped = bool(self.stop) or isinstance(error, TrainingStopped)
            message = "" if is_stopped else one_line(error)
            if message and claim.note("error", message):
                self._end_run(run_id, "FAILED", message)
            else:
                self._end_run(run_id, "KILLED")
            raise TrainingStopped from None

    def _end_run(self, run_id: str, status: str, error: str = "") -> None:
        if run_id:
            self.record.end(run_id, status, error)

    def _trained(self, cell: PlannedCell, watch: "Watch") -> float:
        result: CellResult = self.train(
            cell.spec,
            execution=self.job.execution,
            data_root=self.job.data_root,
            directory=self.job.workspace.checkpoints(self.job.queue, cell.key),
            observer=watch,
        )
        value = result.metrics.get(watch.metric)
        if value is None or not math.isfinite(value):
            raise TrainingFailed(f"{watch.metric} is {value}")
        watch.writer.result(cell, result.metrics, watch.last, result.weights)
        return value

    def _directory(self, attributes: Mapping[str, Any]) -> Path:
        return self.job.workspace.checkpoints(self.job.queue, attributes["cell"])


class Watch:
    """The observer of one attempt: logs epochs, shows how far it is, and stops it where it must."""

    def __init__(self, claim: Claim, writer: RunWriter, stop: Stop, metric: str) -> None:
        self.claim = claim
        self.writer = writer
        self.stop = stop
        self.metric = metric
        self.shown = metric.replace("test/", "val/")
        self.last = EpochRecord(0, 0, time.time_ns() // 1_000_000, {})

    def resumed(self, history: Sequence[EpochRecord]) -> None:
        """Log the epochs of earlier attempts again, so that this run's curves are whole."""
        self._take(history)

    def epoch_finished(self, record: EpochRecord) -> None:
        """Log an epoch; stop before its checkpoint where the trial is another's or the worker is to end."""
        self._take([record])

    def batch_finished(self) -> None:
        if self.stop:
            raise TrainingStopped

    def _take(self, history: Sequence[EpochRecord]) -> None:
        self.batch_finished()
        self.last = history[-1]
        if not self.claim.report(self.last.epoch, self.last.metrics.get(self.shown, float("nan"))):
            raise TrainingStopped
        self.writer.epochs(history)


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


def _cell(attributes: Mapping[str, Any]) -> PlannedCell:
    spec = CellSpec.from_json(attributes["spec"])
    return PlannedCell(spec, attributes["study"], attributes["variant"], attributes["factors"])


def _placed(execution: Execution, index: int) -> Execution:
    """A GPU of its own for each worker, where there are several and none is named."""
    if execution.device not in ("auto", "cuda"):
        return execution
    import torch

    count = torch.cuda.device_count()
    return replace(execution, device=f"cuda:{index % count}") if count > 1 else execution
