"""Planning: both databases made, crashes mended, the plan recorded, missing cells queued; one planner at a time."""

from collections.abc import Sequence

from mobileone_core.study.job import QueueTiming
from mobileone_core.study.locks import planning
from mobileone_core.study.plan import Queued
from mobileone_core.study.plans import AnyPlan
from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.queue.storage import create_queue
from mobileone_core.study.record.record import Record, create_record
from mobileone_core.study.run.repair import kill_run, mend, plainly
from mobileone_core.study.state import cell_states
from mobileone_core.study.workspace import Workspace

QUEUED = ("waiting", "running", "complete")


def plan_cells(plan: AnyPlan, workspace: Workspace, timing: QueueTiming) -> list[str]:
    """Make the queue hold all of a plan that is not done; what was mended on the way, in words."""
    with plainly(workspace), planning(workspace.runs, workspace.queue):
        create_queue(workspace.queue)
        create_record(workspace)
        record = Record(workspace.tracking)
        record.keep_plan(plan, workspace.artifacts)
        queue = Queue(workspace.queue, plan.queue, timing, kill_run(record), create=True)
        mended = mend(queue, record, workspace)
        states = cell_states(workspace, plan)
        attempts = {item.key: item.attempt for item in states if item.state not in QUEUED}
        for cell in in_order([cell for cell in plan.queued if cell.key in attempts]):
            queue.enqueue(cell, plan.study.metric, attempts[cell.key] + 1)
    return mended


def in_order(cells: Sequence[Queued]) -> list[Queued]:
    """Every level's first seed before any second one; of a seed teachers first, then the dearer cells.

    A comparison comes last.
    """
    return sorted(cells, key=lambda cell: (cell.role == "comparison", cell.seed, cell.role != "teacher", -cell.cost))
