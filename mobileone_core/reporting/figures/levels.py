"""The figure of a trained study: every measured value, mean and interval; published values in a separate panel."""

from collections.abc import Iterator

from mobileone_core.reporting.figures import panels, style
from mobileone_core.reporting.figures.cost import cost_figure
from mobileone_core.reporting.trained.result import TrainedResult

LETTER = 0.0085  # width of a letter of a factor's name as a fraction of the figure
JOINED = 100  # seeds; the lines of more hide each other, and their points are drawn as one image


def draw(result: TrainedResult) -> style.Drawing:
    """Draw the figure named by study.figure: the metric over the levels, or over their cost."""
    return style.drawing(lambda: cost_figure(result) if result.plan.study.figure == "cost" else levels_figure(result))


def levels_figure(result: TrainedResult) -> style.Figure:
    """Draw the metric's values and means over the levels; published values in a second panel (see draw_published)."""
    from matplotlib import rcParams

    names = [factor.name for factor in result.plan.study.factors]
    ratios = [1.6, 1] if panels.shown_values(result) else [1]
    share = ratios[0] / sum(ratios)
    turned = panels.overlapping(result, style.WIDTH * 0.87 * style.POINTS * share)
    is_single = turned or len(names) == 1
    left = 0.09 if is_single else max(0.09, 0.03 + LETTER * max(map(len, names)))  # several names stand left of ticks
    room = style.WIDTH * (0.96 - left) * style.POINTS
    ticks, size = fitted_ticks(result, room * share, turned=turned)
    lines = max(tick.count("\n") + 1 for tick in ticks) + is_single
    inches = style.LETTER * size * max(map(len, ticks)) / style.POINTS if turned else 0.0  # of names written upwards
    height = style.HEIGHT + inches
    figure, grid = style.canvas(
        height, 1, len(ratios), width_ratios=ratios, left=left, right=0.98, wspace=0.2,
        bottom=(style.HEIGHT * (0.03 + 0.04 * lines) + inches) / height, top=1 - style.HEIGHT * 0.21 / height,
    )  # fmt: skip
    main = figure.add_subplot(grid[0])
    spans: list[panels.Span] = [(main, _measured(main, result))]
    main.set_xticks(range(len(ticks)), ticks, fontsize=size, rotation=90 * turned)
    if is_single:
        main.set_xlabel(result.factor_names)
    else:
        pad = main.xaxis.get_tick_padding() + rcParams["xtick.major.pad"]
        text, shift = "\n".join(names), (-8, -pad)
        main.annotate(text, (0, 0), shift, "axes fraction", "offset points", ha="right", va="top", fontsize=size)
    if panels.shown_values(result):
        spans += panels.draw_published(figure, grid[1], result, room * (1 - share) * 0.8, turned=turned)
    panels.one_scale(spans, result)
    style.title(figure, result.plan.study.question, left)
    style.heading(main, panels.measured_text(result), style.MEASURED)
    return figure


def fitted_ticks(result: TrainedResult, room: float, *, turned: bool = False) -> tuple[list[str], float]:
    """Return a tick label per level with the number of its seeds if some are missing, and the font size."""
    seeds, between = result.plan.study.seeds, ", " if turned else "\n"
    counts = [
        f"{between}{row.summary.n} of {seeds}" if row.summary.n < seeds else "" for row in result.analysis.comparisons
    ]
    names, size = panels.level_names(result, room, turned=turned)
    return [name + count for name, count in zip(names, counts, strict=True)], size


def _measured(axes: style.Axes, result: TrainedResult) -> tuple[float, float]:
    """Draw a point per cell, a thin line per seed, mean and interval; returns the lowest and the highest value."""
    import seaborn as sns

    levels, seeds, first = result.levels, result.plan.study.seeds, result.plan.study.first_seed
    x, y, names, gaps = [], [], [], dict.fromkeys(range(first, first + seeds), 0)
    for position, cells in enumerate(levels.values()):
        for cell in cells:
            if cell.key not in result.rows:
                gaps[cell.seed] += 1  # a missing cell ends its seed's line
                continue
            shift = 0.22 * ((cell.seed - first) / (seeds - 1) - 0.5) - 0.1 if seeds > 1 else 0.0
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


def _means(axes: style.Axes, result: TrainedResult) -> Iterator[float]:
    """Draw mean and 95 % interval of every level; yields the ends of the intervals."""
    label: str | None = "mean, 95 % interval"
    for position, row in enumerate(result.analysis.comparisons):
        interval = panels.shown_interval(result, row.summary)
        if row.summary.mean is not None and interval is not None:
            panels.draw_mean(axes, position + 0.2, row.summary.mean, interval, style.MEASURED, label)
            label = None
            yield from interval
    if axes.get_legend_handles_labels()[0]:
        corner = (-0.02, 0.985)
        axes.legend(loc="lower left", bbox_to_anchor=corner, ncols=2, frameon=False, fontsize=8, handletextpad=0.2)
