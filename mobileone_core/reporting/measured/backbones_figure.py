"""Accuracy against latency with the Pareto front: as published, and against latency measured here in its own panels."""

from typing import TYPE_CHECKING

from mobileone_core.reporting.figures.style import MEASURED, PUBLISHED, WIDTH, title
from mobileone_core.reporting.measured.backbones import front_of, measured_points, published_points
from mobileone_core.reporting.measured.result import MeasuredResult
from mobileone_core.reporting.measured.scatter import Point, log_axis, name_points, scatter
from mobileone_core.reporting.measured.words import place

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = 4.3  # inches


def backbones_figure(result: MeasuredResult) -> "Figure":
    """A panel over another; MobileOne in colour."""
    from matplotlib.figure import Figure

    panels = [("Published accuracy, published latency on an iPhone 12 (table 9)", PUBLISHED, published_points())]
    panels += [
        (f"Published accuracy, latency measured here: {place(result)}, {runtime}", MEASURED, found)
        for runtime in result.runtimes
        if (found := measured_points(result, runtime))
    ]
    height = PANEL * len(panels) + 0.4
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.add_gridspec(len(panels), 1)
    grid.update(left=0.08, right=0.98, bottom=0.55 / height, top=1 - 0.75 / height, hspace=0.3)
    title(figure, result.plan.study.question, 0.02)
    for line, (words, color, placed) in enumerate(panels):
        axes = figure.add_subplot(grid[line])
        points = [Point(*item) for item in placed]
        front = front_of(placed)
        axes.plot(
            [time for _, time, _ in front],
            [accuracy for _, _, accuracy in front],
            color="#444444",
            linewidth=1,
            linestyle="--",
            label="Pareto front",
            zorder=2,
        )
        scatter(axes, points, color)
        log_axis(axes, "x", [point.x for point in points], 1.3)
        axes.margins(y=0.1)
        axes.set(xlabel="latency, ms", ylabel="published top-1, %")
        axes.set_title(words, loc="left", color=color, fontsize=10)
        axes.legend(loc="lower right", frameon=True, edgecolor="none", fontsize=8)
        name_points(axes, points, color)
    return figure
