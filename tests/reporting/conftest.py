"""A small study with rows written by hand: three levels, three seeds, percent in steps of a tenth."""

import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from mobileone_core.data.spec import DataSpec
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.presets import preset_cell
from mobileone_core.study.rows import CellRow, CurvePoint, StudyRecord

sys.path.insert(0, str(Path(__file__).parent))

PERCENT = {1: (96.0, 96.5, 97.0), 2: (96.1, 96.4, 97.3), 4: (98.0, 98.6, 98.9)}
STUDY = Study(
    name="branches",
    question="Does accuracy rise with k?",
    reference="table 6",
    factors=(Factor("k", "model.k", levels=(1, 2, 4), baseline=1),),
    seeds=3,
    published="table6_branch_count_top1",
)

BRANCHES = replace(
    STUDY,
    name="reparam_effect",
    question="What do branches bring?",
    factors=(
        Factor(
            "branches",
            settings={"none": {"model.reparam": False}, "1": {"model.k": 1}, "4": {"model.k": 4}},
            baseline="none",
        ),
    ),
    published="",
    curves=("train/loss", "val/loss"),
    compares="forms",
)
PLACE = {"device": "cpu", "processor": "Any CPU", "threads": "1"}


def row_of(cell, percent):
    level = cell.factors["k"]
    metrics = {"test/top1": percent / 100, "test/loss": (100 - percent) / 50, "time/train_seconds": 2.5 * level}
    machine = {"device": "cpu", "processor": "Any CPU", "threads": "1", "git": "0123abc", "python": "3.11.4"}
    private = {"host": "somebodys-laptop", "pid": "4711", "home": "/home/somebody"}
    return CellRow(cell.key, cell.seed, cell.factors, f"run{level}{cell.seed}", metrics, {**machine, **private})


@pytest.fixture(scope="session")
def make_row():
    """A cell's row from its accuracy in percent."""
    return row_of


@pytest.fixture(scope="session")
def make_plan():
    """The study's plan, with changes to the study."""

    def make(default=True, **changes):
        preset = preset_cell("tiny", DataSpec(), "digits")
        base = replace(preset, model=replace(preset.model, activation="gelu"))
        return GridPlan(replace(STUDY, **changes), base, default=default)

    return make


@pytest.fixture(scope="session")
def branches(make_plan):
    """A study with curves and a comparison of forms."""
    return make_plan(**{item.name: getattr(BRANCHES, item.name) for item in fields(BRANCHES)})


@pytest.fixture(scope="session")
def measured(branches):
    """Its record. Losses fall as 1 / epoch; from none to 1 to 4 by 2 % each, by another 1 % at seed 2 of level 1."""
    places = [dict(arm) for arm in branches.study.settings]
    rows, curves = [], []
    for cell in branches.cells:
        place = places.index(dict(cell.factors))
        metrics = {"test/top1": 0.96 + 0.001 * place * cell.seed, "test/form_difference": 1e-6 * (1 + place)}
        metrics["test/form_difference_relative"] = 1e-7 * (1 + cell.seed)
        rows.append(CellRow(cell.key, cell.seed, cell.factors, f"run{place}{cell.seed}", metrics, PLACE))
        factor = 1 - 0.02 * place - 0.01 * (place == 1 and cell.seed == 2)
        for metric, start in (("train/loss", 2.0), ("val/loss", 3.0)):
            curves += [CurvePoint(cell.key, metric, epoch, start * factor / epoch) for epoch in range(1, 13)]
    return StudyRecord(tuple(rows), (), tuple(forms_of(branches)), tuple(curves))


def forms_of(plan):
    """Train form in 1, 2 and 4 times the baseline's time and memory, deployed form in half."""
    for arm, times in zip(plan.comparison.spec.entries, (1.0, 2.0, 4.0), strict=True):
        for form in ("train", "deployed"):
            ratio = times if form == "train" else 0.5
            metrics = {"params": 100.0 * times, "macs": 1234.0, "host/load": 0.25}
            for call, base in (("step", 10.0), ("inference", 3.0)):
                ends = (("", 1.0), ("_low", 0.9), ("_high", 1.2))
                metrics |= {f"time/{call}{end}_ms": base * ratio * part for end, part in ends}
                metrics |= {f"time/{call}_ratio{end}": ratio * part for end, part in ends}
                metrics[f"memory/{call}_bytes"] = ratio * 2**20
                if form == "train":
                    metrics |= {f"time/{call}_over_deployed{end}": times / 0.5 * part for end, part in ends}
                    metrics[f"memory/{call}_over_deployed"] = times / 0.5
                if arm.label == "none":
                    metrics[f"control/{call}_ratio"] = 1.01
            levels = {**arm.factors, "form": form}
            yield CellRow(plan.comparison.key, 0, levels, f"form{arm.label}{form}", metrics, PLACE)


@pytest.fixture(scope="session")
def plan(make_plan):
    return make_plan()


@pytest.fixture(scope="session")
def rows(plan):
    return [row_of(cell, PERCENT[cell.factors["k"]][cell.seed]) for cell in plan.cells]
