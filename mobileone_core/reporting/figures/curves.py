"""Training curves: the mean over seeds per level, one column per metric; below, the difference from the baseline."""

from collections.abc import Mapping, Sequence

import numpy as np

from mobileone_core.reporting.figures import style
from mobileone_core.reporting.figures.panels import measured_text
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.reporting.trained.tables import Curve, curve_label, level_curves, level_texts, relative
from mobileone_core.study.statistics import Summary, summarize

BANDS = 4  # levels drawn with intervals; those of more hide each other
DECADE = 10  # values that span more have a logarithmic axis
LOG_MARGIN = 1.3
SETTLED = 0.2  # fraction of training; earlier differences do not set the scale
LEFT = 0.09
LINE = 0.18  # height of a line of the legend, inches


def draw_curves(result: TrainedResult) -> style.Drawing:
    """Draw the curves of the plan's metrics."""
    return style.drawing(lambda: _figure(result))


def curve_summaries(curves: Mapping[int, Curve], base: Mapping[int, Curve] | None = None) -> dict[int, Summary]:
    """Return mean and 95 % t interval over seeds, by epoch; with base, of the difference from its curves in percent."""
    summaries = {}
    for epoch in sorted({epoch for curve in curves.values() for epoch in curve}):
        values, against = (
            {seed: curve[epoch] for seed, curve in some.items() if epoch in curve} for some in (curves, base or {})
        )
        summaries[epoch] = summarize(values.values() if base is None else relative(values, against))
    return summaries


def _figure(result: TrainedResult) -> style.Figure:
    from matplotlib.ticker import MaxNLocator

    metrics = result.plan.curves
    levels = [row.level for row in result.analysis.comparisons]
    indices = style.level_indices(levels, result.analysis.baseline)
    has_one_factor = len(result.plan.study.factors) == 1
    texts = level_texts(result)
    names = [result.level_name(level) if has_one_factor else ", ".join(texts[level]) for level in levels]
    names[levels.index(result.analysis.baseline)] += " (baseline)"
    columns = max(1, min(4, int(style.WIDTH * (0.98 - LEFT) * style.POINTS / (4.2 * max(map(len, names)) + 38))))
    head = 0.95 + LINE * -(-len(levels) // columns)
    figure, grid = style.canvas(
        4.6 + head, 2, len(metrics), height_ratios=[1.5, 1],
        left=LEFT, right=0.98, bottom=0.08, top=1 - head / (4.6 + head), wspace=0.2, hspace=0.1,
    )  # fmt: skip
    for column, metric in enumerate(metrics):
        curves = level_curves(result, metric)
        upper = figure.add_subplot(grid[0, column])
        lower = figure.add_subplot(grid[1, column], sharex=upper)
        _values(upper, indices, {level: curve_summaries(curves[level]) for level in levels})
        base = curves[result.analysis.baseline]
        others = [level for level in levels if level != result.analysis.baseline]
        _differences(lower, indices, {level: curve_summaries(curves[level], base) for level in others})
        upper.tick_params(labelbottom=False)
        upper.set_title(curve_label(metric), fontsize=10, loc="left")
        lower.set_xlabel("epoch")
        lower.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        if column == 0:
            lower.set_ylabel("against baseline, %")
    first = figure.axes[0]
    text = measured_text(result)
    if any(row.summary.n > 1 for row in result.analysis.comparisons):
        text += "; mean over seeds" + (" with 95 % t interval" if len(levels) <= BANDS else "")
    if not has_one_factor:
        text += f"; labels: {result.factor_names}"
    style.heading(first, text, style.MEASURED)
    style.title(figure, f"{result.plan.study.question} Training curves", LEFT)
    handles, _ = first.get_legend_handles_labels()
    corner = (first.get_position().x0 - 0.01, 1 - 0.58 / figure.get_figheight())
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=corner, ncols=columns, frameon=False, fontsize=8)
    return figure


def _values(axes: style.Axes, indices: Mapping[str, int], levels: Mapping[str, Mapping[int, Summary]]) -> None:
    """Draw the upper panel: the metric itself, on a logarithmic axis if it spans more than a decade."""
    banded = len(levels) <= BANDS
    for level, summaries in levels.items():
        _line(axes, indices[level], summaries, level, banded)
    shown = [item for summaries in levels.values() for item in summaries.values()]
    means = [item.mean for item in shown if item.mean is not None]
    if means and min(means) > 0 and max(means) > DECADE * min(means):
        axes.set_yscale("log")
        axes.set_ylim(min(means) / LOG_MARGIN, max(means) * LOG_MARGIN)
    elif means:
        axes.set_ylim(*limits(shown, banded=banded))


def _differences(axes: style.Axes, indices: Mapping[str, int], others: Mapping[str, Mapping[int, Summary]]) -> None:
    """Draw the lower panel: the difference from the baseline, scaled to the values after training has settled."""
    axes.axhline(0, color=style.level_color(0), linewidth=1.2)
    banded, shown = len(indices) <= BANDS, [Summary(1, 0.0)]
    for level, summaries in others.items():
        _line(axes, indices[level], summaries, level, banded)
        last = max(summaries, default=0)
        shown += [item for epoch, item in summaries.items() if epoch > SETTLED * last]
    axes.set_ylim(*limits(shown, banded=banded))


def limits(shown: Sequence[Summary], *, banded: bool) -> tuple[float, float]:
    """Return the limits of an axis: all means, and their intervals as far as the means keep half of the axis."""
    means = [item.mean for item in shown if item.mean is not None]
    ends = [end for item in shown for end in (item.low, item.high) if banded and end is not None]
    span = max(means) - min(means) or abs(max(means)) or 1.0
    low = max(min([*means, *ends]), min(means) - span / 2)
    high = min(max([*means, *ends]), max(means) + span / 2)
    margin = 0.05 * max(high - low, span)
    return low - margin, high + margin


def _line(axes: style.Axes, index: int, summaries: Mapping[int, Summary], level: str, banded: bool) -> None:
    epochs = [epoch for epoch, item in summaries.items() if item.mean is not None]
    means = [item.mean for item in summaries.values() if item.mean is not None]
    color = style.level_color(index)
    marker = "o" if len(epochs) == 1 else None
    axes.plot(epochs, means, color=color, linestyle=style.level_dash(index), linewidth=1.2, marker=marker, label=level)
    if banded:
        ends = [[getattr(summaries[epoch], end) for epoch in epochs] for end in ("low", "high")]
        axes.fill_between(epochs, *np.array(ends, dtype=np.float64), color=color, alpha=0.15, linewidth=0)
