"""The ratios of a measured study with their intervals; published ratios in a separate panel."""

from collections.abc import Mapping, Sequence

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.figures import style

WIDE = 4.0  # highest over lowest ratio from which on the axis is logarithmic
MARKERS = "oDs^vP"


Ratios = Mapping[str, Sequence[tuple[int, Estimate]]]  # per runtime, index and ratio of every level measured in it


def ratio_figure(  # noqa: PLR0913, PLR0917
    question: str, heading: str, note: str, levels: Sequence[str], measured: Ratios, published: Mapping[int, float]
) -> style.Figure:
    """Draw a line per level, a colour per runtime; published: the paper's ratio by index of the level."""
    height = 1.75 + max(1.6, len(levels) * (0.16 + 0.14 * len(measured)))
    left = min(0.4, 0.04 + max(map(len, levels)) * style.FONT_SIZE * style.LETTER / style.POINTS / style.WIDTH)
    shares = [1.7, 1] if published else [1]
    figure, grid = style.canvas(
        height, 1, len(shares), width_ratios=shares,
        left=left, right=0.975, bottom=0.55 / height, top=1 - 0.95 / height, wspace=0.08,
    )  # fmt: skip
    axes = figure.add_subplot(grid[0])
    _draw_measured(axes, measured)
    axes.set_ylim(len(levels) - 0.5, -0.5)
    axes.set_yticks(range(len(levels)), levels)
    style.title(figure, question, 0.02)
    style.heading(axes, heading[:70], style.MEASURED)
    style.note(axes, note)
    if published:
        _draw_published(figure.add_subplot(grid[1], sharey=axes, ylabel=""), published)
    return figure


def _draw_measured(axes: style.Axes, measured: Ratios) -> None:
    for number, (runtime, ratios) in enumerate(measured.items()):
        shift = 0.22 * (number - (len(measured) - 1) / 2)
        mark, color = MARKERS[number % len(MARKERS)], style.level_color(number + 1 if number != 1 else 3)
        for order, (index, ratio) in enumerate(ratios):
            x, y, label = ratio.value, index + shift, None if order else runtime
            ends = style.interval_ends(x, (ratio.low, ratio.high))
            axes.errorbar(x, y, xerr=ends, fmt=mark, color=color, markersize=5, capsize=2.5, label=label)
    drawn = [ratio.value for ratios in measured.values() for _, ratio in ratios]
    _ratio_axis(axes, drawn)
    if len(measured) > 1 and drawn:
        axes.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize=8, loc="best")


def _draw_published(axes: style.Axes, published: Mapping[int, float]) -> None:
    import seaborn as sns

    ratios = list(published.values())
    sns.scatterplot(x=ratios, y=list(published), color=style.PUBLISHED, s=36, ax=axes)
    axes.tick_params(labelleft=False)
    _ratio_axis(axes, ratios)
    low, high = axes.get_xlim()
    middle = (low * high) ** 0.5 if axes.get_xscale() == "log" else (low + high) / 2
    for xy in zip(ratios, published, strict=True):
        shift, side = (-6, "right") if xy[0] > middle else (6, "left")
        text = f"{xy[0]:.2f}"
        axes.annotate(text, xy, (shift, 0), textcoords="offset points", ha=side, va="center", fontsize=7.5)
    style.heading(axes, "Published: table 2", style.PUBLISHED)
    style.note(axes, "iPhone 12, ratio of minima; its own scale")


def _ratio_axis(axes: style.Axes, ratios: Sequence[float]) -> None:
    """A line at 1; logarithmic with plain ticks if the ratios span much."""
    axes.axvline(1, color="#777777", linewidth=1, linestyle="--", zorder=0)
    low, high = min((1.0, *ratios)), max((1.0, *ratios))
    if high / low > WIDE:
        style.log_axis(axes, "x", low / 1.35, high * 1.6, sparse=60 * 1.35 * 1.6)
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        margin = max(0.15 * (high - low), 0.05)
        axes.set_xlim(low - margin, high + margin)
    axes.set_xlabel("latency ratio to the reference")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
