"""Parts that figures of one metric share: one scale, the mark of a mean, and a separate panel of published values."""

from collections import defaultdict

from mobileone_core.reporting.figures import style
from mobileone_core.reporting.published import PublishedValue
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.reporting.trained.tables import level_texts
from mobileone_core.study.statistics import Summary

STACKED = 2  # variants with separate axes; the numbers of more would not fit
Span = tuple[style.Axes, tuple[float, float]]  # axes, and the lowest and highest value in them


def measured_text(result: TrainedResult) -> str:
    """Describe what a measured panel shows: tiny on digits, n = 5 seeds."""
    study, data = result.plan.study, result.plan.base.data.title
    return f"Measured: {study.variant} on {data}, n = {study.seeds} {'seed' if study.seeds == 1 else 'seeds'}"


def overlapping(result: TrainedResult, room: float) -> bool:
    """Return whether tick labels of a readable size do not fit next to each other into room (points)."""
    settings = level_texts(result).values()
    words = [word for setting in settings for word in (setting if len(setting) > 1 else setting[0].split())]
    return room / len(settings) < style.LETTER * style.READABLE * max(map(len, words))


def level_names(result: TrainedResult, room: float, *, turned: bool = False) -> tuple[list[str], float]:
    """Return a tick label per level that fits into room (points), and the font size.

    Labels have a line per factor; with turned, to be written upwards, they have one line.
    """
    texts = list(level_texts(result).values())
    if turned:
        return [", ".join(setting) for setting in texts], min(style.FONT_SIZE, room / len(texts))
    if len(result.plan.study.factors) == 1:
        return style.fitted([row.level for row in result.analysis.comparisons], room)
    longest = max(len(text) for setting in texts for text in setting)
    size = max(style.SMALLEST, min(style.FONT_SIZE, room / len(texts) / (style.LETTER * longest)))
    return ["\n".join(setting) for setting in texts], size


def shown_values(result: TrainedResult) -> dict[str, list[PublishedValue]]:
    """Return the published values in the metric's unit by variant, those of two levels or more, the last first."""
    values = defaultdict[str, list[PublishedValue]](list)
    for value in result.published:
        if value.unit == result.metric.unit and not value.what:
            values[value.variant].append(value)
    return {variant: values[variant] for variant in reversed(values) if len(values[variant]) > 1}


def shown_interval(result: TrainedResult, summary: Summary) -> tuple[float, float] | None:
    """Return the 95 % interval as drawn: percentages end at 0 and 100. None if there is no interval."""
    if summary.low is None or summary.high is None:
        return None
    is_percent = result.metric.unit == "%"
    return (max(0.0, summary.low), min(100.0, summary.high)) if is_percent else (summary.low, summary.high)


def draw_mean(  # noqa: PLR0913, PLR0917
    axes: style.Axes, x: float, mean: float, interval: tuple[float, float] | None, color: str, label: str | None = None
) -> None:
    """Draw a mean as a diamond with its interval, if there is one, as a bar."""
    ends = style.interval_ends(mean, interval) if interval else None
    axes.errorbar(x, mean, ends, fmt="D", color=color, markersize=5, capsize=3, label=label)


def draw_published(
    figure: style.Figure, slot: style.SubplotSpec, result: TrainedResult, room: float, *, turned: bool = False
) -> list[Span]:
    """Draw the published values in axes stacked one per variant and return these, to be brought to one scale.

    More than STACKED variants share one axes with a separate scale, which is not returned. turned writes the names of
    levels upwards.
    """
    variants = shown_values(result)
    several = len(variants) > STACKED
    stack = slot.subgridspec(1 if several else len(variants), 1, hspace=0.12)
    ticks, size = level_names(result, room, turned=turned)
    spans: list[Span] = []
    for index, values in enumerate(variants.values()):
        axes = spans[0][0] if several and spans else figure.add_subplot(stack[index])
        spans.append((axes, _draw_variant(axes, result, values, at_end=several)))
        axes.set_xticks(range(len(ticks)), ticks, fontsize=size, rotation=90 * turned)
        axes.set(xlim=(-0.5, len(ticks) - 0.5), xlabel="", ylabel="")
        axes.tick_params(labelbottom=several or index == len(variants) - 1)
    if len(result.plan.study.factors) == 1:
        spans[-1][0].set_xlabel(result.factor_names)
    style.heading(spans[0][0], "Published: " + result.plan.study.reference, style.PUBLISHED)
    style.note(spans[0][0], f"ImageNet, no spread given; {'its own' if several else 'same'} scale")
    if several:
        low, high = min(low for _, (low, _) in spans), max(high for _, (_, high) in spans)
        spans[0][0].set_ylim(low - 0.1 * (high - low), high + 0.12 * (high - low))
    return [] if several else spans


def _draw_variant(
    axes: style.Axes, result: TrainedResult, values: list[PublishedValue], *, at_end: bool
) -> tuple[float, float]:
    """Draw the printed values of one variant over the study's levels, its name at the last value or in the corner."""
    import seaborn as sns

    levels = [row.level for row in result.analysis.comparisons]
    variant, values = values[0].variant.upper(), sorted(values, key=lambda value: levels.index(value.level))
    x = [levels.index(value.level) for value in values]
    y = [value.value for value in values]
    sns.lineplot(x=x, y=y, color=style.PUBLISHED, marker="o", markersize=5, ax=axes)
    points = list(zip(x, y, strict=True))
    for index, value in enumerate(values):
        before, after = y[max(index - 1, 0)], y[min(index + 1, len(y) - 1)]
        side, shift = ("right", (-7, -3)) if at_end and index == 0 else _clear_of_line(y[index], before, after)
        axes.annotate(value.printed, points[index], shift, textcoords="offset points", ha=side, fontsize=7.5)
    xy, shift, frame = (points[-1], (8, -3), "data") if at_end else ((0, 0), (8, 6), "axes fraction")
    size = 8.0 if at_end else style.FONT_SIZE
    axes.annotate(variant, xy, shift, frame, "offset points", fontweight="bold", fontsize=size, color=style.PUBLISHED)
    return min(y), max(y)


def _clear_of_line(value: float, before: float, after: float) -> tuple[str, tuple[float, float]]:
    """Alignment and shift (points) of a printed value next to its line: below a valley, away from a slope."""
    if min(before, after) >= value < max(before, after):
        return "center", (0, -11)
    return "left" if before > value else "right" if after > value else "center", (0, 5)


def one_scale(spans: list[Span], result: TrainedResult) -> None:
    """Give all axes the same units per inch, so that slopes compare, and grid step, each centred on its values."""
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
        if result.metric.unit == "%" and high <= 100:
            bottom = min(bottom, 100 + 0.03 * span - span)
        axes.set_ylim(bottom, bottom + span)
        axes.yaxis.set_major_locator(MultipleLocator(ticks[1] - ticks[0]))
