"""Children that really die, and what must hold afterwards."""

import multiprocessing
import os
import pickle
import shutil
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import cloudpickle
from study_fakes import FAST, Lines

from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.record.record import Record
from mobileone_core.study.run.planner import plan_cells
from mobileone_core.study.run.runner import run_study
from mobileone_core.study.run.worker import StopRequest, Worker
from mobileone_core.study.state import cell_states, is_settled
from mobileone_core.study.workspace import Job, Setup, Workspace
from mobileone_core.training.execution import Execution

CHILDREN = multiprocessing.get_context("forkserver")  # forks of a process without threads, unlike this one


def in_child(function, *arguments) -> int:
    """Run a function in a process of its own; its exit status, negative where a signal ended it."""
    return status_of(start_child(function, *arguments))


def start_child(function, *arguments) -> BaseProcess:
    module = sys.modules[function.__module__]
    if Path(module.__file__).name.startswith("test_"):  # which no other process can import by name
        cloudpickle.register_pickle_by_value(module)
    child = CHILDREN.Process(target=run_pickled, args=(cloudpickle.dumps((function, arguments)),))
    child.start()
    return child


def run_pickled(call: bytes) -> None:
    function, arguments = pickle.loads(call)
    function(*arguments)


def status_of(child: BaseProcess) -> int:
    child.join()
    return child.exitcode


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name, when=lambda *_: True):
    """Die instead of taking a step, where when says so."""
    step = getattr(owner, name)

    def dying(*arguments, **options):
        if when(*arguments, *options.values()):
            die()
        return step(*arguments, **options)

    setattr(owner, name, dying)


def after(owner, name, when=lambda *_: True):
    """Die right after a step."""
    step = getattr(owner, name)

    def dying(*arguments, **options):
        result = step(*arguments, **options)
        if when(*arguments, *options.values()):
            die()
        return result

    setattr(owner, name, dying)


def says(word):
    return lambda *arguments: word in arguments


def nth(number, when=lambda *_: True):
    calls = []
    return lambda *arguments: when(*arguments) and (calls.append(0) or len(calls) == number)


def run_plan(plan, workspace, data_root=None, workers=2, engine=FAST):
    """A command's outcome, and the display that listened."""
    display = Lines()
    setup = Setup(workspace, workers, Execution("cpu"), data_root, engine=engine)
    return run_study(plan, setup, display), display


def plan_and_work(plan, workspace, data_root=None, engine=FAST, cells=None) -> None:
    """The work of one command with one worker, in this process."""
    plan_cells(plan, workspace, engine.timing)
    setup = Setup(workspace, execution=Execution("cpu"), data_root=data_root, engine=engine)
    Worker(Job(setup, plan.queue, cells), StopRequest()).run()


def give_databases(template, workspace) -> None:
    """Empty databases made earlier: making them takes seconds."""
    workspace.runs.mkdir(parents=True, exist_ok=True)
    for name in ("optuna.db", "mlflow.db"):
        shutil.copy(template / name, workspace.runs / name)


def assert_exactly_once(plan, workspace, failed=(), waiting=()) -> None:
    """All but the failed and waiting has one COMPLETE trial and FINISHED runs that agree; nothing is left open."""
    record = Record(workspace.tracking)
    queue = Queue(workspace.queue, plan.queue, FAST.timing, lambda _: None)
    undone = {*failed, *waiting}
    trained = [cell for cell in (*plan.cells, *plan.teachers) if cell.key not in undone]
    complete = queue.trials("COMPLETE")
    assert sorted(trial.key for trial in complete) == sorted(item.key for item in plan.queued if item.key not in undone)
    assert queue.trials("RUNNING") == []
    assert sorted(trial.key for trial in queue.trials("WAITING")) == sorted(waiting)
    shown = read_record(workspace.tracking, plan)
    assert [row.key for row in shown.rows] == [cell.key for cell in trained]
    assert shown.problems == []
    by_cell = {trial.key: trial for trial in complete}
    for row in shown.rows:
        trial = by_cell[row.key]
        assert trial.runs == (row.run_id,)
        assert row.metrics[plan.study.metric] == trial.value
        assert not workspace.checkpoints(plan.queue, row.key).exists()
    if plan.comparison and plan.comparison.key not in undone:
        assert {row.run_id for row in shown.comparison} == {*by_cell[plan.comparison.key].runs}
        levels = [(row.factors["k"], row.factors["form"]) for row in shown.comparison]
        assert levels == [
            (entry.factors["k"], form) for entry in plan.comparison.spec.entries for form in ("train", "deployed")
        ]
    statuses = run_statuses(record, plan.study.name)
    assert "RUNNING" not in statuses.values()
    epochs = {cell.key: cell.epochs for cell in trained}
    for row in shown.rows:
        curve = record.client.get_metric_history(row.run_id, "val/top1")
        assert [point.step for point in curve] == list(range(1, epochs[row.key] + 1))
        assert [point.timestamp for point in curve] == sorted(point.timestamp for point in curve)
    if not undone:
        assert is_settled(workspace, plan, cell_states(workspace, plan))


def run_statuses(record, study) -> dict[str, str]:
    return {run.info.run_id: run.info.status for run in record.runs(study, "")}


def finished_workspace(plan, databases, runs: Path, cells=None) -> Workspace:
    """A workspace in which every cell of a plan, or those of these keys, is complete."""
    workspace = Workspace.at(runs)
    give_databases(databases, workspace)
    assert in_child(plan_and_work, plan, workspace, None, FAST, cells) == 0
    return workspace
