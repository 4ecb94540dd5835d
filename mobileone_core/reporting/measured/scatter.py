"""Networks as named points over latency, on log axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mobileone_core.reporting.figures.labels import LETTERS, Label, place_labels
from mobileone_core.reporting.figures.style import POINTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OTHERS = "#8A8A8A"
FAR = 15.0  # points from a mark from which on nobody sees whose name it is
PASSES = 3  # each leaves room for the names that are still there
LEADER = {"arrowstyle": "-", "color": "#BBBBBB", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}


@dataclass(frozen=True)
class Point:
    """A network: its name, and where it stands."""

    name: str
    x: float
    y: float

    @property
    def is_ours(self) -> bool:
        """Whether it is a MobileOne."""
        return self.name.lower().startswith("mobileone")


def scatter(axes: "Axes", points: Sequence[Point], color: str) -> None:
    """Points of MobileOne in colour, others grey."""
    import seaborn as sns

    for ours, marker in ((False, "o"), (True, "D")):
        own = [point for point in points if point.is_ours == ours]
        if own:
            sns.scatterplot(
                x=[point.x for point in own],
                y=[point.y for point in own],
                color=color if ours else OTHERS,
                marker=marker,
                s=34 if ours else 24,
                edgecolor="white",
                linewidth=0.4,
                zorder=3,
                ax=axes,
            )
    axes.grid(visible=True, axis="both")


def log_axis(axes: "Axes", side: Literal["x", "y"], values: Sequence[float], margin: float = 1.6) -> None:
    """A log axis with plain ticks around these values."""
    from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator

    low, high = min(values, default=1.0) / margin, max(values, default=10.0) * margin
    if side == "x":
        axes.set(xscale="log", xlim=(low, high))
    else:
        axes.set(yscale="log", ylim=(low, high))
    axis = axes.xaxis if side == "x" else axes.yaxis
    steps = (1, 2, 5) if high / low < 100 else (1,)
    ticks = [step * 10.0**power for power in range(-3, 13) for step in steps]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_formatter(plain if high < 1e5 else EngFormatter(sep=" "))


def name_points(axes: "Axes", points: Sequence[Point], color: str) -> None:
    """Names beside their marks; after the axes have their place and scale.

    A name that would have to stand far from its mark is left out, MobileOne's are tied to it.
    """
    labels = _labels(axes, points)
    box, scale = axes.get_window_extent(), POINTS / axes.figure.dpi
    for _ in range(PASSES):
        placed = place_labels(labels, box.width * scale, box.height * scale)
        labels = [
            replace(label, text="") if _is_far(label, spot) and not point.is_ours else label
            for point, label, spot in zip(points, labels, placed, strict=True)
        ]
    for point, label, (x, y) in zip(points, labels, placed, strict=True):
        if label.text:
            axes.annotate(
                label.text,
                (point.x, point.y),
                (x - label.x, y - label.y),
                textcoords="offset points",
                fontsize=LETTERS - 1,
                color=color if point.is_ours else "#333333",
                fontweight="bold" if point.is_ours else "normal",
                va="center",
                arrowprops=LEADER if _is_far(label, (x, y)) else None,
            )


def _labels(axes: "Axes", points: Sequence[Point]) -> list[Label]:
    box, scale = axes.get_window_extent(), POINTS / axes.figure.dpi
    labels = []
    for point in points:
        x, y = axes.transData.transform((point.x, point.y))
        middle = float(y - box.y0) * scale
        labels.append(Label(point.name, float(x - box.x0) * scale, middle, middle, middle))
    return labels


def _is_far(label: Label, spot: tuple[float, float]) -> bool:
    """Whether a name's nearest point is far from its mark."""
    aside = max(spot[0] - label.x, label.x - spot[0] - label.width, 0.0)
    return math.hypot(aside, spot[1] - label.y) > FAR
