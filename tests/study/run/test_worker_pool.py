"""Workers by index: a new one takes a dead one's place, so that every GPU keeps as many."""

import multiprocessing
import subprocess
import sys
import time
from multiprocessing.context import ForkServerProcess
from types import SimpleNamespace

import pytest
import torch
from study_fakes import FAST, Lines, small_plan
from study_proof import assert_exactly_once, give_databases, run_plan

from mobileone_core.errors import InputError
from mobileone_core.study.run import worker, worker_pool
from mobileone_core.study.run.runner import run_study
from mobileone_core.study.run.worker_pool import MAX_REPLACEMENTS, WorkerPool
from mobileone_core.study.workspace import Engine, Job, Setup
from mobileone_core.training import distributed
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.execution import Execution
from mobileone_core.training.recipe import Recipe, Teacher


class Context:
    """Starts processes that live until they are given an exit code."""

    Pipe = staticmethod(multiprocessing.Pipe)

    def __init__(self):
        self.started = []

    def Process(self, args, **_):  # noqa: N802
        process = SimpleNamespace(index=args[1], pid=len(self.started) + 1, exitcode=None, start=lambda: None)
        process.is_alive = lambda: process.exitcode is None
        self.started.append(process)
        return process


@pytest.fixture
def context(monkeypatch):
    context = Context()
    monkeypatch.setattr(worker_pool, "_context", lambda _: context)
    return context


def indices(context):
    """Indices of the living workers, by age."""
    return [process.index for process in context.started if process.is_alive()]


def test_new_workers_take_the_places_of_dead_ones(context, workspace):
    pool = WorkerPool(Job(Setup(workspace), "study"))
    pool.start(4)
    assert indices(context) == [0, 1, 2, 3]
    for number in (1, 2):
        context.started[number].exitcode = -9
    assert pool.reap() == ["worker 2 died (SIGKILL)", "worker 3 died (SIGKILL)"]
    pool.replace(2)
    assert indices(context) == [0, 3, 1, 2]
    context.started[0].exitcode = -9
    pool.replace(len(pool.reap()))
    assert indices(context) == [3, 1, 2, 0]


def test_only_so_many_are_replaced(context, workspace):
    pool = WorkerPool(Job(Setup(workspace), "study"))
    pool.start(1)
    for _ in range(MAX_REPLACEMENTS + 2):
        for process in context.started:
            process.exitcode = 1
        pool.replace(len(pool.reap()))
    assert len(context.started) == 1 + MAX_REPLACEMENTS
    assert pool.workers == {}


def test_a_worker_that_cannot_start_is_one_line(context, monkeypatch, workspace):
    def start():
        raise EOFError("unexpected EOF")  # as multiprocessing says of a fork server that ends at once

    monkeypatch.setattr(context, "Process", lambda **_: SimpleNamespace(start=start, pid=None))
    with pytest.raises(InputError, match=r"^a worker process cannot be started.*memory \(unexpected EOF\)$"):
        WorkerPool(Job(Setup(workspace), "study")).check([])


@pytest.mark.slow
def test_modules_of_the_current_directory_are_not_imported(tmp_path):
    script, here = tmp_path / "script.py", tmp_path / "here"
    script.write_text(
        "from pathlib import Path\nfrom mobileone_core.study.run.worker_pool import WorkerPool\n"
        "from mobileone_core.study.workspace import Job, Setup, Workspace\n"
        "if __name__ == '__main__':\n    print(WorkerPool(Job(Setup(Workspace.at(Path('runs'))), 'study')).check([]))\n"
    )
    here.mkdir()
    for name in ("random", "queue", "torch"):
        (here / f"{name}.py").write_text("raise SystemExit('not the one that is meant')")
    done = subprocess.run([sys.executable, script], cwd=here, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.fixture
def sender():
    """The end of a pipe that a worker speaks into; whoever listened is gone."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    receiver.close()
    with sender:
        yield sender


@pytest.mark.parametrize("precision", ["32", "16-mixed"])
def test_a_check_that_nobody_hears_ends_quietly(precision, sender, workspace):
    """Whether all is well or a CPU refuses the precision."""
    cell = CellSpec(recipe=Recipe(precision=precision))
    worker.probe(Job(Setup(workspace, execution=Execution("cpu")), "study"), [cell], sender)


def test_imports_that_fail_refuse_the_check(monkeypatch, workspace):
    monkeypatch.setitem(sys.modules, "mobileone_core.training.fine_tuning", None)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    worker.probe(Job(Setup(workspace), "study"), [], sender)
    assert receiver.recv().startswith("ModuleNotFoundError: ")


@pytest.mark.parametrize("teacher", [Teacher("small", "0" * 16), Teacher("timm:no_such_network", "0" * 16)])
def test_a_teachers_file_is_tried_before_any_cell(teacher, workspace):
    file = workspace.runs / "teacher.pth"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("no weights")
    receiver, sender = multiprocessing.Pipe(duplex=False)
    setup = Setup(workspace, execution=Execution("cpu"), weights={"0" * 16: file})
    worker.probe(Job(setup, "study"), [CellSpec(recipe=Recipe(teachers=(teacher,)))], sender)
    assert receiver.recv().startswith("teachers: ")


def test_last_words_that_nobody_hears_end_the_worker_all_the_same(sender, monkeypatch, workspace):
    monkeypatch.setattr(worker, "StopRequest", object)  # it would answer this process's signals
    with pytest.raises(SystemExit) as ended:
        worker.work(Job(Setup(workspace, engine=Engine(train="nowhere:nothing")), "study"), 0, sender)
    assert ended.value.code == 1


def test_a_rank_that_never_starts_is_given_up(monkeypatch, tmp_path):
    receiver, sender = multiprocessing.Pipe(duplex=False)
    asleep = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(600,))
    asleep.start()
    monkeypatch.setattr(distributed, "START_TIMEOUT", 0.01)
    monkeypatch.setattr(
        distributed, "_start", lambda member, *_: distributed.RankProcess(member.rank, asleep, receiver)
    )
    late = pytest.raises(ChildProcessError, match="rank 1 has not started within 0 s")
    with receiver, sender, late, distributed.other_ranks(2, torch.device("cpu"), tmp_path, print, ()):
        pytest.fail("it went on without rank 1")
    assert asleep.exitcode == -9


@pytest.mark.slow
def test_where_a_fork_is_not_safe_workers_are_started_afresh(databases, workspace, monkeypatch):
    monkeypatch.setattr(worker_pool, "sys", SimpleNamespace(platform="darwin"))
    assert WorkerPool(Job(Setup(workspace), "study"))._context.get_start_method() == "spawn"
    plan = small_plan(levels=(1, 2), seeds=1, epochs=1)
    give_databases(databases, workspace)
    outcome = run_study(plan, Setup(workspace, execution=Execution("cpu"), engine=FAST), Lines())
    assert outcome.is_complete
    assert outcome.notes == ()
    assert_exactly_once(plan, workspace)


def test_a_worker_starts_although_the_fork_server_has_just_died(databases, workspace, monkeypatch):
    plan = small_plan(levels=(1,), seeds=1, epochs=1)
    give_databases(databases, workspace)
    start, failures = ForkServerProcess.start, [EOFError, ConnectionResetError]

    def failing(self):
        if failures and not self.name.startswith("tried"):
            self.name = f"tried {self.name}"
            raise failures.pop()
        start(self)

    monkeypatch.setattr(ForkServerProcess, "start", failing)
    outcome, _ = run_plan(plan, workspace, workers=2)
    assert outcome.is_complete
