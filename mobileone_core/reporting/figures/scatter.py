"""Panels of networks as named points over latency or cost, on logarithmic axes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from mobileone_core.reporting.figures import style
from mobileone_core.reporting.figures.labels import LABEL_SIZE, label_at, place_labels_in, write_label

OTHERS = "#8A8A8A"
FAR = 15.0  # points between a mark and a name from which on it is unclear whose name it is
PASSES = 3  # each makes room for the remaining names
LEADER = {"arrowstyle": "-", "color": "#BBBBBB", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}


class NamedPoint(NamedTuple):
    """A network and its coordinates."""

    name: str
    x: float
    y: float

    @property
    def is_mobileone(self) -> bool:
        """Whether the network is a MobileOne."""
        return self.name.lower().startswith("mobileone")


class ScatterPanel(NamedTuple):
    """One panel: MobileOne in color, other networks grey. With a front, which is drawn as a line, y is linear."""

    heading: str
    color: str
    points: Sequence[NamedPoint]
    xlabel: str
    ylabel: str
    front: Sequence[NamedPoint] = ()


def scatter_figure(
    question: str, rows: Sequence[Sequence[ScatterPanel]], *, width: float, row_height: float, **layout: float
) -> style.Figure:
    """Draw a grid of panels; sizes in inches, layout (left, right and hspace) as for GridSpec."""
    height = row_height * len(rows) + 0.4
    layout |= {"bottom": 0.55 / height, "top": 1 - 0.75 / height, "wspace": 0.06}
    figure, grid = style.canvas(height, len(rows), len(rows[0]), width=width, **layout)
    style.title(figure, question, 0.02)
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            axes = figure.add_subplot(grid[row, column])
            _draw_panel(axes, panel)
            axes.tick_params(labelleft=column == 0)
    return figure


def _draw_panel(axes: style.Axes, panel: ScatterPanel) -> None:
    import seaborn as sns

    if panel.front:
        x, y = [point.x for point in panel.front], [point.y for point in panel.front]
        axes.plot(x, y, color="#444444", linewidth=1, linestyle="--", label="Pareto front", zorder=2)
    for is_mobileone, color, marker, size in ((False, OTHERS, "o", 24), (True, panel.color, "D", 34)):
        points = [point for point in panel.points if point.is_mobileone == is_mobileone]
        if points:
            sns.scatterplot(
                x=[point.x for point in points], y=[point.y for point in points], color=color, marker=marker, s=size,
                edgecolor="white", linewidth=0.4, zorder=3, ax=axes,
            )  # fmt: skip
    axes.grid(visible=True, axis="both")
    _plain_log_axis(axes, "x", [point.x for point in panel.points], 1.3 if panel.front else 1.6)
    if panel.front:
        axes.margins(y=0.1)
        axes.legend(loc="lower right", frameon=True, edgecolor="none", fontsize=8)
    else:
        _plain_log_axis(axes, "y", [point.y for point in panel.points], 1.6)
    axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
    axes.set_title(panel.heading, loc="left", color=panel.color, fontsize=10)
    _name_points(axes, panel)


def _plain_log_axis(axes: style.Axes, side: Literal["x", "y"], values: Sequence[float], margin: float) -> None:
    """A logarithmic axis around these values; large numbers with the SI prefix."""
    from matplotlib.ticker import EngFormatter

    high = max(values, default=10.0) * margin
    style.log_axis(axes, side, min(values, default=1.0) / margin, high)
    getattr(axes, f"{side}axis").set_major_formatter("{x:g}" if high < 1e5 else EngFormatter(sep=" "))


def _name_points(axes: style.Axes, panel: ScatterPanel) -> None:
    """Write names next to their marks; one that only fits far away is left out, or, of MobileOne, connected to it."""
    labels = [label_at(axes, *point) for point in panel.points]
    for _ in range(PASSES):
        spots = place_labels_in(axes, labels)
        labels = [
            replace(label, text="") if label.distance(*spot) > FAR and not point.is_mobileone else label
            for point, label, spot in zip(panel.points, labels, spots, strict=True)
        ]
    for point, label, spot in zip(panel.points, labels, spots, strict=True):
        if label.text:
            color, weight = (panel.color, "bold") if point.is_mobileone else ("#333333", "normal")
            leader = LEADER if label.distance(*spot) > FAR else None
            font = {"fontsize": LABEL_SIZE - 1, "color": color, "fontweight": weight, "arrowprops": leader}
            write_label(axes, label, spot, point[1:], **font)
