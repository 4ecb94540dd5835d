"""Settings of one study that share a level and a teacher: each trains them in its own queue and reports its own."""

from dataclasses import replace

import pytest
from study_fakes import FAST, small_plan
from study_proof import assert_exactly_once, finished_workspace, in_child, plan_and_work

from mobileone_core.study.declaration import Factor
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.run.planner import plan_cells
from mobileone_core.study.state import cell_states, is_settled


def distilled(hard_label_weight):
    """Without and with a teacher; the weight, the setting, is of the student that has one alone."""
    plan = small_plan(levels=(1,), seeds=1, epochs=1, teachers=("small",), curves=("val/top1",))
    off = {"recipe.teachers": (), "recipe.hard_label_weight": 0.5}
    factor = Factor("distillation", settings={"off": off, "on": {}}, baseline="off")
    recipe = replace(plan.base.recipe, hard_label_weight=hard_label_weight)
    study = replace(plan.study, name="distillation", factors=(factor,))
    return replace(plan, study=study, base=replace(plan.base, recipe=recipe))


ONE, OTHER = distilled(0.25), distilled(0.75)


@pytest.fixture(scope="module")
def finished(databases, tmp_path_factory):
    """One setting complete, the other planned."""
    workspace = finished_workspace(ONE, databases, tmp_path_factory.mktemp("finished"))
    assert in_child(plan_cells, OTHER, workspace, FAST.timing) == 0
    return workspace


def as_files(workspace):
    return workspace


def as_servers(workspace):
    """Both databases named so that they are read as a server's are."""
    urls = (url.replace("sqlite:", "sqlite+pysqlite:") for url in (workspace.queue, workspace.tracking))
    return replace(workspace, **dict(zip(("queue", "tracking"), urls, strict=True)))


def test_two_settings_may_have_cells_in_common():
    assert ONE.queue != OTHER.queue
    assert [item.key for item in ONE.teachers] == [item.key for item in OTHER.teachers]
    assert [one.key == other.key for one, other in zip(ONE.cells, OTHER.cells, strict=True)] == [True, False]


@pytest.mark.parametrize("seen", [as_files, as_servers])
def test_what_another_setting_trained_is_a_gap(finished, seen):
    place = seen(finished)
    assert_exactly_once(ONE, place)
    record = read_record(place.tracking, OTHER)
    assert (record.rows, record.problems, record.curves) == ([], [], [])
    assert not is_settled(place, OTHER, cell_states(place, OTHER))


@pytest.mark.slow
@pytest.mark.parametrize("seen", [as_files, as_servers])
def test_each_setting_is_told_and_settled_by_its_own_runs(copy, seen):
    place = seen(copy)
    assert in_child(plan_and_work, OTHER, place) == 0
    for plan in (ONE, OTHER):
        assert_exactly_once(plan, place)
        record = read_record(place.tracking, plan)
        assert len(record.rows) == 3
        assert [(point.key, point.epoch) for point in record.curves] == [(cell.key, 1) for cell in plan.cells]
    runs = {row.run_id for plan in (ONE, OTHER) for row in read_record(place.tracking, plan).rows}
    assert len(runs) == 6
