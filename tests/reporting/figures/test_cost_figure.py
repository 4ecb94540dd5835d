"""Accuracy next to cost: the table, the figure, and what the line on the recipe may claim."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileone_core.model.cost import model_cost
from mobileone_core.reporting.figures.cost import cost_figure, level_costs, positions
from mobileone_core.reporting.figures.labels import Label, place_labels
from mobileone_core.reporting.figures.levels import draw
from mobileone_core.reporting.figures.style import LEVELS, style
from mobileone_core.reporting.trained.kind import level_lines, recipe_text, setting_text
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.tables import cost_table
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.training.recipe import Phase, Teacher

SE = Factor("se", "model.se", ("none", (0, 0, 0, 1)), "none")


def record_of(plan):
    return StudyRecord([
        CellRow(cell.key, cell.seed, cell.factors, f"run{n}", {"test/top1": 0.95 + n / 1000, "test/images": 451.0}, {})
        for n, cell in enumerate(plan.cells)
    ])  # fmt: skip


@pytest.fixture(scope="module")
def costs(make_plan):
    return make_plan(name="costs", factors=(SE,), figure="cost")


def test_accuracy_stands_next_to_cost(costs):
    table = cost_table(analyse(costs, record_of(costs)))
    rows = table.rows
    assert tuple(column.head for column in table.columns)[1:] == (
        "parameters, trained", "parameters, deployed", "multiply-adds, trained", "multiply-adds, deployed",
        "measured test top-1, %", "n",
    )  # fmt: skip
    for row, cell in zip(rows, costs.cells, strict=False):
        cost = model_cost(cell.spec.model, cell.spec.data.image_size, 10)
        counts = (cost.train.params, cost.deployed.params, cost.train.macs, cost.deployed.macs)
        assert row[1:5] == tuple(f"{count:,}" for count in counts)
    assert [row[5:] for row in rows] == [("95.20 ± 0.50", "3"), ("95.30 ± 0.50", "3")]


def test_other_studies_have_cost_alone(plan, rows):
    assert len(cost_table(analyse(plan, StudyRecord(rows))).columns) == 5


def test_missing_level_is_a_gap_next_to_its_cost(costs):
    record = record_of(costs)
    left = StudyRecord([row for row in record.rows if row.factors["se"] == "none"])
    assert cost_table(analyse(costs, left)).rows[1][5:] == ("-", "0")


@pytest.mark.slow
def test_figure_is_the_same_each_time_and_drawn_from_little(costs):
    record = record_of(costs)
    for number in (6, 3, 1, 0):
        result = analyse(costs, StudyRecord(record.rows[:number]))
        assert draw(result) == draw(result)


def test_levels_carry_the_deployed_cost(costs):
    levels = level_costs(analyse(costs, record_of(costs)))
    assert [level.label for level in levels] == ["none (baseline)", "0,0,0,1"]
    assert [len(level.values) for level in levels] == [3, 3]
    assert levels[0].cost == model_cost(costs.cells[0].spec.model, 32, 10).deployed


def test_baseline_is_black_wherever_it_stands(make_plan):
    plan = make_plan(figure="cost", factors=(Factor("k", "model.k", (2, 1, 4), 1),))
    levels = level_costs(analyse(plan, record_of(plan)))
    assert [(level.label, level.color) for level in levels] == [
        ("2", LEVELS[1]), ("1 (baseline)", "#000000"), ("4", LEVELS[2])
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "named"), [(6, True), (2, False)])
def test_intervals_are_named_where_they_are_drawn(costs, number, named):
    result = analyse(costs, StudyRecord(record_of(costs).rows[:number]))
    with style():
        texts = [text.get_text() for text in cost_figure(result).texts]
    assert any("95 % interval" in text for text in texts) is named


def test_published_values_in_percent_are_drawn_and_points_are_not(make_plan):
    from mobileone_core.reporting.figures.panels import shown_values

    plan = make_plan(figure="cost")
    result = analyse(plan, record_of(plan))
    assert list(shown_values(result)) == ["s1", "s0"]
    points = tuple(replace(value, unit="points") for value in result.published)
    assert not shown_values(replace(result, published=points))
    assert draw(result) != draw(replace(result, published=points))


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_no_level_hides_another_and_costs_keep_their_order(costs):
    drawn = positions(costs)
    assert len({round(math.log(x), 9) for x in drawn}) == len(costs)
    width = max(math.log(max(costs) / min(costs)), 0.05)
    for x, cost in zip(drawn, costs, strict=True):
        assert abs(math.log(x / cost)) < 0.6 * width


spots = st.tuples(st.integers(0, 400), st.integers(20, 200), st.integers(0, 15), st.integers(1, 14))


@given(st.lists(spots, min_size=1, max_size=8, unique_by=lambda spot: spot[0] // 30))
@settings(max_examples=50, deadline=None)
def test_names_hide_no_other_name(marks):
    labels = [Label("x" * letters, x, y, y - half, y + half) for x, y, half, letters in marks]
    boxes = [(x, y, label.width) for label, (x, y) in zip(labels, place_labels(labels, 420, 220), strict=True)]
    for index, (x, y, width) in enumerate(boxes):
        for other_x, other_y, other_width in boxes[:index]:
            shared = min(x + width, other_x + other_width) - max(x, other_x)
            assert shared <= 1 or abs(y - other_y) >= 8


def test_recipe_claims_nothing_that_a_factor_varies(make_plan):
    phases = (Phase(0.5, 24, 0.3), Phase(1.0, 32, 1.0))
    factors = (
        Factor("ema", settings={"off": {"recipe.ema_decay": 0.0}, "on": {}}, baseline="off"),
        Factor("progressive", settings={"off": {"recipe.phases": ()}, "on": {}}, baseline="off"),
        Factor("epochs", "recipe.epochs", (4, 12), 4),
        Factor("annealing", settings={"off": {"recipe.weight_decay_end": None}, "on": {}}, baseline="off"),
    )
    plan = make_plan(published="", seeds=1)
    base = replace(plan.base, recipe=replace(plan.base.recipe, phases=phases))
    plan = replace(plan, study=replace(plan.study, factors=factors), base=base)
    text = recipe_text(analyse(plan, record_of(plan)))
    assert text == (
        "Trained for batch 64, sgd at 0.3, augmentation crop; 32 px, 10 classes; each level's weights are tested on "
        "451 images, in train form."
    )
    assert level_lines(plan) == [
        "*ema* off: last weights; on: averaged weights (EMA 0.95)",
        "*progressive* off: no progressive learning; on: progressive learning 24, 32 px with AutoAugment 0.3, 1.0",
        "*annealing* off: constant weight decay; on: weight decay annealed to 1e-05",
    ]


def test_phases_and_teachers_are_described(plan):
    recipe = replace(plan.base.recipe, phases=(Phase(1.0, 32, 0.5),), teachers=(Teacher("small"), Teacher("s0")))
    changed = replace(plan, base=replace(plan.base, recipe=recipe))
    text = recipe_text(analyse(changed, StudyRecord()))
    assert "augmentation crop, progressive learning 32 px with AutoAugment 0.5, teachers small, s0, " in text
    assert "soft labels at temperature 4, hard labels weighted 0.5; 32 px" in text
    assert "recipe digits, activation gelu, progressive learning 32 px with AutoAugment 0.5, teachers small, s0" in (
        setting_text(changed)
    )
