"""A worker process: claims cells from the queue and attempts them, one after the other, until none is left."""

import contextlib
import multiprocessing
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pkgutil import resolve_name

from mobileone_core.study.environment import environment_tags
from mobileone_core.study.process import ENDING, Owner
from mobileone_core.study.queue.queue import Claim, Queue
from mobileone_core.study.queue.trials import TrialView
from mobileone_core.study.record.record import Record
from mobileone_core.study.run.attempt import Attempt
from mobileone_core.study.workspace import Job, one_line
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.observer import TrainingStopped
from mobileone_core.training.recipe import PRETRAINING

POLL = 0.5  # seconds between looks at a queue whose last cells other workers are running
POLL_MEASURING = 5.0  # the same while another command measures a comparison
POLL_SERVER = 2.0  # seconds between two tries of a tracking server that is away


class StopRequest:
    """Tells whether this worker must end: after a signal or the death of its parent process."""

    def __init__(self) -> None:
        self.signalled = False
        self.parent = multiprocessing.parent_process()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
        for number in ENDING:
            signal.signal(number, self._handle)

    def _handle(self, *_: object) -> None:
        self.signalled = True

    def is_set(self) -> bool:
        """Whether the worker must end."""
        return self.signalled or (self.parent is not None and not self.parent.is_alive())


def work(job: Job, index: int, sender: Connection) -> None:
    """Main function of worker process number index (from 0). Sends one line if it must end because of an error."""
    stop = StopRequest()
    try:
        setup = replace(job.setup, execution=_with_device(job.setup.execution, index))
        Worker(replace(job, setup=setup), stop).run()
    except TrainingStopped:  # while the tracking server was away
        return
    except Exception as error:
        _send(sender, one_line(error))
        raise SystemExit(1) from None


def probe(job: Job, cells: Sequence[CellSpec], sender: Connection) -> None:
    """Check that cells can run here: device, precision and weight files. Sends the error, or a list of notes."""
    notes = list[str]()
    try:  # the imports too: without enough memory they fail
        from mobileone_core.training.distillation import load_teachers
        from mobileone_core.training.fine_tuning import load_initial
        from mobileone_core.training.tasks.task import build_task

        for cell in cells:
            resolve_device(_with_device(job.setup.execution, 0), cell.recipe.precision)
            from_files = tuple(teacher for teacher in cell.recipe.teachers if teacher.weights)
            files = {teacher: path for teacher in from_files if (path := job.setup.weights.get(teacher.weights))}
            load_teachers(replace(cell, recipe=cell.recipe.changed(teachers=from_files)), files)
            if cell.recipe.init not in ("", PRETRAINING):
                network = build_task(cell).build_network()
                loaded = load_initial(network, cell.recipe, job.setup.weights.get(cell.recipe.init))
                taken = "; its head is taken, --head new starts afresh" if loaded and loaded.head == "loaded" else ""
                notes.append(f"init: {loaded}{taken}")
        _send(sender, list(dict.fromkeys(notes)))
    except Exception as error:
        _send(sender, one_line(error))


def _send(sender: Connection, line: str | list[str]) -> None:
    """Send a line or lines to the parent process, unless Ctrl-C has ended it."""
    with contextlib.suppress(ConnectionError):
        sender.send(line)


class Worker:
    """Runs the cells of a job, one after the other."""

    def __init__(self, job: Job, stop: StopRequest) -> None:
        self.job = job
        self.stop = stop
        self.claim: Claim | None = None  # of the attempt that runs
        self.record = Record(job.workspace.tracking, self._await_server)
        self.queue = Queue(job.workspace.queue, job.queue, job.setup.engine.timing, self.record.kill_runs)
        resolve_name(job.setup.engine.train)  # fails here rather than in every cell
        owner, execution = Owner.here(), job.setup.execution
        self.tags = {"queue": job.queue, "host": owner.host, "pid": str(owner.pid), **environment_tags(execution)}

    def run(self) -> None:
        """Work until no cell can begin and no cell of another worker could come back."""
        while not self.stop.is_set():
            self.queue.sweep()
            trials = self.queue.trials()
            if self.queue.claimable(trials, self.job.cells):
                self._settle(self.queue.claim(self._attempt, self.job.cells))
            elif (pause := self._pause(trials)) is None:
                return
            else:
                time.sleep(pause)

    def _pause(self, trials: Sequence[TrialView]) -> float | None:
        """Seconds to wait before polling again, or None to exit.

        Exits if no other worker runs a cell of this job, or if all that runs is a comparison of this command: it needs
        a quiet machine, and the command starts another worker if the measuring one dies.
        """
        cells = self.job.cells
        running = [item for item in trials if item.state == "RUNNING" and (cells is None or item.key in cells)]
        if any(not item.is_comparison for item in running):
            return POLL
        owners = [Owner.read(item.attributes.get("owner")) for item in running]
        return POLL_MEASURING if any(owner is None or not owner.is_sibling for owner in owners) else None

    def _await_server(self) -> None:
        """Between two tries while the tracking server is away. Raises TrainingStopped if the worker must stop."""
        if self.stop.is_set():
            raise TrainingStopped
        if self.claim is not None:
            self.claim.note("warning", "the tracking server is away; the cell goes on when it answers")
        time.sleep(POLL_SERVER)

    def _settle(self, trial: TrialView | None) -> None:
        """After an attempt: set the runs of a complete trial FINISHED; queue the cell of a stopped trial again."""
        if trial is None:
            return
        if trial.state == "COMPLETE":
            for run in trial.runs:
                self.record.end(run, "FINISHED")
            shutil.rmtree(self.job.workspace.checkpoints(self.job.queue, trial.key), ignore_errors=True)
        elif "error" not in trial.attributes:
            self.queue.requeue(trial)

    def _attempt(self, claim: Claim) -> float:
        """Value of a claimed trial. Sets its runs FAILED or KILLED and raises TrainingStopped if there is none."""
        self.claim = claim
        attempt = Attempt(self.job, self.queue, self.record, claim, self.stop.is_set)
        try:
            return attempt(self.tags)
        except (Exception, SystemExit) as error:  # Lightning answers SIGTERM with SystemExit
            is_stopped = self.stop.is_set() or isinstance(error, TrainingStopped)
            message = "" if is_stopped else one_line(error)
            if message and claim.note("error", message):
                attempt.end("FAILED", message)
            else:
                attempt.end("KILLED")
            raise TrainingStopped from None
        finally:
            self.claim = None
            self.job = replace(self.job, setup=replace(self.job.setup, command_start=0.0))  # later cells wait for it


def _with_device(execution: Execution, index: int) -> Execution:
    """Execution of worker number index: with several GPUs, each worker gets its own, one per process of a cell."""
    if execution.device not in ("auto", "cuda"):
        return execution
    import torch

    count = torch.cuda.device_count()
    groups = max(1, count // execution.processes)
    return replace(execution, device=f"cuda:{index % groups * execution.processes}") if count > 1 else execution
