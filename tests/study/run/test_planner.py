"""Planning twice, at once, or after a crash comes to the same as planning once."""

import time
from collections import Counter

import pytest
from study_fakes import FAST, small_plan
from study_proof import give_databases, in_child, plan_and_work, start_child, status_of

from mobileone_core.cli import console
from mobileone_core.errors import InputError
from mobileone_core.study.database import at_work
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.queue.storage import trial_views
from mobileone_core.study.record.access import declaring_file, recorded_plans
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.record.record import Record
from mobileone_core.study.run import planner
from mobileone_core.study.run.planner import plan_cells, queue_order, repair
from mobileone_core.study.state import cell_states, fold, is_settled, study_states
from mobileone_core.study.workspace import Workspace
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.observer import TrainingStopped

PLAN = small_plan(levels=(1, 2, 3), seeds=2, epochs=1)


def plan_once(workspace, plan=PLAN):
    plan_cells(plan, workspace, FAST.timing, {"declared_in": "/studies/mine.py", "declaration": "ab"})


def trials(workspace):
    return Queue(workspace.queue, PLAN.queue, FAST.timing, lambda _: None).trials()


def test_planning_again_adds_nothing(databases, workspace):
    give_databases(databases, workspace)
    assert in_child(plan_once, workspace) == in_child(plan_once, workspace) == 0
    assert [trial.attributes["cell"] for trial in trials(workspace)] == [cell.key for cell in queue_order(PLAN.cells)]
    assert recorded_plans(workspace.tracking, PLAN.study.name) == [PLAN]
    assert recorded_plans(workspace.tracking) == [PLAN]
    assert declaring_file(workspace.tracking, PLAN.study.name) == ("/studies/mine.py", "ab")


@pytest.mark.slow
def test_a_larger_plan_adds_only_what_it_has_more(databases, workspace):
    give_databases(databases, workspace)
    assert in_child(plan_and_work, PLAN, workspace) == 0
    larger = small_plan(levels=(1, 2, 3, 4), seeds=2, epochs=1)
    assert in_child(plan_once, workspace, larger) == 0
    waiting = [trial.attributes["cell"] for trial in trials(workspace) if trial.state == "WAITING"]
    new = [cell for cell in larger.cells if cell.factors["k"] == 4]
    assert waiting == [cell.key for cell in new]
    assert {plan.id for plan in recorded_plans(workspace.tracking, PLAN.study.name)} == {PLAN.id, larger.id}


def test_every_level_gets_its_first_seed_before_any_its_second_and_the_dear_ones_come_first():
    order = [(cell.seed, cell.factors["k"]) for cell in queue_order(PLAN.cells)]
    assert order == [(0, 3), (0, 2), (0, 1), (1, 3), (1, 2), (1, 1)]


@pytest.mark.slow
def test_two_planners_at_once_on_nothing_at_all(workspace):
    children = [start_child(plan_once, workspace) for _ in range(2)]
    assert [status_of(child) for child in children] == [0, 0]
    assert sorted(trial.attributes["cell"] for trial in trials(workspace)) == sorted(cell.key for cell in PLAN.cells)
    assert recorded_plans(workspace.tracking, PLAN.study.name) == [PLAN]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.8, 1.6])
def test_a_planner_killed_while_it_creates_the_databases_breaks_nothing(workspace, seconds):
    child = start_child(plan_once, workspace)
    time.sleep(seconds)  # anywhere between the first table and the last cell
    child.kill()
    assert status_of(child) in (-9, 0)
    assert in_child(plan_once, workspace) == 0
    assert [item.state for item in cell_states(workspace, PLAN)] == ["waiting"] * len(PLAN.cells)
    assert not list(workspace.runs.glob(".*.new*"))


def test_a_study_over_strings_and_switches_keeps_its_levels(databases, workspace):
    give_databases(databases, workspace)
    factors = (
        Factor("activation", "model.activation", ("relu", "gelu"), "relu"),
        Factor("reparam", "model.reparam", (True, False), True),
    )
    plan = GridPlan(Study("grid", "?", factors, seeds=1), CellSpec())
    assert in_child(plan_once, workspace, plan) == 0
    assert [item.factors for item in cell_states(workspace, plan)] == [dict(cell.factors) for cell in plan.cells]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    workspace = Workspace.at(tmp_path / "file" / "runs")
    with pytest.raises(InputError, match="runs: cannot write to"):
        plan_once(workspace)


def test_a_record_of_a_newer_schema_is_left_alone(databases, workspace):
    give_databases(databases, workspace)

    def make_newer():
        plan_once(workspace)
        client = Record(workspace.tracking).client
        client.set_experiment_tag(client.get_experiment_by_name(PLAN.study.name).experiment_id, "schema", "99")

    assert in_child(make_newer) == 0
    with pytest.raises(InputError, match="written by a newer version"):
        plan_once(workspace)


def test_there_is_nothing_to_mend_where_nothing_is(workspace):
    assert repair(workspace) == []
    assert not workspace.runs.exists()


@pytest.mark.slow
def test_a_result_that_was_deleted_is_told_and_measured_again_on_demand(databases, workspace):
    give_databases(databases, workspace)
    assert in_child(plan_and_work, PLAN, workspace) == 0
    gone = cell_states(workspace, PLAN)[0]
    client = Record(workspace.tracking).client
    client.delete_run(gone.run_id)
    (line,) = plan_cells(PLAN, workspace, FAST.timing)
    assert all(word in line for word in (gone.key, gone.run_id, "not in the record", "--repair"))
    assert cell_states(workspace, PLAN)[0] == gone
    assert any(line.endswith(f"cell {gone.key} is missing again") for line in repair(workspace))
    assert cell_states(workspace, PLAN)[0].state == "missing"
    assert fold(trial_views(workspace.queue, PLAN.queue)) == study_states(workspace, PLAN.queue)
    assert in_child(plan_and_work, PLAN, workspace) == 0
    record = read_record(workspace.tracking, PLAN)
    assert record.problems == []
    assert [row.key for row in record.rows] == [cell.key for cell in PLAN.cells]
    states = cell_states(workspace, PLAN)
    assert is_settled(workspace, PLAN, states)
    assert states[0].run_id != gone.run_id


def plan_and_forget(workspace):
    """One cell fails, one is complete, the others wait; then the setting is forgotten, and planned again."""
    queue = Queue(workspace.queue, PLAN.queue, FAST.timing, lambda _: None)

    def fail(claim):
        claim.note("error", "ValueError: broken")
        raise ValueError

    queue.claim(lambda _: 0.5)
    queue.claim(fail)
    (workspace.checkpoints(PLAN.queue, "key")).mkdir(parents=True)
    assert Counter(item.state for item in cell_states(workspace, PLAN)) == {"complete": 1, "failed": 1, "waiting": 4}
    with pytest.raises(SystemExit, match="0"):
        console(["forget", PLAN.queue, "--runs", str(workspace.runs), "--yes"])
    assert Counter(item.state for item in cell_states(workspace, PLAN)) == {"complete": 1, "missing": 5}
    assert fold(trial_views(workspace.queue, PLAN.queue)) == study_states(workspace, PLAN.queue)
    assert recorded_plans(workspace.tracking, PLAN.study.name) == [PLAN]
    assert not workspace.checkpoints(PLAN.queue, "").exists()
    plan_once(workspace)
    assert Counter(item.state for item in cell_states(workspace, PLAN)) == {"complete": 1, "waiting": 5}


def test_a_forgotten_setting_keeps_what_is_complete(databases, workspace):
    give_databases(databases, workspace)
    assert in_child(plan_once, workspace) == 0
    assert in_child(plan_and_forget, workspace) == 0


@pytest.mark.slow
def test_a_setting_is_not_forgotten_while_a_command_works_on_it(workspace, capsys):
    """Between two cells, or while workers import, nothing of it runs."""
    plan_once(workspace)
    command = ["forget", PLAN.queue, "--runs", str(workspace.runs), "--yes"]
    with at_work(workspace.runs, PLAN.queue), at_work(workspace.runs, PLAN.queue):  # two commands share it
        with pytest.raises(SystemExit, match="2"):
            console(command)
        assert "one that no command works on" in capsys.readouterr().err
    assert len(study_states(workspace, PLAN.queue)) == 6
    with pytest.raises(SystemExit, match="0"):
        console(command)


@pytest.mark.slow
def test_a_trial_claimed_while_its_setting_is_forgotten_stays_its_workers(workspace, monkeypatch):
    plan_once(workspace)
    queue, other = (Queue(workspace.queue, PLAN.queue, FAST.timing, lambda _: None) for _ in range(2))
    looks = iter([None])  # the first look finds nothing that runs; the claim comes after it
    look = queue._require_idle
    monkeypatch.setattr(queue, "_require_idle", lambda: next(looks, look) and look())

    def work(claim):
        with pytest.raises(InputError, match=f"trial {claim.number} does"):
            queue.forget()
        return 0.5

    assert other.claim(work).state == "COMPLETE"
    assert [item.state for item in study_states(workspace, PLAN.queue)] == ["complete"]


@pytest.mark.slow
def test_plans_are_read_before_anything_is_removed(workspace, monkeypatch):
    def unreadable(*_):
        raise InputError("plan: written by another version")

    plan_once(workspace)
    monkeypatch.setattr(planner, "recorded_plans", unreadable)
    with pytest.raises(InputError, match="another version"):
        planner.forget(workspace, PLAN.queue)
    assert len(study_states(workspace, PLAN.queue)) == 6


def test_a_setting_without_results_is_forgotten_wholly_but_never_one_that_runs(databases, workspace, monkeypatch):
    give_databases(databases, workspace)
    plan_once(workspace)
    queue = Queue(workspace.queue, PLAN.queue, FAST.timing, lambda _: None)
    command = ["forget", PLAN.queue, "--runs", str(workspace.runs)]

    def running(claim):
        with pytest.raises(SystemExit, match="2"):
            console([*command, "--yes"])
        with pytest.raises(InputError, match="one that does not run"):
            queue.forget()
        raise TrainingStopped

    queue.claim(running)
    answers = iter(["y", "another", "y", PLAN.queue])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    for status in ("1", "0"):
        with pytest.raises(SystemExit, match=status):
            console(command)
    assert study_states(workspace, PLAN.queue) == []
    assert recorded_plans(workspace.tracking, PLAN.study.name) == []
    with pytest.raises(SystemExit, match="2"):
        console(command)
