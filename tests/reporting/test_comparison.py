"""Cost of train form against deployed form: the table, its place, its control."""

from dataclasses import replace

import pytest

from mobileone_core.reporting.render import markdown, terminal
from mobileone_core.reporting.report import document_of
from mobileone_core.reporting.trained.comparison import comparison_section, comparison_table, cost_sentences
from mobileone_core.reporting.trained.kind import trained_document
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.verdict import verdict

TITLE = "## What it costs: train form against deployed form"


def page(plan, record):
    return markdown.render(trained_document(analyse(plan, record)), "0")


def notes(result):
    return comparison_section(result).blocks[-1].items


def changed(record, **changes):
    """Every row of the comparison with these metrics, where it has them."""
    rows = [replace(row, metrics={**row.metrics, **{k: v for k, v in changes.items() if k in row.metrics}})
            for row in record.comparison]  # fmt: skip
    return replace(record, comparison=rows)


def test_rows_as_printed(branches, measured):
    rows = comparison_table(analyse(branches, measured)).rows
    assert [row[:2] for row in rows] == [
        (level, form) for form in ("train", "deployed") for level in ("none", "1", "4")
    ]
    assert rows[0][2:8] == ("100", "1,234", "10.0 [9.00, 12.0]", "baseline", "2.00 [1.80, 2.40]", "1.0")
    assert rows[2][4:8] == ("40.0 [36.0, 48.0]", "4.00 [3.60, 4.80]", "8.00 [7.20, 9.60]", "4.0")
    assert rows[2][8:] == ("8.00", "12.0 [10.8, 14.4]", "4.00 [3.60, 4.80]", "8.00 [7.20, 9.60]")
    assert rows[3][5:9] == ("0.50 [0.45, 0.60]", "-", "0.5", "-")


def test_place_is_named_beside_the_numbers(branches, measured):
    text = page(branches, measured)
    assert "device cpu, processor Any CPU, threads 1, 20 rounds of 4 calls, load average 0.25 before." in text
    assert text.index(TITLE) < text.index("20 rounds of 4 calls") < text.index("## What was trained")


def test_time_without_its_device_is_not_printed(branches, measured):
    rows = [replace(row, environment={"processor": "Any CPU"}) for row in measured.comparison]
    result = analyse(branches, replace(measured, comparison=rows))
    for row in comparison_table(result).rows:
        assert row[3] == "1,234"
        assert set(row[4:]) <= {"-", "baseline"}
    assert "**Device or processor is not recorded" in "\n".join(notes(result))


@pytest.mark.parametrize(("ratio", "held"), [(1.029, True), (0.971, True), (1.031, False), (0.969, False)])
def test_control(branches, measured, ratio, held):
    record = changed(measured, **{"control/inference_ratio": ratio})
    said = notes(analyse(branches, record))[-1]
    assert f"inference, train form {ratio:.3f}" in said
    assert said.endswith("): within 3 %.") is held
    assert ("**not within 3 %" in said) is not held


def test_verdict_tells_what_training_costs(branches, measured):
    """4 times the baseline's step in 4 times its memory; deployed forms differ in parameters, as written by hand."""
    said = (
        "On cpu, Any CPU a training step with branches = 4 takes 4.00 [3.60, 4.80] times as long as with "
        "branches = none, and 4.00 times the memory. Deployed, the levels have 100 to 400 parameters and 1,234 "
        "multiply-adds; inference takes 1.50 ms per image."
    )
    assert verdict(analyse(branches, measured)).endswith(said)
    assert said in terminal.render(document_of(branches, measured))
    same = verdict(analyse(branches, changed(measured, params=100.0)))
    assert "Deployed, all levels have the same 100 parameters and 1,234 multiply-adds;" in same


@pytest.mark.parametrize("ratio", [1.04, 0.9, float("nan")])
def test_times_without_rest_are_not_told_but_warned_of(branches, measured, ratio):
    record = changed(measured, **{"control/step_ratio": ratio})
    warning = "Times were not measured on an idle machine: the baseline timed twice differs by more than 3 %."
    answer = verdict(analyse(branches, record))
    assert answer.endswith(warning)
    assert "a training step with" not in answer
    text = page(branches, record)
    warned = text.index(f"**{warning} Do not trust them; --again measures once more.**")
    assert text.index(TITLE) < warned < text.index("training step, ms")


def test_costs_are_told_of_a_known_place_and_of_whole_forms_alone(branches, measured):
    placeless = [replace(row, environment={"processor": "Any CPU"}) for row in measured.comparison]
    less = [row for row in measured.comparison if row.run_id not in ("form4deployed", "formnonetrain")]
    assert cost_sentences(analyse(branches, replace(measured, comparison=placeless))) == []
    assert cost_sentences(analyse(branches, replace(measured, comparison=()))) == []
    assert cost_sentences(analyse(branches, replace(measured, comparison=less))) == []


def test_control_that_was_not_recorded_is_said(branches, measured):
    rows = [replace(row, metrics={"params": 1.0}) for row in measured.comparison]
    assert "**not recorded" in notes(analyse(branches, replace(measured, comparison=rows)))[-1]


def test_not_measured_yet(branches, measured, plan, rows):
    text = page(branches, replace(measured, comparison=()))
    assert f"{TITLE}\n\nNot measured yet" in text
    assert TITLE not in page(plan, replace(measured, rows=rows))


def test_missing_form_is_a_visible_gap(branches, measured):
    rows = [row for row in measured.comparison if row.run_id != "form4train"]
    found = comparison_table(analyse(branches, replace(measured, comparison=rows))).rows
    assert found[2] == ("4", "train", "-", "-", "not measured", *["-"] * 7)


def test_rows_of_another_comparison_are_left_aside(branches, measured):
    strange = [replace(row, key="0" * 12) for row in measured.comparison]
    both = replace(measured, comparison=[*strange, *measured.comparison])
    assert page(branches, both) == page(branches, measured)


def test_two_runs_of_one_form_are_an_error_and_not_used(branches, measured):
    twice = replace(measured, comparison=[*measured.comparison, replace(measured.comparison[0], run_id="again")])
    result = analyse(branches, twice)
    assert result.problems == (f"comparison {branches.comparison.key} has 2 runs of none, train, where one is allowed",)
    assert comparison_table(result).rows[0][4] == "not measured"


def test_largest_difference_of_forms_stands_on_every_page(branches, measured, plan, rows):
    said = "the logits of a test image differ by 3.0e-06 (relative 3.0e-07) at most, the largest of all 9 cells."
    assert said in page(branches, measured)
    assert "how far the logits" in page(plan, replace(measured, rows=rows)).lower()


def test_difference_that_is_no_number_is_the_largest(branches, measured):
    broken = replace(measured.rows[4], metrics={**measured.rows[4].metrics, "test/form_difference": float("nan")})
    text = page(branches, replace(measured, rows=[*measured.rows[:4], broken, *measured.rows[5:]]))
    assert "differ by nan" in text
