"""Planning: create both databases, repair after crashes, record the plan, queue the cells that are missing."""

from collections.abc import Sequence

from mobileone_core.study.job import QueueTiming
from mobileone_core.study.locks import planning
from mobileone_core.study.plan import Plan, Queued
from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.queue.storage import create_queue
from mobileone_core.study.record.record import Record, create_record
from mobileone_core.study.run.repair import database_errors_as_input_errors, kill_runs, repair_queue
from mobileone_core.study.state import cell_states
from mobileone_core.study.workspace import Workspace

QUEUED = ("waiting", "running", "complete")


def plan_cells(plan: Plan, workspace: Workspace, timing: QueueTiming) -> list[str]:
    """Queue every cell of a plan that is not waiting, running or complete. Returns one line per repair on the way."""
    with database_errors_as_input_errors(workspace), planning(workspace.runs, workspace.queue):
        create_queue(workspace.queue)
        create_record(workspace)
        record = Record(workspace.tracking)
        record.save_plan(plan, workspace.artifacts)
        queue = Queue(workspace.queue, plan.queue, timing, kill_runs(record), create=True)
        repairs = repair_queue(queue, record, workspace)
        states = cell_states(workspace, plan)
        attempts = {item.key: item.attempt for item in states if item.state not in QUEUED}
        for cell in queue_order([cell for cell in plan.queued if cell.key in attempts]):
            queue.enqueue(cell, plan.study.metric, attempts[cell.key] + 1)
    return repairs


def queue_order(cells: Sequence[Queued]) -> list[Queued]:
    """Sort cells by seed; within a seed teachers first, then by falling cost. Comparisons come last."""
    return sorted(cells, key=lambda cell: (cell.role == "comparison", cell.seed, cell.role != "teacher", -cell.cost))
