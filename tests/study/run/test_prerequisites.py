"""Teachers: trained once, before their students, whoever dies or fails on the way."""

import pytest
from study_fakes import FAST, Lines, script, small_plan
from study_proof import assert_exactly_once, give_databases, in_child, plan_and_work, run_plan

from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.record.record import Record
from mobileone_core.study.run.progress import status_lines
from mobileone_core.study.run.runner import run_study
from mobileone_core.study.state import cell_states, waiting_for_failed
from mobileone_core.study.workspace import Setup
from mobileone_core.training.execution import Execution
from mobileone_core.training.recipe import Teacher

HASH = "0123456789abcdef"


def by_key(workspace, plan):
    return {item.key: item for item in cell_states(workspace, plan)}


def assert_teachers_came_first(workspace, plan):
    states = by_key(workspace, plan)
    for cell in plan.cells:
        for need in cell.needs:
            assert states[need].ended <= states[cell.key].started


@pytest.mark.slow
def test_three_workers_train_a_shared_teacher_once_before_its_students(databases, workspace):
    plan = small_plan(levels=(1, 2), seeds=2, epochs=2, teachers=("small",))
    assert [cell.needs for cell in plan.cells] == [(plan.teachers[cell.seed].key,) for cell in plan.cells]
    give_databases(databases, workspace)
    outcome, _ = run_plan(plan, workspace, workers=3)
    assert outcome.is_complete
    assert outcome.notes == ()
    assert [item.role for item in outcome.states] == ["teacher"] * 2 + ["cell"] * 4
    assert {item.attempt for item in outcome.states} == {1}
    assert_exactly_once(plan, workspace)
    assert_teachers_came_first(workspace, plan)
    queued = Queue(workspace.queue, plan.queue, FAST.timing, lambda _: None).trials()
    assert [(item.attributes["seed"], item.attributes["role"]) for item in queued] == [
        (seed, role) for seed in (0, 1) for role in ("teacher", "cell", "cell")
    ]
    assert any("teacher=small seed 0" in line and "complete" in line for line in status_lines(workspace))


@pytest.mark.slow
def test_a_failed_teacher_leaves_its_students_waiting_and_the_same_command_brings_them_back(
    databases, workspace, tmp_path
):
    plan = small_plan(levels=(1, 2), seeds=2, epochs=2, teachers=("small",), compares="forms")
    give_databases(databases, workspace)
    bad = plan.teachers[0].key
    students = [cell.key for cell in plan.cells if cell.seed == 0]
    stuck = [*students, plan.comparison.key]
    outcome, _ = run_plan(plan, workspace, script(tmp_path / "data", raising=[bad]))
    assert [item.key for item in outcome.failures] == [bad]
    assert outcome.notes == ("3 wait for a failed cell: k=1 seed 0, ...",)
    assert [item.key for item in waiting_for_failed(outcome.states)] == stuck
    assert_exactly_once(plan, workspace, failed=[bad], waiting=stuck)
    outcome, _ = run_plan(plan, workspace)
    assert outcome.is_complete
    assert outcome.notes == ()
    assert by_key(workspace, plan)[bad].attempt == 2
    assert_exactly_once(plan, workspace)
    assert_teachers_came_first(workspace, plan)


def test_weights_of_a_file_are_passed_on_and_asked_for_where_they_are_missing(databases, workspace, tmp_path):
    teacher = Teacher("timm:resnet18", HASH)
    plan = small_plan(levels=(1,), seeds=1, epochs=1, teachers=(teacher,))
    assert plan.teachers == ()
    give_databases(databases, workspace)
    outcome, _ = run_plan(plan, workspace)
    (failed,) = outcome.failures
    assert all(word in failed.error for word in ("teachers", f"timm:resnet18={HASH}", "no file"))
    path = tmp_path / "weights"
    path.write_text(HASH)
    setup = Setup(workspace, execution=Execution("cpu"), weights={HASH: path}, engine=FAST)
    assert run_study(plan, setup, Lines()).is_complete
    assert_exactly_once(plan, workspace)


def test_a_teacher_whose_weights_are_gone_fails_its_student_in_one_line(databases, workspace):
    plan = small_plan(levels=(1,), seeds=1, epochs=1, teachers=("small",))
    give_databases(databases, workspace)
    teacher = plan.teachers[0].key
    assert in_child(plan_and_work, plan, workspace, None, FAST, {teacher}) == 0
    run = by_key(workspace, plan)[teacher].run_id
    Record(workspace.tracking).file(run, "weights.safetensors", workspace.runs).unlink()
    assert in_child(plan_and_work, plan, workspace) == 0
    state = by_key(workspace, plan)[plan.cells[0].key]
    assert state.state == "failed"
    assert state.error.startswith(f"weights.safetensors of run {run}: ")


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_is_refused(workspace, workers):
    with pytest.raises(ValueError, match=f"workers: {workers} is not allowed"):
        Setup(workspace, workers)
