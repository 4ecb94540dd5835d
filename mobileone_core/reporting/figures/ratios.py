"""The ratios of a measured study with their intervals; published ratios in a separate panel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 4.0  # highest over lowest ratio from which on the axis is logarithmic
MARKERS = "oDs^vP"


@dataclass(frozen=True)
class RatioFigure:
    """ratios: per runtime, the ratio of every level that was measured in it; published: the paper's, by level."""

    question: str
    heading: str
    note: str
    levels: Sequence[str]
    ratios: Mapping[str, Sequence[tuple[str, Estimate]]]
    published: Mapping[str, float]

    def draw(self) -> "Figure":
        """Draw a line per level, a colour per runtime."""
        levels = self.levels
        height = 1.75 + max(1.6, len(levels) * (0.16 + 0.14 * len(self.ratios)))
        left = min(0.4, 0.04 + max(map(len, levels)) * style.FONT_SIZE * style.LETTER / style.POINTS / style.WIDTH)
        shares = [1.7, 1] if self.published else [1]
        figure, grid = style.canvas(
            height, 1, len(shares), width_ratios=shares,
            left=left, right=0.975, bottom=0.55 / height, top=1 - 0.95 / height, wspace=0.08,
        )  # fmt: skip
        axes = figure.add_subplot(grid[0])
        self._draw_measured(axes)
        axes.set_ylim(len(levels) - 0.5, -0.5)
        axes.set_yticks(range(len(levels)), levels)
        style.title(figure, self.question, 0.02)
        style.heading(axes, self.heading[:70], style.MEASURED)
        style.note(axes, self.note)
        if self.published:
            self._draw_published(figure.add_subplot(grid[1], sharey=axes))
        return figure

    def _draw_measured(self, axes: "Axes") -> None:
        for number, (runtime, ratios) in enumerate(self.ratios.items()):
            shift = 0.22 * (number - (len(self.ratios) - 1) / 2)
            for index, (level, ratio) in enumerate(ratios):
                axes.errorbar(
                    ratio.value,
                    self.levels.index(level) + shift,
                    xerr=style.interval_ends(ratio.value, (ratio.low, ratio.high)),
                    fmt=MARKERS[number % len(MARKERS)],
                    color=style.level_color(number + 1 if number != 1 else 3),
                    markersize=5,
                    capsize=2.5,
                    label=None if index else runtime,
                )
        drawn = [ratio.value for ratios in self.ratios.values() for _, ratio in ratios]
        _ratio_axis(axes, drawn)
        if len(self.ratios) > 1 and drawn:
            axes.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize=8, loc="best")

    def _draw_published(self, axes: "Axes") -> None:
        import seaborn as sns

        heights, ratios = [self.levels.index(level) for level in self.published], list(self.published.values())
        sns.scatterplot(x=ratios, y=heights, color=style.PUBLISHED, s=36, ax=axes)
        axes.tick_params(labelleft=False)
        axes.set_ylabel("")
        _ratio_axis(axes, ratios)
        low, high = axes.get_xlim()
        for height, ratio in zip(heights, ratios, strict=True):
            is_right = ratio > (low * high) ** 0.5 if axes.get_xscale() == "log" else ratio > (low + high) / 2
            shift, side = (-6, "right") if is_right else (6, "left")
            text, xy = f"{ratio:.2f}", (ratio, height)
            axes.annotate(text, xy, (shift, 0), textcoords="offset points", ha=side, va="center", fontsize=7.5)
        style.heading(axes, "Published: table 2", style.PUBLISHED)
        style.note(axes, "iPhone 12, ratio of minima; its own scale")


def _ratio_axis(axes: "Axes", ratios: Sequence[float]) -> None:
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
