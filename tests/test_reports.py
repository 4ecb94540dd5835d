"""The committed reports say what their own cells say, and the README shows them."""

import csv
import re
import runpy
import shutil
from pathlib import Path

import pytest

from mobileone_core.benchmark.protocol import CONTROL_TOLERANCE
from mobileone_core.cli.options.study import parse
from mobileone_core.reporting.readme import quoted_reports, update_readme, update_values
from mobileone_core.reporting.report import document_of, read_report, write_index, write_report
from mobileone_core.study.declaration import Study
from mobileone_core.study.measured import MeasuredStudy
from mobileone_core.study.search import SearchStudy

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "reports"
STUDIES = sorted(path.stem for path in (ROOT / "studies").glob("*.py"))


def declared(study):
    return runpy.run_path(str(ROOT / "studies" / f"{study}.py"))["STUDY"]


TRAINED = [study for study in STUDIES if isinstance(declared(study), Study)]
MEASURED = [study for study in STUDIES if isinstance(declared(study), MeasuredStudy)]
SEARCHED = [study for study in STUDIES if isinstance(declared(study), SearchStudy)]
TEXTS = {".md", ".csv", ".tex", ".json"}
FIGURES = {".png", ".svg"}


@pytest.mark.parametrize("study", STUDIES)
def test_report_is_what_its_cells_give(study, tmp_path):
    home = REPORTS / study
    files = write_report(*read_report(home), tmp_path)
    assert files.rendered
    names = {path.name for path in home.iterdir()} - {"index.html"}  # of the site, which shows all reports
    assert names == {path.name for path in (tmp_path / study).iterdir()}
    for name in names:
        if Path(name).suffix in TEXTS:
            assert (tmp_path / study / name).read_bytes() == (home / name).read_bytes(), name
        else:
            assert Path(name).suffix in FIGURES
            assert (home / name).stat().st_size > 5000


FINDING = re.compile(r"^\| \[`\w+`\]\(\.\./(reports/[\w-]+/README\.md)\) \| (\d+) \| (.*) \|$", re.MULTILINE)


def test_findings_of_the_card_of_studies_are_those_of_the_reports():
    findings = FINDING.findall((ROOT / "studies" / "README.md").read_text())
    assert len(findings) == 7
    for page, seeds, text in findings:
        report = (ROOT / page).read_text()
        assert f" {seeds} seeds per level." in report
        numbers = re.findall(r"[+-]?\d+\.\d\d", text)
        assert numbers
        assert not [number for number in numbers if number not in report], page


COST = re.compile(r"^\| `(\w+)\.py` \|.*\| (\d+) cells, (\d+) s\b", re.MULTILINE)


def test_costs_of_the_card_of_studies_are_those_of_the_cells():
    costs = {name: (int(cells), int(seconds)) for name, cells, seconds in
             COST.findall((ROOT / "studies" / "README.md").read_text())}  # fmt: skip
    assert costs.keys() == {*TRAINED, *SEARCHED}
    for study, cost in costs.items():
        with (REPORTS / study / "cells.csv").open() as file:
            seconds = [float(row["time/train_seconds"]) for row in csv.DictReader(file)]
        assert cost == (len(seconds), round(sum(seconds) / 2)), study


@pytest.mark.parametrize("study", STUDIES)
def test_report_is_of_the_study_as_declared_and_complete(study):
    plan, record = read_report(REPORTS / study)
    assert (plan.requested if study in SEARCHED else plan) == parse(declared(study), ()).request.plan
    assert plan.is_final
    assert sorted(row.key for row in record.rows) == sorted(cell.key for cell in (*plan.teachers, *plan.cells))
    assert not record.problems
    if study in MEASURED:
        assert [row.factors for row in record.comparison] == [entry.factors for entry in plan.spec.entries]
    assert len({row.run_id for row in record.rows}) == len(record.rows)
    named = getattr(plan.study, "curves", ())  # reports from before the losses were drawn anyway have these alone
    assert {point.metric for point in record.curves} in (set(plan.curves), set(named))
    assert {row.key for row in record.comparison} == {item.key for item in plan.comparisons}


@pytest.mark.parametrize("study", STUDIES)
def test_report_comes_from_one_committed_revision(study):
    _, record = read_report(REPORTS / study)
    for rows in filter(None, (record.rows, record.comparison)):  # a measurement may be added to trained cells
        revisions = {row.environment["git"] for row in rows}
        assert len(revisions) == 1
        assert not revisions.pop().endswith("-dirty")


def test_index_site_and_readme_show_the_reports(tmp_path):
    shutil.copytree(REPORTS, tmp_path / "reports", ignore=shutil.ignore_patterns("index.html"))
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "reports" / "README.md").unlink()
    index, readme = write_index(tmp_path / "reports"), tmp_path / "README.md"
    assert index.read_bytes() == (REPORTS / "README.md").read_bytes()
    pages = {path.relative_to(REPORTS) for path in REPORTS.rglob("index.html")}
    assert pages == {path.relative_to(tmp_path / "reports") for path in tmp_path.rglob("index.html")}
    assert not [page for page in pages if (REPORTS / page).read_bytes() != (tmp_path / "reports" / page).read_bytes()]
    assert not update_readme(readme, index)
    assert not update_readme(readme, tmp_path / "reports" / "branch_count" / "README.md")
    for name in quoted_reports(readme.read_text()):
        assert not update_values(readme, name, document_of(*read_report(REPORTS / name)))


# What a trained network reaches at least, and on how many seeds, by task.
TRAINED_WELL = {
    "classification": ("test/top1", 5, 0.80),
    "detection": ("test/map50", 3, 0.60),
    "segmentation": ("test/miou", 3, 0.70),
}


@pytest.mark.parametrize("study", TRAINED)
def test_comparisons_are_between_trained_networks(study):
    """Every level's mean is far from guessing: an accuracy above 80 % where that has 10 %."""
    plan, record = read_report(REPORTS / study)
    metric, seeds, least = TRAINED_WELL[plan.study.task]
    for arm in plan.study.settings:
        values = [row.metrics[metric] for row in record.rows if row.factors == arm]
        assert len(values) >= seeds
        assert sum(values) / len(values) > least


@pytest.mark.parametrize("study", TRAINED)
def test_both_forms_of_every_network_agree(study):
    """In float32: the deployed form's logits are the train form's but for rounding."""
    _, record = read_report(REPORTS / study)
    trained = [row for row in record.rows if "int8/bytes" not in row.metrics]
    assert trained
    assert all(row.metrics["test/form_difference_relative"] < 1e-5 for row in trained)


def test_side_by_side_measurements_were_at_rest():
    """The baseline timed twice differs by 3 % at most, in every committed report that shows times."""
    for study in STUDIES:
        for row in read_report(REPORTS / study)[1].comparison:
            controls = [value for name, value in row.metrics.items() if name.startswith("control/")]
            assert all(abs(value - 1) <= CONTROL_TOLERANCE for value in controls)
