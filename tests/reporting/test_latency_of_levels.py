"""Reports of studies that measure the latency of whole deployed networks."""

from dataclasses import replace

import pytest

from mobileone_core.cli.options.study import parse
from mobileone_core.reporting.trained.comparison import comparison_section, comparison_table, cost_sentences
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.tables import cost_table
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.rows import CellRow, StudyRecord

DEVICE = {"device": "cpu", "processor": "Any CPU", "threads": "1", "runtime_version": "onnxruntime 1"}
STUDY = Study(
    "detection", "Which?", (Factor("backbone", "backbone", ("tiny", "small"), "tiny"),), task="detection",
    data="scenes", recipe="scenes-ssdlite", metric="test/map", figure="cost", compares="latency", seeds=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def plan():
    made = parse(STUDY, ()).request.plan
    assert isinstance(made, GridPlan)
    return made


def recorded(plan, control=1.01):
    cost = {"deployed/params": 9e4, "deployed/macs": 4e6}
    rows = [
        CellRow(cell.key, cell.seed, cell.factors, f"r{number}", {"test/map": 0.5 + number / 100, **cost}, DEVICE)
        for number, cell in enumerate(plan.cells)
    ]
    timed = []
    for level, time in (("tiny", 0.28), ("small", 0.42)):
        metrics = {"params": 8e4, "macs": 4e6} | {f"time/inference{end}_ms": time for end in ("", "_low", "_high")}
        metrics |= {f"time/inference_ratio{end}": time / 0.28 for end in ("", "_low", "_high")}
        metrics |= {"control/inference_ratio": control} if level == "tiny" else {}
        factors = {"backbone": level, "form": "deployed"}
        timed.append(CellRow(plan.comparison.key, 0, factors, f"t{level}", metrics, DEVICE))
    return StudyRecord(rows, (), timed)


def test_latency_joins_accuracy_and_cost(plan):
    result = analyse(plan, recorded(plan))
    assert [column.head for column in comparison_table(result).columns][2:] == [
        "parameters", "multiply-adds", "inference, ms", "inference ratio"
    ]  # fmt: skip
    assert [row[-2:] for row in comparison_table(result).rows] == [
        ("0.280 [0.280, 0.280]", "baseline"),
        ("0.420 [0.420, 0.420]", "1.50 [1.50, 1.50]"),
    ]
    table = cost_table(result)
    assert [column.head for column in table.columns].index("latency, ms") == 3
    assert [row[3] for row in table.rows] == ["0.280", "0.420"]
    assert "inference takes 0.280 to 0.420 ms per image" in " ".join(cost_sentences(result))
    assert "Latency of the whole deployed network" in str(comparison_section(result))


def test_levels_that_are_no_rivals_have_no_training_step_to_report():
    """Their networks are timed as exported: the verdict has a sentence on the deployed form alone."""
    plan = parse(replace(STUDY, within="backbone"), ()).request.plan
    sentences = cost_sentences(analyse(plan, recorded(plan)))
    assert [text.partition(",")[0] for text in sentences] == ["Deployed"]


def test_times_of_a_busy_machine_are_not_joined(plan):
    result = analyse(plan, recorded(plan, control=1.2))
    assert "latency, ms" not in [column.head for column in cost_table(result).columns]
    assert "not measured on an idle machine" in " ".join(cost_sentences(result))


def test_a_record_without_the_measurement_says_so(plan):
    result = analyse(plan, replace(recorded(plan), comparison=()))
    assert "Not measured yet" in str(comparison_section(result))
    assert "latency, ms" not in [column.head for column in cost_table(result).columns]
