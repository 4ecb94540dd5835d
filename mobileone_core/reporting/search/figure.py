"""The figure of a search: accuracy over deployed latency, by generation, with both fronts."""

from typing import TYPE_CHECKING

from mobileone_core.reporting.figures import style
from mobileone_core.reporting.search.result import Candidate, SearchResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT = 0.09


def search_figure(result: SearchResult) -> "Figure":
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


def _validation(axes: "Axes", result: SearchResult) -> None:
    for number in range(1 + len(result.plan.proposed)):
        points = [item.point for item in result.candidates if item.generation == number and item.point]
        is_hand_made = number == 0
        axes.scatter(
            [point.latency for point in points],
            [100 * point.accuracy for point in points],
            color=style.PUBLISHED if is_hand_made else style.level_color(number),
            marker="D" if is_hand_made else "o",
            s=22,
            label="hand-made" if is_hand_made else f"generation {number}",
            zorder=3,
        )
    _line(axes, result.on_front(searched=True), style.level_color(1))
    _line(axes, result.on_front(searched=False), style.PUBLISHED)
    axes.legend(fontsize=7, loc="lower right")


def _line(axes: "Axes", front: list[Candidate], color: str) -> None:
    """Draw a front as steps around the area that it dominates."""
    points = sorted((item.point for item in front if item.point), key=lambda point: point.latency)
    latencies, accuracies = [point.latency for point in points], [100 * point.accuracy for point in points]
    axes.plot(latencies, accuracies, color=color, linewidth=1, drawstyle="steps-post", zorder=2)


def _test(axes: "Axes", result: SearchResult) -> None:
    for item in result.finalists:
        if item.point is None or item.ratio is None:
            continue
        color = style.level_color(1) if item.candidate.is_searched else style.PUBLISHED
        height, ratio = 100 * item.point.accuracy, item.ratio
        half = None if item.test.high is None else 100 * (item.test.high - item.point.accuracy)
        axes.errorbar(
            ratio.value,
            height,
            half,
            style.interval_ends(ratio.value, (ratio.low, ratio.high)),
            fmt="o" if item.candidate.is_searched else "D",
            color=color,
            markersize=4,
            linewidth=1,
        )
        axes.annotate(item.name, (ratio.value, height), (4, 3), textcoords="offset points", fontsize=7)
