"""One study's command: plan, run what is missing, report."""

import sys
from collections.abc import Sequence
from dataclasses import replace

from mobileone_core.benchmark.spec import StepSpec
from mobileone_core.cli.guard import COMPLETE, INCOMPLETE, INTERRUPTED, guarded
from mobileone_core.cli.options.measured import MeasuredCommand, MeasuredRunning, parse_measured
from mobileone_core.cli.options.study import Command, Running, own_recipe, parse
from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.download import prepare_data
from mobileone_core.errors import require
from mobileone_core.study.declaration import Study
from mobileone_core.study.job import MEASURE, Engine, Setup
from mobileone_core.study.measured import MeasuredPlan, MeasuredStudy
from mobileone_core.study.plan import Plan
from mobileone_core.study.plans import AnyPlan
from mobileone_core.study.presets import preset_cell
from mobileone_core.study.run.runner import Outcome, RunDisplay, join, run_study
from mobileone_core.study.run.search_loop import resumed, run_search
from mobileone_core.study.search import SearchStudy
from mobileone_core.study.search_plan import SearchPlan
from mobileone_core.study.state import cell_states, is_settled
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec

AnyStudy = Study | MeasuredStudy | SearchStudy


def main(study: AnyStudy, arguments: Sequence[str] | None = None) -> None:
    """Run a study from its command line and exit: 0 complete, 1 cells missing, 2 bad input, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    if isinstance(study, MeasuredStudy):
        measured = study
        sys.exit(guarded(lambda: _measure(parse_measured(measured, given))))
    if isinstance(study, SearchStudy):
        searched = study
        sys.exit(guarded(lambda: _search(searched, parse(searched, given))))
    trained = study
    sys.exit(guarded(lambda: _run(trained, parse(trained, given))))


def default_plan(study: AnyStudy) -> AnyPlan:
    """The study with none of its settings changed."""
    if isinstance(study, MeasuredStudy):
        return MeasuredPlan(study, default=True)
    if isinstance(study, SearchStudy):
        return SearchPlan(study, _preset(study), default=True, own=True)
    return _default_plan(study)


def _default_plan(study: Study) -> Plan:
    return Plan(study, _preset(study), default=True)


def _preset(study: Study | SearchStudy) -> CellSpec:
    return preset_cell(study.variant, resolve_data(study.data, None), own_recipe(study, study.data), study.base)


def asked_plan(study: Study, command: Command) -> Plan:
    """The plan of a command line; default where it comes to the study's own settings."""
    assert isinstance(command.study, Study)
    usual, asked = _default_plan(study), Plan(command.study, command.base)
    return usual if (asked.study, asked.base) == (usual.study, usual.base) else asked


def _run(study: Study, command: Command) -> int:
    running = command.running
    workers, execution = running.worker_count, running.execution
    plan = asked_plan(study, command)
    _require_even_shares(plan.base, running)
    if running.plan:
        return _show(plan, running.workspace)
    _say_settled(plan, running)
    prepare_data(plan.base.data.name, command.presets.data_root)
    setup = Setup(running.workspace, workers, execution, command.presets.data_root, command.teachers)
    outcome = (join if running.join else run_study)(plan, setup, _display(plan))
    return _ended(plan, running, outcome)


def asked_search(study: SearchStudy, command: Command) -> SearchPlan:
    """The search of a command line; own where it differs from the study's in its length alone."""
    assert isinstance(command.study, SearchStudy)
    usual, asked = SearchPlan(study, _preset(study)), SearchPlan(command.study, command.base)
    return replace(asked, default=asked == usual, own=asked.lineage == usual.lineage)


def _search(study: SearchStudy, command: Command) -> int:
    running, workspace = command.running, command.running.workspace
    workers, execution = running.worker_count, running.execution
    plan = resumed(asked_search(study, command), workspace)
    _require_even_shares(plan.base, running)
    if running.plan:
        return _show(plan, workspace)
    if plan.confirmed:
        _say_settled(plan, running)
    prepare_data(plan.base.data.name, command.presets.data_root)
    setup = Setup(workspace, workers, execution, command.presets.data_root)
    if running.join:
        return _ended(plan, running, join(plan, setup, _display(plan)))
    plan, outcome = run_search(plan, setup, _display)
    return _ended(plan, running, outcome)


def _measure(command: MeasuredCommand) -> int:
    plan, running = command.plan, command.running
    if running.plan:
        return _show(plan, running.workspace)
    if not _say_settled(plan, running):
        _require_runnable(plan)
    setup = Setup(running.workspace, engine=Engine(preload=MEASURE))
    outcome = (join if running.join else run_study)(plan, setup, _display(plan))
    return _ended(plan, running, outcome)


def _require_runnable(plan: MeasuredPlan) -> None:
    """InputError for a runtime, or a device, that is not there."""
    if isinstance(plan.spec, StepSpec):
        from mobileone_core.benchmark.subjects.step import step_device

        for arm in plan.spec.entries:
            step_device(arm.cell)
        return
    from mobileone_core.latency.runtimes import require_runtime

    for runtime in dict.fromkeys(entry.cell.runtime for entry in plan.spec.entries):
        require_runtime(runtime)


def _show(plan: AnyPlan, workspace: Workspace) -> int:
    """Print a plan; start nothing."""
    from mobileone_core.study.status import plan_lines

    print("\n".join(plan_lines(plan, cell_states(workspace, plan))))
    return COMPLETE


def _require_even_shares(base: CellSpec, running: Running) -> None:
    size, allowed = base.recipe.batch_size, f"a multiple of processes, which is {running.processes}"
    require(size % running.processes == 0, "batch_size", size, allowed)


def _say_settled(plan: AnyPlan, running: Running | MeasuredRunning) -> bool:
    """Whether nothing is left to do, which is said; who joins a queue works on what others planned."""
    if running.join or not is_settled(running.workspace, plan, cell_states(running.workspace, plan)):
        return False
    print(f"all {len(plan.queued)} cells are complete: nothing to do")
    return True


def _display(plan: AnyPlan) -> RunDisplay:
    from mobileone_core.study.run.progress import Progress

    return Progress({cell.key: cell.cost for cell in plan.queued})


def _ended(plan: AnyPlan, running: Running | MeasuredRunning, outcome: Outcome) -> int:
    """Report what there is, and tell what failed."""
    if outcome.interrupted:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return INTERRUPTED
    is_sound = True
    if not running.join:
        from mobileone_core.cli.commands.report import report_plan

        text, is_sound = report_plan(plan, running.workspace, running.reports)
        print(text)
    for item in outcome.failures:
        print(f"failed: {item.label}: {item.error}; the same command tries it again", file=sys.stderr)
    return COMPLETE if outcome.is_complete and is_sound else INCOMPLETE
