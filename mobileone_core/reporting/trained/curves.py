"""Training curves of a study: the last epoch of every level as a table. No torch here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mobileone_core.reporting.quoted import QUOTED
from mobileone_core.reporting.trained.result import Result, cells_by_level
from mobileone_core.reporting.trained.words import MISSING, Table, level_texts
from mobileone_core.study.statistics import Summary, summarize

Curve = Mapping[int, float]  # epoch, value


@dataclass(frozen=True)
class CurveEnd:
    """A level's values at its last epoch, and by how many percent they differ from the baseline's, seed by seed."""

    level: str
    metric: str
    values: Summary
    relative: Summary


def curve_label(metric: str) -> str:
    """train loss, validation loss."""
    return metric.replace("val/", "validation ").replace("/", " ").replace("_", " ")


def level_curves(result: Result, metric: str) -> dict[str, dict[int, Curve]]:
    """Every level's curves of a metric, by seed; what is no number is left out."""
    points: dict[str, dict[int, float]] = {}
    for point in result.curves:
        if point.metric == metric and math.isfinite(point.value):
            points.setdefault(point.key, {})[point.epoch] = point.value
    return {
        level: {cell.seed: points[cell.key] for cell in cells if cell.key in points}
        for level, cells in cells_by_level(result.plan).items()
    }


def curve_ends(result: Result, metric: str) -> list[CurveEnd]:
    """One row a level, as declared; a curve that stops before its cell's last epoch has no end."""
    last = {level: cells[0].epochs for level, cells in cells_by_level(result.plan).items()}
    ends = {
        level: {seed: curve[last[level]] for seed, curve in curves.items() if last[level] in curve}
        for level, curves in level_curves(result, metric).items()
    }
    base = ends[result.analysis.baseline]
    return [
        CurveEnd(level, metric, summarize(values.values()), summarize(relative(values, base)))
        for level, values in ends.items()
    ]


def relative(values: Mapping[int, float], base: Mapping[int, float]) -> list[float]:
    """The difference from the baseline in percent of it, for every seed that both have."""
    return [100 * (values[seed] / base[seed] - 1) for seed in sorted(values.keys() & base.keys()) if base[seed]]


def curve_table(result: Result) -> Table:
    """A row a level, three columns a metric: mean ± interval, n, relative difference."""
    levels = level_texts(result)
    columns = [(factor.name, "") for factor in result.plan.study.factors]
    rows = [list(levels[row.level]) for row in result.analysis.comparisons]
    for metric in result.plan.study.curves:
        columns += [(curve_label(metric), "mean ± 95 % interval"), ("n", "seeds")]
        columns.append(("against baseline, %", "mean ± 95 % interval"))
        for row, end in zip(rows, curve_ends(result, metric), strict=True):
            is_baseline = end.level == result.analysis.baseline
            against = "baseline" if is_baseline else _with_interval(end.relative, "+.1f", ".1f")
            row += [_with_interval(end.values, ".4f", ".4f"), str(end.values.n), against]
    return Table(tuple(columns), tuple(map(tuple, rows)))


def _with_interval(summary: Summary, mean: str, half: str) -> str:
    if summary.mean is None:
        return MISSING
    text = format(summary.mean, mean)
    return text if summary.high is None else f"{text} ± {format(summary.high - summary.mean, half)}"


def quoted_lines(result: Result) -> list[str]:
    """What the paper says of the same curves, as printed, with its place."""
    return [f"- *Published* ({item.source}): {item.words}" for item in QUOTED if item.study == result.plan.study.name]
