"""A study resolves to the same cells wherever and whenever it does."""

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_fakes import small_plan

from mobileone_core.errors import InputError
from mobileone_core.study.declaration import Factor, Plan, Study
from mobileone_core.training.cell import CellSpec

levels_of_k = st.lists(st.integers(1, 16), min_size=1, max_size=5, unique=True)


@given(levels=levels_of_k, seeds=st.integers(1, 4), epochs=st.integers(1, 500))
def test_a_plan_has_every_level_with_every_seed_once_and_survives_json(levels, seeds, epochs):
    plan = small_plan(levels=levels, seeds=seeds, epochs=epochs)
    assert [(cell.factors["k"], cell.seed) for cell in plan.cells] == [(k, s) for s in range(seeds) for k in levels]
    assert len({cell.key for cell in plan.cells}) == len(plan.cells)
    assert all(cell.spec.model.k == cell.factors["k"] and cell.spec.seed == cell.seed for cell in plan.cells)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.id == plan.id
    assert [cell.key for cell in again.cells] == [cell.key for cell in plan.cells]


def test_two_factors_make_a_grid():
    factors = (Factor("k", "model.k", (1, 2), 1), Factor("activation", "model.activation", ("relu", "gelu"), "relu"))
    plan = Plan(Study("grid", "?", "", factors, seeds=2), CellSpec())
    assert len(plan.cells) == 8
    assert {(c.spec.model.k, c.spec.model.activation) for c in plan.cells} == {
        (k, a) for k in (1, 2) for a in ("relu", "gelu")
    }


def test_every_change_of_a_plan_changes_its_id():
    plan = small_plan()
    study = plan.study
    others = [
        replace(plan, default=True),
        replace(plan, base=replace(plan.base, seed=1)),
        replace(plan, study=replace(study, seeds=4)),
        replace(plan, study=replace(study, metric="val/top1")),
        replace(plan, study=replace(study, factors=(replace(study.factors[0], baseline=2),))),
    ]
    assert len({plan.id, *(other.id for other in others)}) == 6


def test_keys_do_not_depend_on_the_process():
    code = "from study_fakes import small_plan; print(*(cell.key for cell in small_plan().cells))"
    path = f"import sys; sys.path.insert(0, {sys.path[0]!r}); sys.path[:0] = {sys.path!r}; "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [cell.key for cell in small_plan().cells]


WITHOUT_BASELINE = Factor("k", "model.k", (1, 2), 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small_plan(seeds=0), "seeds: 0 is not allowed"),
        (lambda: small_plan(levels=(1, 0)), "k: k: 0 is not allowed"),
        (lambda: small_plan(levels=(2, 2)), "each once"),
        (lambda: replace(small_plan(), study=replace(small_plan().study, factors=(WITHOUT_BASELINE,))), "baseline"),
    ],
)
def test_what_cannot_be_planned_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
