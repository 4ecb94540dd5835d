"""The committed reports say what their own cells say, and the README shows them."""

import runpy
import shutil
from pathlib import Path

import pytest

from mobileone_core.cli.run import default_plan
from mobileone_core.reporting.cells import read_cells
from mobileone_core.reporting.readme import update_readme
from mobileone_core.reporting.report import read_problems, write_index, write_report

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "reports"
STUDIES = sorted(path.stem for path in (ROOT / "studies").glob("*.py"))
TEXTS = ("README.md", "table.csv", "table.tex", "cells.csv", "plan.json")


def declared(study):
    return runpy.run_path(str(ROOT / "studies" / f"{study}.py"))["STUDY"]


@pytest.mark.parametrize("study", STUDIES)
def test_report_is_what_its_cells_give(study, tmp_path):
    home = REPORTS / study
    plan, rows = read_cells(home)
    files = write_report(plan, rows, read_problems(home), tmp_path)
    assert files.rendered
    for name in TEXTS:
        assert (tmp_path / study / name).read_bytes() == (home / name).read_bytes(), name
    for name in ("figure.png", "figure.svg"):
        assert (home / name).stat().st_size > 5000


@pytest.mark.parametrize("study", STUDIES)
def test_report_is_of_the_study_as_declared_and_complete(study):
    plan, rows = read_cells(REPORTS / study)
    assert plan == default_plan(declared(study))
    assert sorted(row.key for row in rows) == sorted(cell.key for cell in plan.cells)
    assert not read_problems(REPORTS / study)
    assert len({row.run_id for row in rows}) == len(rows)


@pytest.mark.parametrize("study", STUDIES)
def test_report_comes_from_one_committed_revision(study):
    _, rows = read_cells(REPORTS / study)
    revisions = {row.environment["git"] for row in rows}
    assert len(revisions) == 1
    assert not revisions.pop().endswith("-dirty")


def test_index_and_readme_show_the_reports(tmp_path):
    shutil.copytree(REPORTS, tmp_path / "reports")
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "reports" / "README.md").unlink()
    assert write_index(tmp_path / "reports").read_bytes() == (REPORTS / "README.md").read_bytes()
    assert not update_readme(tmp_path / "README.md", tmp_path / "reports" / "branch_count" / "README.md")


def test_every_level_of_branch_count_is_trained():
    """The comparison is between trained networks: every mean above 96 %."""
    plan, rows = read_cells(REPORTS / "branch_count")
    for level in plan.study.factors[0].levels:
        accuracies = [row.metrics["test/top1"] for row in rows if row.factors["k"] == level]
        assert len(accuracies) >= 5
        assert sum(accuracies) / len(accuracies) > 0.96
