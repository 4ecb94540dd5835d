"""Pages of records that are incomplete, wrong, mixed or of another kind."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileone_core.errors import InputError
from mobileone_core.reporting.document import Column
from mobileone_core.reporting.metric import metric_of
from mobileone_core.reporting.render import markdown, terminal
from mobileone_core.reporting.render.latex import latex
from mobileone_core.reporting.report import document_of
from mobileone_core.reporting.trained.kind import trained_document
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.tables import main_table
from mobileone_core.reporting.trained.verdict import verdict
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import StudyRecord


def analysed(plan, rows, problems=()):
    return analyse(plan, StudyRecord(rows, problems))


def printed(plan, rows):
    return terminal.render(document_of(plan, StudyRecord(rows)))


def page(plan, rows, problems=()):
    return markdown.render(trained_document(analysed(plan, rows, problems)), "0")


def without(rows, *cells):
    return [row for row in rows if (row.factors["k"], row.seed) not in cells]


def test_gap_is_seen_everywhere_and_is_no_zero(plan, rows):
    partial = without(rows, (4, 1), (4, 2))
    gone = [row.key for row in rows if row not in partial]
    text = page(plan, partial)
    assert "| 4 | 98.00 | 1 of 3 | - |" in text
    assert f"- k = 4: 1 of 3 seeds; missing seed 1 (`{gone[0]}`), seed 2 (`{gone[1]}`)" in text
    assert f"| 4 | 2 | missing | `{gone[1]}` |  |" in text
    assert "Incomplete: 7 of 9 cells are recorded." in text
    assert f"missing: k = 4: 1 of 3 seeds; missing seed 1 ({gone[0]})" in printed(plan, partial)


def test_level_with_one_seed_says_so(plan, rows):
    result = analysed(plan, without(rows, (4, 1), (4, 2)))
    assert result.compared[-1].verdict == "not enough seeds"
    assert "k = 4: not enough seeds." in verdict(result)
    assert main_table(result).rows[-1][4:7] == ("+2.00", "not enough seeds", "-")


def test_level_without_a_seed_is_a_row_of_gaps(plan, rows):
    result = analysed(plan, without(rows, (4, 0), (4, 1), (4, 2)))
    expected = ("4", "-", "0 of 3", "-", "-", "not enough seeds", "-", "71.4", "75.6")
    assert main_table(result).rows[-1] == expected


def test_two_finished_runs_are_an_error_and_not_used(plan, rows):
    twice = [*rows, replace(rows[0], run_id="another", metrics={"test/top1": 0.1})]
    text = page(plan, twice)
    said = f"cell {rows[0].key} has 2 finished runs, where one is allowed: another, run10"
    assert f"## Errors in the record\n\n- {said}" in text
    assert "| 1 | 96.75 ± 3.18 | 2 of 3 |" in text
    assert f"error: {said}" in printed(plan, twice)


def test_error_told_by_the_record_is_not_told_twice(plan, rows):
    twice = [*rows, replace(rows[0], run_id="another")]
    (problem,) = analysed(plan, twice).problems
    assert analysed(plan, twice, [problem, "another"]).problems == (problem, "another")


@pytest.mark.parametrize("metrics", [{}, {"test/top1": float("nan")}])
def test_run_without_its_metric_is_an_error(plan, rows, metrics):
    result = analysed(plan, [replace(rows[0], metrics=metrics), *rows[1:]])
    assert result.problems == (f"cell {rows[0].key} has no finite test/top1: run run10",)
    assert result.analysis.comparisons[0].summary.n == 2


def test_no_effect_is_said_plainly(plan, rows):
    level = {row.seed: row.metrics for row in rows if row.factors["k"] == 2}
    same = [replace(row, metrics=level[row.seed]) if row.factors["k"] == 4 else row for row in rows]
    answer = verdict(analysed(plan, same))
    assert answer.startswith("No effect shown. k = 2 and 4: 3 seeds show no difference from k = 1 (one of")


def test_lower_is_better_for_a_loss(make_plan, rows):
    result = analysed(make_plan(metric="test/loss", published=""), rows)
    assert verdict(result).startswith("k = 4 is better than k = 1: -0.0400 [-0.0487, -0.0313].")
    assert main_table(result).columns[1] == Column("measured test loss", "mean ± 95 % interval")
    assert "Lower is better." in page(result.plan, rows)


def test_times_are_seconds_and_no_spread_is_said(make_plan, rows):
    result = analysed(make_plan(metric="time/train_seconds", published=""), rows)
    assert main_table(result).rows[2] == ("4", "10.00 ± 0.00", "3", "0.00", "+7.50", "no spread", "-")
    assert "k = 2 and 4: not tested, the values have no spread." in verdict(result)


def test_two_factors_make_their_combinations_rows(make_plan, make_row):
    factors = (Factor("k", "model.k", (1, 4), 1), Factor("nesterov", "recipe.nesterov", (False, True), False))
    plan = make_plan(factors=factors, published="")
    values = [[96.0, 96.5, 97.0], [96.3, 96.2, 97.1], [96.1, 96.6, 96.8], [98.0, 98.4, 98.9]]
    rows = [make_row(cell, values[index % 4][cell.seed]) for index, cell in enumerate(plan.cells)]
    table = main_table(analysed(plan, rows))
    assert table.columns[:2] == (Column("k"), Column("nesterov"))
    assert [row[:2] for row in table.rows] == [("1", "off"), ("1", "on"), ("4", "off"), ("4", "on")]
    assert [row[6] for row in table.rows][1::2] == ["no difference shown", "better"]
    assert "| 4 | on | 2 | 98.90 |" in page(plan, rows)


def test_one_level_alone(make_plan, make_row):
    plan = make_plan(factors=(Factor("k", "model.k", (4,), 4),))
    rows = [make_row(cell, 96.0 + cell.seed) for cell in plan.cells]
    assert verdict(analysed(plan, rows)) == "Only one level: nothing to compare."
    assert "| 4 | 97.00 ± 2.48 | 3 | 1.00 | - | baseline | - | 71.4 | 75.6 |" in page(plan, rows)


def test_mixed_environments_are_named(plan, rows):
    other = {**rows[0].environment, "processor": "Another CPU", "cuda": "13.0"}
    text = page(plan, [replace(rows[0], environment=other), *rows[1:]])
    assert "**The cells were not all measured alike: cuda, processor differ.**" in text
    assert "| processor | Another CPU (1 cells); Any CPU (8 cells) |" in text
    assert "| cuda | 13.0 (1 cells); not recorded (8 cells) |" in text


def test_rows_of_another_plan_are_left_aside(plan, rows):
    assert page(plan, [*rows, replace(rows[0], key="0" * 12)]) == page(plan, rows)


def test_only_published_levels_that_are_studied_are_shown(plan, rows):
    assert {value.level for value in analysed(plan, rows).published} == {"1", "2", "4"}


def test_published_values_that_the_figure_leaves_to_the_table_are_told(make_plan, make_row, plan, rows):
    said = "single values and gains are in the table"
    one = make_plan(factors=(Factor("k", "model.k", (4,), 4),))
    assert said in page(one, [make_row(cell, 96.0 + cell.seed) for cell in one.cells])
    assert said not in page(plan, rows)


def test_a_bound_that_rounds_to_zero_keeps_its_side():
    metric = metric_of("test/top1")
    assert [metric.signed(value) for value in (0.004, -0.0004, 0.0, 1e-14, 0.5)] == [
        "+0.004", "-0.0004", "0.00", "0.00", "+0.50"
    ]  # fmt: skip


percentages = st.integers(9000, 9990).map(lambda value: value / 100)


@given(st.lists(percentages, min_size=9, max_size=9), st.booleans())
@settings(max_examples=100, deadline=None)
def test_printed_row_never_contradicts_itself(make_plan, make_row, values, is_loss):
    plan = make_plan(metric="test/loss" if is_loss else "test/top1", published="")
    rows = [make_row(cell, value) for cell, value in zip(plan.cells, values, strict=True)]
    for _, _, _, _, printed, said, _ in main_table(analysed(plan, rows)).rows[1:]:
        low, high = (float(text) for text in re.findall(r"[-+]?[\d.]+", printed)[1:]) if "[" in printed else (0.0, 0.0)
        sides = {"better": low > 0 or high < 0, "worse": low > 0 or high < 0, "no difference shown": low <= 0 <= high}
        assert sides.get(said, said in ("borderline", "no spread"))
        if said in ("better", "worse"):
            assert (low > 0) == ((said == "better") != is_loss)


def test_metric_without_a_known_kind_is_refused():
    with pytest.raises(InputError, match="metric: 'test/luck' is not allowed; a name that ends in top1"):
        metric_of("test/luck")


def test_latex_escapes():
    assert latex(r"50 % of a_b & {c} #1 $x$ ~ ^ \n") == (
        r"50 \% of a\_b \& \{c\} \#1 \$x\$ \textasciitilde{} \textasciicircum{} \textbackslash{}n"
    )
    assert latex("-0.31 [-0.50, +0.12] top-1 ± 2") == r"$-$0.31 [$-$0.50, +0.12] top-1 $\pm$ 2"
