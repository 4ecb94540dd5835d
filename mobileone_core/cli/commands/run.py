"""The command of one study (parse, plan, run what is missing, report), and `mobileone status` and `ui`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from mobileone_core.cli.guard import COMPLETE, INCOMPLETE, INTERRUPTED, guarded
from mobileone_core.cli.options.study import Command, RunOptions, parse, reports_of
from mobileone_core.cli.options.workspace import DataCheck, Status, Ui
from mobileone_core.data.catalog import class_names, resolve_data
from mobileone_core.data.check import FileFacts, read_images, read_splits, report_lines, short_lines
from mobileone_core.data.download import prepare_data
from mobileone_core.data.spec import DATA_SETS
from mobileone_core.errors import require, require_choice
from mobileone_core.reporting.published import SHIPPED
from mobileone_core.study.declaration import Declaration
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.plan import Plan
from mobileone_core.study.record.access import serve
from mobileone_core.study.run.progress import Progress, plan_lines, status_lines
from mobileone_core.study.run.runner import Outcome, SignalGuard, join, resumed, run_plan
from mobileone_core.study.state import cell_states, is_settled
from mobileone_core.study.workspace import Engine, Setup


def main(study: Declaration, arguments: Sequence[str] | None = None) -> None:
    """Run a study from its command line and exit.

    The exit status is 0 if the study is complete, 1 if cells are missing, 2 for bad input, 130 after an interrupt.

    Args:
        study: the declaration.
        arguments: the command line's words; sys.argv's if None.
    """
    sys.exit(guarded(lambda: run(parse(study, sys.argv[1:] if arguments is None else arguments))))


def run(command: Command) -> int:
    """Plan, run what is missing, report; return the exit status. Raises InputError."""
    require_choice("published", command.request.plan.study.published, ("", *SHIPPED))
    request, running, workspace = command.request, command.running, command.running.workspace
    plan, processes = resumed(request.plan, workspace), command.execution.processes
    for size in dict.fromkeys(cell.spec.recipe.batch_size for cell in plan.cells):
        require(size % processes == 0, "batch_size", size, f"a multiple of processes, which is {processes}")
    sets = dict.fromkeys(cell.spec.data.name for cell in plan.cells)
    if "folder" in sets:
        print("\n".join(short_lines(read_splits("folder", request.data_root))))
    if running.plan:
        print("\n".join(plan_lines(plan, cell_states(workspace, plan))))
        if isinstance(plan, GridPlan):
            from mobileone_core.reporting.power import power_line  # reports are read for --plan alone

            print(power_line(plan, reports_of(running)))
        return COMPLETE
    finished = _finished(plan, running)
    if finished:
        print(f"all {len(plan.queued)} cells are complete: nothing to do")
    else:
        plan.require_runnable()
        for line in plan.training_lines:
            print(line)
    for name in () if finished else sets:
        prepare_data(name, request.data_root)
        if not (name == "folder" or DATA_SETS[name].in_memory):
            print("\n".join(short_lines(read_splits(name, request.data_root))))
    engine = Engine(preload=plan.preload)
    setup = Setup(workspace, command.workers, command.execution, request.data_root, request.weights, engine)
    if running.join:
        return _report(plan, running, join(plan, setup, _display(plan)))
    plan, outcome = (plan, finished) if finished else run_plan(plan, setup, _display)
    return _report(plan, running, outcome)


def _finished(plan: Plan, running: RunOptions) -> Outcome | None:
    """The outcome if nothing is left to do; None for a command that joins a queue, as others planned it."""
    if running.join or not plan.is_final:
        return None
    states = cell_states(running.workspace, plan)
    return Outcome(tuple(states)) if is_settled(running.workspace, plan, states) else None


def _display(plan: Plan) -> Progress:
    return Progress({cell.key: cell.cost for cell in plan.queued})


def _report(plan: Plan, running: RunOptions, outcome: Outcome) -> int:
    """Write the report, print it and the failures, and return the exit status."""
    if outcome.interrupted:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return INTERRUPTED
    is_sound = True
    if not running.join:
        from mobileone_core.cli.commands.report import report_plan

        text, is_sound = report_plan(plan, running.workspace, running.reports, outcome.states)
        print(text)
    for item in outcome.failures:
        print(f"failed: {item.label}: {item.error}; the same command tries it again", file=sys.stderr)
    return COMPLETE if outcome.is_complete and is_sound else INCOMPLETE


def check_data(options: DataCheck) -> int:
    """Read every image of a data set, print what it holds; the exit status is 1 if an image cannot be read."""
    from mobileone_core.data.sets import open_splits

    name, root = (options.data, options.data_root) if options.data in DATA_SETS else ("folder", Path(options.data))
    if DATA_SETS[name].in_memory:
        spec = resolve_data(name, root)
        opened, size = open_splits(spec, root, 0), (spec.image_size,) * 2
        images: Mapping[str, Any] = {"train": opened.train, "val": opened.val, "test": opened.test()}
        classes, lines = class_names(spec, root), [f"data        {name}, read whole; validation as seed 0 carves it"]
        facts = [FileFacts(split, f"{spec.channels}-channel", size) for split in images for _ in images[split].labels]
    else:
        images = read_splits(name, root)
        classes, lines = next(iter(images.values())).classes, short_lines(images)
        count, console = sum(map(len, images.values())), Console(stderr=True)
        facts = list(track(read_images(images), "reading", count, console=console, transient=True))
    print("\n".join([*lines, *report_lines({split: files.labels for split, files in images.items()}, classes, facts)]))
    return INCOMPLETE if any(item.error for item in facts) else COMPLETE


def status(options: Status) -> int:
    """Print every cell, after a repair if one is requested."""
    workspace = options.storage.workspace
    if options.repair:
        from mobileone_core.study.run.planner import repair

        print("\n".join(repair(workspace)) or "nothing to repair")
    print("\n".join(status_lines(workspace, options.studies)))
    return COMPLETE


def ui(options: Ui) -> int:
    """Serve the record until Ctrl-C, SIGTERM or SIGHUP."""
    with SignalGuard().installed():
        return serve(options.storage.workspace, options.port)
