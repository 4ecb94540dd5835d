"""States of claims from made-up cells. By hand (conftest.py): k = 4 is better than k = 1 by 2.00 points."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mobileone_core.reporting.ledger.claims import claim_of, read_claims
from mobileone_core.reporting.ledger.evidence import SavedResult, evidence
from mobileone_core.reporting.ledger.ledger import (
    STATES,
    ledger_sections,
    repetitions,
    state_counts,
    verdict_text,
    verdicts,
)
from mobileone_core.reporting.measured.kind import MeasuredKind
from mobileone_core.reporting.report import PAGE, read_report, record_texts, write_index, write_report
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.study.rows import StudyRecord

pytestmark = pytest.mark.usefixtures("undrawn")
BASE = {"id": "claim", "text": "It is so.", "source": "table 6", "setting": "S0, ImageNet"}


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without their figures, which take the time."""
    from mobileone_core.reporting.figures import levels

    monkeypatch.setattr(levels, "draw", lambda _: levels.style.Drawing(b"png", b"svg"))


@pytest.fixture
def claim_on():
    """A claim on the study of conftest.py."""

    def make(**fields):
        test = {"study": "branches", "test": "level", "levels": [{"k": 4}], "expect": "better"}
        return claim_of({**BASE, **test, **fields})

    return make


@pytest.fixture
def saved(plan, rows):
    return SavedResult("branches", analyse(plan, StudyRecord(rows)))


def only(claim, *results):
    (row,) = verdicts(results, [claim])
    return row


def test_supported(claim_on, saved):
    row = only(claim_on(), saved)
    assert (row.state, row.data) == ("supported", "tiny on digits")
    assert verdict_text(row, PAGE) == "**supported**, [tiny on digits](branches/README.md): +2.00 points [+1.56, +2.44]"


def test_contradicted(claim_on, saved):
    assert only(claim_on(expect="worse"), saved).state == "contradicted"


def test_not_resolved_names_what_would_have_been_found(claim_on, saved):
    """Half width 0.436 over t 3.495 is the standard error, 0.1247; times 4.60 (noncentral t, 80 %): 0.57."""
    row = only(claim_on(levels=[{"k": 2}]), saved)
    assert row.state == "not resolved"
    assert row.evidence[0].text == "+0.10 points [-0.34, +0.54]; 0.57 points would have been found"


def test_other_baseline(claim_on, saved):
    """k = 4 against k = 2: 98.5 less 96.6 points, with the same half width."""
    row = only(claim_on(base={"k": 2}), saved)
    assert (row.state, row.evidence[0].text) == ("supported", "+1.90 points [+1.46, +2.34]")
    assert only(claim_on(base={"k": 2}, levels=[{"k": 1}]), saved).state == "not resolved"


def test_all_levels_must_show_it(claim_on, saved):
    assert only(claim_on(levels=[{"k": 4}, {"k": 2}]), saved).state == "not resolved"
    assert only(claim_on(levels=[{"k": 4}, {"k": 2}], expect="worse"), saved).state == "contradicted"
    assert not evidence(claim_on(levels=[{"k": 4}, {"k": 3}]), [saved])  # k = 3 is in no report


@pytest.mark.parametrize(
    "fields", [{"needs": ["s1"]}, {"excludes": ["tiny"]}, {"levels": [{"k": 8}]}, {"metric": "test/loss"}]
)
def test_not_tested_here_names_the_command(claim_on, saved, fields):
    row = only(claim_on(command="python studies/{study}.py --variant s1", **fields), saved)
    assert (row.state, row.evidence) == ("not tested here", ())
    assert verdict_text(row, PAGE) == "**not tested here**: `python studies/branches.py --variant s1`"


def test_claim_without_a_study(saved):
    row = only(claim_of(BASE), saved)
    assert verdict_text(row, PAGE) == "**not tested here**; no study tests it"


def test_missing_report_is_said(claim_on):
    assert verdict_text(only(claim_on()), PAGE) == "**report missing**: `python studies/branches.py`"
    assert only(claim_on(needs=["s1"])).state == "not tested here"


def test_report_without_values_resolves_nothing(claim_on, plan):
    row = only(claim_on(), SavedResult("branches", analyse(plan, StudyRecord(()))))
    assert (row.state, row.evidence[0].text) == ("not resolved", "not enough seeds")


@pytest.fixture
def elsewhere(plan, rows):
    """The record of another machine; with k = 1 and 4 exchanged, or k = 4 as good as k = 2."""

    def make(exchanged):
        values = {(row.factors["k"], row.seed): row.metrics for row in rows}
        source = {1: 4, 2: 2, 4: 1} if exchanged else {1: 1, 2: 2, 4: 2}
        changed = [
            replace(
                row,
                run_id=f"again-{row.run_id}",
                metrics=values[source[row.factors["k"]], row.seed],
                environment={**row.environment, "processor": "Another CPU"},
            )
            for row in rows
        ]
        return SavedResult("branches-again", analyse(plan, StudyRecord(changed)))

    return make


@pytest.mark.parametrize(("exchanged", "other"), [(True, "contradicted"), (False, "not resolved")])
def test_only_opposite_reports_are_unstable(claim_on, elsewhere, saved, exchanged, other):
    row = only(claim_on(), saved, elsewhere(exchanged))
    assert row.state == ("unstable" if exchanged else "supported")
    text = verdict_text(row, PAGE)
    assert "supported ([tiny on digits](branches/README.md), Any CPU): +2.00" in text
    assert f"{other} ([tiny on digits](branches-again/README.md), Another CPU): " in text


def test_reports_that_agree_are_one_verdict(claim_on, elsewhere, saved):
    row = only(claim_on(levels=[{"k": 2}]), saved, elsewhere(exchanged=False))
    assert row.state == "not resolved"
    assert "(Any CPU)" in verdict_text(row, PAGE)
    assert "(Another CPU)" in verdict_text(row, PAGE)


def test_difference_that_only_the_other_runs_show(saved, elsewhere):
    (line,) = repetitions([elsewhere(exchanged=False), saved], PAGE)
    assert line.startswith("branches, k = 4: better, +2.00 points")
    assert "**does not repeat**: no difference shown, " in line


@pytest.mark.parametrize(("exchanged", "state"), [(True, "unstable"), (False, "does not repeat")])
def test_difference_that_other_runs_do_not_show(saved, elsewhere, exchanged, state):
    """k = 4 is better by 2.00 points; by the other report worse, or alike."""
    lines = repetitions([saved, elsewhere(exchanged)], PAGE)
    start = "branches, k = 4: better, +2.00 points [+1.56, +2.44] on [seeds 0 to 2](branches/README.md)"
    (first,) = [line for line in lines if line.startswith(start)]
    assert f"**{state}**: {'worse' if exchanged else 'no difference shown'}, " in first
    assert first.endswith("on [seeds 0 to 2](branches-again/README.md)")


def test_difference_that_fresh_seeds_repeat(saved, plan, rows):
    """Only reports of one setting without common runs repeat each other; k = 2 differs in neither."""
    fresh = replace(plan, study=replace(plan.study, first_seed=3))
    cells = {(cell.factors["k"], cell.seed): cell.key for cell in fresh.cells}
    again = [replace(row, seed=row.seed + 3, run_id=f"fresh-{row.run_id}", key=cells[row.factors["k"], row.seed + 3])
             for row in rows]  # fmt: skip
    other = SavedResult("branches-fresh", analyse(fresh, StudyRecord(again)))
    (line,) = repetitions([other, saved], PAGE)
    assert "on [seeds 0 to 2](branches/README.md)" in line
    assert "**repeats**: better, +2.00 points [+1.56, +2.44] on [seeds 3 to 5](branches-fresh/README.md)" in line
    assert repetitions([saved, saved], PAGE) == []
    study = replace(plan.study, data="fashion_mnist")
    assert (
        repetitions([saved, replace(other, result=replace(other.result, plan=replace(fresh, study=study)))], PAGE) == []
    )


def test_repetitions_are_on_both_pages(plan, rows, make_plan, tmp_path):
    again = [replace(row, run_id=f"fresh-{row.run_id}") for row in rows]
    study = make_plan(name="branch_count")
    write_report(study, StudyRecord(rows), tmp_path)
    shutil.copytree(tmp_path / "branch_count", tmp_path / "branch_count-again")
    (tmp_path / "branch_count-again" / "cells.csv").write_text(record_texts(study, StudyRecord(again))["cells.csv"])
    assert "**repeats**: better, " in write_index(tmp_path).read_text()
    assert "<strong>repeats</strong>: better, " in (tmp_path / "index.html").read_text()


def test_report_with_further_seeds_replaces_the_former(claim_on, plan, rows, saved):
    """One of three seeds alone does not resolve k = 4; both reports together are no instability."""
    fewer = SavedResult("branches-before", analyse(plan, StudyRecord([row for row in rows if row.seed == 0])))
    assert only(claim_on(), fewer).state == "not resolved"
    row = only(claim_on(), fewer, saved)
    assert (row.state, [item.report for item in row.evidence]) == ("supported", ["branches"])


def test_data_sets_are_separate(claim_on, saved, plan, rows, make_plan):
    """The same cells under another data set's name, which is picked up by its plan."""
    study = replace(plan.study, data="fashion_mnist")
    other = SavedResult("branches-fashion_mnist", replace(saved.result, plan=replace(plan, study=study)))
    found = verdicts([saved, other], [claim_on()])
    assert [row.data for row in found] == ["tiny on digits", "tiny on fashion_mnist"]
    assert {row.state for row in found} == {"supported"}
    (section, _) = ledger_sections(found, (), PAGE)
    assert section.blocks[0].text == "**1 claims of the paper on accuracy:** 1 supported."


def test_training_curve(branches, measured):
    """Losses of level 4 are 4 % lower at every seed: no spread. Those of 1 are 2, 2 and 3 % lower: 2.33 +- 1.43.

    Level 4 against level 1: 0.96 / 0.98, twice, and 0.96 / 0.97, so 2.04, 2.04 and 1.03 % lower: 1.70 +- 1.45.
    """
    result = SavedResult("reparam_effect", analyse(branches, measured))
    fields = {**BASE, "study": "reparam_effect", "test": "curve", "metric": "val/loss", "than": 0.0, "expect": "below"}
    row = only(claim_of({**fields, "levels": [{"branches": "1"}]}), result)
    assert (row.state, row.evidence[0].text) == ("supported", "-2.3 % [-3.8, -0.9]")
    assert only(claim_of({**fields, "levels": [{"branches": "1"}], "expect": "above"}), result).state == "contradicted"
    against = only(claim_of({**fields, "levels": [{"branches": "4"}], "base": {"branches": "1"}}), result)
    assert (against.state, against.evidence[0].text) == ("supported", "-1.7 % [-3.2, -0.3]")
    assert only(claim_of({**fields, "metric": "val/top1", "levels": [{"branches": "1"}]}), result).evidence == ()


def test_gain_of_the_smaller_network(claim_on, plan, rows, make_plan, make_row):
    """Tiny gains 2.0, 2.1 and 1.9 points, small 0.5, 0.1 and 0.6.

    By hand: the difference is 1.6, its standard error sqrt(0.01 / 3 + 0.07 / 3) = 0.1633, Welch's degrees of freedom
    2.56, t 3.52: half width 0.575.
    """
    small = make_plan(variant="small")
    small = replace(small, base=replace(small.base, model=replace(small.base.model, widths=(32, 64, 128, 256))))
    gains = {0: 0.5, 1: 0.1, 2: 0.6}
    others = [make_row(cell, 96 + cell.seed + (cell.factors["k"] == 4) * gains[cell.seed]) for cell in small.cells]
    results = [
        SavedResult("small", analyse(small, StudyRecord(others))),
        SavedResult("tiny", analyse(plan, StudyRecord(rows))),
    ]
    row = only(claim_on(test="gain", expect="above"), *results)
    assert (row.state, row.data) == ("supported", "tiny and small on digits")
    assert row.evidence[0].text == "+1.60 points [+1.03, +2.17]"
    assert only(claim_on(test="gain", expect="above"), results[0]).state == "not tested here"


def test_counts_name_every_state(claim_on, saved):
    counts = state_counts(
        verdicts([saved], [claim_on(), claim_on(id="b", expect="worse"), claim_of({**BASE, "id": "c"})])
    )
    assert tuple(counts) == STATES
    assert (counts["supported"], counts["contradicted"], counts["not tested here"], counts["unstable"]) == (1, 1, 1, 0)


@pytest.mark.slow
def test_index_holds_the_ledger_where_a_report_is_evidence(plan, rows, make_plan, tmp_path):
    write_report(plan, StudyRecord(rows), tmp_path)
    assert "claims of the paper" not in write_index(tmp_path).read_text()
    study = make_plan(name="branch_count")
    write_report(study, StudyRecord(rows), tmp_path)
    text = write_index(tmp_path).read_text()
    assert "| table 6 | k = 4 branches make a small network more accurate than k = 1. |" in text
    assert "**supported**, [tiny on digits](branch_count/README.md): +2.00 points [+1.56, +2.44] |" in text
    assert "**report missing**: `python studies/distillation.py`" in text
    assert text.index("## What holds of the paper") < text.index("## All claims") < text.index("## Studies")


def test_unreadable_report_is_no_evidence_and_stays_in_the_index(rows, make_plan, tmp_path):
    home = write_report(make_plan(name="branch_count"), StudyRecord(rows), tmp_path).directory
    Path(home / "cells.csv").write_text("key\nnobody\n")
    text = write_index(tmp_path).read_text()
    assert "claims of the paper" not in text
    (Path(home) / PAGE).unlink()
    text = write_index(tmp_path).read_text()
    assert "| [branch_count](branch_count/README.md) |" in text


def test_claim_counts_once(claim_on, saved):
    """Two data sets with unlike verdicts count neither way."""
    (row,) = verdicts([saved], [claim_on()])
    counts = state_counts([row, replace(row, data="tiny on other", state="contradicted")])
    assert {state: count for state, count in counts.items() if count} == {"mixed": 1}


def test_untrained_networks_test_no_claim(claim_on, plan, rows):
    """Guessing among ten digits gets 0.1."""
    guesses = [replace(row, metrics={**row.metrics, "test/top1": 0.1, "test/images": 360}) for row in rows]
    row = only(claim_on(), SavedResult("branches", analyse(plan, StudyRecord(guesses))))
    assert row.state == "not tested: not trained"


def test_correlation_is_over_the_networks_of_table_1():
    plan, record = read_report(Path(__file__).parents[2] / "reports" / "metric_correlation")
    saved = SavedResult("metric_correlation", MeasuredKind().analyse(plan, record))
    claims = [claim for claim in read_claims() if claim.id in ("flops-cpu", "params-cpu")]
    macs, params = verdicts([saved], claims)[0], verdicts([saved], claims)[-1]
    assert (macs.state, params.state) == ("contradicted", "not resolved")
    assert params.evidence[0].text == "0.69 [0.29, 0.88] over 19 of 21 networks"


def test_excluded_runs_are_on_the_page_of_the_site(plan, rows, tmp_path):
    home = write_report(plan, StudyRecord(rows, excluded=("run99",)), tmp_path).directory
    write_index(tmp_path)
    assert "1 finished run is excluded from this report" in (home / "index.html").read_text()


@pytest.mark.parametrize(("data", "shown"), [("digits", True), ("fashion_mnist", False), ("imagenet", True)])
def test_published_column_is_of_comparable_data(plan, rows, data, shown):
    base = replace(plan.base, data=replace(plan.base.data, name=data))
    changed = replace(plan, base=base)
    assert bool(analyse(changed, StudyRecord()).published) == shown
