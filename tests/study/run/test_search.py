"""A search goes on from wherever it was, trains every cell once, and longer ones go on with shorter ones."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from search_fakes import SEARCH_ENGINE, small_search
from study_fakes import Lines, script
from study_proof import give_databases, run_statuses

from mobileone_core.errors import InputError
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.queue.queue import Queue
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.record.record import Record
from mobileone_core.study.run.progress import plan_lines
from mobileone_core.study.run.runner import resumed, run_plan
from mobileone_core.study.search import front
from mobileone_core.study.state import cell_states, is_settled
from mobileone_core.study.workspace import Setup
from mobileone_core.training.execution import Execution

DRIVE = Path(__file__).parents[1] / "search_drive.py"


def search(plan, workspace, workers=2):
    displays = []

    def display(_):
        displays.append(Lines())
        return displays[-1]

    found, outcome = run_plan(plan, Setup(workspace, workers, Execution("cpu"), engine=SEARCH_ENGINE), display)
    return found, outcome, [item for item in displays if item.seen]


def assert_whole(plan, workspace):
    """Every cell and comparison once, nothing open, and the front is that of the record."""
    queue = Queue(workspace.queue, plan.queue, SEARCH_ENGINE.timing, lambda _: None)
    assert sorted(item.key for item in queue.trials("COMPLETE")) == sorted(item.key for item in plan.queued)
    assert queue.trials("RUNNING", "WAITING") == []
    record = read_record(workspace.tracking, plan)
    assert list(record.problems) == []
    assert [row.key for row in record.rows] == [cell.key for cell in plan.cells]
    assert len(record.comparison) == sum(len(item.spec.entries) for item in plan.comparisons)
    assert "RUNNING" not in run_statuses(Record(workspace.tracking), plan.study.name).values()
    points = plan.points(record)
    candidates = [cell.key for cells in plan.generations[1:] for cell in cells]
    assert plan.confirmed == tuple(candidates[place] for place in front([points[key] for key in candidates]))
    assert is_settled(workspace, plan, cell_states(workspace, plan))


@pytest.mark.slow
def test_a_search_runs_once_and_a_longer_one_goes_on(databases, workspace):
    give_databases(databases, workspace)
    requested = small_search(generations=1)
    plan, outcome, _ = search(requested, workspace)
    assert outcome.is_complete
    assert_whole(plan, workspace)
    assert resumed(requested, workspace) == plan
    again, _, displays = search(requested, workspace)
    assert (again, displays) == (plan, [])
    longer, outcome, displays = search(small_search(generations=2), workspace, workers=1)
    assert outcome.is_complete
    assert longer.proposed[:1] == plan.proposed
    assert displays[0].seen[0][0].state == "complete"
    first = {item.key: item.trial for item in cell_states(workspace, plan)}
    assert {item.key: item.attempt for item in cell_states(workspace, longer)} == {i.key: 1 for i in longer.queued}
    assert all(item.trial == first.get(item.key, item.trial) for item in cell_states(workspace, longer))
    assert read_plan(longer.to_json()) == longer
    lines = plan_lines(longer, cell_states(workspace, longer))
    assert "generations: 2 of 2 proposed, 3 candidates each" in lines


@pytest.mark.slow
def test_the_same_search_elsewhere_proposes_the_same(databases, tmp_path):
    from mobileone_core.study.workspace import Workspace

    plans = []
    for name, workers in (("one", 1), ("two", 2)):
        place = Workspace.at(tmp_path / name)
        give_databases(databases, place)
        plan, outcome, _ = search(small_search(), place, workers)
        assert outcome.is_complete
        plans.append(plan)
    assert plans[0] == plans[1]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", pytest.param("command", marks=pytest.mark.long)])
def test_killed_at_every_stage_it_comes_to_the_same(databases, tmp_path, workspace, victim):
    from mobileone_core.study.workspace import Workspace

    undisturbed = Workspace.at(tmp_path / "undisturbed")
    give_databases(databases, undisturbed)
    expected = search(small_search(), undisturbed)[0]
    give_databases(databases, workspace)
    path = tmp_path / "settings.json"
    data = script(tmp_path / "data", seconds=0.2)
    path.write_text(json.dumps({"plan": {}, "runs": str(workspace.runs), "workers": 2, "data_root": str(data)}))
    for stage in range(3):
        process = subprocess.Popen([sys.executable, str(DRIVE), str(path)], start_new_session=True,
                                   stdout=subprocess.PIPE, text=True)  # fmt: skip
        states = at_work(process, workspace, stage)
        if victim == "command":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(states[0].owner.pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=120)
        if victim == "worker":
            break
    if victim == "command":
        done = subprocess.run([sys.executable, str(DRIVE), str(path)], capture_output=True, text=True, check=True)
        out = done.stdout
    printed = json.loads(out.splitlines()[-1])
    assert printed["complete"]
    assert read_plan(printed["plan"]) == expected
    assert_whole(expected, workspace)


def at_work(process, workspace, stage):
    """Cells at work once so many generations are proposed."""
    end = time.monotonic() + 90
    while True:
        plan = resumed(small_search(), workspace)
        states = [item for item in cell_states(workspace, plan) if item.state == "running" and item.owner]
        if states and len(plan.proposed) >= min(stage, 2):
            return states
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generations": 0}, "generations: 0 is not allowed"),
        ({"population": 1}, "population: 1 is not allowed"),
        ({"generations": 100, "population": 9}, "with 100 generations 2 at most"),
        ({"sampler": "grid"}, "one of nsga2, tpe, random"),
        ({"variants": ("s9",)}, "variants: 's9' is not allowed"),
        ({"widths": (0.01,)}, "width: 0.01 is not allowed"),
    ],
)
def test_what_cannot_be_searched_is_said(changes, words):
    with pytest.raises(InputError, match=words):
        small_search(**changes)


def test_length_alone_names_no_other_search():
    usual, longer = small_search(), small_search(generations=5, seeds=2)
    assert usual.lineage == longer.lineage
    assert usual.id != longer.id
    assert usual.lineage != small_search(population=4).lineage
    assert replace(longer, default_lineage=True).queue == "pareto_search"


def test_networks_that_deploy_alike_are_timed_once():
    plan = small_search()
    (comparison,) = plan.comparisons
    assert len(plan.cells) == 2
    assert len(comparison.spec.entries) == 1
    assert comparison.spec.entries[0].cell.network.k == 1
