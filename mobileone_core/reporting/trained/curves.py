"""The training curves of a grid study: curves by level, and a table of their last epochs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mobileone_core.reporting.document import MISSING, Column, Table
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.reporting.trained.tables import level_texts
from mobileone_core.study.statistics import Summary, summarize

Curve = Mapping[int, float]  # epoch, value


@dataclass(frozen=True)
class CurveEnd:
    """A level's values at its last epoch, and their relative difference from the baseline in percent, per seed."""

    level: str
    metric: str
    values: Summary
    relative: Summary


def curve_label(metric: str) -> str:
    """The name of a curve: train loss, validation loss."""
    return metric.replace("val/", "validation ").replace("/", " ").replace("_", " ")


def level_curves(result: TrainedResult, metric: str) -> dict[str, dict[int, Curve]]:
    """A metric's curves by level and seed; values that are not finite are left out."""
    points: dict[str, dict[int, float]] = {}
    for point in result.curves:
        if point.metric == metric and math.isfinite(point.value):
            points.setdefault(point.key, {})[point.epoch] = point.value
    return {
        level: {cell.seed: points[cell.key] for cell in cells if cell.key in points}
        for level, cells in result.levels.items()
    }


def curve_ends(result: TrainedResult, metric: str) -> list[CurveEnd]:
    """One entry per level, as declared; a curve that stops before its cell's last epoch has no end."""
    last = {level: cells[0].epochs for level, cells in result.levels.items()}
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
    """The difference from the baseline in percent of it, for every seed of both."""
    return [100 * (values[seed] / base[seed] - 1) for seed in sorted(values.keys() & base.keys()) if base[seed]]


def curve_table(result: TrainedResult) -> Table:
    """A row per level, three columns per metric: mean with interval, n, relative difference."""
    names, texts = [factor.name for factor in result.plan.study.factors], level_texts(result)
    columns = list(map(Column, names))
    rows = [list(texts[row.level]) for row in result.analysis.comparisons]
    for metric in result.plan.study.curves:
        columns += [Column(curve_label(metric), "mean ± 95 % interval"), Column("n", "seeds")]
        columns.append(Column("against baseline, %", "mean ± 95 % interval"))
        for row, end in zip(rows, curve_ends(result, metric), strict=True):
            is_baseline = end.level == result.analysis.baseline
            against = "baseline" if is_baseline else _with_interval(end.relative, "+.1f", ".1f")
            row += [_with_interval(end.values, ".4f", ".4f"), str(end.values.n), against]
    return Table(tuple(columns), tuple(map(tuple, rows)), len(names))


def _with_interval(summary: Summary, mean: str, half: str) -> str:
    if summary.mean is None:
        return MISSING
    text = format(summary.mean, mean)
    return text if summary.high is None else f"{text} ± {format(summary.high - summary.mean, half)}"
