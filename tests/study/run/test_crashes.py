"""A process that dies between any two steps leaves nothing that the next run does not mend."""

import json
import os
from functools import partial

import optuna
import pytest
from study_fakes import metric, script, small_plan
from study_proof import (
    after,
    assert_exactly_once,
    before,
    give_databases,
    in_child,
    nth,
    plan_and_work,
    run_statuses,
    says,
)

from mobileone_core.study import process
from mobileone_core.study.queue.queue import Claim, Queue
from mobileone_core.study.record.record import Record, RunWriter
from mobileone_core.study.run import attempt as attempts
from mobileone_core.study.state import cell_states, is_settled
from mobileone_core.study.workspace import Workspace

POINTS = {
    "claimed, no owner yet": lambda: before(Claim, "note", says("owner")),
    "owned, no run yet": lambda: after(Claim, "note", says("owner")),
    "run made, not noted": lambda: after(Record, "start"),
    "run noted": lambda: after(Claim, "note", says("runs")),
    "in the middle of an epoch": lambda: before(attempts.Attempt, "batch_finished", nth(7)),
    "epoch logged, no checkpoint": lambda: after(attempts.Attempt, "epoch_finished"),
    "trained, nothing final logged": lambda: before(RunWriter, "log_result"),
    "trained and logged, not told": lambda: after(RunWriter, "log_result"),
    "told, not FINISHED": lambda: before(Record, "end", says("FINISHED")),
    "FINISHED, checkpoint still there": lambda: after(Record, "end", says("FINISHED")),
}


def fill_disk():
    def full(*_):
        raise OSError(28, os.strerror(28), "weights.safetensors")

    RunWriter.log_result = full


def crash_and_work(plan, workspace, arrange, data_root=None):
    arrange()
    plan_and_work(plan, workspace, data_root)


@pytest.mark.quick_cases("run made, not noted", "in the middle of an epoch", "told, not FINISHED")
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_dies_between_two_steps_is_mended(databases, workspace, point):
    plan = small_plan(levels=(1, 2), seeds=1, epochs=3)
    give_databases(databases, workspace)
    assert in_child(crash_and_work, plan, workspace, POINTS[point]) == -9
    assert not is_settled(workspace, plan, cell_states(workspace, plan))
    assert in_child(plan_and_work, plan, workspace) == 0
    assert_exactly_once(plan, workspace)
    statuses = run_statuses(Record(workspace.tracking), plan.study.name)
    assert set(statuses.values()) <= {"FINISHED", "KILLED"}


@pytest.mark.quick_cases("trained and logged, not told")
@pytest.mark.parametrize("point", ["in the middle of an epoch", "trained and logged, not told", "told, not FINISHED"])
def test_a_worker_that_dies_with_a_teacher_is_mended_and_its_students_follow(databases, workspace, point):
    plan = small_plan(levels=(1,), seeds=1, epochs=3, teachers=("small",))
    give_databases(databases, workspace)
    assert in_child(crash_and_work, plan, workspace, POINTS[point]) == -9
    assert cell_states(workspace, plan)[1].state == "waiting"
    assert in_child(plan_and_work, plan, workspace) == 0
    assert_exactly_once(plan, workspace)


PLANNING = {
    "plan not recorded": lambda: before(Record, "save_plan"),
    "plan recorded, nothing queued": lambda: before(Queue, "enqueue"),
    "one cell queued": lambda: after(Queue, "enqueue"),
}


@pytest.mark.quick_cases("one cell queued")
@pytest.mark.parametrize("point", PLANNING)
def test_a_planner_that_dies_is_mended(databases, workspace, point):
    plan = small_plan(levels=(1, 2), seeds=1, epochs=1)
    give_databases(databases, workspace)
    assert in_child(crash_and_work, plan, workspace, PLANNING[point]) == -9
    assert in_child(plan_and_work, plan, workspace) == 0
    assert_exactly_once(plan, workspace)


MENDING = {
    "swept, run still open": lambda: before(Record, "end", says("KILLED")),
    "swept, not queued again": lambda: before(Queue, "requeue"),
}


@pytest.mark.quick_cases("swept, not queued again")
@pytest.mark.parametrize("point", MENDING)
def test_a_mender_that_dies_is_mended(databases, workspace, point):
    plan = small_plan(levels=(1, 2), seeds=1, epochs=3)
    give_databases(databases, workspace)
    assert in_child(crash_and_work, plan, workspace, POINTS["epoch logged, no checkpoint"]) == -9
    assert in_child(crash_and_work, plan, workspace, MENDING[point]) == -9
    assert in_child(plan_and_work, plan, workspace) == 0
    assert_exactly_once(plan, workspace)


FAILING = {
    "error noted, run still open": lambda: before(Record, "end", says("FAILED")),
    "run FAILED, not told": lambda: after(Record, "end", says("FAILED")),
}


@pytest.mark.quick_cases("error noted, run still open")
@pytest.mark.parametrize("point", FAILING)
def test_a_cell_that_raises_while_its_worker_dies_is_tried_again(databases, workspace, tmp_path, point):
    plan = small_plan(levels=(1, 2), seeds=1, epochs=3)
    give_databases(databases, workspace)
    raising = script(tmp_path / "data", raising=[plan.cells[0].key])
    assert in_child(crash_and_work, plan, workspace, FAILING[point], raising) == -9
    assert in_child(plan_and_work, plan, workspace) == 0
    assert_exactly_once(plan, workspace)


def test_a_resumed_attempt_logs_the_epochs_of_the_one_before_with_their_times(databases, workspace):
    plan = small_plan(levels=(1,), seeds=1, epochs=3)
    give_databases(databases, workspace)
    assert in_child(crash_and_work, plan, workspace, POINTS["in the middle of an epoch"]) == -9
    assert in_child(plan_and_work, plan, workspace) == 0
    record = Record(workspace.tracking)
    runs = {run.data.tags["attempt"]: run.info.run_id for run in record.runs(plan.study.name, "")}
    first, second = (record.client.get_metric_history(runs[attempt], "val/top1") for attempt in "12")
    assert [point.value for point in second] == [metric(plan.cells[0].key, epoch) for epoch in (1, 2, 3)]
    assert [(p.step, p.value, p.timestamp) for p in first] == [(p.step, p.value, p.timestamp) for p in second][:1]


def test_a_failed_cell_says_why_and_the_study_goes_on(databases, workspace, tmp_path):
    plan = small_plan(levels=(1, 2, 3), seeds=1, epochs=3)
    give_databases(databases, workspace)
    bad = plan.cells[2].key
    assert in_child(plan_and_work, plan, workspace, script(tmp_path / "data", raising=[bad])) == 0
    assert_exactly_once(plan, workspace, failed=[bad])
    state = cell_states(workspace, plan)[2]
    assert (state.state, state.error) == ("failed", "ValueError: the loss went away for ever")
    run = Record(workspace.tracking).client.get_run(state.run_id)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", state.error)


def forgetting(*names):
    """Trials as a version wrote them that did not know these attributes."""

    def arrange():
        enqueue = optuna.Study.enqueue_trial

        def without(study, params, user_attrs):
            enqueue(study, params, {name: value for name, value in user_attrs.items() if name not in names})

        optuna.Study.enqueue_trial = without
        before(Queue, "requeue")  # nothing here may be tried twice

    return arrange


def test_trials_of_a_version_without_roles_are_cells(databases, workspace):
    plan = small_plan(levels=(1, 2), seeds=1, epochs=1)
    give_databases(databases, workspace)
    assert in_child(crash_and_work, plan, workspace, forgetting("role", "needs")) == 0
    assert_exactly_once(plan, workspace)


@pytest.mark.parametrize("name", ["metric", "spec"])
def test_a_trial_that_cannot_be_begun_fails_once_and_says_why(databases, workspace, name):
    plan = small_plan(levels=(1, 2), seeds=1, epochs=1)
    give_databases(databases, workspace)
    assert in_child(crash_and_work, plan, workspace, forgetting(name)) == 0
    states = cell_states(workspace, plan)
    assert [(item.state, item.attempt, item.error) for item in states] == [("failed", 1, f"KeyError: '{name}'")] * 2
    assert run_statuses(Record(workspace.tracking), plan.study.name) == {}


def test_a_full_disk_fails_the_cell_in_one_line(databases, workspace):
    plan = small_plan(levels=(1,), seeds=1, epochs=1)
    give_databases(databases, workspace)
    assert in_child(crash_and_work, plan, workspace, fill_disk) == 0
    state = cell_states(workspace, plan)[0]
    assert state.error == "OSError: [Errno 28] No space left on device: 'weights.safetensors'"


def train_elsewhere(plan, workspace):
    """Work as a process of another machine, which cannot see whether those of the first are alive."""
    process.machine_id = lambda: "another"
    plan_and_work(plan, workspace)


@pytest.mark.slow
def test_a_cell_whose_machine_is_gone_resumes_elsewhere_from_shared_checkpoints(databases, workspace, tmp_path):
    plan = small_plan(levels=(1,), seeds=1, epochs=4)
    give_databases(databases, workspace)
    shared = tmp_path / "shared"
    one, other = (
        Workspace.at(tmp_path / name, workspace.queue, workspace.tracking, shared) for name in ("one", "other")
    )
    die_in_epoch_three = partial(after, attempts.Attempt, "epoch_finished", nth(3))
    assert in_child(crash_and_work, plan, one, die_in_epoch_three) == -9
    path = shared / plan.queue / plan.cells[0].key / "last.ckpt"
    history = json.loads(path.read_text())
    history[0]["metrics"]["val/top1"] = 0.125  # a value that only this file has
    path.write_text(json.dumps(history))
    assert in_child(train_elsewhere, plan, other) == 0
    assert_exactly_once(plan, other)
    state = cell_states(other, plan)[0]
    curve = Record(other.tracking).client.get_metric_history(state.run_id, "val/top1")
    assert (state.attempt, curve[0].value) == (2, 0.125)
    assert not path.parent.exists()
