"""A search, generation by generation: run and measure one like any plan, then propose the next from its results."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from mobileone_core.study.database import database_exists, sqlite_path
from mobileone_core.study.job import Setup
from mobileone_core.study.pareto import Point, front
from mobileone_core.study.plan import PlannedCell
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.study.run.runner import Outcome, RunDisplay, run_study
from mobileone_core.study.search import Genes
from mobileone_core.study.search_plan import SearchPlan, deployed, every_cell, network_label
from mobileone_core.study.workspace import Workspace

ACCURACY, RATIO = "val/top1", "latency/ratio"


def run_search(
    plan: SearchPlan, setup: Setup, display: Callable[[SearchPlan], RunDisplay]
) -> tuple[SearchPlan, Outcome]:
    """Run what is missing of a search. Returns the plan with all generations so far, and the last run's outcome.

    A generation is recorded before it is queued, so a killed search resumes where it was, and a search with more
    generations continues a shorter one. A candidate that fails is left out of later proposals.
    """
    plan = resumed(plan, setup.workspace)
    while True:
        outcome = run_study(plan, setup, display(plan))
        is_open = any(item.state not in ("complete", "failed") for item in outcome.states)
        has_failed = any(item.role == "comparison" for item in outcome.failures)
        if outcome.interrupted or is_open or has_failed or plan.confirmed:
            return plan, outcome
        from mobileone_core.study.record.reading import read_record

        grown = next_step(plan, read_record(setup.workspace.tracking, plan))
        if grown == plan:
            return plan, outcome
        plan = grown


def resumed(plan: SearchPlan, workspace: Workspace) -> SearchPlan:
    """The plan with the generations that the record holds of the same search, and its front if the length is equal."""
    path = sqlite_path(workspace.tracking)
    if path is not None and not database_exists(path):
        return plan
    from mobileone_core.study.state import kept_plans

    recorded = [item for item in kept_plans(workspace.tracking, plan.study.name) if item.lineage == plan.lineage]
    longest = max((item.proposed for item in recorded), key=len, default=())
    confirmed = next((item.confirmed for item in recorded if item.id == plan.id), ())
    return replace(plan, proposed=longest[: plan.study.generations], confirmed=confirmed)


def next_step(plan: SearchPlan, record: StudyRecord) -> SearchPlan:
    """The plan with its next generation, or with the candidates of its front after the last one."""
    points = points_of(plan, record)
    if len(plan.proposed) < plan.study.generations and (proposed := _propose(plan, points)):
        return replace(plan, proposed=(*plan.proposed, proposed))
    candidates = [cell for number, cell in every_cell(plan) if number and cell.key in points]
    best = front([points[cell.key] for cell in candidates])
    return replace(plan, confirmed=tuple(candidates[index].key for index in best))


def _propose(plan: SearchPlan, points: Mapping[str, Point]) -> tuple[Genes, ...]:
    from mobileone_core.study.queue.proposals import MeasuredCandidate, propose

    space, study = plan.space, plan.study
    taken = {cell.key for _, cell in every_cell(plan)}
    measured = [
        MeasuredCandidate(genes, points[key], number)
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
    """Validation accuracy and latency ratio, by key, of every candidate and variant that has both."""
    rows = {row.key: row for row in record.rows}
    points = {}
    for _, cell in every_cell(plan):
        row = rows.get(cell.key)
        measured = latency_row(plan, record, cell)
        if row is not None and measured is not None and ACCURACY in row.metrics and RATIO in measured.metrics:
            points[cell.key] = Point(row.metrics[ACCURACY], measured.metrics[RATIO])
    return points


def latency_row(plan: SearchPlan, record: StudyRecord, cell: PlannedCell, *, final: bool = False) -> CellRow | None:
    """Measured latency of a candidate's deployed network, in its own generation or, if final, among the finalists."""
    planned = plan.comparisons[-1] if final else plan.comparison_of(cell)
    label = network_label(deployed(cell.spec.model))
    factors = next(dict(entry.factors) for entry in planned.spec.entries if entry.label == label)
    rows = (row for row in record.comparison if row.key == planned.key and dict(row.factors) == factors)
    return next(rows, None)
