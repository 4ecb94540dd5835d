"""The page of a study that measures training steps: what grows, what does not, and what is not to be trusted."""

from dataclasses import replace

import pytest
from step_record import STUDY, TIMES, step_plan, step_record

from mobileone_core.reporting.document import Column
from mobileone_core.reporting.figures.growth import spread
from mobileone_core.reporting.figures.style import drawing
from mobileone_core.reporting.measured.result import analyse_measured
from mobileone_core.reporting.measured.training import TrainingView, paths_of
from mobileone_core.reporting.render import terminal
from mobileone_core.reporting.report import document_of, read_report, write_report

VIEW = TrainingView()
PLAN = step_plan()
RECORD = step_record(PLAN)


def result_of(record=RECORD, plan=PLAN):
    return analyse_measured(plan, record)


def verdict_of(record=RECORD, plan=PLAN):
    return VIEW.verdict(result_of(record, plan))


def test_growth_and_ratios_are_stated():
    verdict = verdict_of()
    assert verdict.startswith("Measured on cpu, Any CPU, 2 threads. branches: from k = 1 to 8 a step takes 4.25 [4.21")
    assert "folded: from k = 1 to 8 a step takes 1.13 [1.12, 1.14] times as long and keeps 1.43 times" in verdict
    faster = "faster at k = 2 (0.78 times), k = 4 (0.50 times) and k = 8 (0.32 times)"
    assert f"folded against branches with the same k: slower at k = 1 (1.20 times); {faster}" in verdict
    assert "it keeps 0.19 to 0.44 of what they keep" in verdict
    assert "timm against branches with the same k: no difference that 12 rounds show at k = 4 (1.00 times)" in verdict
    assert "folded at k = 4 takes 0.50 [0.49, 0.50] times what timm's network takes and keeps 0.26" in verdict
    assert verdict.endswith("A/A control within 3 % (ratio 1.004).")


def test_no_growth_is_stated_as_none():
    flat = {**TIMES, "folded": dict.fromkeys(TIMES["folded"], 480.0)}
    assert "folded: from k = 1 to 8 a step shows no growth in 12 rounds (1.00 [0.99, 1.01] times)" in verdict_of(
        step_record(PLAN, flat)
    )


def test_a_broken_control_judges_nothing():
    record = step_record(PLAN, control=1.05)
    assert "not judged because the control failed at k = 1 (1.20 times)" in verdict_of(record)
    assert "faster" not in verdict_of(record)
    verdicts = {row[6] for row in VIEW.table(result_of(record)).rows}
    assert verdicts == {"-", "not judged: control"}


def test_a_row_per_entry():
    rows = {row[:2]: row[2:] for row in VIEW.table(result_of()).rows}
    assert len(rows) == len(PLAN.spec.entries) == 9
    assert rows["branches", "1"][1:5] == ("400 [396, 408]", "reference", "-", "-")
    assert rows["folded", "8"][0] == "10,000,000"
    assert rows["folded", "8"][3:] == ("0.32 [0.32, 0.32]", "faster", "189.0", "0.63", "0.19", "236.2", "12")
    titles = VIEW.table(result_of()).columns
    assert Column("time ratio", "to branches, k = 1 [95 %]") in titles


def test_gaps_have_reasons_and_missing_entries_stay_visible(tmp_path):
    less = replace(RECORD, comparison=RECORD.comparison[:-1])
    page = write_report(PLAN, less, tmp_path).page.read_text()
    assert "- path = timm, k = 1: timm has mobileone_s0 with k = 4 alone" in page
    assert "- path = timm, k = 4: not in the record" in page
    assert "| timm | 4 | - | - | - | - | not measured | - | - | - | - | - |" in page
    assert "Not measured: 1 of 9 entries." in page
    assert "missing: path = timm, k = 8" in terminal.render(document_of(PLAN, less))


def test_the_page_states_device_and_setting(tmp_path):
    files = write_report(PLAN, RECORD, tmp_path / "one")
    page = files.page.read_text()
    assert "12 rounds of 1 call, s0, 224 px, batch 8." in page
    assert "1 call to warm up, 0 before each burst" in page
    assert "random images (s0, 224 px, batch 8)" in page
    assert "paper's statistic" not in page
    plan, record = read_report(files.directory)
    assert plan == PLAN
    again = write_report(plan, record, tmp_path / "two").directory
    for path in files.directory.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_a_path_holds_all_levels_of_k():
    paths = paths_of(result_of())
    assert [(name, len(entries)) for name, entries in paths.items()] == [("branches", 4), ("folded", 4), ("timm", 1)]
    alone = step_plan(replace(STUDY, factors=STUDY.factors[1:]))
    assert list(paths_of(result_of(step_record(alone), alone))) == ["a step"]


def test_the_figure_draws_a_line_per_path_in_both_panels():
    figures = []

    def make():
        figures.append(VIEW.figure(result_of()))
        return figures[0]

    drawing(make)
    left, right = figures[0].axes
    for axes, (first, last) in ((left, (400.0, 1700.0)), (right, (300.0, 990.0))):
        series = [container.lines[0] for container in axes.containers]
        assert [list(line.get_xdata()) for line in series] == [[1, 2, 4, 8], [1, 2, 4, 8], [4]]
        assert list(series[0].get_ydata())[:: len(series[0].get_ydata()) - 1] == [first, last]
        assert axes.get_ylim()[0] == 0
        texts = [text.get_text() for text in axes.texts]
        assert [text.split("\n")[0] for text in texts] == ["branches", "folded", "timm"]
    assert left.texts[0].get_text() == "branches\n4.2 times"
    assert right.texts[1].get_text() == "folded\n1.4 times"


@pytest.mark.parametrize("number", [0, 1, 5])
def test_drawn_from_little(tmp_path, number):
    files = write_report(PLAN, replace(RECORD, comparison=RECORD.comparison[:number]), tmp_path)
    assert (files.directory / "figure.png").stat().st_size > 1000
    assert ("Nothing is measured yet." in files.page.read_text()) == (number == 0)


def test_names_keep_their_distance():
    assert spread([10.0, 0.0, 12.0, 100.0], 24.0) == [24.0, 0.0, 48.0, 100.0]
