"""The table as CSV and LaTeX, with the columns of the page."""

import csv
import io

import pytest

from mobileone_core.reporting.render import csv as csv_renderer
from mobileone_core.reporting.render import latex
from mobileone_core.reporting.trained.kind import trained_document
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.tables import main_table
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import StudyRecord


@pytest.fixture(scope="module")
def several(make_plan, make_row):
    """Two factors, one of them named like a column."""
    factors = (Factor("k", "model.k", (1, 4), 1), Factor("mean", "recipe.nesterov", (False, True), False))
    plan = make_plan(factors=factors, published="")
    rows = [make_row(cell, 95 + cell.factors["k"] / 4 + (cell.seed * index % 3) / 10)
            for index, cell in enumerate(plan.cells)]  # fmt: skip
    return analyse(plan, StudyRecord(rows))


def lines(result):
    return list(csv.DictReader(io.StringIO(csv_renderer.table_csv(trained_document(result).table))))


def test_one_factor_has_its_level_alone(plan, rows):
    found = lines(analyse(plan, StudyRecord(rows)))
    assert [line["level"] for line in found] == ["1", "2", "4"]
    assert not any(name.startswith("factor.") for name in found[0])


def test_factors_have_columns_that_hide_no_other(several):
    found = lines(several)
    assert [(line["factor.k"], line["factor.mean"]) for line in found] == [
        ("1", "off"), ("1", "on"), ("4", "off"), ("4", "on")
    ]  # fmt: skip
    assert [line["level"] for line in found][1] == "k = 1, mean = on"
    for line, row in zip(found, several.analysis.comparisons, strict=True):
        assert float(line["mean"]) == pytest.approx(row.summary.mean, rel=1e-5)


def test_csv_says_what_the_comparison_says(plan, rows):
    result = analyse(plan, StudyRecord(rows))
    for line, row in zip(lines(result), result.analysis.comparisons, strict=True):
        assert line["verdict"] == row.verdict
        for name in ("difference", "low", "high", "p", "p_holm", "detectable"):
            value = getattr(row, name)
            assert line[name] == "" if value is None else float(line[name]) == pytest.approx(value, rel=1e-5)


def test_latex_has_the_columns_of_the_page(several):
    table = main_table(several)
    text = latex.render(trained_document(several)).splitlines()
    assert text[2] == r"\begin{tabular}{rrrrrrlr}"
    rows = [line for line in text if line.endswith(r"\\")]
    assert len(rows) == 2 + 4
    assert {line.count(" & ") for line in rows} == {len(table.columns) - 1}
