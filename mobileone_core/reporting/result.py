"""A plan and its rows, put together once for every page, table and figure: what is in, missing, wrong and found."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from mobileone_core.reporting.metric import Metric, metric_of
from mobileone_core.reporting.published import PublishedValue, published_values
from mobileone_core.study.declaration import Level, Plan, PlannedCell
from mobileone_core.study.rows import CellRow
from mobileone_core.study.statistics import Analysis, Comparison, compare

UNTOLD = ("host", "pid")  # tags of the machine's owner, not of the measurement


@dataclass(frozen=True)
class Result:
    """rows holds the one usable row a cell, by key; analysis is in the metric's shown unit."""

    plan: Plan
    metric: Metric
    rows: Mapping[str, CellRow]
    problems: tuple[str, ...]
    analysis: Analysis
    published: tuple[PublishedValue, ...]

    @property
    def factor_names(self) -> str:
        return ", ".join(factor.name for factor in self.plan.study.factors)

    def level_words(self, label: str) -> str:
        """A level in a sentence: k = 4."""
        return f"{self.factor_names} = {label}" if len(self.plan.study.factors) == 1 else label

    @property
    def missing(self) -> Mapping[str, tuple[PlannedCell, ...]]:
        """Cells without a usable row, by level."""
        return {
            label: tuple(cell for cell in cells if cell.key not in self.rows)
            for label, cells in cells_by_level(self.plan).items()
        }

    @property
    def compared(self) -> tuple[Comparison, ...]:
        """Every level's row but the baseline's."""
        return tuple(row for row in self.analysis.comparisons if row.level != self.analysis.baseline)

    def value(self, key: str) -> float:
        """A cell's metric in the shown unit."""
        return self.rows[key].metrics[self.metric.name] * self.metric.scale


def told(row: CellRow) -> dict[str, str]:
    """The environment as reports show it: where and how, but nobody's host, process or paths."""
    return {
        name: text
        for name, text in row.environment.items()
        if text and name not in UNTOLD and not PurePosixPath(text).is_absolute() and not PureWindowsPath(text).drive
    }


def level_label(arm: Mapping[str, Level]) -> str:
    """A combination of levels in a table: 4, or k = 4, se = none where there are several factors."""
    texts = {name: level_text(level) for name, level in arm.items()}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{name} = {text}" for name, text in texts.items())


def level_text(level: Level) -> str:
    """One level as printed: on and off for a switch."""
    return {True: "on", False: "off"}[level] if isinstance(level, bool) else str(level)


def cells_by_level(plan: Plan) -> dict[str, list[PlannedCell]]:
    """The plan's cells by level, levels as declared, seeds rising."""
    levels: dict[str, list[PlannedCell]] = {level_label(arm): [] for arm in plan.study.arms}
    for cell in plan.cells:
        levels[level_label(cell.factors)].append(cell)
    return levels


def analyse(plan: Plan, rows: Sequence[CellRow], problems: Sequence[str] = ()) -> Result:
    """Statistics over the plan's cells; rows of other plans are left aside.

    A cell with two finished runs, or with a value that is no finite number, is a problem and not used.
    """
    metric = metric_of(plan.study.metric)
    usable, found = _usable(plan, rows, metric)
    errors = [*problems, *(text for key, text in found if not any(key in problem for problem in problems))]
    sample = {
        label: {cell.seed: usable[cell.key].metrics[metric.name] * metric.scale for cell in cells if cell.key in usable}
        for label, cells in cells_by_level(plan).items()
    }
    analysis = compare(sample, level_label(plan.study.baseline), higher_is_better=metric.higher_is_better)
    published = tuple(value for value in published_values(plan.study.published) if level_text(value.level) in sample)
    return Result(plan, metric, usable, tuple(errors), analysis, published)


def _usable(plan: Plan, rows: Sequence[CellRow], metric: Metric) -> tuple[dict[str, CellRow], list[tuple[str, str]]]:
    by_key: dict[str, list[CellRow]] = {cell.key: [] for cell in plan.cells}
    for row in rows:
        if row.key in by_key:
            by_key[row.key].append(row)
    usable: dict[str, CellRow] = {}
    problems: list[tuple[str, str]] = []
    for key, runs in by_key.items():
        if len(runs) > 1:
            names = ", ".join(sorted(run.run_id for run in runs))
            problems.append((key, f"cell {key} has {len(runs)} finished runs, where one is allowed: {names}"))
        elif runs and not math.isfinite(runs[0].metrics.get(metric.name, math.nan)):
            problems.append((key, f"cell {key} has no finite {metric.name}: run {runs[0].run_id}"))
        elif runs:
            usable[key] = runs[0]
    return usable, problems
