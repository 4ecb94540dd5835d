"""Claims are atomic, a cell is run once however often it is queued, and dead processes are found."""

import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import OperationalError, PendingRollbackError
from study_fakes import FAST, small_plan
from study_proof import CHILDREN, give_databases, in_child, start_child, status_of

from mobileone_core.errors import InputError
from mobileone_core.study.process import Owner
from mobileone_core.study.queue import storage as storages
from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.queue.storage import open_storage, trial_views
from mobileone_core.study.state import fold, study_names, study_states

PLAN = small_plan(levels=(1, 2), seeds=9)


@pytest.fixture
def queue(databases, workspace):
    give_databases(databases, workspace)
    return opened(workspace)


def opened(workspace, on_dead=lambda _: None):
    return Queue(workspace.queue, PLAN.queue, FAST.timing, on_dead, create=True)


def fill(queue, cells=PLAN.cells):
    for cell in cells:
        queue.enqueue(cell, "test/top1", 1)


def pop_all(workspace, barrier):
    """Pop until nothing is left; all processes hold their first trial at the same time."""
    queue = opened(workspace)
    met = []

    def attempt(_):
        if not met:
            met.append(barrier.wait(60))
        return float(os.getpid())

    while queue.trials("WAITING"):
        queue.claim(attempt)


def test_three_processes_pop_all_trials_once_each(databases, workspace):
    give_databases(databases, workspace)
    fill(opened(workspace))
    with CHILDREN.Manager() as manager:
        barrier = manager.Barrier(3)
        children = [start_child(pop_all, workspace, barrier) for _ in range(3)]
        assert [status_of(child) for child in children] == [0] * 3
    queue = opened(workspace)
    complete = queue.trials("COMPLETE")
    assert sorted(trial.attributes["cell"] for trial in complete) == sorted(cell.key for cell in PLAN.cells)
    assert all(trial.value == trial.attributes["owner"]["pid"] for trial in complete)
    assert {trial.value for trial in complete} == {child.pid for child in children}
    extra = [item for item in queue.study.get_trials() if item.state.name != "COMPLETE"]
    assert all(item.state.name == "PRUNED" and "cell" not in item.user_attrs for item in extra)


def test_a_cell_queued_twice_runs_once(queue):
    fill(queue, [PLAN.cells[0]] * 3)
    ran = []
    while queue.trials("WAITING"):
        queue.claim(lambda claim: ran.append(claim.number) or 1.0)
    assert ran == [0]


def test_of_two_trials_of_a_cell_the_earlier_one_counts(queue, workspace):
    fill(queue, [PLAN.cells[0]] * 2)
    nested = []

    def attempt(claim):
        nested.append(opened(workspace).claim(lambda _: 2.0))
        return 1.0

    assert queue.claim(attempt).value == 1.0
    assert nested == [None]


def roles_of(queue):
    """Tells the roles of what can be begun, of the cells named or of all."""
    return lambda *cells: [item.attributes["role"] for item in queue.claimable(queue.trials(), *cells)]


def test_what_needs_another_cell_waits_until_it_is_complete(queue):
    plan = small_plan(levels=(1, 2), seeds=1, teachers=("small",), compares="forms")
    fill(queue, [*reversed(plan.cells), plan.comparison, *plan.teachers])
    can_begin, popped = roles_of(queue), []

    def attempt(claim):
        popped.append(claim.attributes["cell"])
        assert claim.attributes["needs"] == list(next(c for c in plan.queued if c.key == popped[-1]).needs)
        assert can_begin() == ["cell"] * (len(popped) == 2)  # while the first cell runs, the second
        if len(popped) == 2:
            raise ValueError
        return 1.0

    assert can_begin() == ["teacher"]
    while can_begin():
        queue.claim(attempt)
    assert popped == [plan.teachers[0].key, plan.cells[1].key, plan.cells[0].key]
    assert [trial.attributes["role"] for trial in queue.trials("WAITING")] == ["comparison"]
    assert queue.claim(lambda _: 1.0) is None


def test_a_comparison_of_fewer_seeds_does_not_wait_for_the_others(queue):
    plan, fewer = (small_plan(levels=(1, 2), seeds=seeds, compares="forms") for seeds in (2, 1))
    assert plan.comparison.key == fewer.comparison.key
    fill(queue, plan.queued)
    for _ in fewer.cells:
        queue.claim(lambda _: 1.0, [cell.key for cell in fewer.cells])
    can_begin = roles_of(queue)
    assert can_begin([item.key for item in fewer.queued]) == ["comparison"]
    assert can_begin() == ["cell"] * 2


def test_an_empty_queue_gives_nothing(queue):
    assert queue.claim(lambda _: 1.0) is None
    assert queue.trials() == []


def test_an_attempt_whose_process_died_is_queued_again_at_once(queue, workspace):
    fill(queue, PLAN.cells[:1])
    assert in_child(lambda: opened(workspace).claim(lambda _: os.kill(os.getpid(), signal.SIGKILL))) == -9
    dead = []
    queue.on_dead = dead.append
    assert [trial.number for trial in queue.sweep()] == [0]
    assert [trial.number for trial in dead] == [0]
    (waiting,) = queue.trials("WAITING")
    assert (waiting.attributes["attempt"], waiting.attributes["after"]) == (2, 0)
    assert "owner" not in waiting.attributes
    assert queue.sweep() == []


def test_a_silent_attempt_is_taken_away_and_its_tell_refused(queue, workspace):
    fill(queue, PLAN.cells[:1])
    other = opened(workspace)

    def attempt(claim):
        swept = []
        while not swept:  # it beats once a second
            with queue.study._storage._backend.engine.begin() as connection:  # a heartbeat of long ago
                connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
            swept = other.sweep()
        assert [trial.number for trial in swept] == [0]
        assert not claim.report(1, 0.5)
        assert not claim.note("runs", ["r"])
        return 1.0

    assert queue.claim(attempt) is None
    assert [(trial.number, trial.state) for trial in queue.trials()] == [(0, "FAIL"), (1, "WAITING")]


def test_a_living_attempt_is_left_alone(queue, workspace):
    fill(queue, PLAN.cells[:1])
    swept = []

    def attempt(claim):
        swept.extend(opened(workspace).sweep())
        return 1.0

    assert queue.claim(attempt).state == "COMPLETE"
    assert swept == []


def test_the_fast_reader_sees_what_optuna_sees(queue, workspace):
    fill(queue, PLAN.cells[:6])

    def attempt(claim):
        claim.report(1, 0.25)
        claim.report(2, 0.5)
        if claim.number == 1:
            claim.note("error", "it broke")
            raise ValueError
        if claim.number == 2:
            queue_seen.append((study_states(workspace, PLAN.queue), fold(trial_views(workspace.queue, PLAN.queue))))
            raise ValueError
        return 0.75

    queue_seen = []
    for _ in range(4):
        queue.claim(attempt)
    queue_seen.append((study_states(workspace, PLAN.queue), fold(trial_views(workspace.queue, PLAN.queue))))
    for fast, slow in queue_seen:
        assert fast == slow
    assert [item.state for item in queue_seen[0][0]] == ["complete", "failed", "running", *["waiting"] * 3]
    assert [item.state for item in queue_seen[1][0]] == ["complete", "failed", "missing", "complete", *["waiting"] * 2]
    assert study_names(workspace) == [PLAN.queue]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_an_attempt_between_claim_and_owner_is_judged_by_this_process_alone_whatever_the_clocks_say(queue, workspace):
    fill(queue, PLAN.cells[:1])
    queue.study.candidates = lambda: [0]
    number = queue.study.ask().number
    with queue.study._storage._backend.engine.begin() as connection:  # as a host of another time zone has it
        connection.exec_driver_sql("UPDATE trials SET datetime_start = '2020-01-01 00:00:00'")
    other = opened(workspace)
    assert other.sweep() == []
    other.timing = replace(other.timing, claim=0.0)
    assert [trial.number for trial in other.sweep()] == [number]


def test_a_study_that_was_never_planned_is_named(queue, workspace):
    with pytest.raises(InputError, match="'other' is not allowed; it is not in this queue"):
        Queue(workspace.queue, "other", FAST.timing, lambda _: None)


def test_a_queue_that_cannot_be_opened_is_one_line():
    with pytest.raises(InputError, match="queue nonsense"):
        open_storage("nonsense", FAST.timing)


def test_owners():
    here = Owner.here()
    nobody = replace(here, pid=2**22 + 1)
    assert not here.is_gone
    assert replace(here, created=here.created - 100).is_gone
    assert nobody.is_gone
    assert not replace(nobody, host="elsewhere.example").is_gone
    assert not replace(nobody, machine="another of the same name").is_gone
    assert Owner.read(asdict(here)) == here
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet buried
        assert replace(here, pid=child.pid).is_gone


def failing(error, times):
    """A method of a storage that raises an error so many times, then returns what it was called with."""
    left = [error] * times

    def call(self, *arguments):
        if left:
            raise StorageInternalError("no commit") from left.pop()
        return arguments

    return call


def test_an_error_of_the_database_costs_one_heartbeat(workspace, databases, monkeypatch):
    give_databases(databases, workspace)
    storage = open_storage(workspace.queue, FAST.timing)
    beat = failing(OSError("disk full"), 1)
    monkeypatch.setattr(RDBStorage, "record_heartbeat", lambda self, trial: beats.append(beat(self, trial)))
    beats = []
    storage.record_heartbeat(7)  # else Optuna's thread would end here
    storage.record_heartbeat(7)
    assert beats == [(7,)]


def test_calls_wait_for_a_server_that_restarts(workspace, databases, monkeypatch):
    give_databases(databases, workspace)
    storage = open_storage(workspace.queue, FAST.timing)
    gone = OperationalError("SELECT 1", {}, OSError("connection refused"))
    lost, removed = PendingRollbackError("Can't reconnect"), []
    monkeypatch.setattr(RDBStorage, "remove_session", lambda _: removed.append(1))
    monkeypatch.setattr(storages, "RETRY", 0.0)
    cases = ((gone, 5.0, 3), (lost, 5.0, 3), (ValueError("no such trial"), 5.0, 0), (gone, 0.0, 0))
    for error, patience, times in cases:
        storage.patience = patience
        monkeypatch.setattr(RDBStorage, "get_trial", failing(error, 3))
        if times:
            assert storage.get_trial(3) == (3,)
        else:
            with pytest.raises(StorageInternalError):
                storage.get_trial(3)
    assert len(removed) == 6  # a session that lost its connection refuses all that follows


def test_a_process_with_a_queue_reads_through_its_patient_storage(queue, workspace, monkeypatch):
    """A server that is away for a moment would otherwise fail the cell that looks at its neighbours."""
    fill(queue, PLAN.cells[:1])
    monkeypatch.setattr(storages, "has_table", lambda *_: pytest.fail("it asks a server that may be away"))
    monkeypatch.setattr(storages, "RETRY", 0.0)
    queue._storage.patience = 5.0
    for name in ("_get_trials", "get_all_studies"):  # Optuna's cache calls the first
        monkeypatch.setattr(RDBStorage, name, failing_once(getattr(RDBStorage, name)))
    assert [view.key for view in trial_views(workspace.queue, PLAN.queue)] == [PLAN.cells[0].key]


def failing_once(call):
    errors = [OperationalError("", {}, Exception("server closed the connection unexpectedly"))]

    def wrapped(*arguments, **options):
        if errors:
            raise errors.pop()
        return call(*arguments, **options)

    return wrapped
