"""A study resolves to the same cells wherever and whenever it does."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_fakes import small_plan

from mobileone_core.data.catalog import resolve_data
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError
from mobileone_core.model.cost import model_cost
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.kinds import read_plan
from mobileone_core.study.presets import preset_cell
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import Teacher, paper_phases

SWITCH = Factor("ema", settings={"on": {}, "off": {"recipe.ema_decay": 0.0}}, baseline="on")
TAUGHT = Factor("distillation", settings={"off": {"recipe.teachers": ()}, "on": {}}, baseline="off")
WIDTH = Factor("width", "model.width", (0.5, 1.0, 2.0), 1.0)
K = Factor("k", "model.k", (1, 4), 1)
levels_of_k = st.lists(st.integers(1, 16), min_size=1, max_size=5, unique=True)


@given(levels=levels_of_k, seeds=st.integers(1, 4), epochs=st.integers(1, 500))
def test_a_plan_has_every_level_with_every_seed_once_and_survives_json(levels, seeds, epochs):
    plan = small_plan(levels=levels, seeds=seeds, epochs=epochs)
    assert [(cell.factors["k"], cell.seed) for cell in plan.cells] == [(k, s) for s in range(seeds) for k in levels]
    assert len({cell.key for cell in plan.cells}) == len(plan.cells)
    assert all(cell.spec.model.k == cell.factors["k"] and cell.spec.seed == cell.seed for cell in plan.cells)
    again = read_plan(plan.to_json())
    assert again == plan
    assert again.id == plan.id
    assert [cell.key for cell in again.cells] == [cell.key for cell in plan.cells]


def tiny_plan(*factors, base=None, seeds=1, **changes):
    """A plan on the presets; changes are of the recipe."""
    study = Study("study", "?", factors, seeds=seeds, base=base or {})
    preset = preset_cell("tiny", DataSpec(), "digits", study.base)
    return GridPlan(study, replace(preset, recipe=replace(preset.recipe, **changes)))


@settings(max_examples=30)
@given(
    factors=st.lists(st.sampled_from([SWITCH, TAUGHT, WIDTH, K]), min_size=1, unique_by=lambda item: item.name),
    base=st.fixed_dictionaries(
        {"recipe.teachers": st.just(("larger",))},
        optional={
            "recipe.lr": st.floats(0.001, 1),
            "recipe.phases": st.sampled_from(["none", "paper"]),
            "model.activation": st.just("gelu"),
        },
    ),
    more=st.fixed_dictionaries(
        {
            "seeds": st.integers(1, 3),
            "compares": st.sampled_from(["", "forms"]),
            "figure": st.sampled_from(["levels", "cost"]),
            "curves": st.sampled_from([(), ("val/top1",), ("val/top1", "train/loss")]),
        }
    ),
)
def test_a_plan_of_any_declaration_survives_json(factors, base, more):
    study = Study("study", "?", tuple(factors), base=base, **more)
    plan = GridPlan(study, preset_cell("tiny", DataSpec(), "digits", base))
    again = read_plan(plan.to_json())
    assert again == plan
    assert (again.id, again.queue) == (plan.id, plan.queue)
    for mine, other in zip(plan.queued, again.queued, strict=True):
        assert (mine.key, mine.role, mine.needs) == (other.key, other.role, other.needs)
        assert mine.factors == other.factors


def test_a_level_may_set_several_fields_or_leave_the_cell_as_it_is():
    sets = {"none": {}, "both": {"recipe.ema_decay": 0.0, "model.activation": "gelu"}}
    factor = Factor("tricks", settings=sets, baseline="none")
    plan = tiny_plan(factor)
    plain, both = (cell.spec for cell in plan.cells)
    assert factor.levels == ("none", "both")
    assert plain == replace(plan.base, seed=0)
    assert both == replace(
        plain, model=replace(plain.model, activation="gelu"), recipe=replace(plain.recipe, ema_decay=0.0)
    )
    assert factor.fields == set()
    assert Factor("se", settings={"a": {"model.se": "none"}, "b": {"model.se": "paper"}}).fields == {"model.se"}


def test_multiples_are_of_the_variants_own_widths_and_depths():
    tiny = tiny_plan(K).base.model
    widths = [cell.spec.model.widths for cell in tiny_plan(WIDTH).cells]
    assert widths[1] == tiny.widths
    assert widths[2] == tuple(2 * item for item in tiny.widths)
    assert all(abs(half - item / 2) <= 4 and half % 8 == 0 for half, item in zip(widths[0], tiny.widths, strict=True))
    depths = [cell.spec.model.depths for cell in tiny_plan(Factor("depth", "model.depth", (1, 3), 1)).cells]
    assert depths == [tiny.depths, tuple(3 * item for item in tiny.depths)]


def test_the_base_of_a_study_holds_at_every_level_and_is_no_change():
    base = {"recipe.lr": 0.05, "recipe.teachers": ("larger",), "recipe.phases": "paper"}
    plan = tiny_plan(K, base=base)
    assert {cell.spec.recipe.lr for cell in plan.cells} == {0.05}
    assert {cell.spec.recipe.teachers for cell in plan.cells} == {(Teacher("small"),)}
    assert {cell.spec.recipe.phases for cell in plan.cells} == {paper_phases(plan.base.data.image_size)}
    assert plan.changes == {}
    assert plan.queue == "study"


@pytest.mark.parametrize(
    "factor",
    [
        Factor("width", "model.width", (1.0, 1.001), 1.0),
        Factor("ema", settings={"on": {}, "same": {"recipe.ema_decay": 0.95}}, baseline="on"),
    ],
)
def test_levels_that_come_to_the_same_cells_are_refused(factor):
    one, other = map(re.escape, map(repr, factor.levels))
    with pytest.raises(InputError, match=f"{factor.name}: {one} and {other} come to the same cells"):
        tiny_plan(factor, seeds=2)


def test_teachers_are_shared_by_key():
    plan = tiny_plan(K, TAUGHT, base={"recipe.teachers": ("larger",)}, seeds=2)
    assert len(plan.cells) == 8
    assert [(item.seed, item.role, item.factors) for item in plan.teachers] == [
        (seed, "teacher", {"teacher": "small"}) for seed in (0, 1)
    ]
    for cell in plan.cells:
        expected = (plan.teachers[cell.seed].key,) if cell.factors["distillation"] == "on" else ()
        assert cell.needs == expected
    for teacher in plan.teachers:
        assert teacher.spec.recipe.teachers == teacher.needs == ()
        assert teacher.spec.model.widths == ModelSpec.preset("small").widths
    assert plan.queued == (*plan.teachers, *plan.cells)


def test_a_teacher_that_is_a_level_of_the_study_is_trained_as_that():
    small = ModelSpec.preset("small", in_channels=1).fitted_to(DataSpec().image_size)
    of_small = {f"model.{name}": value for name, value in vars(small).items()} | {"recipe.teachers": ()}
    factor = Factor("network", settings={"tiny": {}, "small": of_small}, baseline="tiny")
    plan = tiny_plan(factor, base={"recipe.teachers": ("larger",)})
    student, teacher = plan.cells
    assert student.needs == (teacher.key,)
    assert plan.teachers == ()


def test_a_comparison_needs_all_else_and_does_not_depend_on_the_seeds():
    plan, more = (small_plan(levels=(1, 2), seeds=seeds, teachers=("small",), compares="forms") for seeds in (1, 3))
    assert plan.comparison.key == more.comparison.key
    assert plan.queued[-1] == plan.comparison
    assert set(more.comparison.needs) == {item.key for item in (*more.teachers, *more.cells)}
    assert [(entry.label, entry.cell) for entry in plan.comparison.spec.entries] == [
        (str(cell.factors["k"]), cell.spec) for cell in plan.cells
    ]


def test_a_field_that_a_switch_leaves_alone_makes_another_queue():
    """Its value at the level that sets nothing is a command line's; one that every level sets is the factor's own."""
    plans = [tiny_plan(SWITCH, ema_decay=decay) for decay in (0.95, 0.9)]
    assert plans[1].changes == {"recipe.ema_decay": 0.9}
    assert len({plan.queue for plan in plans}) == 2
    plans = [tiny_plan(Factor("ema", "recipe.ema_decay", (0.0, 0.9), 0.0), ema_decay=decay) for decay in (0.95, 0.9)]
    assert len({plan.queue for plan in plans}) == 1


def test_two_factors_make_a_grid():
    factors = (Factor("k", "model.k", (1, 2), 1), Factor("activation", "model.activation", ("relu", "gelu"), "relu"))
    plan = GridPlan(Study("grid", "?", factors, seeds=2), CellSpec())
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
    assert GridPlan(study, preset).changes == {}
    assert GridPlan(study, preset).queue == study.name
    changed = replace(preset, model=replace(preset.model, activation="gelu"), recipe=replace(preset.recipe, lr=0.05))
    assert GridPlan(study, changed).changes == {"model.activation": "gelu", "recipe.lr": 0.05}


def test_levels_may_be_switches_and_tuples():
    reparam = Factor("reparam", "model.reparam", (True, False), True)
    se = Factor("se", "model.se", ("none", (0, 1, 1, 1)), "none")
    plan = GridPlan(Study("both", "?", (reparam, se), seeds=1), preset_cell("tiny", DataSpec(), "digits"))
    assert [(c.spec.model.k, c.spec.model.se) for c in plan.cells] == [
        (4, "none"),
        (4, (0, 1, 1, 1)),
        (1, "none"),
        (1, (0, 1, 1, 1)),
    ]
    assert read_plan(plan.to_json()) == plan


@pytest.mark.parametrize(
    "value", [(Teacher("small"),), paper_phases(32), {"k": 1}, [0, 1], ((0, 1), (1, 0)), Teacher("small")]
)
def test_settings_hold_what_json_gives_back_alone(value):
    with pytest.raises(InputError, match=r"^switch, settings: .* is not allowed; text, a number"):
        Factor("switch", settings={"off": {}, "on": {"recipe.teachers": value}}, baseline="off")


def test_a_distilled_cell_costs_a_third_of_its_teachers_more():
    """A teacher has a forward pass and no backward one."""
    plain, taught, twice = (
        small_plan(levels=(1,), seeds=1, epochs=6, teachers=names).cells[0]
        for names in ((), ("small",), ("small", "s0"))
    )
    passes = [model_cost(teacher.spec.model, 32, 10).deployed.macs for teacher in twice.teachers]
    assert taught.cost == pytest.approx(plain.cost + 6 * passes[0] / 3, rel=1e-6)
    assert twice.cost == pytest.approx(plain.cost + 6 * sum(passes) / 3, rel=1e-6)


def test_a_comparison_costs_what_its_arms_do_in_both_forms_whatever_the_seeds():
    one, both, more = (
        small_plan(levels=levels, seeds=seeds, epochs=1, compares="forms").comparison
        for levels, seeds in (((1,), 1), ((1, 2), 1), ((1, 2), 3))
    )
    costs = [
        model_cost(entry.cell.model, entry.cell.data.image_size, entry.cell.data.num_classes)
        for entry in both.spec.entries
    ]
    rounds = both.spec.protocol.rounds
    assert both.cost == pytest.approx(sum(item.train.macs + item.deployed.macs for item in costs) * rounds / 4)
    assert 0 < one.cost < both.cost == more.cost
    larger = replace(both.spec.entries[0].cell.data, class_images=(6000,) * 10)  # epochs grow with it, steps do not
    entries = tuple(replace(entry, cell=replace(entry.cell, data=larger)) for entry in both.spec.entries)
    beside_longer_epochs = replace(both, spec=replace(both.spec, entries=entries))
    assert beside_longer_epochs.cost == pytest.approx(both.cost * 1210 / larger.train_images, rel=1e-4)


@pytest.mark.parametrize("field", ["k", "model.kk", "modle.k", "seed", "execution.compile"])
def test_a_factor_names_a_field_that_is_there(field):
    with pytest.raises(InputError, match="field"):
        Factor("k", field, (1, 2), 1)


def test_a_plan_of_another_version_is_refused_in_one_line():
    text = small_plan().to_json().replace('"question":', '"unheard_of":1,"question":')
    with pytest.raises(InputError, match="unheard_of"):
        read_plan(text)


def test_classifiers_to_start_from_are_named_by_what_sets_their_network():
    factors = (
        K,
        Factor("epochs", "recipe.epochs", levels=(1, 2), baseline=1),
        Factor(
            "start", settings={"none": {"recipe.init": ""}, "own": {"recipe.init": "classification"}}, baseline="none"
        ),
    )
    study = Study(name="t", question="?", factors=factors, task="detection", data="scenes", seeds=2, metric="test/map")
    spec = preset_cell("tiny", resolve_data("scenes", None, 64), "scenes-ssdlite", task="detection")
    first = GridPlan(study, spec).teachers
    assert [(item.factors, item.seed) for item in first] == [
        ({"classifier": study.variant, "k": k}, seed) for seed in (0, 1) for k in (1, 4)
    ]
    assert [item.spec.model.k for item in first] == [1, 4, 1, 4]
