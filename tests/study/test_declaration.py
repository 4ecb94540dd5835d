"""A study resolves to the same cells wherever and whenever it does."""

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_fakes import small_plan

from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.study.declaration import Factor, Plan, Study, preset_cell
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
    plan = Plan(Study("grid", "?", factors, seeds=2), CellSpec())
    assert len(plan.cells) == 8
    assert {(c.spec.model.k, c.spec.model.activation) for c in plan.cells} == {
        (k, a) for k in (1, 2) for a in ("relu", "gelu")
    }


def test_every_change_of_a_plan_changes_its_id():
    plan = small_plan()
    study = plan.study
    others = [
        replace(plan, default=True),
        replace(plan, base=replace(plan.base, recipe=replace(plan.base.recipe, lr=0.01))),
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
        (lambda: small_plan(levels=(1, 0)), "k: 0 is not allowed"),
        (lambda: small_plan(levels=(2, 2)), "each once"),
        (lambda: replace(small_plan(), study=replace(small_plan().study, factors=(WITHOUT_BASELINE,))), "baseline"),
    ],
)
def test_what_cannot_be_planned_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_plans_that_differ_in_levels_or_seeds_alone_share_a_queue():
    plan = small_plan()
    study = plan.study
    for other in (
        replace(plan, study=replace(study, seeds=7)),
        replace(plan, study=replace(study, factors=(replace(study.factors[0], levels=(1, 9)),))),
        replace(plan, default=True),
        replace(plan, base=replace(plan.base, model=replace(plan.base.model, k=5))),
    ):
        assert other.queue == plan.queue
    others = [
        replace(plan, base=replace(plan.base, recipe=replace(plan.base.recipe, lr=0.011))),
        replace(plan, base=replace(plan.base, model=replace(plan.base.model, activation="gelu"))),
        replace(plan, study=replace(study, variant="s0")),
        replace(plan, study=replace(study, data="cifar10")),
    ]
    assert len({plan.queue, *(other.queue for other in others)}) == 5


def test_what_differs_from_the_presets_is_named():
    study = small_plan().study
    preset = preset_cell("tiny", DataSpec(), "digits")
    assert Plan(study, preset).changes == {}
    assert Plan(study, preset).queue == study.name
    changed = replace(preset, model=replace(preset.model, activation="gelu"), recipe=replace(preset.recipe, lr=0.05))
    assert Plan(study, changed).changes == {"model.activation": "gelu", "recipe.lr": 0.05}


def test_levels_may_be_switches_and_tuples():
    reparam = Factor("reparam", "model.reparam", (True, False), True)
    se = Factor("se", "model.se", ("none", (0, 1, 1, 1)), "none")
    plan = Plan(Study("both", "?", (reparam, se), seeds=1), preset_cell("tiny", DataSpec(), "digits"))
    assert [(c.spec.model.k, c.spec.model.se) for c in plan.cells] == [
        (4, "none"),
        (4, (0, 1, 1, 1)),
        (1, "none"),
        (1, (0, 1, 1, 1)),
    ]
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("field", ["k", "model.kk", "modle.k", "seed", "execution.compile"])
def test_a_factor_names_a_field_that_is_there(field):
    with pytest.raises(InputError, match="field"):
        Factor("k", field, (1, 2), 1)


def test_a_plan_of_another_version_is_refused_in_one_line():
    text = small_plan().to_json().replace('"question":', '"unheard_of":1,"question":')
    with pytest.raises(InputError, match="unheard_of"):
        Plan.from_json(text)
