"""A worker process: takes cells from the queue, one attempt after the other, until nothing is left to take."""

import contextlib
import multiprocessing
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection

from mobileone_core.study.environment import environment_tags
from mobileone_core.study.job import Job, one_line
from mobileone_core.study.process import Owner
from mobileone_core.study.queue.queue import Claim, Queue
from mobileone_core.study.queue.trials import TrialView
from mobileone_core.study.record.record import Record
from mobileone_core.study.run.attempt import Attempt, require_function
from mobileone_core.study.run.repair import kill_run
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import TrainingStopped

IDLE = 0.5  # seconds between looks at a queue whose last cells others are running
QUIET = 5.0  # the same while another command measures a comparison


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
        setup = replace(job.setup, execution=_placed(job.setup.execution, index))
        Worker(replace(job, setup=setup), stop).run()
    except Exception as error:
        _say(words, one_line(error))
        raise SystemExit(1) from None


def probe(job: Job, cells: Sequence[CellSpec], words: Connection) -> None:
    """Say what keeps a job from running on this machine, its device or a teacher's file; nothing where it can."""
    from mobileone_core.training.distillation import load_teachers
    from mobileone_core.training.execution import resolve_device

    try:
        for cell in cells:
            resolve_device(_placed(job.setup.execution, 0), cell.recipe.precision)
            from_files = tuple(teacher for teacher in cell.recipe.teachers if teacher.weights)
            load_teachers(replace(cell, recipe=cell.recipe.changed(teachers=from_files)), job.setup.teachers)
        _say(words, "")
    except Exception as error:
        _say(words, one_line(error))


def _say(words: Connection, line: str) -> None:
    """Tell the process that started this one; nothing where Ctrl-C has ended that."""
    with contextlib.suppress(ConnectionError):
        words.send(line)


class Worker:
    """Takes one cell after the other."""

    def __init__(self, job: Job, stop: Stop) -> None:
        self.job = job
        self.stop = stop
        self.record = Record(job.workspace.tracking)
        self.queue = Queue(job.workspace.queue, job.queue, job.setup.engine.timing, kill_run(self.record))
        require_function(job.setup.engine.train)
        here, said = Owner.here(), environment_tags(job.setup.execution)
        self.tags = {"queue": job.queue, "host": here.host, "pid": str(here.pid), **said}

    def run(self) -> None:
        """Work until nothing can be begun and nobody else's cell could come back."""
        while not self.stop:
            self.queue.sweep()
            trials = self.queue.trials()
            if self.queue.claimable(trials, self.job.cells):
                self._end(self.queue.claim(self._attempt, self.job.cells))
                continue
            pause = self._pause(trials)
            if pause is None:
                return
            time.sleep(pause)

    def _pause(self, trials: Sequence[TrialView]) -> float | None:
        """Seconds until the next look; None where others run nothing of this job, or a comparison beside it alone.

        That one wants a quiet machine, and whoever started it starts a new worker where it dies.
        """
        cells = self.job.cells
        running = [item for item in trials if item.state == "RUNNING" and (cells is None or item.key in cells)]
        if any(not item.is_comparison for item in running):
            return IDLE
        owners = [Owner.read(item.attributes.get("owner")) for item in running]
        return QUIET if any(owner is None or not owner.is_sibling for owner in owners) else None

    def _end(self, trial: TrialView | None) -> None:
        """After the queue was told: the runs of a complete cell are FINISHED, a stopped cell is queued again."""
        if trial is None:
            return
        if trial.state == "COMPLETE":
            for run in trial.runs:
                self.record.end(run, "FINISHED")
            shutil.rmtree(self.job.workspace.checkpoints(self.job.queue, trial.key), ignore_errors=True)
        elif "error" not in trial.attributes:
            self.queue.requeue(trial)

    def _attempt(self, claim: Claim) -> float:
        """The value of a claimed trial; where there is none, the runs say how it ended."""
        runs: list[str] = []
        try:
            return Attempt(self.job, self.queue, self.record, claim, self.stop, runs)(self.tags)
        except (Exception, SystemExit) as error:  # Lightning answers SIGTERM with SystemExit
            is_stopped = bool(self.stop) or isinstance(error, TrainingStopped)
            message = "" if is_stopped else one_line(error)
            is_told = bool(message) and claim.note("error", message)
            for run in runs:
                self.record.end(run, "FAILED" if is_told else "KILLED", message if is_told else "")
            raise TrainingStopped from None


def _placed(execution: Execution, index: int) -> Execution:
    """A GPU of its own for each worker, or one a process of its cells, where there are several and none is named."""
    if execution.device not in ("auto", "cuda"):
        return execution
    import torch

    count = torch.cuda.device_count()
    places = max(1, count // execution.processes)
    return replace(execution, device=f"cuda:{index % places * execution.processes}") if count > 1 else execution
