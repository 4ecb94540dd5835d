"""The record of a finished cell, and its messages where something is wrong with it."""

import json
import platform
from dataclasses import replace

import pytest
from study_fakes import metric, small_plan
from study_proof import finished_workspace, give_databases, in_child, plan_and_work

from mobileone_core.errors import InputError
from mobileone_core.study.declaration import Factor
from mobileone_core.study.record.access import open_record, recorded_plans
from mobileone_core.study.record.reading import read_record
from mobileone_core.study.record.record import Record
from mobileone_core.study.record.tables import RecordTables
from mobileone_core.study.rows import StudyRecord
from mobileone_core.training.cell import CellSpec

PLAN = small_plan(levels=(1, 2), seeds=2, epochs=3, curves=("val/top1", "train/loss", "val/top5"))
KEYS = [cell.key for cell in PLAN.cells]
STUDY = PLAN.study.name
OWN = {"queue": PLAN.queue}


@pytest.fixture(scope="module")
def finished(databases, tmp_path_factory):
    return finished_workspace(PLAN, databases, tmp_path_factory.mktemp("finished"))


def test_rows_hold_what_a_table_needs(finished):
    record = read_record(finished.tracking, PLAN)
    assert record.problems == []
    assert [(row.key, row.seed, row.factors) for row in record.rows] == [(c.key, c.seed, c.factors) for c in PLAN.cells]
    for row in record.rows:
        assert row.metrics["test/top1"] == metric(row.key, 3) + 0.5
        assert row.metrics["val/top1"] == metric(row.key, 3)
        assert row.environment["device"] == "cpu"
        assert row.environment["threads"] == "1"
        assert row.environment["version.python"] == platform.python_version()
        assert {"processor", "git", "execution", "version.torch", "version.mlflow"} <= set(row.environment)
        assert not {"host", "pid"} & set(row.environment)


def test_a_record_holds_the_curves_asked_for(finished):
    record = read_record(finished.tracking, PLAN)
    assert record.comparison == []
    assert [(item.key, item.metric, item.epoch, item.value) for item in record.curves] == [
        (key, name, epoch, value(key, epoch))
        for key in KEYS
        for name, value in (("val/top1", metric), ("train/loss", lambda _, epoch: 1.0 / epoch))
        for epoch in (1, 2, 3)
    ]


def test_of_an_epoch_that_was_logged_twice_the_later_value_counts(copy):
    row = read_record(copy.tracking, PLAN).rows[0]
    Record(copy.tracking).client.log_metric(row.run_id, "val/top1", 0.125, step=2)
    curve = [item.value for item in read_record(copy.tracking, PLAN).curves if item.metric == "val/top1"]
    assert curve[:3] == [metric(KEYS[0], 1), 0.125, metric(KEYS[0], 3)]


def test_a_teachers_row_comes_after_those_of_the_cells_and_without_a_curve(databases, workspace):
    plan = small_plan(levels=(1,), seeds=1, epochs=1, teachers=("small",), curves=("val/top1",))
    give_databases(databases, workspace)
    assert in_child(plan_and_work, plan, workspace) == 0
    record = read_record(workspace.tracking, plan)
    assert [(row.key, row.factors) for row in record.rows] == [
        (plan.cells[0].key, {"k": 1}),
        (plan.teachers[0].key, {"teacher": "small"}),
    ]
    assert [point.key for point in record.curves] == [plan.cells[0].key]


def test_rows_come_in_the_order_asked_and_no_others(finished):
    factor = replace(PLAN.study.factors[0], levels=(2, 3, 1))
    narrowed = replace(PLAN, study=replace(PLAN.study, seeds=1, factors=(factor,)))
    rows = read_record(finished.tracking, narrowed).rows
    assert [row.key for row in rows] == [KEYS[1], KEYS[0]]  # k=3 was never trained
    another = replace(PLAN, study=replace(PLAN.study, name="another"))
    assert read_record(finished.tracking, another) == StudyRecord([], [], [], [])


def test_levels_that_are_tuples_are_tuples_again(copy):
    factor = Factor("se", "model.se", ((0, 1), (1, 1)), (0, 1))
    plan = replace(PLAN, study=replace(PLAN.study, seeds=1, factors=(factor,)))
    record = Record(copy.tracking)
    for cell in plan.cells:
        record.end(record.start(cell, {"queue": plan.queue}).run_id, "FINISHED")
    assert [row.factors for row in read_record(copy.tracking, plan).rows] == [{"se": (0, 1)}, {"se": (1, 1)}]


def test_a_run_has_the_tags_params_and_files_of_the_contract(finished):
    record = Record(finished.tracking)
    for cell, row in zip(PLAN.cells, read_record(finished.tracking, PLAN).rows, strict=True):
        run = record.client.get_run(row.run_id)
        tags = run.data.tags
        expected = {"study": STUDY, "cell": cell.key, "seed": str(cell.seed), "data": "digits", "variant": "tiny"}
        expected |= {"factor.k": str(cell.factors["k"]), "attempt": "1"}
        assert expected.items() <= tags.items()
        assert {"trial", "host", "pid"} <= set(tags)
        assert run.data.params["model.k"] == str(cell.factors["k"])
        assert run.data.params["recipe.epochs"] == "3"
        files = {item.path for item in record.client.list_artifacts(row.run_id)}
        assert files == {"cell.json", "weights.safetensors"}
        place = finished.artifacts / STUDY / row.run_id / "artifacts"
        text = (place / "cell.json").read_text()
        assert CellSpec.from_json(text) == cell.spec
        assert json.loads(text)["recipe"]["momentum"] == cell.spec.recipe.momentum
        assert (place / "weights.safetensors").read_bytes() == cell.key.encode()


def test_only_active_finished_runs_count(copy):
    record = Record(copy.tracking)
    rows = read_record(copy.tracking, PLAN).rows
    record.client.delete_run(rows[0].run_id)
    record.start(PLAN.cells[1], OWN)
    record.end(record.start(PLAN.cells[2], OWN).run_id, "FAILED", "it broke")
    assert read_record(copy.tracking, PLAN).rows == rows[1:]


def test_two_finished_runs_of_a_cell_are_a_problem_that_names_both(copy):
    record = Record(copy.tracking)
    second = record.start(PLAN.cells[0], OWN).run_id
    record.end(second, "FINISHED")
    record = read_record(copy.tracking, PLAN)
    assert len(record.rows) == 5
    (problem,) = record.problems
    assert all(word in problem for word in (KEYS[0], "2 finished runs", *(row.run_id for row in record.rows[:2])))


def by_id(runs, params=True):
    """Texts, as nan is not nan."""
    return {
        run.run_id: repr([sorted(run.tags.items()), sorted(run.metrics.items()), params and sorted(run.params.items())])
        for run in runs
    }


def test_the_tables_say_what_mlflows_client_says(copy, monkeypatch):
    monkeypatch.setattr("mobileone_core.study.record.record.PAGE", 1)
    monkeypatch.setattr("mobileone_core.study.record.tables.CHUNK", 3)
    client = Record(copy.tracking)
    first = read_record(copy.tracking, PLAN).rows[0].run_id
    client.client.log_metric(first, "val/top1", float("nan"), step=2)
    client.client.log_metric(first, "val/top1", float("inf"), step=3)
    client.client.set_tag(first, "queue", "another")
    last = read_record(copy.tracking, PLAN).rows[-1].run_id
    for run_id in (first, last):
        client.exclude(run_id, undo=False)
    client.client.delete_run(last)
    client.start(PLAN.cells[1], OWN)
    with open_record(copy.tracking) as tables:
        assert isinstance(tables, RecordTables)
        for queue in (PLAN.queue, "another"):
            runs = [list(item.finished_cells(STUDY, queue, KEYS)) for item in (client, tables)]
            assert by_id(runs[0], params=False) == by_id(runs[1], params=False)
            assert len(runs[0]) == {PLAN.queue: 2, "another": 1}[queue]
        assert by_id(client.finished(STUDY)) == by_id(tables.finished(STUDY))
        assert sorted(client.statuses(STUDY, PLAN.queue)) == sorted(tables.statuses(STUDY, PLAN.queue))
        assert client.experiment_tags(STUDY) == tables.experiment_tags(STUDY) != {}
        assert client.experiment_tags("other") == tables.experiment_tags("other") == {}
        assert client.experiments() == tables.experiments()
        assert client.excluded(STUDY) == tables.excluded(STUDY) == {first}
        ids = [run.run_id for run in tables.finished(STUDY)]
        assert repr(list(client.curves(ids, PLAN.study.curves))) == repr(list(tables.curves(ids, PLAN.study.curves)))


def test_the_client_gives_the_same_record(finished, monkeypatch):
    expected = read_record(finished.tracking, PLAN)
    monkeypatch.setattr("mobileone_core.study.record.access.sqlite_path", lambda _: None)
    assert read_record(finished.tracking, PLAN) == expected


def test_a_metric_that_is_no_number_is_kept_as_such(copy):
    record = Record(copy.tracking)
    rows = read_record(copy.tracking, PLAN).rows
    record.client.log_metric(rows[0].run_id, "test/top1", float("nan"), step=9)
    value = read_record(copy.tracking, PLAN).rows[0].metrics["test/top1"]
    assert value != value  # noqa: PLR0124


def test_a_record_that_is_not_there_is_named_and_not_made(workspace):
    with pytest.raises(InputError, match=r"mlflow.db: no record here yet"):
        read_record(workspace.tracking, PLAN)
    assert recorded_plans(workspace.tracking, STUDY) == recorded_plans(workspace.tracking) == []
    assert not workspace.runs.exists()
