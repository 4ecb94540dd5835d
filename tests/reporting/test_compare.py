"""Two settings are compared cell by cell, by level and seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mobileone_core.cli.console import parse, run
from mobileone_core.errors import InputError
from mobileone_core.reporting.report import write_report
from mobileone_core.reporting.results import Setting, paired_table
from mobileone_core.study.rows import StudyRecord

REPORTS = Path(__file__).parents[2] / "reports"


def accuracy(cell, setting):
    return 90 + cell.factors["k"] / 4 + setting * 0.5 + np.sin(7 * cell.seed + 3 * cell.factors["k"] + 11 * setting) / 4


@pytest.fixture
def make_setting(make_plan, make_row):
    def make(number, **changes):
        plan = make_plan(default=False, **changes)
        return Setting("AB"[number], plan, [make_row(cell, accuracy(cell, number)) for cell in plan.cells])

    return make


def test_differences_are_those_of_equal_cells(make_setting):
    one, other = make_setting(0, seeds=4), make_setting(1, seeds=3, first_seed=1)
    table = paired_table(one, other)
    assert [row[:2] for row in table.rows] == [("1", "3"), ("2", "3"), ("4", "3"), ("all", "3")]
    cells = {row.seed: row for row in other.rows if row.factors["k"] == 2}
    gaps = np.array(
        [
            100 * (cells[row.seed].metrics["test/top1"] - row.metrics["test/top1"])
            for row in one.rows
            if row.factors["k"] == 2 and row.seed in cells
        ]
    )
    low, high = stats.t.interval(0.95, 2, gaps.mean(), stats.sem(gaps))
    assert table.cell("2", "B - A") == f"{gaps.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
    assert table.cell("2", "B better") == f"{(gaps > 0).sum()} of 3"


def test_turned_around_the_differences_change_sign(make_setting):
    one, other = make_setting(0), make_setting(1)
    there, back = paired_table(one, other), paired_table(other, one)
    for row in ("1", "2", "4", "all"):
        assert there.cell(row, "A") == back.cell(row, "B")
        first, second = (float(table.cell(row, "B - A").split()[0]) for table in (there, back))
        assert first == -second


def test_of_a_loss_the_lower_is_better(make_setting):
    one, other = make_setting(0), make_setting(1)
    loss = paired_table(one, other, "test/loss")
    assert loss.cell("all", "B better") == paired_table(one, other).cell("all", "B better")


def test_the_command_reads_reports_by_name_and_path(make_setting, tmp_path, capsys):
    other = make_setting(1)
    path = write_report(other.plan, StudyRecord(tuple(other.rows)), tmp_path).directory
    line = ["compare", path.name, str(path), "--runs", str(tmp_path / "runs"), "--reports", str(tmp_path)]
    assert run(parse(line)) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"A: {path.name}\nB: {path}\nmetric: test/top1\n")
    assert "0.00 [0.00, 0.00]" in out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "setting: 'nothing' is not allowed; the path of a report, or one of activation, "),
        (
            "se_usage",
            "setting: 'se_usage' is not allowed; one that shares levels, seeds and test/top1 with",
        ),
        ("block_latency", "setting: 'block_latency' is not allowed; a study that trains a grid of cells"),
    ],
)
def test_what_cannot_be_compared_is_one_line(name, message, tmp_path):
    line = ["compare", "branch_count", name, "--runs", str(tmp_path), "--reports", str(REPORTS)]
    with pytest.raises(InputError) as caught:
        run(parse(line))
    assert str(caught.value).startswith(message)


def test_equal_labels_of_other_factors_are_not_paired(make_setting):
    one, other = make_setting(0), make_setting(1)
    [factor] = other.plan.study.factors
    plan = replace(other.plan, study=replace(other.plan.study, factors=(replace(factor, name="n"),)))
    with pytest.raises(InputError, match="shares levels, seeds"):
        paired_table(one, Setting("B", plan, other.rows))


def test_levels_of_a_seed_are_one_pair(make_setting):
    """The row over all is the t interval over seeds of the gaps' means."""
    one, other = make_setting(0), make_setting(1)
    gaps = np.array(
        [100 * (b.metrics["test/top1"] - a.metrics["test/top1"]) for a, b in zip(one.rows, other.rows, strict=True)]
    )
    means = np.array([gaps[[row.seed == seed for row in one.rows]].mean() for seed in range(3)])
    low, high = stats.t.interval(0.95, 2, means.mean(), stats.sem(means))
    assert paired_table(one, other).cell("all", "B - A") == f"{means.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
