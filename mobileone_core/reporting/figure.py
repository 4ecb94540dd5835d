"""The figure of a study: every measured value, mean and interval; the published values in a panel of their own."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileone_core.reporting.result import Result, cells_by_level, level_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 8.0, 4.2  # inches
MEASURED, SEED, PUBLISHED = "#0072B2", "#999999", "#D55E00"  # Okabe and Ito's colours, told apart by all eyes


@dataclass(frozen=True)
class Drawing:
    """The same figure as PNG and SVG; the same result gives the same bytes."""

    png: bytes
    svg: bytes


def draw(result: Result) -> Drawing:
    """Draw the figure; all its axes have one scale, so that slopes can be compared."""
    with _style():
        figure = _figure(result)
        return Drawing(_saved(figure, "png", {"Software": None}), _saved(figure, "svg", {"Date": None}))


@contextmanager
def _style() -> Iterator[None]:
    """Settings of our own, whatever the person's matplotlibrc says."""
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context():
        mpl.rcdefaults()
        sns.set_theme(context="paper", style="whitegrid", font="DejaVu Sans", color_codes=False)
        mpl.rcParams.update({"svg.hashsalt": "mobileone", "axes.edgecolor": "#444444", "axes.grid.axis": "y"})
        yield


def _saved(figure: "Figure", kind: str, metadata: dict[str, None]) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format=kind, dpi=200, metadata=metadata)
    return target.getvalue()


def _figure(result: Result) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT))
    variants = _shown_variants(result)
    lines = max(tick.count("\n") + 1 for tick in _level_ticks(result))
    grid = figure.add_gridspec(1, 2 if variants else 1, width_ratios=[1.6, 1] if variants else None)
    grid.update(left=0.09, right=0.98, bottom=0.07 + 0.05 * lines, top=0.79, wspace=0.2)
    main = figure.add_subplot(grid[0])
    spans = [(main, _measured(main, result))]
    if variants:
        stack = grid[1].subgridspec(len(variants), 1, hspace=0.12)
        for index, variant in enumerate(variants):
            axes = figure.add_subplot(stack[index])
            spans.append((axes, _published(axes, result, variant)))
            axes.tick_params(labelbottom=index == len(variants) - 1)
        axes.set_xlabel(result.factor_names)
        _heading(spans[1][0], "Published: " + result.plan.study.reference, PUBLISHED)
        figure.text(_left(axes), 0.815, "ImageNet, no spread given; same scale", fontsize=8)
    _one_scale(spans, 100.0 if result.metric.unit == "%" else None)
    figure.text(0.09, 0.94, result.plan.study.question, fontsize=12, fontweight="bold")
    study = result.plan.study
    _heading(
        main,
        f"Measured: {study.variant} on {study.data}, n = {study.seeds} {'seed' if study.seeds == 1 else 'seeds'}",
        MEASURED,
    )
    return figure


def _heading(axes: "Axes", text: str, color: str) -> None:
    axes.figure.text(_left(axes), 0.87, text, fontsize=10, color=color)


def _left(axes: "Axes") -> float:
    return float(axes.get_position().x0)


def _shown_variants(result: Result) -> list[str]:
    """Published variants in the measured metric's unit, the last printed on top."""
    variants = dict.fromkeys(value.variant for value in result.published if value.unit == result.metric.unit)
    return list(variants)[::-1]


def _measured(axes: "Axes", result: Result) -> tuple[float, float]:
    """Every cell as a point, a thin line a seed, mean and interval beside; gives the least and greatest value."""
    import seaborn as sns

    levels = cells_by_level(result.plan)
    seeds = result.plan.study.seeds
    x, y, names, gaps = [], [], [], dict.fromkeys(range(seeds), 0)
    for position, cells in enumerate(levels.values()):
        for cell in cells:
            if cell.key not in result.rows:
                gaps[cell.seed] += 1  # a missing cell ends its seed's line
                continue
            x.append(position - 0.1 + 0.22 * (cell.seed / max(1, seeds - 1) - 0.5))
            y.append(result.value(cell.key))
            names.append(f"{cell.seed}, part {gaps[cell.seed]}")
    if y:
        sns.lineplot(x=x, y=y, units=names, estimator=None, color=SEED, linewidth=0.6, alpha=0.6, ax=axes)
        sns.scatterplot(x=x, y=y, color=SEED, edgecolor="#555555", s=24, label="one seed (lines join a seed)", ax=axes)
    shown = [*y, *_means(axes, result)]
    axes.set_xticks(range(len(levels)), _level_ticks(result))
    axes.set(xlim=(-0.5, len(levels) - 0.5), xlabel=result.factor_names, ylabel=_axis_label(result))
    return (min(shown), max(shown)) if shown else (0.0, 1.0)


def _level_ticks(result: Result) -> list[str]:
    """Each level's name, a factor a line, and how many of its seeds are in where some are missing."""
    seeds = result.plan.study.seeds
    counts = [f"\n{row.summary.n} of {seeds}" if row.summary.n < seeds else "" for row in result.analysis.comparisons]
    names = [row.level.replace(", ", "\n") for row in result.analysis.comparisons]
    return [name + count for name, count in zip(names, counts, strict=True)]


def _means(axes: "Axes", result: Result) -> Iterator[float]:
    """Mean and 95 % interval a level, and the values they reach."""
    label: str | None = "mean, 95 % interval"
    for position, row in enumerate(result.analysis.comparisons):
        summary = row.summary
        if summary.mean is None or summary.low is None or summary.high is None:
            continue
        half = summary.high - summary.mean
        axes.errorbar(position + 0.2, summary.mean, half, fmt="D", color=MEASURED, markersize=5, capsize=3, label=label)
        label = None
        yield from (summary.low, summary.high)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 0.985), ncols=2, frameon=False, fontsize=8, handletextpad=0.2
        )


def _published(axes: "Axes", result: Result, variant: str) -> tuple[float, float]:
    """One variant's printed values over the study's levels."""
    import seaborn as sns

    levels = list(cells_by_level(result.plan))
    values = [value for value in result.published if value.variant == variant]
    x = [levels.index(level_text(value.level)) for value in values]
    y = [value.value for value in values]
    sns.lineplot(x=x, y=y, color=PUBLISHED, marker="o", markersize=5, ax=axes)
    for place, value in zip(x, values, strict=True):
        axes.annotate(
            value.printed, (place, value.value), (0, 5), textcoords="offset points", ha="center", fontsize=7.5
        )
    axes.text(0.02, 0.05, variant.upper(), transform=axes.transAxes, fontweight="bold", color=PUBLISHED)
    axes.set_xticks(range(len(levels)), levels)
    axes.set(xlim=(-0.5, len(levels) - 0.5), xlabel="", ylabel="")
    return min(y), max(y)


def _axis_label(result: Result) -> str:
    return f"{result.metric.label}, {result.metric.unit}".rstrip(", ")


def _one_scale(spans: list[tuple["Axes", tuple[float, float]]], ceiling: float | None) -> None:
    """Give all axes the same units per inch and the same grid step, each centred on its own values."""
    from matplotlib.ticker import MaxNLocator, MultipleLocator

    heights = [axes.get_position().height for axes, _ in spans]
    needs = [
        max(high - low, 0.01 * abs(high), 1e-6) * 1.3 / height
        for (_, (low, high)), height in zip(spans, heights, strict=True)
    ]
    ticks = MaxNLocator(nbins=7, steps=[1, 2, 5, 10]).tick_values(0, max(needs) * heights[0])
    for (axes, (low, high)), height in zip(spans, heights, strict=True):
        span = max(needs) * height
        bottom = (low + high - span) / 2
        if ceiling is not None and high <= ceiling:
            bottom = min(bottom, ceiling + 0.03 * span - span)
        axes.set_ylim(bottom, bottom + span)
        axes.yaxis.set_major_locator(MultipleLocator(ticks[1] - ticks[0]))
