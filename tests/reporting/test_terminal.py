"""The terminal's tables are aligned, and say what the page says."""

import pytest

from mobileone_core.reporting.render import terminal
from mobileone_core.reporting.report import document_of
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.tables import effects_table, main_table
from mobileone_core.reporting.trained.verdict import verdict
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import StudyRecord

FACTORS = (Factor("k", "model.k", (1, 4), 1), Factor("nesterov", "recipe.nesterov", (False, True), False))


@pytest.fixture(scope="module", params=["one factor", "two factors"])
def shown(request, plan, rows, make_plan, make_row):
    """A result and its text."""
    if request.param == "two factors":
        plan = make_plan(factors=FACTORS, published="")
        rows = [make_row(cell, 95 + cell.seed + (index % 5) / 10) for index, cell in enumerate(plan.cells)]
    record = StudyRecord(rows)
    return analyse(plan, record), terminal.render(document_of(plan, record))


def tables(result):
    return [table for table in (main_table(result), effects_table(result)) if table.rows]


def test_rows_are_as_wide_as_their_rule(shown):
    result, text = shown
    lines = text.splitlines()
    rules = [place for place, line in enumerate(lines) if line and set(line) == {"-"}]
    assert len(rules) == 2 * len(tables(result))
    for table, top, bottom in zip(tables(result), rules[::2], rules[1::2], strict=True):
        assert bottom - top - 1 == len(table.rows)
        assert {len(line) for line in lines[top : bottom + 1]} == {len(lines[top])}
    assert not any(line != line.rstrip() for line in lines)


def test_every_cell_and_head_is_there_in_order(shown):
    result, text = shown
    said = text.split()
    for table in tables(result):
        for row in table.rows:
            assert " ".join(" ".join(row).split()) in " ".join(said)
        for column in table.columns:
            assert set(f"{column.head} {column.note}".split()) <= set(said)
    assert verdict(result) in text


@pytest.mark.parametrize("width", [20, 60, 80])
def test_a_narrow_terminal_has_fewer_columns_and_says_which(plan, rows, monkeypatch, width):
    record = StudyRecord(rows)
    monkeypatch.setenv("COLUMNS", "300")
    assert "narrow terminal" not in terminal.render(document_of(plan, record))
    monkeypatch.setenv("COLUMNS", str(width))
    text = terminal.render(document_of(plan, record))
    assert max(len(line) for line in text.splitlines() if line and set(line) == {"-"}) <= width
    assert "not shown in this narrow terminal: " in text
    assert "measured" in text
    assert ("verdict" in text.partition("not shown")[0]) == (width > 20)
