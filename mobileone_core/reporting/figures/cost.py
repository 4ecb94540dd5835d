"""The metric against what the deployed network costs: a panel over multiply-adds, one over parameters."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileone_core.model.cost import FormCost, model_cost
from mobileone_core.reporting.figures.labels import LETTERS, Label, place_labels
from mobileone_core.reporting.figures.panels import (
    Span,
    ceiling,
    draw_published,
    measured_words,
    one_scale,
    shown_interval,
    shown_variants,
)
from mobileone_core.reporting.figures.style import (
    HEIGHT,
    MEASURED,
    POINTS,
    WIDTH,
    heading,
    level_color,
    level_places,
    note,
    title,
)
from mobileone_core.reporting.trained.result import Result, cells_by_level
from mobileone_core.study.factor import level_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT = 0.09
SAME = 0.03  # costs closer than this part of the axis stand side by side
STEP, ALONE = 0.035, 0.15  # of the axis, between arms that cost the same; and where all of them do
AXES: tuple[tuple[str, Callable[[FormCost], int]], ...] = (
    ("multiply-adds, deployed", lambda cost: cost.macs),
    ("parameters, deployed", lambda cost: cost.params),
)


@dataclass(frozen=True)
class Arm:
    """One level: its name, colour and deployed network's cost, every seed's value, and the interval of their mean."""

    label: str
    color: str
    cost: FormCost
    values: tuple[float, ...]
    interval: tuple[float, float] | None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)


def arms_of(result: Result) -> list[Arm]:
    """The study's levels with their cost; the image size and the classes are the data's."""
    arms = []
    intervals = {row.level: shown_interval(result, row.summary) for row in result.analysis.comparisons}
    baseline = result.analysis.baseline
    colors = level_places(intervals, baseline)
    for label, cells in cells_by_level(result.plan).items():
        spec = cells[0].spec
        cost = model_cost(spec.model, spec.data.image_size, spec.data.num_classes).deployed
        values = tuple(result.value(cell.key) for cell in cells if cell.key in result.rows)
        name = ", ".join(level_text(level) for level in cells[0].factors.values())
        name += " (baseline)" if label == baseline else ""
        arms.append(Arm(name, level_color(colors[label]), cost, values, intervals[label]))
    return arms


def cost_figure(result: Result) -> "Figure":
    """Both panels have one scale for the metric; published values stand in a panel of their own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT + 0.4))
    has_published = bool(shown_variants(result))
    grid = figure.add_gridspec(1, 3 if has_published else 2)
    grid.update(left=LEFT, right=0.98, bottom=0.12, top=0.79, wspace=0.2 if has_published else 0.1)
    arms = arms_of(result)
    spans: list[Span] = []
    for index, (name, cost) in enumerate(AXES):
        axes = figure.add_subplot(grid[index])
        spans.append((axes, _panel(axes, arms, [cost(arm.cost) for arm in arms])))
        axes.set_xlabel(name)
        axes.tick_params(labelleft=index == 0)
    if has_published:
        spans += draw_published(figure, grid[2], result, WIDTH * 0.24 * POINTS)
    one_scale(spans, ceiling(result))
    first = spans[0][0]
    first.set_ylabel(result.axis_label)
    for (axes, _), (_, cost) in zip(spans, AXES, strict=False):
        _label(axes, arms, [cost(arm.cost) for arm in arms])
    title(figure, result.plan.study.question, LEFT)
    heading(first, f"{measured_words(result)}; labels: {result.factor_names}", MEASURED)
    note(first, _note_words(arms))
    return figure


def _note_words(arms: list[Arm]) -> str:
    """What the marks are; intervals only where there are some."""
    interval = ", 95 % interval" if any(arm.interval for arm in arms) else ""
    several = any(len(arm.values) > 1 for arm in arms)
    marks = f"Faint: one seed; diamond: mean{interval}" if several else "Diamond: one seed"
    return f"{marks}; equal costs stand side by side"


def places(costs: list[int]) -> list[float]:
    """Where on a log axis each arm stands: its cost, or beside it where another costs the same."""
    logs = [math.log(cost) for cost in costs]
    width = max(max(logs) - min(logs), 0.05)
    groups: list[list[int]] = []
    for index in sorted(range(len(logs)), key=lambda index: (logs[index], index)):
        if groups and logs[index] - logs[groups[-1][0]] < SAME * width:
            groups[-1].append(index)
        else:
            groups.append([index])
    step = ALONE if len(groups) == 1 else STEP
    found = [0.0] * len(logs)
    for group in groups:
        for order, index in enumerate(sorted(group)):
            shift = (order - (len(group) - 1) / 2) * step * width if len(group) > 1 else 0.0
            found[index] = math.exp(logs[index] + shift)
    return found


def _panel(axes: "Axes", arms: list[Arm], costs: list[int]) -> tuple[float, float]:
    """Seeds, mean and interval of every arm; gives the least and greatest value."""
    x = places(costs)
    shown: list[float] = []
    for place, arm in zip(x, arms, strict=True):
        if not arm.values:
            continue
        axes.scatter([place] * len(arm.values), arm.values, s=14, color=arm.color, alpha=0.3, linewidth=0)
        ends = [[arm.mean - arm.interval[0]], [arm.interval[1] - arm.mean]] if arm.interval else None
        axes.errorbar(place, arm.mean, ends, fmt="D", color=arm.color, markersize=5, capsize=3)
        shown += _extent(arm)
    _cost_axis(axes, x, costs)
    return (min(shown), max(shown)) if shown else (0.0, 1.0)


def _cost_axis(axes: "Axes", x: list[float], costs: list[int]) -> None:
    """A log axis with round ticks, however narrow its range is."""
    from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator

    margin = max(0.12 * math.log(max(x) / min(x)), 0.02)
    low, high = min(x) * math.exp(-margin), max(x) * math.exp(margin)
    if len(set(costs)) == 1:
        ticks = [float(costs[0])]
    elif high / low > 8:
        steps = (1, 2, 5) if high / low < 200 else (1,)
        ticks = [step * 10.0**power for power in range(0, 16) for step in steps]
    else:
        ticks = [float(tick) for tick in MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


def _label(axes: "Axes", arms: list[Arm], costs: list[int]) -> None:
    """Every arm's name beside its mean, where it hides nothing."""
    box = axes.get_window_extent()
    scale = POINTS / axes.figure.dpi
    shown = [(place, arm) for place, arm in zip(places(costs), arms, strict=True) if arm.values]
    labels = []
    for place, arm in shown:
        heights = (arm.mean, *_extent(arm))
        pairs = axes.transData.transform([(place, height) for height in heights])
        middle, low, high = (float(y - box.y0) * scale for _, y in pairs)
        labels.append(Label(arm.label, float(pairs[0][0] - box.x0) * scale, middle, low, high))
    spots = place_labels(labels, box.width * scale, box.height * scale)
    for (place, arm), label, (x, y) in zip(shown, labels, spots, strict=True):
        axes.annotate(
            arm.label,
            (place, arm.mean),
            (x - label.x, y - label.y),
            textcoords="offset points",
            fontsize=LETTERS,
            color=arm.color,
            va="center",
        )


def _extent(arm: Arm) -> tuple[float, float]:
    """The least and the greatest value that is drawn of an arm."""
    shown = [*arm.values, *(arm.interval or ())]
    return min(shown), max(shown)
