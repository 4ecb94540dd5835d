"""Power of a plan: the same number as a report of it shows, and seeds enough for a wanted difference."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.cli.options.study import parse
from mobileone_core.reporting.power import MAX_SEEDS, detectable, nearest_spread, planned, power_line, seeds_for
from mobileone_core.reporting.report import read_report, write_report
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.rows import StudyRecord

REPORTS = Path(__file__).parents[2] / "reports"


def test_a_plan_finds_what_its_report_says():
    plan, record = read_report(REPORTS / "branch_count")
    result = analyse(plan, record)
    sd, source = nearest_spread(plan, REPORTS)
    assert source == "branch_count"
    sizes = [row.detectable for row in result.compared]
    assert sizes == pytest.approx([detectable(sd, 7, 5)] * 6)
    assert f"5 seeds find a difference of {result.metric.amount(sizes[0])} from the baseline" in power_line(
        plan, REPORTS
    )
    assert "(as in reports/branch_count)" in power_line(plan, REPORTS)


@given(sd=st.floats(0.01, 5), levels=st.integers(2, 9), seeds=st.integers(2, 30))
def test_more_seeds_find_less_and_the_spread_scales(sd, levels, seeds):
    least = detectable(sd, levels, seeds)
    assert detectable(sd, levels, seeds + 1) < least
    assert detectable(2 * sd, levels, seeds) == pytest.approx(2 * least)
    assert detectable(sd, levels + 1, seeds) > 0
    assert detectable(sd, levels, 1) is None


@pytest.mark.parametrize(("wanted", "seeds"), [(100.0, 2), (0.001, MAX_SEEDS)])
def test_seeds_are_two_to_the_limit(plan, rows, tmp_path, wanted, seeds):
    write_report(plan, StudyRecord(rows), tmp_path)
    assert seeds_for(plan, wanted, tmp_path) == seeds


def test_seeds_are_the_least_that_find_the_difference(plan, rows, tmp_path):
    write_report(plan, StudyRecord(rows), tmp_path)
    sd, _ = nearest_spread(plan, tmp_path)
    wanted = (detectable(sd, 3, 7) + detectable(sd, 3, 8)) / 2
    assert seeds_for(plan, wanted, tmp_path) == 8


def test_the_nearest_report_gives_the_spread(plan, rows, make_plan, make_row, tmp_path):
    """The same setting before another study, a study on the same data before a guess."""
    assert nearest_spread(plan, tmp_path) == (0.5, "")
    assert "a guess: no report on these data" in power_line(plan, tmp_path)
    other = make_plan(name="another")
    noisy = [make_row(cell, 90 + 3 * math.sin(7 * cell.seed + cell.factors["k"])) for cell in other.cells]
    write_report(other, StudyRecord(noisy), tmp_path)
    assert nearest_spread(plan, tmp_path)[1] == "another"
    write_report(plan, StudyRecord(rows), tmp_path)
    assert nearest_spread(plan, tmp_path)[1] == "branches"
    assert nearest_spread(other, tmp_path)[1] == "another"
    elsewhere = replace(plan, study=replace(plan.study, data="cifar10"))
    assert nearest_spread(elsewhere, tmp_path)[1] == ""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "plan.json").write_text("{}")
    assert nearest_spread(plan, tmp_path)[1] == "branches"


def test_one_seed_finds_nothing(make_plan, tmp_path):
    assert power_line(make_plan(seeds=1), tmp_path) == "power: one seed finds no difference"


def test_seeds_auto_plans_as_many_as_the_difference_takes(tmp_path):
    study = Study("branch_count", "Does it?", (Factor("k", "model.k", levels=(1, 4), baseline=1),))
    line = ["--seeds", "auto", "--reports", str(REPORTS)]
    few, many = (parse(study, [*line, *more]).request.plan for more in (["--detect", "2"], ["--detect", "0.9"]))
    assert 2 <= few.study.seeds < many.study.seeds < MAX_SEEDS
    sd, _ = nearest_spread(many, REPORTS)
    assert detectable(sd, 2, many.study.seeds) <= 0.9 < detectable(sd, 2, many.study.seeds - 1)


def test_a_factorial_plan_finds_the_main_effects_of_its_report():
    plan, record = read_report(REPORTS / "training_strategy")
    result = analyse(plan, record)
    sd, _ = nearest_spread(plan, REPORTS)
    least = planned(plan, sd, plan.study.seeds)
    assert result.effects[0].detectable == pytest.approx(least, rel=0.06)  # of means over EMA, planned of cells
    assert f"seeds find a main effect of {result.metric.amount(least)} in 80 %" in power_line(plan, REPORTS)


@pytest.mark.slow
def test_too_few_seeds_are_said(plan, rows, tmp_path, capsys):
    write_report(plan, StudyRecord(rows), tmp_path)
    seeds_for(plan, 0.001, tmp_path)
    assert "detect: 20 seeds, the most that auto takes, find " in capsys.readouterr().err


def test_unreadable_cells_leave_a_guess(plan, rows, tmp_path):
    home = write_report(plan, StudyRecord(rows), tmp_path).directory
    (home / "cells.csv").write_text("key\nnothing\n")
    assert nearest_spread(plan, tmp_path)[1] == ""
