"""Costs of a training step against k: a panel per cost, a line per path."""

from collections.abc import Sequence
from typing import NamedTuple

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.figures import style

MARKERS = "osD^vP"
COLORS = [color for color in map(style.level_color, range(8)) if color != style.PUBLISHED]  # nothing here is published
NAME_SPACE = 0.27  # fraction of the axes right of the largest k, for names
NAME_DISTANCE = 24.0  # points between the names of two lines


class GrowthLine(NamedTuple):
    """A path: values with their intervals by rising k, and the last value over the first, None if not recorded.

    A path that was measured at one k alone is drawn as an open mark.
    """

    name: str
    values: Sequence[tuple[int, Estimate]]
    growth: float | None


class GrowthPanel(NamedTuple):
    """One cost: the lines, and the values of the references, which are drawn as horizontal lines."""

    label: str
    lines: Sequence[GrowthLine]
    references: Sequence[float]


def growth_figure(
    question: str, heading_text: str, note_text: str, ks: Sequence[int], panels: Sequence[GrowthPanel]
) -> style.Figure:
    """Draw the panels next to each other over the same k."""
    top = 1 - 1.0 / style.HEIGHT
    figure, grid = style.canvas(style.HEIGHT, 1, 2, left=0.075, right=0.985, bottom=0.12, top=top, wspace=0.2)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(grid[number])
        _frame(axes, ks, panel)
        for index, line in enumerate(panel.lines):
            _draw_line(axes, line, index)
        _name_lines(axes, panel.lines)
        style.text_above(axes, 0.92, panel.label, fontsize=9)
        if number == 0:
            style.heading(axes, heading_text[:90], style.MEASURED)
            style.text_above(axes, 0.74, note_text, fontsize=8)
    style.title(figure, question, 0.02)
    return figure


def _frame(axes: style.Axes, ks: Sequence[int], panel: GrowthPanel) -> None:
    """k on a logarithmic axis with its levels as ticks, the cost from 0, a line at each reference."""
    left, right = ks[0] / 1.2, ks[-1]
    axes.set_xscale("log", base=2)
    axes.set_xlim(left, right * (right / left) ** (NAME_SPACE / (1 - NAME_SPACE)))
    axes.set_xticks(ks)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0, 1.1 * max((cost.value for line in panel.lines for _, cost in line.values), default=1.0))
    axes.set_xlabel("k, branches of a block")
    for value in panel.references:
        axes.axhline(value, color="#777777", linewidth=1, linestyle="--", zorder=1)


def _draw_line(axes: style.Axes, line: GrowthLine, index: int) -> None:
    color, costs = COLORS[index % len(COLORS)], [cost for _, cost in line.values]
    ends = [[cost.value - cost.low for cost in costs], [cost.high - cost.value for cost in costs]]
    linestyle, size, filling, zorder = ("none", 8, "none", 4) if len(costs) == 1 else ("-", 5, color, 3)
    axes.errorbar(
        [k for k, _ in line.values], [cost.value for cost in costs], ends, fmt=MARKERS[index % len(MARKERS)],
        linestyle=linestyle, color=color, markersize=size, markerfacecolor=filling, capsize=2.5, zorder=zorder,
    )  # fmt: skip


def _name_lines(axes: style.Axes, lines: Sequence[GrowthLine]) -> None:
    """Write the name and growth of a path right of its last point, clear of other names; left of a single mark."""
    scale = axes.get_window_extent().height / axes.get_ylim()[1] * style.POINTS / axes.figure.dpi
    drawn = [(line, COLORS[index % len(COLORS)]) for index, line in enumerate(lines)]
    long = [(line, color) for line, color in drawn if len(line.values) > 1]
    heights = [scale * line.values[-1][1].value for line, _ in long]
    names = [
        (line, color, line.name if line.growth is None else f"{line.name}\n{line.growth:.1f} times", 8, spot - height)
        for (line, color), height, spot in zip(long, heights, spread(heights), strict=True)
    ]
    names += [(line, color, line.name, -9, 8) for line, color in drawn if len(line.values) == 1]
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    for line, color, name, right, up in names:
        k, cost = line.values[-1]
        axes.annotate(
            name, (k, cost.value), (right, up), textcoords="offset points", color=color, fontsize=9, fontweight="bold",
            ha="right" if right < 0 else "left", va="center", bbox=box,
        )  # fmt: skip


def spread(heights: Sequence[float], distance: float = NAME_DISTANCE) -> list[float]:
    """Return the heights, each raised until it is this far above the next lower one."""
    raised, last = list(heights), float("-inf")
    for index in sorted(range(len(heights)), key=lambda index: heights[index]):
        last = raised[index] = max(heights[index], last + distance)
    return raised
