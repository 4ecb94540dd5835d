"""The command of one study (parse, plan, run what is missing, report), and `mobileone status`, `data check`, `ui`."""

import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from mobileone_core.cli.guard import COMPLETE, INCOMPLETE, INTERRUPTED, exit_with
from mobileone_core.cli.options.study import Command, RunOptions, TrainingRunOptions, gpu_names, parse
from mobileone_core.cli.options.workspace import Check, Status, Ui, reports_directory
from mobileone_core.cli.ownership import declared_tags, require_name
from mobileone_core.data.catalog import class_names, resolve_data
from mobileone_core.data.check import FileFacts, read_images, read_splits, report_lines, short_lines
from mobileone_core.data.download import prepare_data
from mobileone_core.data.spec import DATA_SETS, data_sets
from mobileone_core.errors import require, require_choice
from mobileone_core.files import require_writable
from mobileone_core.model.folded.gpu_timings import timings
from mobileone_core.reporting.published import SHIPPED
from mobileone_core.study.declaration import Declaration
from mobileone_core.study.factor import level_text
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.plan import Plan
from mobileone_core.study.process import process_start
from mobileone_core.study.record.access import serve
from mobileone_core.study.run.progress import Progress, plan_lines, status_lines
from mobileone_core.study.run.runner import Outcome, SignalGuard, join, resumed, run_plan
from mobileone_core.study.run.slurm import launch
from mobileone_core.study.state import cell_states, is_settled
from mobileone_core.study.workspace import Engine, Setup
from mobileone_core.texts import visible
from mobileone_core.training.execution import Execution
from mobileone_core.training.tasks import task_spec

if TYPE_CHECKING:
    from pandas import DataFrame


def main(study: Declaration, arguments: Sequence[str] | None = None) -> None:
    """Run a study from its command line and exit.

    The exit status is 0 if the study is complete, 1 if cells are missing, 2 for bad input, 130 after an interrupt.

    Args:
        study: the declaration.
        arguments: the arguments of the command line; those of this process if None.
    """
    document = sys.modules["__main__"].__doc__ or ""
    exit_with(lambda line: execute(parse(study, line, document), study, process_start())[0], arguments)


def run(study: Declaration, **options: Any) -> "DataFrame":
    """Run a study from Python, such as a notebook, and return its finished cells.

    Plans, runs what is missing, reports and prints as the study's command does.

    Args:
        study: the declaration.
        options: options of the command line with underscores, several values as a tuple, flags as True or False:
            ``run(STUDY, k=(1, 4), seeds=3, data="folder", data_root=Path("images"))``.

    Returns:
        One row per finished cell, as mobileone_core.results; no rows with plan=True, which prints.

    Raises:
        InputError: for bad options, in one line.
        KeyboardInterrupt: after an interrupt; the same call goes on where this one stopped.
    """
    line = [text for name, value in options.items() for text in _as_arguments(name, value)]
    status, page = execute(parse(study, line), study, time.time())
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    import pandas as pd

    from mobileone_core.reporting.results import results

    if page is None:
        return pd.DataFrame()
    report = page.parent  # it holds no record, so that the cells of this very report are returned
    return results(study.name, setting=report.name, runs=report, reports=report.parent)


def _as_arguments(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    values = value if isinstance(value, tuple | list | range) else (value,)
    return [f"--{option}", *(level_text(item) if isinstance(item, tuple) else str(item) for item in values)]


def execute(command: Command, study: Declaration, start: float) -> tuple[int, Path | None]:
    """Plan, run what is missing, report; return the exit status and the report's page. Raises InputError.

    study: the declaration before options changed it; start: of the command, in seconds since 1970.
    """
    require_choice(f"{study.declared_in}, published".strip(", "), study.published, ("", *SHIPPED))
    request, running, workspace = command.request, command.running, command.running.workspace
    require_name(study, workspace.tracking)
    plan = resumed(request.plan, workspace)
    _require_shareable(plan, command.execution)
    for line in request.folder_lines:
        print(line)
    if running.plan:
        if plan.cells:  # what is measured may be planned elsewhere
            plan.require_runnable()
        print("\n".join([*plan_lines(plan, cell_states(workspace, plan)), *_unfolded(command, plan)]))
        if isinstance(plan, GridPlan):
            from mobileone_core.reporting.power import power_line  # reports are read for --plan alone

            print(power_line(plan, reports_directory(running.reports)))
        return COMPLETE, None
    require(not (running.again and running.join), "again", True, "a command that plans, which --join does not")
    if finished := _finished(plan, running):
        print(f"all {len(plan.queued)} cells are complete: nothing to do")
        return _report(plan, running, finished)
    _prepare(plan, running, request.data_root)
    if running.again:  # what is recorded goes only once all else is checked
        from mobileone_core.study.run.planner import measure_again

        measure_again(plan, workspace)
    if running.launcher == "slurm":
        return _report(plan, running, launch(plan, workspace, running.slurm, _command_of_jobs(), _display(plan)))
    using = request.data_root, request.weights, Engine(preload=plan.preload), declared_tags(study), start
    setup = Setup(workspace, command.workers, command.execution, *using)
    if running.join:
        return _report(plan, running, join(plan, setup, _display(plan)))
    plan, outcome = run_plan(plan, setup, _display)
    return _report(plan, running, outcome)


def _require_shareable(plan: Plan, execution: Execution) -> None:
    """Raise InputError for a batch, or a network with --sync-batchnorm, that several processes cannot share."""
    processes = execution.processes
    allowed = f"batches of a multiple of processes, which is {processes}"
    for spec in (cell.spec for cell in plan.cells):
        scaled = [("scales", images) for _, images in spec.recipe.scaled_batches(spec.data.image_size)]
        for name, size in scaled or [("batch_size", spec.recipe.batch_size)]:
            require(size % processes == 0, name, size, allowed)
    is_synced = execution.sync_batchnorm and processes > 1
    fits = not is_synced or all(cell.spec.model.block_method != "dbb" for cell in plan.cells)
    require(fits, "sync_batchnorm", True, "off with block_method dbb, whose blocks cannot be folded")
    fits = not is_synced or all(task_spec(cell.spec.task).has_head or not cell.spec.backbone for cell in plan.cells)
    require(fits, "sync_batchnorm", True, "off for classifiers of other libraries, whose BN would stay per process")


def _command_of_jobs() -> list[str]:
    """This process's script and arguments for jobs on other machines. Raises InputError if it runs no script."""
    script = Path(sys.argv[0]).absolute()
    require(script.suffix == ".py" and script.is_file(), "launcher", "slurm", "only the command of a study's file")
    once = [item for item in sys.argv[1:] if item != "--again"]  # which this command does, not each of its jobs
    return [str(script), *once, "--launcher", "local"]


def _unfolded(command: Command, plan: Plan) -> list[str]:
    """Lines about blocks that are not folded: one per GPU model without timings, by which auto decides, one for dbb."""
    if command.execution.blocks == "branches" or not isinstance(command.running, TrainingRunOptions):
        return []
    names = dict.fromkeys(gpu_names(command.execution.device) if command.execution.blocks == "auto" else ())
    advice = "folding was not timed, auto runs all branches; see mobileone_core/model/folded"
    lines = [f"{name}: {advice}" for name in names if not timings(name)]
    is_dbb = any(cell.spec.model.block_method == "dbb" for cell in plan.cells)
    return [*lines, *["dbb: its blocks run all branches, since norms stand between convolutions"] * is_dbb]


def _prepare(plan: Plan, running: RunOptions, data_root: Path | None) -> None:
    """Check the machine and the directories of runs and reports, and prepare the data. Raises InputError."""
    from mobileone_core.cli.commands.report import report_directory
    from mobileone_core.reporting.report import require_report_directory

    plan.require_runnable()
    require_writable("runs", running.workspace.runs)
    require_writable("checkpoints", running.workspace.checkpoint_root)
    require_report_directory(report_directory(plan, running.workspace, running.reports, is_complete=True))
    for line in plan.training_lines:
        print(line)
    for name in dict.fromkeys(cell.spec.data.name for cell in plan.cells):
        prepare_data(name, data_root)
        if name in data_sets("classification") and not (name == "folder" or DATA_SETS[name].in_memory):
            print("\n".join(short_lines(read_splits(name, data_root))))


def _finished(plan: Plan, running: RunOptions) -> Outcome | None:
    """The outcome if nothing is left to do; None for one that measures again or joins a queue, as others planned it."""
    if running.join or not plan.is_final or (running.again and plan.comparisons):
        return None
    states = cell_states(running.workspace, plan)
    return Outcome(tuple(states)) if is_settled(running.workspace, plan, states) else None


def _display(plan: Plan) -> Progress:
    return Progress({cell.key: cell.cost for cell in plan.queued})


def _report(plan: Plan, running: RunOptions, outcome: Outcome) -> tuple[int, Path | None]:
    """Write the report, print it and the failures; return the exit status and the report's page."""
    if outcome.interrupted:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return INTERRUPTED, None
    is_sound, page = True, None
    if not running.join:
        from mobileone_core.cli.commands.report import report_plan

        text, is_sound, page = report_plan(plan, running.workspace, running.reports, outcome.states)
        print(f"{text}\n\nreport: {page}")
    for item in outcome.failures:
        print(f"failed: {item.label}: {item.error}; the same command tries it again", file=sys.stderr)
    return COMPLETE if outcome.is_complete and is_sound else INCOMPLETE, page


def check_data(options: Check) -> int:
    """Read every image of a data set, print what it holds; the exit status is 1 if there is any fault."""
    from mobileone_core.data.annotated.files import read_annotated
    from mobileone_core.data.sets import open_splits

    faults: list[str] = []
    name, root = (options.data, options.data_root) if options.data in DATA_SETS else ("folder", Path(options.data))
    require(name != "scenes", "data", name, "a data set in files or in memory: scenes are composed while they are read")
    progress = partial(track, console=Console(stderr=True), transient=True)
    if "classification" not in DATA_SETS[name].tasks:
        spec = resolve_data(name, root)
        labels, facts = read_annotated(spec, root, progress)
        classes: Sequence[str] = class_names(spec, root)
        lines = [f"data        {name}: boxes per class, or images whose mask has it"]
    elif DATA_SETS[name].in_memory:
        spec = resolve_data(name, root)
        opened, size = open_splits(spec, root, 0), (spec.image_size,) * 2
        images: Mapping[str, Any] = {"train": opened.train, "val": opened.val, "test": opened.test()}
        classes, lines = class_names(spec, root), [f"data        {name}, read whole; validation as seed 0 carves it"]
        facts = [FileFacts(split, f"{spec.channels}-channel", size) for split in images for _ in images[split].labels]
        labels = {split: files.labels for split, files in images.items()}
    else:
        images = read_splits(name, root, faults.append)
        classes, lines = next(iter(images.values())).classes, short_lines(images)
        facts = list(progress(read_images(images), "reading", total=sum(map(len, images.values()))))
        labels = {split: files.labels for split, files in images.items()}
    lines += [f"fault       {text}" for text in faults]
    print("\n".join([*lines, *report_lines(labels, classes, facts)]))
    return INCOMPLETE if faults or any(item.error for item in facts) else COMPLETE


def status(options: Status) -> int:
    """Print every cell, after a repair if one is requested."""
    workspace = options.storage.workspace
    if options.repair:
        from mobileone_core.study.run.planner import repair

        print("\n".join(repair(workspace)) or "nothing to repair")
    print(visible("\n".join(status_lines(workspace, options.studies))))
    return COMPLETE


def ui(options: Ui) -> int:
    """Serve the record until Ctrl-C, SIGTERM or SIGHUP."""
    with SignalGuard().installed():
        return serve(options.storage.workspace, options.port)
