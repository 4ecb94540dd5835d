"""Figures of many levels: names that fit, the same bytes, missing seeds named."""

import itertools
from dataclasses import replace

import pytest

from mobileone_core.reporting.figures.levels import draw, fitted_ticks, levels_figure
from mobileone_core.reporting.figures.panels import shown_interval
from mobileone_core.reporting.figures.style import fitted, style
from mobileone_core.reporting.published import PublishedValue
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import CellRow, StudyRecord

ROOM = 500.0  # points
SWITCHES = tuple(
    Factor(name, settings={"off": {field: value}, "on": {}}, baseline="off")
    for name, field, value in (
        ("progressive", "recipe.augmentation", "none"),
        ("annealing", "recipe.weight_decay_end", None),
        ("ema", "recipe.ema_decay", 0.0),
    )
)


def result_of(plan, left_out=()):
    rows = [
        CellRow(cell.key, cell.seed, cell.factors, f"run{n}", {"test/top1": 0.95 + n / 1000}, {})
        for n, cell in enumerate(plan.cells)
        if n not in left_out
    ]
    return analyse(plan, StudyRecord(rows))


@pytest.fixture(scope="module")
def switches(make_plan):
    return make_plan(name="switches", factors=SWITCHES, published="")


def test_levels_of_several_factors_have_a_line_each(switches):
    ticks, size = fitted_ticks(result_of(switches, left_out=(7,)), ROOM)
    assert ticks[0] == "off\noff\noff"
    assert ticks[3] == "off\non\non"
    assert ticks[7] == "on\non\non\n2 of 3"
    assert size == 9


def test_ticks_do_not_overlap(switches):
    """Drawn: every tick's label ends before the next begins, and stays inside the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    activations = ("relu", "gelu", "silu", "hardswish", "dynamic_relu_a", "dynamic_relu_b", "dynamic_shift_max")
    of_one = replace(switches, study=replace(switches.study, factors=(
        Factor("activation", "model.activation", activations, "relu"),)))  # fmt: skip
    many = {f"{number + 1} times the number of epochs": {"recipe.epochs": number + 1} for number in range(20)}
    crowded = replace(switches, study=replace(switches.study, factors=(
        Factor("candidate", settings=many, baseline=next(iter(many))),)))  # fmt: skip
    for plan in (switches, of_one, crowded):
        with style():
            figure = levels_figure(result_of(plan))
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            renderer, axes = canvas.get_renderer(), figure.axes[0]
            boxes = [label.get_window_extent(renderer) for label in axes.get_xticklabels()]
            names = [text.get_window_extent(renderer) for text in axes.texts]
            names_below = [axes.xaxis.label.get_window_extent(renderer)] if axes.get_xlabel() else []
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
        assert all(box.y0 >= 0 for box in (*boxes, *names_below))
        assert all(box.x0 >= 0 and box.x1 < boxes[0].x0 for box in names)


def test_long_words_become_smaller_and_sentences_lines():
    assert fitted(["a", "b"], ROOM) == (["a", "b"], 9)
    names, size = fitted(["weight decay annealing"] * 8, ROOM)
    assert names[0].count("\n") >= 1
    assert size <= 9
    assert fitted(["x" * 40] * 8, ROOM)[1] == 5


@pytest.mark.parametrize("left_out", [(), (0, 3, 6), range(24)])
def test_same_result_same_bytes(switches, left_out):
    result = result_of(switches, left_out)
    assert draw(result) == draw(result)


def published(level, variant, value):
    return PublishedValue(variant, str(level), value, "%", "table 6, published", str(value))


@pytest.mark.slow
def test_published_value_alone_is_left_to_the_table(plan, rows):
    result = analyse(plan, StudyRecord(rows))
    alone = replace(result, published=(*result.published, published(4, "s2", 77.4)))
    assert draw(alone) == draw(result)


def test_many_published_variants_share_axes_with_a_separate_scale(plan, rows):
    """The measured values keep the scale that they have alone."""
    result = analyse(plan, StudyRecord(rows))
    values = tuple(published(k, f"s{n}", 60.0 + 5 * n + k) for n in range(4) for k in (4, 1))
    with style():
        many, alone = levels_figure(replace(result, published=values)), levels_figure(replace(result, published=()))
    measured, of_paper = many.axes
    assert measured.get_ylim() == alone.axes[0].get_ylim()
    low, high = of_paper.get_ylim()
    assert low < 61
    assert high > 79
    assert {text.get_text() for text in of_paper.texts} >= {"S0", "S1", "S2", "S3", "61.0", "79.0"}
    assert [list(line.get_xdata()) for line in of_paper.lines] == [[0, 2]] * 4


def test_one_seed_stands_over_its_tick(make_plan):
    plan = make_plan(seeds=1, published="")
    with style():
        axes = levels_figure(result_of(plan)).axes[0]
    assert [list(points.get_offsets()[:, 0]) for points in axes.collections] == [[0.0, 1.0, 2.0]]
    assert "95 %" not in " ".join(axes.get_legend_handles_labels()[1])


def test_intervals_of_percentages_end_at_their_bounds(make_plan, make_row):
    """Two seeds: 12.7 standard errors of 1 % either side of 99 %."""
    plan = make_plan(seeds=2, published="")
    result = analyse(plan, StudyRecord([make_row(cell, 98.0 + 2 * cell.seed) for cell in plan.cells]))
    assert result.analysis.comparisons[0].summary.high > 100
    low, high = shown_interval(result, result.analysis.comparisons[0].summary)
    assert low == pytest.approx(99 - 12.706, abs=1e-3)
    assert high == 100
    of_loss = replace(plan, study=replace(plan.study, metric="test/loss"))
    loss = analyse(of_loss, StudyRecord(list(result.rows.values())))
    summary = loss.analysis.comparisons[0].summary
    assert shown_interval(loss, summary) == (summary.low, summary.high)
    assert summary.low < 0


@pytest.mark.parametrize("values", [(70.9, 70.7, 71.3), (75.9, 75.7, 75.2), (70.0, 71.0, 70.5), (70.0, 70.5, 71.5)])
@pytest.mark.parametrize("variants", [("s0",), ("s0", "s1", "s2")])
def test_printed_values_do_not_lie_on_their_line(plan, rows, values, variants):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.path import Path

    printed = [
        published(level, variant, value + 3 * index)
        for index, variant in enumerate(variants)
        for level, value in zip((1, 2, 4), values, strict=True)
    ]
    with style():
        figure = levels_figure(replace(analyse(plan, StudyRecord(rows)), published=tuple(printed)))
        renderer = FigureCanvasAgg(figure).get_renderer()
        axes = figure.axes[1]
        lines = [Path(axes.transData.transform(line.get_xydata())) for line in axes.lines]
        texts = [text for text in axes.texts if text.get_text() in {value.printed for value in printed}]
        boxes = [text.get_window_extent(renderer) for text in texts]
    assert len(boxes) == len(printed)
    for box, line in itertools.product(boxes, lines):
        assert not line.intersects_bbox(box, filled=False)
