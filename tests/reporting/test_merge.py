"""Joined reports: every cell once, whatever the order; two values of one cell are an error."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileone_core.cli.commands.report import report
from mobileone_core.cli.options.workspace import RecordOptions, Report
from mobileone_core.errors import InputError
from mobileone_core.reporting.merge import MergedReport, merged
from mobileone_core.reporting.report import read_report, report_home, report_name, write_report
from mobileone_core.study.declaration import Factor
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.rows import StudyRecord

LEVELS = (1, 2, 4)


@pytest.fixture(scope="session")
def make_report(make_plan, make_row):
    """A report of some levels and seeds, whose accuracies follow from level and seed."""

    def make(levels=LEVELS, seeds=3, first=0, source="", **changes):
        factor = Factor("k", "model.k", levels=levels, baseline=levels[0])
        plan = make_plan(default=False, factors=(factor,), seeds=seeds, first_seed=first)
        rows = [make_row(cell, 90 + cell.factors["k"] + cell.seed / 8) for cell in plan.cells]
        return MergedReport(plan, StudyRecord(tuple(replace(row, **changes) for row in rows)), source)

    return make


def content(joined):
    return [(plan.to_json(), record) for plan, record in joined]


@given(
    parts=st.lists(
        st.tuples(st.sets(st.sampled_from(LEVELS[1:])), st.integers(1, 3), st.integers(0, 4)), min_size=1, max_size=4
    ),
    shuffled=st.randoms(),
)
def test_the_order_of_reports_and_repeats_change_nothing(make_report, parts, shuffled):
    reports = [make_report((1, *sorted(levels)), seeds, first) for levels, seeds, first in parts]
    [(plan, record)] = merged(reports)
    assert {row.key for row in record.rows} == {row.key for item in reports for row in item.record.rows}
    assert len({row.key for row in record.rows}) == len(record.rows)
    assert {item.key for item in plan.cells} >= {row.key for row in record.rows}
    again = [*reports, MergedReport(plan, record, ""), shuffled.choice(reports)]
    shuffled.shuffle(again)
    assert content(merged(again)) == content([(plan, record)])


def test_seeds_that_were_added_elsewhere_are_joined(make_report):
    [(plan, record)] = merged([make_report(seeds=2, first=3), make_report(seeds=3)])
    assert (plan.study.first_seed, plan.study.seeds, plan.default) == (0, 5, False)
    assert [row.seed for row in record.rows] == [seed for seed in range(5) for _ in LEVELS]


def test_a_plan_that_has_everything_stays_as_it_is(make_plan, plan, rows, make_report):
    part = make_report((1, 4), seeds=1)
    [(joined, record)] = merged([replace(part, record=StudyRecord()), MergedReport(plan, StudyRecord(rows), "")])
    assert (joined, joined.default) == (plan, True)
    assert sorted(row.run_id for row in record.rows) == sorted(row.run_id for row in rows)


@pytest.mark.parametrize("same_run", [True, False])
def test_two_values_of_a_cell_are_an_error_that_names_both(make_report, same_run):
    one = make_report((1, 2), seeds=1, source="here")
    first, *rows = one.record.rows
    changed = replace(first, run_id=first.run_id if same_run else "other", metrics={**first.metrics, "test/top1": 0.5})
    other = MergedReport(one.plan, StudyRecord((changed, *rows)), "there")
    for reports in itertools.permutations([one, other]):
        with pytest.raises(InputError) as caught:
            merged(reports)
        message = str(caught.value)
        for text in (f"cell {first.key}: test/top1", "0.5", repr(first.metrics["test/top1"]), "here", "there"):
            assert text in message


def test_an_equal_repeat_counts_once_though_it_took_another_time(make_report):
    one = make_report((1, 2), seeds=2)
    repeated = tuple(
        replace(row, run_id=f"a{row.run_id}", metrics={**row.metrics, "time/train_seconds": 99.0})
        for row in one.record.rows
    )
    [(_, record)] = merged([one, MergedReport(one.plan, StudyRecord(repeated), "again")])
    assert [row.run_id for row in record.rows] == [row.run_id for row in repeated]


@pytest.mark.parametrize("order", [1, -1])
def test_excluded_run_stays_excluded(make_report, order):
    whole = make_report((1, 2), seeds=2)
    first, *rest = whole.record.rows
    part = replace(whole, record=StudyRecord(tuple(rest), excluded=(first.run_id,)))
    [(_, record)] = merged([whole, part][::order])
    assert {row.run_id for row in record.rows} == {row.run_id for row in rest}
    assert record.excluded == (first.run_id,)


def test_other_settings_stay_reports_of_their_own(make_report, branches, measured):
    joined = merged([make_report(), MergedReport(branches, measured, ""), MergedReport(branches, measured, "twice")])
    assert [plan.study.name for plan, _ in joined] == ["branches", "reparam_effect"]
    curves = sorted(measured.curves, key=lambda point: (point.key, point.metric, point.epoch))
    assert list(joined[1][1].curves) == curves
    assert sorted(row.run_id for row in joined[1][1].comparison) == sorted(row.run_id for row in measured.comparison)


def test_the_command_joins_directories(make_report, tmp_path: Path, capsys):
    parts = {"a": make_report(seeds=2), "b": make_report(seeds=2, first=2, environment={"processor": "B"})}
    for name, item in parts.items():
        write_report(item.plan, item.record, tmp_path / name)
    storage = RecordOptions(runs=tmp_path / "runs")
    options = Report(("branches",), storage, tmp_path / "joined", merge=(tmp_path / "a", tmp_path / "b"))
    assert report(options) == 0
    [page] = [Path(line) for line in capsys.readouterr().out.split()]
    plan, record = read_report(page.parent)
    assert len(record.rows) == 12
    assert page.parent.name == report_name(plan)
    assert "The cells were not all measured alike: " in page.read_text()
    assert "processor" in page.read_text()
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    assert report(replace(options, merge=(tmp_path / "joined", tmp_path / "b", tmp_path / "a"))) == 0
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == before
    with pytest.raises(InputError, match=r"merge: .*nowhere.* a report, or a directory of reports"):
        report(replace(options, merge=(tmp_path / "nowhere",)))
    with pytest.raises(InputError, match="study: 'se_usage' is not allowed; studies with a report to merge: branches"):
        report(replace(options, studies=("se_usage",)))


def test_plans_without_another_first_seed_keep_their_ids(make_plan):
    assert "first_seed" not in json.loads(make_plan().to_json())["study"]
    later = make_plan(default=False, first_seed=2)
    assert read_plan(later.to_json()) == later
    assert [cell.seed for cell in later.cells][:: len(LEVELS)] == [2, 3, 4]


def test_a_larger_report_of_the_same_name_is_kept(make_report, monkeypatch, tmp_path: Path):
    monkeypatch.setattr("mobileone_core.reporting.trained.kind.TrainedKind.suffix", lambda *_: "data")
    large, small = make_report(seeds=3), make_report((1, 2), seeds=3)
    home = write_report(large.plan, large.record, tmp_path).directory
    assert home.name == "branches-data"
    assert report_home(small.plan, tmp_path).name == f"branches-data-{small.plan.id}"
    assert report_home(make_report(seeds=4).plan, tmp_path) == home


@pytest.mark.parametrize("study", ["backbone_comparison", "pareto_search"])
def test_studies_of_other_kinds_are_kept_whole(study):
    plan, record = read_report(Path(__file__).parents[2] / "reports" / study)
    kept = MergedReport(plan, record, "here")
    assert merged([kept, replace(kept, source="there")]) == [(plan, record)]
    rows = {
        name: tuple(replace(row, run_id="other") for row in getattr(record, name)) for name in ("rows", "comparison")
    }
    with pytest.raises(InputError, match=f"{study}: here and there hold different runs; leave one of them out"):
        merged([kept, MergedReport(plan, replace(record, **rows), "there")])
