"""The section on int8 pairs every int8 network with its own float32 network, and tests no pseudo-replicates."""

from statistics import fmean

import pytest

from mobileone_core.reporting.figures.ranges import layer_means
from mobileone_core.reporting.trained.kind import TrainedKind, trained_document
from mobileone_core.reporting.trained.quantized import Int8Losses, int8_section
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import CellRow, StudyRecord

FLOAT = {"none": (90.0, 91.0, 92.0), "4": (93.0, 93.5, 95.0)}
INT8 = {"none": (89.5, 90.6, 91.4), "4": (89.0, 89.6, 90.8)}
FACTORS = (
    Factor("branches", settings={"none": {"model.reparam": False}, "4": {"model.k": 4}}, baseline="none"),
    Factor("int8", settings={"float32": {}, "tensor": {"quantization.scheme": "full"}}, baseline="float32"),
)


def row_of(cell):
    branches, is_int8 = cell.factors["branches"], cell.spec.is_quantized
    percent = (INT8 if is_int8 else FLOAT)[branches][cell.seed]
    metrics = {"test/top1": percent / 100, "time/train_seconds": 1.0}
    if is_int8:
        metrics |= {"simulated/top1": percent / 100 + 0.001 * (cell.seed == 2), "int8/weight_bits": 8.0}
        metrics |= {"int8/bytes": 30.0, "float32/bytes": 100.0}
        for layer in range(3):
            values = {"weight": 2.0 + layer + cell.seed, "channel": 1.0, "input": 5.0 * (branches == "4") + 1}
            metrics |= {f"range/{layer:02}_{name}": value for name, value in values.items()}
    return CellRow(cell.key, cell.seed, cell.factors, f"run{cell.key}", metrics, {})


@pytest.fixture(scope="module")
def result(make_plan):
    plan = make_plan(factors=FACTORS, published="", name="quantization", default=False)
    return analyse(plan, StudyRecord(tuple(map(row_of, plan.cells)), (), (), ()))


def test_an_int8_cell_needs_its_float32_cell_and_no_other(result):
    by_key = {cell.key: cell for cell in result.plan.cells}
    for cell in result.plan.cells:
        needed = [by_key[key] for key in cell.needs]
        assert [(item.seed, item.factors["branches"], item.factors["int8"]) for item in needed] == (
            [(cell.seed, cell.factors["branches"], "float32")] if cell.spec.is_quantized else []
        )
    assert not result.plan.teachers


def test_losses_are_paired_by_network_and_seed(result):
    samples = Int8Losses(result).samples
    assert list(samples) == ["tensor"]
    for branches, losses in samples["tensor"].items():
        expected = [float32 - int8 for float32, int8 in zip(FLOAT[branches], INT8[branches], strict=True)]
        assert list(losses.values()) == pytest.approx(expected)
    [analysis] = Int8Losses(result).analyses.values()
    worse = next(row for row in analysis.comparisons if row.level == "4")
    assert worse.difference == pytest.approx(fmean((4.0, 3.9, 4.2)) - fmean((0.5, 0.4, 0.6)))
    assert worse.verdict == "worse"


def test_the_report_says_who_loses_more_and_how_far_the_reference_is(result):
    document = trained_document(result)
    assert "By int8 (tensor) branches = 4 loses more than none: +3.53 points" in document.verdict
    assert "int8 costs branches = none: tensor +0.50" in document.verdict
    assert not result.effects
    assert "main effect" not in document.verdict
    section = int8_section(result)
    assert section.blocks[0].cell("tensor, 4", "size of the file") == "0.30"
    assert "differs by 0.10 points at most" in section.blocks[2].items[2]


def test_ranges_are_means_over_seeds_by_layer(result):
    means = layer_means(Int8Losses(result))
    assert means["none"]["weight"] == [3.0, 4.0, 5.0]
    assert means["4"]["input"] == [6.0, 6.0, 6.0]


def test_other_studies_have_no_such_section(make_plan, make_row):
    plan = make_plan()
    other = analyse(plan, StudyRecord(tuple(make_row(cell, 95.0 + cell.seed) for cell in plan.cells), (), (), ()))
    assert int8_section(other).blocks == ()


@pytest.mark.slow
def test_the_figure_of_ranges_is_drawn_and_missing_networks_are_gaps(result):
    assert TrainedKind().figures(result)["ranges"].png.startswith(b"\x89PNG")
    kept = [row_of(cell) for cell in result.plan.cells if cell.factors["branches"] == "none" or cell.spec.is_quantized]
    partial = analyse(result.plan, StudyRecord(tuple(kept), (), (), ()))
    assert list(Int8Losses(partial).samples["tensor"]) == ["none"]
    assert partial.missing
