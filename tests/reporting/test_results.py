"""results(): every finished cell once, from reports or from the record."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mobileone_core import results
from mobileone_core.cli.options.study import parse
from mobileone_core.errors import InputError
from mobileone_core.reporting import results as module
from mobileone_core.reporting.report import read_report, write_report
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.study.workspace import Workspace

REPORTS = Path(__file__).parents[2] / "reports"
K = Factor("k", "model.k", levels=(1, 4), baseline=1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Reports of a study on digits, and of three settings of it on other data, each with its own accuracy."""
    root = tmp_path_factory.mktemp("reports")
    study = Study("toy", "Does it?", (K,), seeds=2)
    other = ["--data-root", str(root), "--data"]
    lines = [[], [*other, "fashion_mnist"], [*other, "cifar10", "--lr", "0.2"], [*other, "cifar10", "--lr", "0.3"]]
    for number, line in enumerate(lines):
        plan = parse(study, line).request.plan
        rows = [
            CellRow(cell.key, cell.seed, cell.factors, f"run{cell.key}", {"test/top1": number / 10}, {})
            for cell in plan.cells[:3]
        ]
        write_report(plan, StudyRecord(tuple(rows)), root)
    return root


@pytest.fixture
def read(saved, tmp_path):
    return lambda **options: results("toy", runs=tmp_path, reports=saved, **options)


def test_a_row_per_finished_cell_of_the_default_setting(read):
    table = read()
    assert list(table.columns) == ["setting", "key", "seed", "k", "test/top1", "run_id"]
    assert table["k"].tolist() == [1, 4, 1]
    assert table["seed"].tolist() == [0, 0, 1]
    assert set(table["setting"]) == {"toy"}


def test_a_declaration_stands_for_its_name(read, saved, tmp_path):
    study = Study("toy", "Why?", (Factor("k", "model.k", levels=(1, 4), baseline=1),))
    assert results(study, runs=tmp_path, reports=saved).equals(read())


def test_settings_by_data_and_by_name(read):
    assert set(read(data="fashion_mnist")["test/top1"]) == {0.1}
    assert set(read(data="digits")["test/top1"]) == {0.0}
    assert sorted(read(setting="all")["test/top1"].unique()) == [0.0, 0.1, 0.2, 0.3]
    name = read(setting="all").query("`test/top1` == 0.3")["setting"].iloc[0]
    assert set(read(setting=name)["test/top1"]) == {0.3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "mnist"}, "data: 'mnist' is not allowed; one of cifar10, digits, fashion_mnist"),
        ({"data": "cifar10"}, "data: 'cifar10' is not allowed; several settings, name one: toy-tiny-cifar10-"),
        ({"setting": "none"}, "setting: 'none' is not allowed; one of toy, toy-fashion_mnist, toy-tiny-cifar10-"),
    ],
)
def test_other_names_are_one_line(read, options, message):
    with pytest.raises(InputError) as caught:
        read(**options)
    assert str(caught.value).startswith(message)


def test_an_unknown_study_is_one_line(saved, tmp_path):
    with pytest.raises(InputError, match=r"study: 'nothing' .* a study with a record in .* or a report in"):
        results("nothing", runs=tmp_path, reports=saved)


@pytest.mark.parametrize("study", ["branch_count", "distillation", "activation_latency", "pareto_search"])
def test_committed_reports_of_every_kind(study, tmp_path):
    plan, record = read_report(REPORTS / study)
    table = results(study, runs=tmp_path, reports=REPORTS)
    teachers = {teacher.key for teacher in plan.teachers}
    rows = [row for row in record.rows if row.key not in teachers] or record.comparison
    assert table["run_id"].tolist() == [row.run_id for row in rows]
    assert {factor.name for factor in plan.study.factors} <= set(table.columns)
    for row, values in zip(rows, table.to_dict("records"), strict=True):
        assert all(values[name] == value for name, value in row.metrics.items())


def test_the_record_comes_before_a_report_once_it_has_rows(saved, tmp_path, monkeypatch):
    plan, reported = read_report(saved / "toy")
    rows = [CellRow(cell.key, cell.seed, cell.factors, "recorded", {"test/top1": 0.9}, {}) for cell in plan.cells]
    recorded = StudyRecord()
    home = "mobileone_core.study.record"
    monkeypatch.setattr(f"{home}.access.recorded_plans", lambda *_: [plan])
    monkeypatch.setattr(f"{home}.reading.read_record", lambda *_: recorded)
    assert len(results("toy", runs=tmp_path, reports=saved)) == len(reported.rows)
    recorded = StudyRecord(tuple(rows))
    table = results("toy", runs=tmp_path, reports=saved)
    assert set(table["run_id"]) == {"recorded"}
    assert len(table) == len(plan.cells)


def test_cells_are_the_union_of_record_and_report(saved, tmp_path, monkeypatch):
    """A record of one cell, run anew, hides none of the report; what it excludes is in neither."""
    plan, record = read_report(saved / "toy")
    first, second, third = record.rows
    part = StudyRecord((replace(first, run_id="again"),), excluded=(third.run_id,))
    monkeypatch.setattr("mobileone_core.study.record.reading.read_record", lambda *_: part)
    rows = module.cells_of([(plan, None), (plan, saved / "toy")], Workspace.at(tmp_path))
    assert [row.run_id for row in rows] == ["again", second.run_id]


def test_an_unreadable_report_hides_no_other(saved, tmp_path):
    shutil.copytree(saved / "toy", tmp_path / "toy")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "plan.json").write_text("{")
    assert len(results("toy", runs=tmp_path / "runs", reports=tmp_path)) == 3
