"""Time of a training step, and what it keeps for the backward pass, against k: a line a path."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileone_core.reporting.figures.style import (
    HEIGHT,
    MEASURED,
    POINTS,
    PUBLISHED,
    WIDTH,
    heading,
    level_color,
    title,
    top,
)
from mobileone_core.reporting.measured.result import MeasuredArm, MeasuredResult
from mobileone_core.reporting.measured.training import SAVED, TIME, Line, k_of, lines_of
from mobileone_core.reporting.measured.words import place
from mobileone_core.reporting.trained.comparison import MIB

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP"
COLORS = [color for color in map(level_color, range(8)) if color != PUBLISHED]  # nothing here is published
ROOM = 0.27  # of the axes, right of the largest k, for names
APART = 24.0  # points between the names of two lines


@dataclass(frozen=True)
class Panel:
    """What an axes shows of an arm, how far its interval reaches, and the metric that says how it grew."""

    words: str
    growth: str
    value: Callable[[MeasuredArm], float]
    ends: Callable[[MeasuredArm], tuple[float, float]]


def _ends(item: MeasuredArm) -> tuple[float, float]:
    """How far a time's interval reaches down and up."""
    found = item.estimate(TIME, "_ms")
    return (found.value - found.low, found.high - found.value) if found else (0.0, 0.0)


PANELS = (
    Panel("time of a step, ms", "time/step_growth", lambda item: item.metric(f"{TIME}_ms") or 0.0, _ends),
    Panel(
        "kept for the backward pass, MiB",
        "memory/saved_growth",
        lambda item: (item.metric(SAVED) or 0.0) / MIB,
        lambda _: (0.0, 0.0),  # counted, not estimated
    ),
)


def training_figure(result: MeasuredResult) -> "Figure":
    """Two panels over the same k; a path that has a single k is a mark."""
    from matplotlib.figure import Figure

    study, rounds = result.plan.study, result.plan.spec.protocol.rounds
    figure = Figure(figsize=(WIDTH, HEIGHT))
    grid = figure.add_gridspec(1, 2)
    grid.update(left=0.075, right=0.985, bottom=0.12, top=1 - 1.0 / HEIGHT, wspace=0.2)
    lines = [line for line in lines_of(result) if line.measured]
    for number, panel in enumerate(PANELS):
        axes = figure.add_subplot(grid[number])
        _frame(axes, result, panel)
        for index, line in enumerate(lines):
            _draw(axes, line, index, panel)
        _name(axes, lines, panel)
        top(axes, 0.92, panel.words, fontsize=9)
        if number == 0:
            threads = f"{study.base.threads} thread{'' if study.base.threads == 1 else 's'}"
            heading(axes, f"Measured: {place(result) or 'nothing yet'}, {threads}"[:90], MEASURED)
            top(axes, 0.74, f"{study.base.size_text}; medians, 95 % over {rounds} rounds", fontsize=8)
    title(figure, study.question, 0.02)
    return figure


def _frame(axes: "Axes", result: MeasuredResult, panel: Panel) -> None:
    """k on a log axis with its levels as ticks, the cost from 0, and a line at the reference."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ks = sorted(set(map(k_of, result.arms)))
    left, right = ks[0] / 1.2, ks[-1]
    axes.set_xscale("log", base=2)
    axes.set_xlim(left, right * (right / left) ** (ROOM / (1 - ROOM)))
    axes.xaxis.set_major_locator(FixedLocator(ks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    axes.set_ylim(0, 1.1 * max(map(panel.value, result.measured), default=1.0))
    axes.set_xlabel("k, branches of a block")
    for item in result.measured:
        if item.is_reference:
            axes.axhline(panel.value(item), color="#777777", linewidth=1, linestyle="--", zorder=1)


def _draw(axes: "Axes", line: Line, index: int, panel: Panel) -> None:
    """A path's points with their intervals."""
    is_single, color = len(line.measured) == 1, COLORS[index % len(COLORS)]
    axes.errorbar(
        [k_of(item) for item in line.measured],
        [panel.value(item) for item in line.measured],
        list(zip(*map(panel.ends, line.measured), strict=True)),
        fmt=MARKERS[index % len(MARKERS)],
        linestyle="none" if is_single else "-",
        color=color,
        markersize=8 if is_single else 5,
        markerfacecolor="none" if is_single else color,
        capsize=2.5,
        zorder=4 if is_single else 3,
    )


def _name(axes: "Axes", lines: Sequence[Line], panel: Panel) -> None:
    """A path's name and growth right of its last point, clear of the others'; a single mark's left of it."""
    scale = axes.get_window_extent().height / axes.get_ylim()[1] * POINTS / axes.figure.dpi
    drawn = [(line, COLORS[index % len(COLORS)]) for index, line in enumerate(lines)]
    long = [(line, color) for line, color in drawn if len(line.measured) > 1]
    heights = [panel.value(line.measured[-1]) for line, _ in long]
    for (line, color), height, spot in zip(long, heights, spread([scale * item for item in heights]), strict=True):
        times = line.measured[-1].metric(panel.growth)
        name = line.name if times is None else f"{line.name}\n{times:.1f} times"
        _write(axes, line, name, (8, spot - scale * height), height, color)
    for line, color in drawn:
        if len(line.measured) == 1:
            _write(axes, line, line.name, (-9, 8), panel.value(line.measured[0]), color)


def _write(axes: "Axes", line: Line, name: str, shift: tuple[float, float], height: float, color: str) -> None:  # noqa: PLR0913, PLR0917
    axes.annotate(
        name,
        (k_of(line.measured[-1]), height),
        shift,
        textcoords="offset points",
        color=color,
        fontsize=9,
        fontweight="bold",
        ha="right" if shift[0] < 0 else "left",
        va="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def spread(heights: Sequence[float], apart: float = APART) -> list[float]:
    """The heights, each moved up as far as it must to stand so far above the next lower one."""
    found, last = list(heights), float("-inf")
    for index in sorted(range(len(heights)), key=lambda index: heights[index]):
        last = found[index] = max(heights[index], last + apart)
    return found
