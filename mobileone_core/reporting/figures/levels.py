"""The figure of a trained study: every measured value, mean and interval; published values in a separate panel."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mobileone_core.reporting.figures import style
from mobileone_core.reporting.figures.cost import cost_figure
from mobileone_core.reporting.figures.panels import (
    Span,
    ceiling,
    draw_mean,
    draw_published,
    level_names,
    measured_text,
    one_scale,
    shown_interval,
    shown_variants,
)
from mobileone_core.reporting.trained.result import TrainedResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTER = 0.0085  # width of a letter of a factor's name as a fraction of the figure
JOINED = 100  # seeds; the lines of more hide each other, and their points are drawn as one image


def draw(result: TrainedResult) -> style.Drawing:
    """Draw the figure named by study.figure: the metric over the levels, or over their cost."""
    return style.drawing(lambda: cost_figure(result) if result.plan.study.figure == "cost" else levels_figure(result))


def levels_figure(result: TrainedResult) -> "Figure":
    """Draw the metric's values and means over the levels; published values in a second panel (see draw_published)."""
    left, share = _left(result), 1.6 / 2.6 if shown_variants(result) else 1.0
    room = style.WIDTH * (0.96 - left) * style.POINTS
    ticks, size = fitted_ticks(result, room * share)
    lines = max(tick.count("\n") + 1 for tick in ticks) + (len(result.plan.study.factors) == 1)
    ratios = [1.6, 1] if shown_variants(result) else [1]
    figure, grid = style.canvas(
        style.HEIGHT, 1, len(ratios), width_ratios=ratios,
        left=left, right=0.98, bottom=0.03 + 0.04 * lines, top=0.79, wspace=0.2,
    )  # fmt: skip
    main = figure.add_subplot(grid[0])
    spans: list[Span] = [(main, _measured(main, result))]
    main.set_xticks(range(len(ticks)), ticks, fontsize=size)
    _name_factors(main, result, size)
    if shown_variants(result):
        spans += draw_published(figure, grid[1], result, room * (1 - share) * 0.8)
    one_scale(spans, ceiling(result))
    style.title(figure, result.plan.study.question, left)
    style.heading(main, measured_text(result), style.MEASURED)
    return figure


def _left(result: TrainedResult) -> float:
    """Left edge of the main axes; the names of several factors are written left of the ticks."""
    names = [factor.name for factor in result.plan.study.factors]
    return 0.09 if len(names) == 1 else max(0.09, 0.03 + LETTER * max(map(len, names)))


def fitted_ticks(result: TrainedResult, room: float) -> tuple[list[str], float]:
    """Return a tick label per level with the number of its seeds if some are missing, and the font size."""
    seeds = result.plan.study.seeds
    counts = [f"\n{row.summary.n} of {seeds}" if row.summary.n < seeds else "" for row in result.analysis.comparisons]
    names, size = level_names(result, room)
    return [name + count for name, count in zip(names, counts, strict=True)], size


def _name_factors(axes: "Axes", result: TrainedResult, size: float) -> None:
    """Name the factor below the ticks, or several factors left of them."""
    from matplotlib import rcParams

    names = [factor.name for factor in result.plan.study.factors]
    if len(names) == 1:
        axes.set_xlabel(names[0])
        return
    pad = axes.xaxis.get_tick_padding() + rcParams["xtick.major.pad"]
    axes.annotate(
        "\n".join(names), (0, 0), (-8, -pad), "axes fraction", "offset points", ha="right", va="top", fontsize=size
    )


def _measured(axes: "Axes", result: TrainedResult) -> tuple[float, float]:
    """Draw a point per cell, a thin line per seed, mean and interval; returns the lowest and the highest value."""
    import seaborn as sns

    levels = result.levels
    seeds = result.plan.study.seeds
    x, y, names, gaps = [], [], [], dict.fromkeys(range(seeds), 0)
    for position, cells in enumerate(levels.values()):
        for cell in cells:
            if cell.key not in result.rows:
                gaps[cell.seed] += 1  # a missing cell ends its seed's line
                continue
            shift = 0.22 * (cell.seed / (seeds - 1) - 0.5) - 0.1 if seeds > 1 else 0.0
            x.append(position + shift)
            y.append(result.value(cell.key))
            names.append(f"{cell.seed}, part {gaps[cell.seed]}")
    if y:
        is_joined = seeds <= JOINED
        if is_joined:
            sns.lineplot(x=x, y=y, units=names, estimator=None, color=style.SEED, linewidth=0.6, alpha=0.6, ax=axes)
        label = "one seed (lines join a seed)" if is_joined else "one seed"
        points = {"color": style.SEED, "edgecolor": "#555555", "s": 24, "label": label, "rasterized": not is_joined}
        sns.scatterplot(x=x, y=y, ax=axes, **points)
    drawn = [*y, *_means(axes, result)]
    axes.set(xlim=(-0.5, len(levels) - 0.5), xlabel="", ylabel=result.axis_label)
    return (min(drawn), max(drawn)) if drawn else (0.0, 1.0)


def _means(axes: "Axes", result: TrainedResult) -> Iterator[float]:
    """Draw mean and 95 % interval of every level; yields the ends of the intervals."""
    label: str | None = "mean, 95 % interval"
    for position, row in enumerate(result.analysis.comparisons):
        summary = row.summary
        interval = shown_interval(result, summary)
        if summary.mean is None or interval is None:
            continue
        draw_mean(axes, position + 0.2, summary.mean, interval, style.MEASURED, label)
        label = None
        yield from interval
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 0.985), ncols=2, frameon=False, fontsize=8, handletextpad=0.2
        )
