"""What figures of one metric share: one scale, and a panel of what the paper printed, apart from the measured."""

from typing import TYPE_CHECKING

from mobileone_core.reporting.figures.style import LETTER, NORMAL, PUBLISHED, SMALLEST, fitted, heading, note
from mobileone_core.reporting.published import PublishedValue
from mobileone_core.reporting.trained.result import Result
from mobileone_core.study.factor import level_text
from mobileone_core.study.statistics import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

STACKED = 2  # variants in axes of their own; more would have no room for their numbers
Span = tuple["Axes", tuple[float, float]]  # axes, and the least and greatest value in them


def measured_words(result: Result) -> str:
    """What a measured panel shows: tiny on digits, n = 5 seeds."""
    study = result.plan.study
    return f"Measured: {study.variant} on {study.data}, n = {study.seeds} {'seed' if study.seeds == 1 else 'seeds'}"


def level_names(result: Result, room: float) -> tuple[list[str], float]:
    """Every level's name as a tick's label in so much room (points), a factor a line; and the letters' size."""
    if len(result.plan.study.factors) == 1:
        return fitted([row.level for row in result.analysis.comparisons], room)
    texts = [[level_text(level) for level in arm.values()] for arm in result.plan.study.arms]
    longest = max(len(text) for arm in texts for text in arm)
    size = max(SMALLEST, min(NORMAL, room / len(texts) / (LETTER * longest)))
    return ["\n".join(arm) for arm in texts], size


def shown_variants(result: Result) -> list[str]:
    """Published variants with two levels or more in the metric's unit, the last printed on top.

    Gains in points are not drawn, and one value alone shows nothing: the table has both.
    """
    drawn = [value.variant for value in _drawn(result)]
    return [variant for variant in dict.fromkeys(drawn) if drawn.count(variant) > 1][::-1]


def is_drawn(result: Result, value: PublishedValue) -> bool:
    """Whether the figure's published panel shows a value."""
    return value in _drawn(result) and value.variant in shown_variants(result)


def shown_interval(result: Result, summary: Summary) -> tuple[float, float] | None:
    """The 95 % interval as figures draw it: a percentage's within 0 and 100; None where there is none."""
    if summary.low is None or summary.high is None:
        return None
    return (max(0.0, summary.low), min(100.0, summary.high)) if _is_percent(result) else (summary.low, summary.high)


def ceiling(result: Result) -> float | None:
    """The greatest value that the metric can have, where it has one."""
    return 100.0 if _is_percent(result) else None


def _is_percent(result: Result) -> bool:
    return result.metric.unit == "%"


def _drawn(result: Result) -> list[PublishedValue]:
    return [value for value in result.published if value.unit == result.metric.unit and not value.what]


def draw_published(figure: "Figure", place: "SubplotSpec", result: Result, room: float) -> list[Span]:
    """One axes a variant over each other, to be brought to one scale; many variants in one, with a scale of its own."""
    variants = shown_variants(result)
    several = len(variants) > STACKED
    stack = place.subgridspec(1 if several else len(variants), 1, hspace=0.12)
    ticks, size = level_names(result, room)
    spans: list[Span] = []
    for index, variant in enumerate(variants):
        axes = spans[0][0] if several and spans else figure.add_subplot(stack[index])
        spans.append((axes, _variant(axes, result, variant, beside=several)))
        axes.set_xticks(range(len(ticks)), ticks, fontsize=size)
        axes.set(xlim=(-0.5, len(ticks) - 0.5), xlabel="", ylabel="")
        axes.tick_params(labelbottom=several or index == len(variants) - 1)
    if len(result.plan.study.factors) == 1:
        spans[-1][0].set_xlabel(result.factor_names)
    heading(spans[0][0], "Published: " + result.plan.study.reference, PUBLISHED)
    note(spans[0][0], f"ImageNet, no spread given; {'its own' if several else 'same'} scale")
    if several:
        low, high = min(low for _, (low, _) in spans), max(high for _, (_, high) in spans)
        spans[0][0].set_ylim(low - 0.1 * (high - low), high + 0.12 * (high - low))
    return [] if several else spans


def _variant(axes: "Axes", result: Result, variant: str, *, beside: bool) -> tuple[float, float]:
    """One variant's printed values over the study's levels; its name beside the last, or in the corner."""
    import seaborn as sns

    levels = [row.level for row in result.analysis.comparisons]
    values = [value for value in _drawn(result) if value.variant == variant]
    values.sort(key=lambda value: levels.index(value.level))
    x = [levels.index(value.level) for value in values]
    y = [value.value for value in values]
    sns.lineplot(x=x, y=y, color=PUBLISHED, marker="o", markersize=5, ax=axes)
    for place, value in zip(x, values, strict=True):
        axes.annotate(
            value.printed, (place, value.value), (0, 5), textcoords="offset points", ha="center", fontsize=7.5
        )
    where = (x[-1], y[-1]) if beside else (0, 0)
    axes.annotate(
        variant.upper(),
        where,
        (8, -3 if beside else 6),
        "data" if beside else "axes fraction",
        "offset points",
        fontweight="bold",
        fontsize=8 if beside else NORMAL,
        color=PUBLISHED,
    )
    return min(y), max(y)


def one_scale(spans: list[Span], greatest: float | None) -> None:
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
        if greatest is not None and high <= greatest:
            bottom = min(bottom, greatest + 0.03 * span - span)
        axes.set_ylim(bottom, bottom + span)
        axes.yaxis.set_major_locator(MultipleLocator(ticks[1] - ticks[0]))
