"""The figure of a search: accuracy over deployed latency, by generation, with both fronts."""

from mobileone_core.reporting.figures import style
from mobileone_core.reporting.search.result import SearchResult

LEFT = 0.09


def search_figure(result: SearchResult) -> style.Figure:
    """Draw validation, by which the search chose, on the left, and test of the finalists on the right."""
    figure, grid = style.canvas(style.HEIGHT + 0.4, 1, 2, left=LEFT, right=0.98, bottom=0.12, top=0.82, wspace=0.22)
    left, right = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    _validation(left, result)
    _test(right, result)
    for axes, split in ((left, "validation"), (right, "test")):
        axes.set(xlabel="deployed latency, ratio to the reference", ylabel=f"{split} top-1, %")
        axes.grid(visible=True, axis="both")
    style.note(left, "Validation, seed 0: one point per network, by generation; lines: fronts")
    style.note(right, "Test: finalists, mean over further seeds, 95 % intervals")
    style.title(figure, result.plan.study.question, LEFT)
    return figure


def _validation(axes: style.Axes, result: SearchResult) -> None:
    for number in range(1 + len(result.plan.proposed)):
        points = [item.point for item in result.candidates if item.generation == number and item.point]
        x, y = [point.latency for point in points], [100 * point.accuracy for point in points]
        color, mark, label = (style.level_color(number), "o", f"generation {number}")
        if number == 0:
            color, mark, label = (style.PUBLISHED, "D", "hand-made")
        axes.scatter(x, y, color=color, marker=mark, s=22, label=label, zorder=3)
    for searched, color in ((True, style.level_color(1)), (False, style.PUBLISHED)):
        front = sorted(
            (item.point for item in result.on_front(searched=searched) if item.point), key=lambda point: point.latency
        )
        x, y = [point.latency for point in front], [100 * point.accuracy for point in front]
        axes.plot(x, y, color=color, linewidth=1, drawstyle="steps-post", zorder=2)
    axes.legend(fontsize=7, loc="lower right")


def _test(axes: style.Axes, result: SearchResult) -> None:
    for item in result.finalists:
        if item.point is None or item.ratio is None:
            continue
        color, mark = (style.level_color(1), "o") if item.candidate.is_searched else (style.PUBLISHED, "D")
        height, ratio = 100 * item.point.accuracy, item.ratio
        half = None if item.test.high is None else 100 * (item.test.high - item.point.accuracy)
        ends = style.interval_ends(ratio.value, (ratio.low, ratio.high))
        axes.errorbar(ratio.value, height, half, ends, fmt=mark, color=color, markersize=4, linewidth=1)
        axes.annotate(item.name, (ratio.value, height), (4, 3), textcoords="offset points", fontsize=7)
