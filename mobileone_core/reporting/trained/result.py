"""A plan and its rows, put together once for every page, table and figure: what is in, missing, wrong and found."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from mobileone_core.reporting.metric import Metric, metric_of
from mobileone_core.reporting.published import PublishedValue, published_values
from mobileone_core.study.factor import Level, level_label
from mobileone_core.study.plan import Plan, PlannedCell
from mobileone_core.study.rows import CellRow, CurvePoint, StudyRecord
from mobileone_core.study.statistics import Analysis, Comparison, compare

FORM = "form"  # among the factors of a comparison's rows
UNTOLD = ("host", "pid")  # tags of the machine's owner, not of the measurement


@dataclass(frozen=True)
class Result:
    """rows holds the one usable row a cell, by key, teachers likewise; analysis is in the metric's shown unit.

    curves are those of usable rows; compared_forms is what was measured side by side, one row an arm and form.
    """

    plan: Plan
    metric: Metric
    rows: Mapping[str, CellRow]
    teachers: Mapping[str, CellRow]
    problems: tuple[str, ...]
    analysis: Analysis
    published: tuple[PublishedValue, ...]
    curves: tuple[CurvePoint, ...]
    compared_forms: Mapping[tuple[str, str], CellRow]

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

    @property
    def axis_label(self) -> str:
        """The metric with its unit."""
        return f"{self.metric.label}, {self.metric.unit}".rstrip(", ")


def told(row: CellRow) -> dict[str, str]:
    """The environment as reports show it: where and how, but nobody's host, process or paths."""
    return {name: text for name, text in row.environment.items() if name not in UNTOLD and _is_shown(text)}


@functools.lru_cache(maxsize=4096)
def _is_shown(text: str) -> bool:
    return bool(text) and not PurePosixPath(text).is_absolute() and not PureWindowsPath(text).drive


def arm_of(row: CellRow) -> dict[str, Level]:
    """The levels of a comparison's row, without its form."""
    return {name: level for name, level in row.factors.items() if name != FORM}


def cells_by_level(plan: Plan) -> dict[str, list[PlannedCell]]:
    """The plan's cells by level, levels as declared, seeds rising."""
    levels: dict[str, list[PlannedCell]] = {level_label(arm): [] for arm in plan.study.arms}
    for cell in plan.cells:
        levels[level_label(cell.factors)].append(cell)
    return levels


def analyse(plan: Plan, record: StudyRecord) -> Result:
    """Statistics over the plan's cells; rows of other plans are left aside.

    A cell with two finished runs, or with a value that is no finite number, is a problem and not used.
    """
    metric = metric_of(plan.study.metric)
    usable, found = _usable(plan.cells, record.rows, metric)
    teachers, of_teachers = _usable(plan.teachers, record.rows, metric)
    forms, of_forms = _forms(plan, record.comparison)
    known = " ".join(record.problems)
    errors = [text for key, text in (*found, *of_teachers, *of_forms) if key not in known]
    sample = {
        label: {cell.seed: usable[cell.key].metrics[metric.name] * metric.scale for cell in cells if cell.key in usable}
        for label, cells in cells_by_level(plan).items()
    }
    analysis = compare(sample, level_label(plan.study.baseline), higher_is_better=metric.higher_is_better)
    published = tuple(value for value in published_values(plan.study.published) if value.level in sample)
    curves = tuple(point for point in record.curves if point.key in usable and point.metric in plan.study.curves)
    problems = (*record.problems, *errors)
    return Result(plan, metric, usable, teachers, problems, analysis, published, curves, forms)


def _usable(
    cells: Sequence[PlannedCell], rows: Sequence[CellRow], metric: Metric
) -> tuple[dict[str, CellRow], list[tuple[str, str]]]:
    by_key: dict[str, list[CellRow]] = {cell.key: [] for cell in cells}
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


def _forms(plan: Plan, rows: Sequence[CellRow]) -> tuple[dict[tuple[str, str], CellRow], list[tuple[str, str]]]:
    """The comparison's rows by arm and form; two of one arm and form are a problem and neither is used."""
    found: dict[tuple[str, str], list[CellRow]] = {}
    wanted = plan.comparison
    if wanted is None:
        return {}, []
    arms = [level_label(arm) for arm in plan.study.arms]
    for row in rows:
        label = level_label(arm_of(row))
        if label in arms and row.key == wanted.key:
            found.setdefault((label, str(row.factors[FORM])), []).append(row)
    problems = [
        (runs[0].key, f"comparison {runs[0].key} has {len(runs)} runs of {label}, {form}, where one is allowed")
        for (label, form), runs in found.items()
        if len(runs) > 1
    ]
    ordered = sorted(found, key=lambda place: (arms.index(place[0]), place[1] != "train"))
    return {place: found[place][0] for place in ordered if len(found[place]) == 1}, problems
