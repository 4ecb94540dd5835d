"""A plan that grows: it is run as far as it goes, extended by its results, and run again until nothing is added."""

from collections.abc import Callable

from mobileone_core.study.plan import Plan
from mobileone_core.study.record.access import record_exists, recorded_plans
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.run.runner import Outcome, RunDisplay, run_study
from mobileone_core.study.workspace import Setup, Workspace


def run_plan(plan: Plan, setup: Setup, display: Callable[[Plan], RunDisplay]) -> tuple[Plan, Outcome]:
    """Run what a plan lacks and what its results add to it; return the final plan and the last outcome.

    A proposed cell is recorded before it is queued, so that after a kill the next command continues the same search.
    A candidate that fails has no offspring.
    """
    plan = resumed(plan, setup.workspace)
    while True:
        outcome = run_study(plan, setup, display(plan))
        is_open = any(item.state not in ("complete", "failed") for item in outcome.states)
        is_unmeasured = any(item.role == "comparison" for item in outcome.failures)
        if plan.is_final or outcome.interrupted or is_open or is_unmeasured:
            return plan, outcome
        grown = plan.grown(read_record(setup.workspace.tracking, plan))
        if grown == plan:
            return plan, outcome
        plan = grown


def resumed(plan: Plan, workspace: Workspace) -> Plan:
    """The plan with what the record already added to it."""
    if plan.is_final or not record_exists(workspace.tracking):
        return plan
    recorded = recorded_plans(workspace.tracking, plan.study.name)
    return plan.resumed([item for item in recorded if type(item) is type(plan)])
