"""The report's section on corruptions: means over seeds per level, the published table 12, and nothing without them."""

from statistics import fmean

import pytest

from mobileone_core.reporting.published import read_published
from mobileone_core.reporting.trained.kind import trained_document
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.tables import corruptions_section
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import CellRow, StudyRecord

CORRUPTED = {"recipe.corrupted_test": True}


def row_of(cell):
    clean, noise, blur = 0.9 + 0.01 * cell.seed, 0.5 + 0.02 * cell.seed, 0.7
    metrics = {"test/top1": clean, "corrupted/noise_top1": noise, "corrupted/blur_top1": blur}
    metrics |= {"corrupted/top1": (noise + blur) / 2, "time/train_seconds": 1.0}
    return CellRow(cell.key, cell.seed, cell.factors, f"run{cell.key}", metrics, {})


def test_the_section_shows_means_over_seeds_and_table_12_apart(make_plan):
    plan = make_plan(published="", metric="corrupted/top1", base=CORRUPTED, default=False)
    result = analyse(plan, StudyRecord(tuple(map(row_of, plan.cells)), (), (), ()))
    measured, _, published = corruptions_section(result).blocks
    level, cells = next(iter(result.levels.items()))
    noise = fmean(50 + 2 * cell.seed for cell in cells)
    assert measured.cell(level, "noise").partition(" ")[0] == f"{noise:.1f}"
    assert float(measured.cell(level, "blur").partition(" ")[0]) == pytest.approx(70)
    assert [column.head for column in measured.columns][1:] == ["clean", "blur", "noise", "top1"]
    assert len(published.rows) == len(read_published("table12_robustness")) == 11
    assert published.cell("MobileOne-S0", "ImageNet-C, mCE") == "86.4"
    assert trained_document(result).table.columns[1].head == "measured corrupted top-1, %"


def test_averaged_and_last_weights_of_one_training_are_no_replicates(make_plan):
    branches = Factor("branches", settings={"none": {"model.reparam": False}, "1": {"model.k": 1}}, baseline="none")
    ema = Factor("ema", settings={"off": {"recipe.ema_decay": 0.0}, "on": {}}, baseline="off")
    plan = make_plan(factors=(branches, ema), published="", metric="corrupted/top1", base=CORRUPTED, default=False)
    result = analyse(plan, StudyRecord(tuple(map(row_of, plan.cells)), (), (), ()))
    seeds = plan.study.seeds
    assert len(plan.cells) == 4 * seeds
    assert (result.analysis.df, result.analysis.df_within) == (seeds - 1, 2 * (seeds - 1))
    assert len(result.effects) == 3


def test_other_studies_have_no_such_section(make_plan, make_row):
    plan = make_plan()
    other = analyse(plan, StudyRecord(tuple(make_row(cell, 95.0 + cell.seed) for cell in plan.cells), (), (), ()))
    assert corruptions_section(other).blocks == ()
