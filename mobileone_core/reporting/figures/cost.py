"""The metric against the cost of the deployed network: one panel over multiply-adds, one over parameters."""

import math
import statistics
from typing import NamedTuple

from mobileone_core.model.cost import FormCost
from mobileone_core.reporting.figures import panels, style
from mobileone_core.reporting.figures.labels import LABEL_SIZE, label_at, place_labels_in, write_label
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.reporting.trained.tables import level_texts

LEFT = 0.09
EQUAL = 0.03  # levels whose costs differ by less than this fraction of the axis are drawn next to each other
STEP, ONLY_STEP = 0.035, 0.15  # fraction of the axis between levels of equal cost; where all levels cost the same
AXES = {"macs": "multiply-adds, deployed", "params": "parameters, deployed"}  # counts of a FormCost


class LevelCost(NamedTuple):
    """A level: name, colour, cost of its deployed network, the value of every seed, and the interval of their mean."""

    label: str
    color: str
    cost: FormCost
    values: tuple[float, ...]
    interval: tuple[float, float] | None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def extent(self) -> tuple[float, float]:
        """The lowest and the highest value drawn."""
        drawn = [*self.values, *(self.interval or ())]
        return min(drawn), max(drawn)


def level_costs(result: TrainedResult) -> list[LevelCost]:
    """Return the study's levels of known cost, at the image size and number of classes of the data."""
    intervals = {row.level: panels.shown_interval(result, row.summary) for row in result.analysis.comparisons}
    baseline = result.analysis.baseline
    indices = style.level_indices(intervals, baseline)
    texts, levels = level_texts(result), []
    for label, cells in result.levels.items():
        cost = result.costs(cells).deployed
        values = tuple(result.value(cell.key) for cell in cells if cell.key in result.rows)
        if not cost.params:  # of a network by name, which no finished cell has recorded
            continue
        name = ", ".join(texts[label]) + (" (baseline)" if label == baseline else "")
        levels.append(LevelCost(name, style.level_color(indices[label]), cost, values, intervals[label]))
    return levels


def cost_figure(result: TrainedResult) -> style.Figure:
    """Draw the metric over multiply-adds and over parameters; published values in a third (see draw_published)."""
    has_published = bool(panels.shown_values(result))
    figure, grid = style.canvas(
        style.HEIGHT + 0.4, 1, 3 if has_published else 2,
        left=LEFT, right=0.98, bottom=0.12, top=0.79, wspace=0.2 if has_published else 0.1,
    )  # fmt: skip
    levels = level_costs(result)
    spans: list[panels.Span] = []
    for index, (name, text) in enumerate(AXES.items()):
        axes = figure.add_subplot(grid[index], xlabel=text)
        spans.append((axes, _draw_levels(axes, levels, [getattr(level.cost, name) for level in levels])))
        axes.tick_params(labelleft=index == 0)
    if has_published:
        spans += panels.draw_published(figure, grid[2], result, style.WIDTH * 0.24 * style.POINTS)
    panels.one_scale(spans, result)
    first = spans[0][0]
    first.set_ylabel(result.axis_label)
    for (axes, _), name in zip(spans, AXES, strict=False):
        _label(axes, levels, [getattr(level.cost, name) for level in levels])
    style.title(figure, result.plan.study.question, LEFT)
    style.heading(first, f"{panels.measured_text(result)}; labels: {result.factor_names}", style.MEASURED)
    interval = ", 95 % interval" if any(level.interval for level in levels) else ""
    has_seeds = any(len(level.values) > 1 for level in levels)
    marks = f"Faint: one seed; diamond: mean{interval}" if has_seeds else "Diamond: one seed"
    style.note(first, f"{marks}; equal costs stand side by side")
    return figure


def positions(costs: list[int]) -> list[float]:
    """Return the position of each level on a logarithmic axis: its cost, or next to it where another costs the same."""
    logs = [math.log(cost) for cost in costs]
    width = max(max(logs, default=0) - min(logs, default=0), 0.05)
    groups: list[list[int]] = []
    for index in sorted(range(len(logs)), key=lambda index: (logs[index], index)):
        if groups and logs[index] - logs[groups[-1][0]] < EQUAL * width:
            groups[-1].append(index)
        else:
            groups.append([index])
    step = ONLY_STEP if len(groups) == 1 else STEP
    result = [0.0] * len(logs)
    for group in groups:
        for order, index in enumerate(sorted(group)):
            result[index] = math.exp(logs[index] + (order - (len(group) - 1) / 2) * step * width)
    return result


def _draw_levels(axes: style.Axes, levels: list[LevelCost], costs: list[int]) -> tuple[float, float]:
    """Draw seeds, mean and interval of every level over a logarithmic axis; returns the lowest and highest value."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    x = positions(costs)
    drawn: list[float] = []
    for position, level in zip(x, levels, strict=True):
        if level.values:
            axes.scatter([position] * len(level.values), level.values, s=14, color=level.color, alpha=0.3, linewidth=0)
            panels.draw_mean(axes, position, level.mean, level.interval, level.color)
            drawn += level.extent
    margin = max(0.12 * math.log(max(x) / min(x)), 0.02)
    low, high = min(x) * math.exp(-margin), max(x) * math.exp(margin)
    style.log_axis(axes, "x", low, high, sparse=200)
    if len(set(costs)) == 1:
        axes.set_xticks([costs[0]])
    elif high / low <= 8:
        ticks = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    return (min(drawn), max(drawn)) if drawn else (0.0, 1.0)


def _label(axes: style.Axes, levels: list[LevelCost], costs: list[int]) -> None:
    drawn = [(x, level) for x, level in zip(positions(costs), levels, strict=True) if level.values]
    labels = [label_at(axes, level.label, x, level.mean, level.extent) for x, level in drawn]
    for (x, level), label, spot in zip(drawn, labels, place_labels_in(axes, labels), strict=True):
        write_label(axes, label, spot, (x, level.mean), fontsize=LABEL_SIZE, color=level.color)
