"""Mending: what a crash left between two steps is brought to a state that the engine goes on from."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from mobileone_core.study.database import database_error, database_exists, sqlite_path
from mobileone_core.study.job import Job, QueueTiming
from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.queue.storage import QUEUE_ERRORS
from mobileone_core.study.queue.trials import TrialView
from mobileone_core.study.record.record import RECORD_ERRORS, Record
from mobileone_core.study.state import study_names
from mobileone_core.study.workspace import Workspace


def repair(workspace: Workspace, timing: QueueTiming | None = None) -> list[str]:
    """Mend every study of a workspace, lost results included; what was done, in words."""
    paths = [sqlite_path(url) for url in (workspace.queue, workspace.tracking)]
    if any(path is not None and not database_exists(path) for path in paths):
        return []
    lines = []
    with plainly(workspace):
        record = Record(workspace.tracking)
        for study in study_names(workspace):
            queue = Queue(workspace.queue, study, timing or QueueTiming(), kill_run(record))
            lines += [f"{study}: {line}" for line in (*mend(queue, record, workspace), *_give_up(queue, record))]
    return lines


@contextlib.contextmanager
def plainly(workspace: Workspace) -> Iterator[None]:
    """What a database refuses becomes an InputError in one line."""
    try:
        yield
    except QUEUE_ERRORS as error:
        raise database_error("queue", workspace.queue, error) from error
    except RECORD_ERRORS as error:
        raise database_error("record", workspace.tracking, error) from error


def kill_run(record: Record) -> Callable[[TrialView], None]:
    """What happens to the runs of an attempt that died."""

    def kill(trial: TrialView) -> None:
        for run in filter(record.is_active, trial.runs):
            record.end(run, "KILLED")

    return kill


def mend_study(job: Job) -> list[str]:
    """Mend the study of a run that ends."""
    with plainly(job.workspace):
        record = Record(job.workspace.tracking)
        queue = Queue(job.workspace.queue, job.queue, job.setup.engine.timing, kill_run(record))
        return mend(queue, record, job.workspace)


def mend(queue: Queue, record: Record, workspace: Workspace) -> list[str]:
    """Mend one study; safe beside workers that are alive. What was done, in words."""
    lines = [f"trial {trial.number} was left by a dead process: its cell is queued again" for trial in queue.sweep()]
    runs = record.open_runs(
        queue.study_name, queue.study.study_name
    )  # before the trials: a run read as open had a live trial then
    finished = record.finished_runs(queue.study_name, queue.study.study_name)
    trials = queue.trials()
    for trial in queue.lost():
        queue.requeue(trial)
        lines.append(f"trial {trial.number} ended without a result: its cell is queued again")
    for trial in (item for item in trials if item.state == "COMPLETE"):
        lines += _finish(trial, record, workspace.checkpoints(queue.study.study_name, trial.key), finished)
    by_number = {trial.number: trial for trial in trials}
    for run in runs:
        trial_of_run = by_number.get(run.trial)
        if not _holds(trial_of_run, run.run_id):
            record.end(run.run_id, "KILLED")
            lines.append(f"run {run.run_id} was left open by trial {run.trial}: KILLED")
    return lines


def _finish(trial: TrialView, record: Record, checkpoint: Path, finished: set[str]) -> list[str]:
    """The runs of a complete trial are FINISHED, and it has no checkpoint."""
    shutil.rmtree(checkpoint, ignore_errors=True)
    unfinished = [run for run in trial.runs if run not in finished]
    for run in unfinished:
        if not record.is_active(run):
            lost = f"cell {trial.key} is complete, but its run {run} is not in the record"
            return [f"{lost}; `mobileone status --repair` lets it be run again"]
    for run in unfinished:
        record.end(run, "FINISHED")
    return [f"run {run} had its result but no end: FINISHED" for run in unfinished]


def _give_up(queue: Queue, record: Record) -> list[str]:
    """Complete trials whose runs are not in the record count no more; only on demand, it may be the wrong record.

    What is left of a comparison is KILLED first: it must not stand beside the next one.
    """
    lost = [trial for trial in queue.trials("COMPLETE") if not all(map(record.is_active, trial.runs))]
    for trial in lost:
        for run in filter(record.is_active, trial.runs):
            record.end(run, "KILLED")
        queue.void(trial)
    return [f"cell {trial.key} is missing again" for trial in lost]


def _holds(trial: TrialView | None, run_id: str) -> bool:
    """Whether a trial is still at work on a run, or has finished it."""
    return trial is not None and trial.state in ("RUNNING", "COMPLETE") and run_id in (trial.runs or (run_id,))
