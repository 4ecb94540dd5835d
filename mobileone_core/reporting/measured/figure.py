"""The figure of a measured study: ratios with their intervals; the published ones in a panel of their own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobileone_core.reporting.figures.style import (
    LETTER,
    MEASURED,
    NORMAL,
    POINTS,
    PUBLISHED,
    WIDTH,
    heading,
    level_color,
    note,
    title,
)
from mobileone_core.reporting.measured.published import published_ratio
from mobileone_core.reporting.measured.result import MeasuredArm, MeasuredResult
from mobileone_core.reporting.measured.words import place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 4.0  # a span of ratios from which on the axis is logarithmic
MARKERS = "oDs^vP"


def levels_figure(result: MeasuredResult) -> "Figure":
    """A line a level, a colour a runtime."""
    from matplotlib.figure import Figure

    compared = [item for item in result.arms if not item.is_reference]
    names = list(dict.fromkeys(map(result.name_of, compared))) or ["-"]
    published = {result.name_of(item): ratio for item in compared if (ratio := published_ratio(result, item))}
    height = 1.75 + max(1.6, len(names) * (0.16 + 0.14 * len(result.runtimes)))
    figure = Figure(figsize=(WIDTH, height))
    left = min(0.4, 0.04 + max(map(len, names)) * NORMAL * LETTER / POINTS / WIDTH)
    shares = [1.7, 1] if published else [1]
    grid = figure.add_gridspec(1, len(shares), width_ratios=shares)
    grid.update(left=left, right=0.975, bottom=0.55 / height, top=1 - 0.95 / height, wspace=0.08)
    axes = figure.add_subplot(grid[0])
    _measured(axes, result, compared, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    title(figure, result.plan.study.question, 0.02)
    heading(axes, f"Measured: {place(result) or 'nothing yet'}"[:70], MEASURED)
    note(axes, f"ratio of medians, 95 % over {result.plan.spec.protocol.rounds} rounds")
    if published:
        _published(figure.add_subplot(grid[1], sharey=axes), names, published)
    return figure


def _measured(axes: "Axes", result: MeasuredResult, compared: Sequence[MeasuredArm], names: Sequence[str]) -> None:
    """Ratios and intervals, runtimes beside each other."""
    shown = []
    for number, runtime in enumerate(result.runtimes):
        own = [item for item in compared if result.runtime_of(item) == runtime and item.ratio]
        shift = 0.22 * (number - (len(result.runtimes) - 1) / 2)
        label: str | None = runtime
        for item in own:
            ratio = item.ratio
            if ratio is None:
                continue
            ends = [[max(0.0, ratio.value - ratio.low)], [max(0.0, ratio.high - ratio.value)]]
            axes.errorbar(
                ratio.value,
                names.index(result.name_of(item)) + shift,
                xerr=ends,
                fmt=MARKERS[number % len(MARKERS)],
                color=level_color(number + 1 if number != 1 else 3),
                markersize=5,
                capsize=2.5,
                label=label,
            )
            label = None
            shown.append(ratio.value)
    _ratio_axis(axes, shown)
    if len(result.runtimes) > 1 and shown:
        axes.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize=8, loc="best")


def _published(axes: "Axes", names: Sequence[str], published: dict[str, float]) -> None:
    import seaborn as sns

    places = [names.index(name) for name in published]
    sns.scatterplot(x=list(published.values()), y=places, color=PUBLISHED, s=36, ax=axes)
    axes.tick_params(labelleft=False)
    axes.set_ylabel("")
    _ratio_axis(axes, list(published.values()))
    low, high = axes.get_xlim()
    for where, ratio in zip(places, published.values(), strict=True):
        is_far = ratio > (low * high) ** 0.5 if axes.get_xscale() == "log" else ratio > (low + high) / 2
        axes.annotate(
            f"{ratio:.2f}",
            (ratio, where),
            (-6 if is_far else 6, 0),
            textcoords="offset points",
            ha="right" if is_far else "left",
            va="center",
            fontsize=7.5,
        )
    heading(axes, "Published: table 2", PUBLISHED)
    note(axes, "iPhone 12, ratio of minima; its own scale")


def _ratio_axis(axes: "Axes", shown: Sequence[float]) -> None:
    """A line at 1; a log axis with plain ticks where the span is wide."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.axvline(1, color="#777777", linewidth=1, linestyle="--", zorder=0)
    low, high = min((1.0, *shown)), max((1.0, *shown))
    if high / low > WIDE:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.35, high * 1.6)
        steps = (1, 2, 5) if high / low < 60 else (1,)
        axes.xaxis.set_major_locator(FixedLocator([step * 10.0**power for power in range(-3, 6) for step in steps]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        margin = max(0.15 * (high - low), 0.05)
        axes.set_xlim(low - margin, high + margin)
    axes.set_xlabel("latency ratio to the reference")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
