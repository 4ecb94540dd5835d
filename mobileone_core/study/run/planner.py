"""Bring queue and record to the state a run starts from: databases created, crashes repaired, missing cells queued."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence

from mobileone_core.study.database import at_work, database_error, database_exists, planning, sqlite_path
from mobileone_core.study.plan import Plan, Queued
from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.queue.storage import QUEUE_ERRORS, create_queue
from mobileone_core.study.queue.trials import TrialView
from mobileone_core.study.record.access import recorded_plans, run_statuses
from mobileone_core.study.record.record import RECORD_ERRORS, Record, create_record
from mobileone_core.study.state import cell_states, study_names
from mobileone_core.study.workspace import Job, QueueTiming, Workspace

QUEUED = ("waiting", "running", "complete")


def create_databases(workspace: Workspace) -> None:
    """Create queue and record if they do not exist."""
    with database_errors_as_input_errors(workspace), planning(workspace.runs, workspace.queue):
        create_queue(workspace.queue)
        create_record(workspace)


def plan_cells(
    plan: Plan, workspace: Workspace, timing: QueueTiming, declared: Mapping[str, str] | None = None
) -> list[str]:
    """Queue every cell of a plan that is not waiting, running or complete. Returns one line per repair on the way.

    declared: tags of the experiment that say who declares the study.
    """
    create_databases(workspace)
    with database_errors_as_input_errors(workspace), planning(workspace.runs, workspace.queue):
        record = Record(workspace.tracking)
        record.save_plan(plan, workspace.artifacts, declared)
        queue = Queue(workspace.queue, plan.queue, timing, record.kill_runs, create=True)
        repairs = repair_queue(queue, record, workspace)
        attempts = {item.key: item.attempt for item in cell_states(workspace, plan) if item.state not in QUEUED}
        for cell in queue_order([cell for cell in plan.queued if cell.key in attempts]):
            queue.enqueue(cell, plan.study.metric, attempts[cell.key] + 1)
    return repairs


def queue_order(cells: Sequence[Queued]) -> list[Queued]:
    """Sort cells by seed; within a seed teachers first, then by falling cost. Comparisons come last."""
    return sorted(cells, key=lambda cell: (cell.role == "comparison", cell.seed, cell.role != "teacher", -cell.cost))


def measure_again(plan: Plan, workspace: Workspace) -> None:
    """Make the complete comparisons of a plan missing; their runs are KILLED, so that reports leave them out."""
    if plan.queue not in study_names(workspace):
        return
    with database_errors_as_input_errors(workspace), planning(workspace.runs, workspace.queue):
        record = Record(workspace.tracking)
        queue = Queue(workspace.queue, plan.queue, QueueTiming(), record.kill_runs)
        keys = {item.key for item in plan.comparisons}
        _void([trial for trial in queue.trials("COMPLETE") if trial.key in keys], queue, record)


def repair(workspace: Workspace) -> list[str]:
    """Repair every study of a workspace, and make cells missing again whose results were deleted from the record.

    Returns one line per repair. Does nothing if a database does not exist.
    """
    paths = [sqlite_path(url) for url in (workspace.queue, workspace.tracking)]
    if any(path is not None and not database_exists(path) for path in paths):
        return []
    lines = []
    with database_errors_as_input_errors(workspace):
        record = Record(workspace.tracking)
        for study in study_names(workspace):
            queue = Queue(workspace.queue, study, QueueTiming(), record.kill_runs)
            repairs = (*repair_queue(queue, record, workspace), *_void_lost_results(queue, record))
            lines += [f"{study}: {line}" for line in repairs]
    return lines


def forget(workspace: Workspace, name: str) -> None:
    """Remove a queue's waiting and failed cells, its checkpoints, and recorded plans of which no cell is complete.

    Finished runs stay in the record. Raises InputError if a command works on the queue or a cell is running.
    """
    databases = database_errors_as_input_errors(workspace), planning(workspace.runs, workspace.queue)
    with databases[0], databases[1], at_work(workspace.runs, name, alone=True):
        record = Record(workspace.tracking)
        queue = Queue(workspace.queue, name, QueueTiming(), record.kill_runs)
        queue.sweep()
        complete, plans = queue.trials("COMPLETE"), recorded_plans(workspace.tracking, queue.study_name)
        keys = {trial.key for trial in complete}
        gone = [plan for plan in plans if plan.queue == name and keys.isdisjoint(cell.key for cell in plan.queued)]
        queue.forget()
        for plan in gone:
            record.forget_plan(plan)
    shutil.rmtree(workspace.checkpoints(name, ""), ignore_errors=True)


def repair_job(job: Job) -> list[str]:
    """Repair the queue of a job whose workers have ended. Returns one line per repair."""
    with database_errors_as_input_errors(job.workspace):
        record = Record(job.workspace.tracking)
        queue = Queue(job.workspace.queue, job.queue, job.setup.engine.timing, record.kill_runs)
        return repair_queue(queue, record, job.workspace)


def repair_queue(queue: Queue, record: Record, workspace: Workspace) -> list[str]:
    """Repair one queue and its runs, also while workers are alive. Returns one line per repair."""
    lines = [f"trial {trial.number} was left by a dead process: its cell is queued again" for trial in queue.sweep()]
    study, name = queue.study_name, queue.name
    statuses = run_statuses(record.tracking, study, name)  # before the trials: an open run had a live trial then
    finished = {run.run_id for run in statuses if run.status == "FINISHED"}
    trials = queue.trials()
    for trial in queue.lost():
        queue.requeue(trial)
        lines.append(f"trial {trial.number} ended without a result: its cell is queued again")
    for trial in (item for item in trials if item.state == "COMPLETE"):
        shutil.rmtree(workspace.checkpoints(name, trial.key), ignore_errors=True)
        lines += _finish(trial, record, finished)
    owners = {trial.number: trial for trial in trials if trial.state in ("RUNNING", "COMPLETE")}
    for run in (run for run in statuses if run.status == "RUNNING"):
        owner = owners.get(run.trial)
        if owner is None or run.run_id not in (owner.runs or (run.run_id,)):
            record.end(run.run_id, "KILLED")
            lines.append(f"run {run.run_id} was left open by trial {run.trial}: KILLED")
    return lines


@contextlib.contextmanager
def database_errors_as_input_errors(workspace: Workspace) -> Iterator[None]:
    """Turn errors of the queue's and the record's databases into InputErrors of one line."""
    try:
        yield
    except QUEUE_ERRORS as error:
        raise database_error("queue", workspace.queue, error) from error
    except RECORD_ERRORS as error:
        raise database_error("record", workspace.tracking, error) from error


def _finish(trial: TrialView, record: Record, finished: set[str]) -> list[str]:
    """Set the runs of a complete trial FINISHED."""
    unfinished = [run for run in trial.runs if run not in finished]
    for run in unfinished:
        if not record.is_active(run):
            lost = f"cell {trial.key} is complete, but its run {run} is not in the record"
            return [f"{lost}; `mobileone status --repair` lets it be run again"]
    for run in unfinished:
        record.end(run, "FINISHED")
    return [f"run {run} had its result but no end: FINISHED" for run in unfinished]


def _void_lost_results(queue: Queue, record: Record) -> list[str]:
    """Make complete trials void whose runs are not in the record; only on request, it may be the wrong record."""
    recorded = {run.run_id for run in run_statuses(record.tracking, queue.study_name, queue.name)}
    complete = queue.trials("COMPLETE")
    lost = [trial for trial in complete if not all(run in recorded or record.is_active(run) for run in trial.runs)]
    _void(lost, queue, record)
    return [f"cell {trial.key} is missing again" for trial in lost]


def _void(trials: Sequence[TrialView], queue: Queue, record: Record) -> None:
    """Make complete trials void; their runs are KILLED first, so that they are not mixed with the next attempt's."""
    for trial in trials:
        record.kill_runs(trial)
        queue.void(trial)
