"""A small study with rows written by hand: three levels, three seeds, percent in steps of a tenth."""

from dataclasses import replace

import pytest

from mobileone_core.data.spec import DataSpec
from mobileone_core.study.declaration import Factor, Plan, Study, preset_cell
from mobileone_core.study.rows import CellRow

PERCENT = {1: (96.0, 96.5, 97.0), 2: (96.1, 96.4, 97.3), 4: (98.0, 98.6, 98.9)}
STUDY = Study(
    name="branches",
    question="Does accuracy rise with k?",
    reference="table 6",
    factors=(Factor("k", "model.k", levels=(1, 2, 4), baseline=1),),
    seeds=3,
    published="table6_branch_count_top1",
)


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
        return Plan(replace(STUDY, **changes), base, default=default)

    return make


@pytest.fixture(scope="session")
def plan(make_plan):
    return make_plan()


@pytest.fixture(scope="session")
def rows(plan):
    return [row_of(cell, PERCENT[cell.factors["k"]][cell.seed]) for cell in plan.cells]
