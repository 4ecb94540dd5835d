"""Latency over multiply-adds and over parameters, a row a runtime, the published in a row of their own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobileone_core.reporting.figures.style import MEASURED, PUBLISHED, WIDTH, title
from mobileone_core.reporting.measured.correlation import timed_of
from mobileone_core.reporting.measured.result import MEDIAN, MeasuredResult
from mobileone_core.reporting.measured.scatter import Point, log_axis, name_points, scatter
from mobileone_core.reporting.measured.table9 import arm_model, paper_name, table9
from mobileone_core.reporting.measured.words import place

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW = 4.0  # inches


def correlation_figure(result: MeasuredResult) -> "Figure":
    """Log-log; MobileOne in colour."""
    from matplotlib.figure import Figure

    rows = [
        (f"Measured: {place(result)}, {runtime}", MEASURED, _measured(result, runtime)) for runtime in result.runtimes
    ]
    rows = [row for row in rows if row[2][0]]
    rows.append(("Published: table 9, iPhone 12", PUBLISHED, _published()))
    height = ROW * len(rows) + 0.4
    figure = Figure(figsize=(WIDTH * 1.25, height))
    grid = figure.add_gridspec(len(rows), 2)
    grid.update(left=0.07, right=0.985, bottom=0.55 / height, top=1 - 0.75 / height, wspace=0.06, hspace=0.32)
    title(figure, result.plan.study.question, 0.02)
    for line, (words, color, panels) in enumerate(rows):
        for column, (points, cost) in enumerate(zip(panels, ("multiply-adds", "parameters"), strict=True)):
            axes = figure.add_subplot(grid[line, column])
            scatter(axes, points, color)
            log_axis(axes, "x", [point.x for point in points])
            log_axis(axes, "y", [point.y for point in points])
            axes.set(xlabel=cost, ylabel="latency, ms" if column == 0 else "")
            axes.tick_params(labelleft=column == 0)
            name_points(axes, points, color)
            if column == 0:
                axes.set_title(words, loc="left", color=color, fontsize=10)
    return figure


def _measured(result: MeasuredResult, runtime: str) -> tuple[Sequence[Point], Sequence[Point]]:
    own = timed_of(result, runtime)
    macs, params = (
        [
            Point(paper_name(arm_model(item)) or arm_model(item), item.metric(cost) or 0.0, item.metric(MEDIAN) or 0.0)
            for item in own
        ]
        for cost in ("macs", "params")
    )
    return macs, params


def _published() -> tuple[Sequence[Point], Sequence[Point]]:
    flops, params = (
        [
            Point(str(row["model"]), 1e6 * float(str(row[cost])), float(str(row["mobile_ms"])))
            for row in table9()
            if row["mobile_ms"]
        ]
        for cost in ("flops_m", "params_m")
    )
    return flops, params
