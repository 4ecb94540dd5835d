"""A measured study's page, table and figure: what was measured, what is missing, and what is not to be trusted."""

from dataclasses import replace
from pathlib import Path

import pytest

from mobileone_core.benchmark.protocol import PROTOCOLS, Protocol
from mobileone_core.errors import InputError
from mobileone_core.reporting.measured.levels import LevelsView, levels_table
from mobileone_core.reporting.measured.result import analyse_measured
from mobileone_core.reporting.render import terminal
from mobileone_core.reporting.report import document_of, read_report, report_name, write_index, write_report
from mobileone_core.study.rows import CellRow, StudyRecord

GELU = "activation = gelu, runtime = onnxruntime"
RELU = "activation = relu, runtime = onnxruntime"
GOLDEN = Path(__file__).parent / "golden"
NAMES = ["README.md", "cells.csv", "figure.png", "figure.svg", "plan.json", "table.csv", "table.tex"]


def contents(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def column(table, title):
    index = [item.head for item in table.columns].index(title)
    return [row[index] for row in table.rows]


@pytest.mark.parametrize("name", ["README.md", "table.csv", "table.tex", "cells.csv"])
def test_files_are_as_read(activations, timed, tmp_path, name):
    directory = write_report(activations, timed, tmp_path).directory
    assert (directory / name).read_text() == (GOLDEN / name).read_text()


def test_a_clone_renders_the_same_and_nothing_twice(activations, timed, tmp_path):
    first = write_report(activations, timed, tmp_path / "one")
    assert sorted(contents(first.directory)) == NAMES
    plan, record = read_report(first.directory)
    assert plan == activations
    second = write_report(plan, record, tmp_path / "two")
    assert contents(second.directory) == contents(first.directory)
    assert not write_report(plan, record, tmp_path / "one").rendered
    assert b"somebody" not in b"".join(contents(first.directory).values())


def test_order_of_rows_changes_nothing(activations, timed, tmp_path):
    turned = replace(timed, comparison=timed.comparison[::-1])
    first = write_report(activations, timed, tmp_path / "one").directory
    assert contents(write_report(activations, turned, tmp_path / "two").directory) == contents(first)


def test_verdicts_go_by_interval_and_control(activations, timed):
    table = levels_table(analyse_measured(activations, timed))
    verdicts = dict(zip(column(table, "activation")[::2], column(table, "verdict")[::2], strict=True))
    assert verdicts["relu"] == "reference"
    assert verdicts["gelu"] == "slower"
    assert verdicts["hardswish"] == "no difference shown"


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.9, "faster"), (1.1, "slower"), (1.02, "within the control's 3 %"), (0.999, "no difference shown")],
)
def test_one_verdict(activations, timed, change, ratio, text):
    index = [entry.label for entry in activations.spec.entries].index(GELU)
    ends = {"latency/ratio": ratio, "latency/ratio_low": ratio - 0.005, "latency/ratio_high": ratio + 0.005}
    record = change(timed, GELU, activations, metrics={**timed.comparison[index].metrics, **ends})
    result = analyse_measured(activations, record)
    assert result.verdict(result.entries[index]) == text


def test_broken_control_is_said_and_nothing_of_it_is_judged(activations, timed, change):
    broken = {**timed.comparison[0].metrics, "control/latency_ratio": 1.05}
    result = analyse_measured(activations, change(timed, RELU, activations, metrics=broken))
    verdicts = column(levels_table(result), "verdict")
    assert verdicts[2] == "not judged: control"
    assert verdicts[3] == "slower"
    assert "A/A control not within 3 %" in LevelsView().verdict(result)
    without = {name: value for name, value in broken.items() if not name.startswith("control/")}
    result = analyse_measured(activations, change(timed, RELU, activations, metrics=without))
    assert "Not every reference has an A/A control" in LevelsView().verdict(result)


def test_unmeasured_and_missing_entries_are_gaps_with_reasons(activations, timed, change, tmp_path):
    counts = {"params": 277_000.0, "macs": 868_000_000.0}
    tags = {**timed.comparison[0].environment, "unmeasured": "operator X is\nnot known"}
    record = change(timed, GELU, activations, metrics=counts, environment=tags)
    record = change(record, "activation = silu, runtime = torch", activations)
    files = write_report(activations, record, tmp_path)
    page = files.page.read_text()
    assert f"- {GELU}: operator X is not known\n" in page
    assert "- activation = silu, runtime = torch: not in the record" in page
    assert "| gelu | onnxruntime | 277,000 | 868,000,000 | - | - | - | - | not measured | - | 1.63 | 1.07 |" in page
    assert "missing: activation = silu" in terminal.render(document_of(activations, record))
    assert not write_report(*read_report(files.directory), tmp_path).rendered


def test_no_time_without_its_device(activations, timed, change, tmp_path):
    record = change(timed, GELU, activations, environment={"device": "cpu"})
    page = write_report(activations, record, tmp_path).page.read_text()
    assert "| gelu | onnxruntime | 277,000 | 868,000,000 | - | - | - | - |" in page
    assert "device or processor were not recorded" in page


def test_published_values_have_separate_columns(activations, timed):
    table = levels_table(analyse_measured(activations, timed))
    printed = column(table, "published, iPhone 12")
    assert printed[::2] == ["1.53", "1.63", "2.54", "-", "2.10", "273.49", "273.49"]
    assert column(table, "published ratio")[:4:2] == ["1.00", "1.07"]
    changed = levels_table(analyse_measured(activations, StudyRecord()))
    assert column(changed, "published, iPhone 12") == printed
    assert set(column(changed, "measured median, ms")) == {"-"}


def test_layout_is_stated(activations, timed):
    verdict = LevelsView().verdict(analyse_measured(activations, timed))
    assert "5.60 times ReLU in its usual, transposed form and 1.35 times as maps of rank 4" in verdict
    assert "depends much on the memory layout" in verdict


@pytest.mark.parametrize("number", [0, 1, 5])
def test_drawn_from_little(activations, timed, tmp_path, number):
    files = write_report(activations, replace(timed, comparison=timed.comparison[:number]), tmp_path)
    assert (files.directory / "figure.png").stat().st_size > 1000


def test_two_runs_of_an_entry_are_a_problem(activations, timed, tmp_path):
    twice = replace(timed.comparison[0], run_id="again")
    page = write_report(activations, replace(timed, comparison=(*timed.comparison, twice)), tmp_path).page.read_text()
    assert "has 2 runs of activation = relu, runtime = onnxruntime, where one is allowed" in page


def test_cells_of_another_comparison_are_refused(activations, timed, tmp_path):
    directory = write_report(activations, timed, tmp_path).directory
    path = directory / "cells.csv"
    path.write_text(path.read_text().replace(activations.comparison.key, "0" * 12))
    with pytest.raises(InputError, match="cannot be read as one record"):
        read_report(directory)


def test_directory_and_index(activations, timed, tmp_path):
    other = replace(activations, default=False)
    assert report_name(activations) == "activation_latency"
    assert report_name(other) == f"activation_latency-{other.id}"
    write_report(activations, timed, tmp_path)
    assert (
        "| What does the activation cost in latency? | Measured on cpu, Any CPU." in write_index(tmp_path).read_text()
    )


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        (Protocol(rounds=40), "protocol interleaved, 40 rounds of 4 calls"),
        (PROTOCOLS["modelbench"], "protocol modelbench, 20 rounds of 50 calls"),
        (Protocol(trim=1), "protocol of its own (interleaved, 1 lowest and highest of a round trimmed)"),
    ],
)
def test_protocol_is_named_and_trimmed_statistics_have_columns(activations, protocol, text, tmp_path):
    plan = replace(activations, study=replace(activations.study, protocol=protocol))
    record = record_of(plan)
    page = write_report(plan, record, tmp_path).page.read_text()
    assert text in page
    assert ("| low<br>ms, trimmed | average<br>ms, trimmed |" in page) == bool(protocol.trim)
    assert ("| 1.25 | 1.75 | - | reference |" in page) == bool(protocol.trim)


def record_of(plan):
    metrics = {"latency/median_ms": 2.0, "latency/low_ms": 1.25, "latency/average_ms": 1.75}
    device = {"device": "cpu", "processor": "Any CPU"}
    entry = plan.spec.entries[0]
    return StudyRecord((), (), (CellRow(plan.comparison.key, 0, dict(entry.factors), "run", metrics, device),))
