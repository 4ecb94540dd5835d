"""A search step by step: a generation is run as any plan is, measured alone, and the next one proposed from it."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from mobileone_core.study.database import database_exists, sqlite_path
from mobileone_core.study.job import Setup
from mobileone_core.study.pareto import Point, front
from mobileone_core.study.plan import PlannedCell
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.study.run.runner import Display, Outcome, run_study
from mobileone_core.study.search import Genes
from mobileone_core.study.search_plan import SearchPlan, deployed, every_cell, network_label
from mobileone_core.study.workspace import Workspace

ACCURACY, RATIO = "val/top1", "latency/ratio"


def run_search(plan: SearchPlan, setup: Setup, display: Callable[[SearchPlan], Display]) -> tuple[SearchPlan, Outcome]:
    """Run what is missing of a search; the plan as far as it came. A candidate that fails has no offspring.

    Whatever was proposed stands in the record before it is queued: a command that is killed at any point is gone on
    with by the next, and more generations go on with the same search.
    """
    plan = resumed(plan, setup.workspace)
    while True:
        outcome = run_study(plan, setup, display(plan))
        is_open = any(item.state not in ("complete", "failed") for item in outcome.states)
        if outcome.interrupted or is_open or any(item.role == "comparison" for item in outcome.failures):
            return plan, outcome
        if plan.confirmed:
            return plan, outcome
        from mobileone_core.study.record.reading import read_record

        grown = next_step(plan, read_record(setup.workspace.tracking, plan))
        if grown == plan:
            return plan, outcome
        plan = grown


def resumed(plan: SearchPlan, workspace: Workspace) -> SearchPlan:
    """The plan with what the record has of the same search: its generations, and its front if just as long."""
    path = sqlite_path(workspace.tracking)
    if path is not None and not database_exists(path):
        return plan
    from mobileone_core.study.state import kept_plans

    found = [item for item in kept_plans(workspace.tracking, plan.study.name) if item.lineage == plan.lineage]
    same = [item for item in found if item.id == plan.id]
    longest = max((item.proposed for item in found), key=len, default=())
    confirmed = same[0].confirmed if same else ()
    return replace(plan, proposed=longest[: plan.study.generations], confirmed=confirmed)


def next_step(plan: SearchPlan, record: StudyRecord) -> SearchPlan:
    """The plan with its next generation, or with the front's candidates once there is no next one."""
    points = points_of(plan, record)
    if len(plan.proposed) < plan.study.generations and (proposed := _proposed(plan, points)):
        return replace(plan, proposed=(*plan.proposed, proposed))
    candidates = [cell for number, cell in every_cell(plan) if number and cell.key in points]
    best = front([points[cell.key] for cell in candidates])
    return replace(plan, confirmed=tuple(candidates[place].key for place in best))


def _proposed(plan: SearchPlan, points: Mapping[str, Point]) -> tuple[Genes, ...]:
    from mobileone_core.study.queue.proposals import Measured, propose

    space, study = plan.space, plan.study
    taken = {cell.key for _, cell in every_cell(plan)}
    measured = [
        Measured(genes, points[key], number)
        for number, proposed in enumerate(plan.proposed, start=1)
        for genes in proposed
        if (key := space.cell(genes).key) in points
    ]

    def is_new(genes: Genes) -> bool:
        if not space.is_possible(genes) or (key := space.cell(genes).key) in taken:
            return False
        taken.add(key)
        return True

    return propose(study.sampler, study.search_seed, space.sizes, measured, study.population, is_new)


def points_of(plan: SearchPlan, record: StudyRecord) -> dict[str, Point]:
    """Validation accuracy and latency ratio by key, of every candidate and variant that has both."""
    rows = {row.key: row for row in record.rows}
    points = {}
    for _, cell in every_cell(plan):
        row = rows.get(cell.key)
        measured = latency_row(plan, record, cell)
        if row is not None and measured is not None and ACCURACY in row.metrics and RATIO in measured.metrics:
            points[cell.key] = Point(row.metrics[ACCURACY], measured.metrics[RATIO])
    return points


def latency_row(plan: SearchPlan, record: StudyRecord, cell: PlannedCell, *, final: bool = False) -> CellRow | None:
    """What was measured of a candidate's deployed network in its own generation, or among the finalists."""
    planned = plan.comparisons[-1] if final else plan.comparison_of(cell)
    label = network_label(deployed(cell.spec.model))
    factors = next(dict(entry.factors) for entry in planned.spec.entries if entry.label == label)
    found = [row for row in record.comparison if row.key == planned.key and dict(row.factors) == factors]
    return found[0] if found else None
