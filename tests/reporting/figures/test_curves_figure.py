"""Training curves: the last epoch of every level, against the baseline seed by seed."""

from dataclasses import replace

import pytest
from scipy import stats

from mobileone_core.reporting.figures.curves import curve_summaries, draw_curves, limits
from mobileone_core.reporting.render import markdown
from mobileone_core.reporting.report import write_report
from mobileone_core.reporting.trained.kind import trained_document
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.tables import curve_ends, curve_table, level_curves
from mobileone_core.study.rows import CurvePoint
from mobileone_core.study.statistics import Summary


def page(plan, record):
    return markdown.render(trained_document(analyse(plan, record)), "0")


def test_relative_difference_is_the_mean_over_seeds(branches, measured):
    ends = curve_ends(analyse(branches, measured), "val/loss")
    assert ends["4"][1].mean == pytest.approx(-4, abs=1e-9)
    of_seeds = [-2.0, -2.0, -3.0]
    low, high = stats.t.interval(0.95, 2, loc=-7 / 3, scale=stats.sem(of_seeds))
    values, relative = ends["1"]
    assert (relative.low, relative.high) == pytest.approx((low, high))
    losses = [3.0 * (1 + gap / 100) / 12 for gap in of_seeds]
    assert values.mean == pytest.approx(sum(losses) / 3)
    assert values.n == 3


def test_table_as_printed(branches, measured):
    table = curve_table(analyse(branches, measured))
    assert [column.head for column in table.columns] == [
        "branches", "train loss", "n", "against baseline, %", "validation loss", "n", "against baseline, %"
    ]  # fmt: skip
    assert table.rows[0] == ("none", "0.1667 ± 0.0000", "3", "baseline", "0.2500 ± 0.0000", "3", "baseline")
    assert table.rows[1][3] == "-2.3 ± 1.4"
    assert table.rows[2][3:5] == ("-4.0 ± 0.0", "0.2400 ± 0.0000")


def test_curve_that_stops_early_has_no_end(branches, measured):
    """An epoch is missing at one seed: that seed counts at no level's end, and is paired with no other."""
    gone = next(cell.key for cell in branches.cells if cell.factors["branches"] == "1" and cell.seed == 2)
    curves = [point for point in measured.curves if (point.key, point.epoch) != (gone, 12)]
    table = curve_table(analyse(branches, replace(measured, curves=curves)))
    assert table.rows[1][2:4] == ("2", "-2.0 ± 0.0")


def test_cell_that_is_missing_has_no_curve(branches, measured):
    rows = [row for row in measured.rows if row.seed != 1]
    result = analyse(branches, replace(measured, rows=rows))
    assert {len(curves) for curves in level_curves(result, "val/loss").values()} == {2}


def test_missing_curves_are_named(branches, measured, tmp_path):
    record = replace(measured, curves=())
    assert "No curve of train loss and validation loss is recorded yet." in page(branches, record)
    assert "curves.png" not in page(branches, record)
    assert not (write_report(branches, record, tmp_path).directory / "curves.png").exists()


def test_quotes_of_the_paper_have_their_source(branches, measured, make_plan):
    text = page(branches, measured)
    assert "- *Published* (text on figure 4; S0 on ImageNet, no seeds, no spread): from no branches to k = 1" in text
    assert "about 2.43, 2.34 and 2.32" in text
    other = make_plan(curves=("val/loss",))
    assert "figure 4" not in page(other, measured)


def test_a_study_that_names_no_curves_shows_its_losses_where_they_are_recorded(plan, rows, measured):
    assert "## Training curves" not in page(plan, replace(measured, rows=rows, curves=()))
    losses = [CurvePoint(row.key, name, 1, 0.5) for row in rows for name in ("train/loss", "val/loss", "val/top1")]
    assert "| validation loss<br>" in (shown := page(plan, replace(measured, rows=rows, curves=losses)))
    assert "validation top1" not in shown


def test_bands_are_those_of_the_table(branches, measured):
    result = analyse(branches, measured)
    curves = level_curves(result, "train/loss")
    values, relative = curve_ends(result, "train/loss")["1"]
    assert curve_summaries(curves["1"])[12] == values
    assert curve_summaries(curves["1"], curves["none"])[12] == relative


@pytest.mark.parametrize("number", [0, 1, 5, 9])
def test_drawn_from_little_and_the_same_each_time(branches, measured, number):
    rows = measured.rows[:number]
    result = analyse(branches, replace(measured, rows=rows))
    first, second = draw_curves(result), draw_curves(result)
    assert first == second
    assert len(first.png) > 1000


def test_value_that_is_no_number_is_left_out(branches, measured):
    broken = [replace(point, value=float("nan")) if point.epoch == 12 else point for point in measured.curves]
    result = analyse(branches, replace(measured, curves=broken))
    assert curve_table(result).rows[2][1:4] == ("-", "0", "-")
    assert draw_curves(result).png


def test_wide_bands_do_not_flatten_the_means():
    shown = [Summary(2, 1.0, 1.0, -99.0, 101.0), Summary(2, 3.0, 1.0, 2.9, 3.1)]
    assert limits(shown, banded=True) == pytest.approx((-0.2, 4.2))
    assert limits(shown, banded=False) == pytest.approx((0.9, 3.1))
    assert limits([Summary(1, 0.0)], banded=True) == pytest.approx((-0.05, 0.05))
