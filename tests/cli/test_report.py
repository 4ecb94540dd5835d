"""A report from the record, or from the cells kept in it where they are of just the same runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from mobileone_core.cli.commands import report
from mobileone_core.cli.options.workspace import Report, WorkspaceOptions
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.reporting.render import terminal
from mobileone_core.reporting.report import document_of, read_report, write_report
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.presets import preset_cell
from mobileone_core.study.rows import CellRow, CurvePoint, StudyRecord
from mobileone_core.study.state import CellState
from mobileone_core.study.workspace import Workspace

STUDY = Study(
    name="branches",
    question="Does accuracy rise with k?",
    factors=(Factor("k", "model.k", levels=(1, 4), baseline=1),),
    seeds=2,
    curves=("val/loss",),
    compares="forms",
)


def options(runs, reports=None):
    return Report(storage=WorkspaceOptions(runs), reports=reports)


@pytest.fixture
def plan():
    return GridPlan(STUDY, preset_cell("tiny", DataSpec(), "digits"))


@pytest.fixture
def record(plan):
    """A whole record, with a run a cell and two forms a level."""
    rows = [CellRow(cell.key, cell.seed, cell.factors, f"run{n}", {"test/top1": 0.95 + n / 100}, {})
            for n, cell in enumerate(plan.cells)]  # fmt: skip
    curves = [CurvePoint(cell.key, "val/loss", 12, 0.5) for cell in plan.cells]
    forms = [CellRow(plan.comparison.key, 0, {**arm.factors, "form": form}, f"{arm.label}{form}", {"params": 1.0}, {})
             for arm in plan.comparison.spec.entries for form in ("train", "deployed")]  # fmt: skip
    return StudyRecord(tuple(rows), (), tuple(forms), tuple(curves))


@pytest.fixture
def settled(plan, record, monkeypatch):
    """Nothing is left to do: the queue says which runs are complete. There is no record to read."""
    states = [CellState(row.key, row.seed, row.factors, "complete", runs=(row.run_id,)) for row in record.rows]
    forms = tuple(row.run_id for row in record.comparison)
    states.append(CellState(plan.comparison.key, 0, {}, "complete", role="comparison", runs=forms))
    monkeypatch.setattr(report, "is_settled", lambda *_: True)
    return states


def test_kept_cells_of_the_same_runs_are_shown_without_the_record(plan, record, settled, tmp_path):
    page = write_report(plan, record, tmp_path).page
    before = page.stat().st_mtime_ns
    printed, is_sound, written = report.report_plan(plan, Workspace.at(tmp_path / "runs"), tmp_path, settled)
    assert is_sound
    assert written == page
    assert "k" in printed
    assert page.stat().st_mtime_ns == before


@pytest.mark.parametrize("part", ["rows", "comparison", "curves", "problems"])
def test_kept_cells_that_are_not_whole_are_not_trusted(plan, record, settled, tmp_path, part):
    less = ("something",) if part == "problems" else getattr(record, part)[1:] if part != "curves" else ()
    write_report(plan, replace(record, **{part: less}), tmp_path)
    with pytest.raises(InputError, match="no record here yet"):
        report.report_plan(plan, Workspace.at(tmp_path / "runs"), tmp_path, settled)


def test_kept_cells_of_other_runs_are_not_trusted(plan, record, settled, tmp_path):
    others = [replace(record.rows[0], run_id="another"), *record.rows[1:]]
    write_report(plan, replace(record, rows=others), tmp_path)
    with pytest.raises(InputError, match="no record here yet"):
        report.report_plan(plan, Workspace.at(tmp_path / "runs"), tmp_path, settled)


def test_kept_reports_are_rendered_again_without_a_record(plan, record, tmp_path, capsys):
    page = write_report(plan, record, tmp_path).page
    text = page.read_text()
    page.unlink()
    assert report.report(options(tmp_path / "runs", tmp_path)) == 0
    assert Path(capsys.readouterr().out.strip()) == page
    assert page.read_text() == text


@pytest.mark.slow
def test_other_runs_leave_the_workspace_s_reports_alone(plan, record, tmp_path, monkeypatch, capsys):
    """Stale kept reports lie in both places: those of the runs named are rendered, unless they are the usual runs."""
    monkeypatch.setattr(report, "runs_directory", lambda: tmp_path / "runs")
    monkeypatch.setattr(report, "reports_directory", lambda requested=None: requested or tmp_path / "reports")
    own, others = tmp_path / "reports", tmp_path / "others" / "reports"
    pages = {directory: write_report(plan, record, directory).page for directory in (own, others)}
    for page in pages.values():
        page.write_text("stale")
    assert report.report(options(tmp_path / "others")) == 0
    assert Path(capsys.readouterr().out.strip()) == pages[others]
    assert pages[others].read_text() != "stale"
    assert pages[own].read_text() == "stale"
    assert report.report(options(tmp_path / "runs")) == 0
    assert pages[own].read_text() == pages[others].read_text()


@pytest.mark.parametrize("excluded", [(), ("an evaluation",)])
def test_a_record_without_its_cells_is_not_complete(plan, record, excluded):
    assert report._is_complete(plan, record)
    assert not report._is_complete(plan, replace(record, rows=record.rows[1:], excluded=excluded))


@pytest.mark.slow
def test_the_page_says_how_many_runs_are_excluded(plan, record, tmp_path):
    page = write_report(plan, record, tmp_path).page
    text = page.read_text()
    assert "excluded" not in text
    less = replace(record, rows=record.rows[1:], excluded=("run0",))
    write_report(plan, less, tmp_path)
    assert "- 1 finished run is excluded from this report (`mobileone exclude RUN --undo`" in page.read_text()
    assert "1 finished run is excluded" in terminal.render(document_of(*read_report(page.parent)))
    assert read_report(page.parent)[1].excluded == ("run0",)
    write_report(plan, record, tmp_path)
    assert page.read_text() == text
    assert not (page.parent / "excluded.txt").exists()


def test_saved_cells_are_not_trusted_once_a_run_is_excluded(plan, record, settled, tmp_path, monkeypatch):
    write_report(plan, record, tmp_path)
    monkeypatch.setattr(report, "excluded_runs", lambda *_: {"run0"})
    with pytest.raises(InputError, match="no record here yet"):
        report.report_plan(plan, Workspace.at(tmp_path / "runs"), tmp_path, settled)
