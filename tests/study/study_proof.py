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
from study_fakes import FAST

from mobileone_core.study.job import Job
from mobileone_core.study.planner import plan_cells
from mobileone_core.study.queue import Queue
from mobileone_core.study.record import Record, read_rows
from mobileone_core.study.state import cell_states, is_settled
from mobileone_core.study.worker import Stop, Worker
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.execution import Execution

CHILDREN = multiprocessing.get_context("forkserver")  # forks of a process without threads, unlike this one
CHILDREN.set_forkserver_preload(["mobileone_core.study.worker", "mobileone_core.study.planner", "pytest"])


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


def plan_and_work(plan, workspace, data_root=None, engine=FAST) -> None:
    """What one command with one worker does, in this process."""
    plan_cells(plan, workspace, engine.timing)
    Worker(Job(workspace, plan.queue, None, Execution("cpu"), data_root, engine), Stop()).run()


def give_databases(template, workspace) -> None:
    """Empty databases made earlier: making them takes seconds."""
    workspace.runs.mkdir(parents=True, exist_ok=True)
    for name in ("optuna.db", "mlflow.db"):
        shutil.copy(template / name, workspace.runs / name)


def assert_exactly_once(plan, workspace, failed=()) -> None:
    """Every cell but the failed has one COMPLETE trial and one FINISHED run that agree; nothing is left open."""
    record = Record(workspace.tracking)
    queue = Queue(workspace.queue, plan.queue, FAST.timing, lambda _: None)
    keys = [cell.key for cell in plan.cells if cell.key not in failed]
    complete = queue.trials("COMPLETE")
    assert sorted(trial.attributes["cell"] for trial in complete) == sorted(keys)
    assert queue.trials("RUNNING") == queue.trials("WAITING") == []
    rows, problems = read_rows(workspace.tracking, plan.study.name, [cell.key for cell in plan.cells])
    assert [row.key for row in rows] == keys
    assert problems == []
    by_cell = {trial.attributes["cell"]: trial for trial in complete}
    for row in rows:
        trial = by_cell[row.key]
        assert row.run_id == trial.attributes["run"]
        assert row.metrics[plan.study.metric] == trial.value
        assert not (workspace.checkpoints(plan.queue, row.key) / "last.ckpt").exists()
    statuses = run_statuses(record, plan.study.name)
    assert "RUNNING" not in statuses.values()
    epochs = {cell.key: cell.spec.recipe.epochs for cell in plan.cells}
    for row in rows:
        curve = record.client.get_metric_history(row.run_id, "val/top1")
        assert [point.step for point in curve] == list(range(1, epochs[row.key] + 1))
        assert [point.timestamp for point in curve] == sorted(point.timestamp for point in curve)
    if not failed:
        assert is_settled(workspace, plan, cell_states(workspace, plan))


def run_statuses(record, study) -> dict[str, str]:
    return {run.info.run_id: run.info.status for run in record.runs(study, "")}


def finished_workspace(plan, databases, runs: Path) -> Workspace:
    """A workspace in which every cell of a plan is complete."""
    workspace = Workspace.at(runs)
    give_databases(databases, workspace)
    assert in_child(plan_and_work, plan, workspace) == 0
    return workspace
