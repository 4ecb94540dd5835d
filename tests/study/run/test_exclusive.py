"""A comparison runs after all else, with nothing beside it, and is in the record whole or not at all."""

import json
import os
import signal
import time
from dataclasses import replace
from datetime import datetime, timedelta

import psutil
import pytest
from study_fakes import CONTROL, FAST, kept_times, script, small_plan
from study_proof import (
    after,
    assert_exactly_once,
    before,
    finished_workspace,
    give_databases,
    in_child,
    nth,
    plan_and_work,
    run_plan,
    says,
    start_child,
    status_of,
)

from mobileone_core.benchmark.spec import read_spec
from mobileone_core.study.process import Owner
from mobileone_core.study.queue.queue import Claim
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.record.record import Record, RunWriter
from mobileone_core.study.run import attempt
from mobileone_core.study.run.attempt import measuring, neighbours
from mobileone_core.study.run.planner import measure_again, plan_cells, repair
from mobileone_core.study.run.progress import status_lines
from mobileone_core.study.state import CellState, cell_states, is_settled

PLAN = small_plan(levels=(1, 2), seeds=1, epochs=1, compares="forms")
CELLS = frozenset(cell.key for cell in PLAN.cells)
KEY = PLAN.comparison.key
START = datetime(2026, 1, 1)
RUNS = 4  # two levels in two forms


@pytest.fixture(scope="module")
def finished(databases, tmp_path_factory):
    """All cells complete, the comparison waits."""
    runs = tmp_path_factory.mktemp("finished")
    return finished_workspace(PLAN, databases, runs, CELLS)


def comparison_state(workspace):
    return cell_states(workspace, PLAN)[-1]


class Refused(Exception):  # noqa: N818
    """The lock is another's."""


def refuse():
    raise Refused


def test_one_comparison_at_a_time_whatever_its_queue(tmp_path):
    runs = tmp_path / "not" / "there"  # a machine whose databases are servers
    with measuring(runs, refuse), pytest.raises(Refused), measuring(runs, refuse):
        pass
    with measuring(runs, refuse):
        pass


def hold_and_stop(runs):
    with measuring(runs, refuse):
        os.kill(os.getpid(), signal.SIGSTOP)


def test_a_stopped_process_keeps_no_comparison_waiting(tmp_path):
    child = start_child(hold_and_stop, tmp_path)
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    with measuring(tmp_path, refuse):
        pass
    os.kill(child.pid, signal.SIGCONT)
    assert status_of(child) == 0


def running(key, second, role="cell", **owner):
    """A queue's state: a cell at work since a second."""
    process = replace(Owner.here(), **owner)
    return CellState(key, 0, {}, "running", role=role, owner=process, started=START + timedelta(seconds=second))


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        ({"own": [running("own", 5, "comparison")], "other": [running("cell", 4)]}, ["cell"]),
        ({"own": [running("own", 5, "comparison")], "other": [running("cell", 6)]}, []),
        ({"own": [running("own", 5, "comparison"), running("cell", 5)]}, ["cell"]),
        ({"own": [running("own", 5)], "other": [running("cell", 4), running("one", 4, "comparison")]}, ["one"]),
        ({"own": [running("own", 5)], "other": [running("one", 6, "comparison")]}, []),
        ({"own": [running("own", 5, "comparison"), running("gone", 4, pid=2**22 + 1)]}, []),
        ({"own": [running("own", 5, "comparison"), running("far", 4, host="elsewhere.example")]}, []),
        ({"own": [running("own", 5, "comparison"), replace(running("new", 4), owner=None)]}, []),
        ({"own": [replace(running("own", 5), state="waiting")], "other": [running("one", 4, "comparison")]}, []),
    ],
)
def test_who_waits_for_whom(workspace, monkeypatch, queues, expected):
    monkeypatch.setattr(attempt, "study_names", lambda _: list(queues))
    monkeypatch.setattr(attempt, "study_states", lambda _, name: queues[name])
    assert [item.key for item in neighbours(workspace, "own", "own", timeout=10)] == expected


def test_an_attempt_without_a_process_yet_is_waited_for(workspace, monkeypatch):
    now = datetime.now()  # as Optuna's times are
    fresh = replace(running("new", 0), owner=None, started=now)
    own = replace(running("own", 0, "comparison"), started=now + timedelta(seconds=1))
    monkeypatch.setattr(attempt, "study_names", lambda _: ["own"])
    monkeypatch.setattr(attempt, "study_states", lambda *_: [own, fresh])
    assert neighbours(workspace, "own", "own", timeout=60) == [fresh]
    assert neighbours(workspace, "own", "own", timeout=0) == []


@pytest.mark.slow
def test_a_comparison_comes_last_and_leaves_one_run_a_level_and_form(databases, workspace):
    give_databases(databases, workspace)
    outcome, display = run_plan(PLAN, workspace)
    assert outcome.is_complete
    assert outcome.notes == ()
    assert_exactly_once(PLAN, workspace)
    *cells, comparison = outcome.states
    assert max(item.ended for item in cells) <= comparison.started
    assert (comparison.role, comparison.label, comparison.epoch) == ("comparison", "comparison=forms", 20)
    assert comparison.value == pytest.approx(CONTROL - 1)
    assert not any("comparison" in line for line in display.lines)
    (line,) = [line for line in status_lines(workspace) if KEY in line]
    assert line.endswith(f"{comparison.run_id} and {RUNS - 1} more")
    again, silent = run_plan(PLAN, workspace)
    assert again.states == outcome.states
    assert silent.seen == []


def test_runs_of_a_comparison_have_the_tags_and_files_of_the_contract(copy):
    assert in_child(plan_and_work, PLAN, copy) == 0
    record, shown = Record(copy.tracking), read_record(copy.tracking, PLAN)
    assert [(row.key, row.factors, row.metrics["time/step_ms"]) for row in shown.comparison] == [
        (KEY, {"k": k, "form": form}, float(k)) for k in (1, 2) for form in ("train", "deployed")
    ]
    state = comparison_state(copy)
    for row in shown.comparison:
        assert row.environment["device"] == "cpu"
        tags = record.client.get_run(row.run_id).data.tags
        expected = {"study": PLAN.study.name, "queue": PLAN.queue, "cell": KEY, "comparison": KEY, "seed": "0"}
        expected |= {"level": str(row.factors["k"]), "form": row.factors["form"], "data": "digits", "variant": "tiny"}
        expected |= {"factor.k": str(row.factors["k"]), "factor.form": row.factors["form"]}
        expected |= {"trial": str(state.trial), "attempt": "1", "comparison.runs": str(RUNS)}
        assert expected.items() <= tags.items()
        assert {"host", "pid", "version.torch"} <= set(tags)
        place = record.file(row.run_id, "samples.json", copy.runs)
        assert json.loads(place.read_text()) == {"step": [[1.0, 2.0]] * 20}
        text = place.with_name("comparison.json").read_text()
        assert read_spec(text) == PLAN.comparison.spec


def several(*arguments):
    """Whether a step is about more than one run."""
    return any(isinstance(item, list) and len(item) > 1 for item in arguments)


POINTS = {
    "in a round": lambda: after(Claim, "report", nth(7)),
    "measured, no run": lambda: before(Record, "start_entry"),
    "one run, empty": lambda: after(Record, "start_entry"),
    "two runs": lambda: after(RunWriter, "log_entry", nth(2)),
    "all runs, not noted": lambda: after(RunWriter, "log_entry", nth(RUNS)),
    "noted, not told": lambda: after(Claim, "note", several),
    "told, none FINISHED": lambda: before(Record, "end", says("FINISHED")),
    "one FINISHED": lambda: after(Record, "end", says("FINISHED")),
    "all FINISHED": lambda: after(Record, "end", nth(RUNS, says("FINISHED"))),
}
MENDING = {
    "swept, no run ended": lambda: before(Record, "end", says("KILLED")),
    "swept, one run KILLED": lambda: after(Record, "end", says("KILLED")),
    "swept, two runs KILLED": lambda: after(Record, "end", nth(2, says("KILLED"))),
}


def crash_and_work(workspace, arrange):
    arrange()
    plan_and_work(PLAN, workspace)


def statuses(workspace):
    """Statuses of the comparison's runs."""
    runs = Record(workspace.tracking).runs(PLAN.study.name, f"tags.cell = '{KEY}'")
    return sorted(run.info.status for run in runs)


def assert_one_whole_comparison(workspace):
    assert_exactly_once(PLAN, workspace)
    assert_no_two_finished(workspace)
    assert statuses(workspace).count("FINISHED") == RUNS
    assert set(statuses(workspace)) <= {"FINISHED", "KILLED"}


def assert_no_two_finished(workspace):
    """In the middle of it all: never runs of two attempts FINISHED."""
    runs = Record(workspace.tracking).runs(PLAN.study.name, f"attributes.status = 'FINISHED' AND tags.cell = '{KEY}'")
    assert len({run.data.tags["trial"] for run in runs}) <= 1


@pytest.mark.quick_cases("two runs", "one FINISHED")
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_dies_with_a_comparison_is_mended(copy, point):
    assert in_child(crash_and_work, copy, POINTS[point]) == -9
    assert_no_two_finished(copy)
    shown = read_record(copy.tracking, PLAN)
    assert len(shown.comparison) == (RUNS if point == "all FINISHED" else 0)
    assert len(shown.problems) == (point == "one FINISHED")
    assert is_settled(copy, PLAN, cell_states(copy, PLAN)) == (point == "all FINISHED")
    assert in_child(plan_and_work, PLAN, copy) == 0
    assert_one_whole_comparison(copy)
    is_completed = point in ("told, none FINISHED", "one FINISHED", "all FINISHED")
    assert comparison_state(copy).attempt == (1 if is_completed else 2)


@pytest.mark.quick_cases("swept, one run KILLED")
@pytest.mark.parametrize("point", MENDING)
def test_a_mender_that_dies_with_a_comparison_is_mended(copy, point):
    assert in_child(crash_and_work, copy, POINTS["noted, not told"]) == -9
    assert in_child(crash_and_work, copy, MENDING[point]) == -9
    assert_no_two_finished(copy)
    assert in_child(plan_and_work, PLAN, copy) == 0
    assert_one_whole_comparison(copy)


@pytest.mark.slow
def test_a_failed_comparison_leaves_nothing_that_counts(copy):
    def fail():
        def full(*_):
            raise OSError(28, "No space left on device")

        RunWriter.log_entry = full

    assert in_child(crash_and_work, copy, fail) == 0
    state = comparison_state(copy)
    assert (state.state, state.error) == ("failed", "OSError: [Errno 28] No space left on device")
    assert statuses(copy) == ["FAILED"]
    assert in_child(plan_and_work, PLAN, copy) == 0
    assert statuses(copy) == ["FAILED", *["FINISHED"] * RUNS]


@pytest.mark.slow
def test_a_comparison_that_lost_a_run_is_told_and_measured_again_on_demand(copy):
    assert in_child(plan_and_work, PLAN, copy) == 0
    first = comparison_state(copy)
    Record(copy.tracking).client.delete_run(first.runs[2])
    shown = read_record(copy.tracking, PLAN)
    assert shown.comparison == []
    assert shown.problems == [f"comparison {KEY} has {RUNS - 1} finished runs of 1 attempts, not {RUNS} of one"]
    assert not is_settled(copy, PLAN, cell_states(copy, PLAN))
    assert any(line.endswith(f"cell {KEY} is missing again") for line in repair(copy))
    assert in_child(plan_and_work, PLAN, copy) == 0
    assert_one_whole_comparison(copy)
    assert not set(comparison_state(copy).runs) & set(first.runs)


@pytest.mark.slow
def test_again_measures_once_more_and_leaves_cells_and_what_waits_as_they_are(copy, workspace):
    measure_again(PLAN, workspace)  # nothing is planned yet
    measure_again(PLAN, copy)
    assert comparison_state(copy).state == "waiting"
    assert in_child(plan_and_work, PLAN, copy) == 0
    first, cells = comparison_state(copy), cell_states(copy, PLAN)[:-1]
    measure_again(PLAN, copy)
    assert comparison_state(copy).state == "missing"
    assert cell_states(copy, PLAN)[:-1] == cells
    assert in_child(plan_and_work, PLAN, copy) == 0
    assert_one_whole_comparison(copy)
    assert not set(comparison_state(copy).runs) & set(first.runs)
    assert len(read_record(copy.tracking, PLAN).comparison) == RUNS


def look_often_and_work(*arguments):
    attempt.POLL = 0.1
    plan_and_work(*arguments, replace(FAST, measure="study_fakes:measure_slowly"))


@pytest.mark.slow
def test_a_comparison_measures_beside_nothing_of_other_studies(copy, tmp_path):
    """It waits for a cell of another study that runs, and a cell that begins later waits for it."""
    data = script(tmp_path / "data", seconds=0.2)
    earlier, later = (
        small_plan(levels=(1,), seeds=1, epochs=epochs, name=name) for name, epochs in (("earlier", 8), ("later", 1))
    )
    for other in (earlier, later):
        assert in_child(plan_cells, other, copy, FAST.timing) == 0
    children = [start_child(look_often_and_work, earlier, copy, data)]
    until(lambda: cell_states(copy, earlier)[0].epoch >= 1)
    children.append(start_child(look_often_and_work, PLAN, copy, data))
    until(lambda: comparison_state(copy).epoch >= 1)
    children.append(start_child(look_often_and_work, later, copy, data))
    assert [status_of(child) for child in children] == [0, 0, 0]
    (run, *_) = Record(copy.tracking).runs(PLAN.study.name, f"attributes.status = 'FINISHED' AND tags.cell = '{KEY}'")
    measured = {"key": KEY, **{name: float(run.data.tags[name]) for name in ("begin", "end")}}
    spans = sorted([*kept_times(data), measured], key=lambda item: item["begin"])
    assert [item["key"] for item in spans] == [earlier.cells[0].key, KEY, later.cells[0].key]
    assert spans[0]["end"] <= spans[1]["begin"] <= spans[1]["end"] <= spans[2]["begin"]
    waited = (comparison_state(copy), cell_states(copy, later)[0])
    assert [item.warning.split(":")[0] for item in waited] == ["a comparison waits", "a cell waits"]
    assert cell_states(copy, earlier)[0].warning == ""
    assert_one_whole_comparison(copy)


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
