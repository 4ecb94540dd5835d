"""The results of a grid study: its plan and the record put together once for verdict, tables and figures."""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mobileone_core.model.cost import FormCost, ModelCost
from mobileone_core.reporting.metric import Metric, metric_of
from mobileone_core.reporting.published import PublishedValue, published_values
from mobileone_core.reporting.untrained import finished_cells, judged
from mobileone_core.study.effects import Effect, effects
from mobileone_core.study.factor import level_label
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.plan import PlannedCell, cached_cost
from mobileone_core.study.rows import CellRow, CurvePoint, StudyRecord
from mobileone_core.study.statistics import Analysis, Comparison, compare
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.tasks import task_spec

FORM, TRAIN, DEPLOYED = "form", "train", "deployed"  # a factor of the comparison's rows, and its levels
PUBLISHED_ON = ("imagenet", "digits", "coco", "voc", "ade20k", "scenes")  # embedded sets for the scale of effects


@dataclass(frozen=True)
class TrainedResult:
    """The record of a plan's cells, analysed; values are in the metric's shown unit.

    levels: the cells of each level, seeds rising; rows and teachers: the one usable row of each, by key; curves: points
    of usable rows; compared_forms: rows of the comparison by level and form; examples: keys of cells with images.
    """

    plan: GridPlan
    metric: Metric
    levels: Mapping[str, Sequence[PlannedCell]]
    rows: Mapping[str, CellRow]
    teachers: Mapping[str, CellRow]
    problems: tuple[str, ...]
    analysis: Analysis
    effects: tuple[Effect, ...]
    published: tuple[PublishedValue, ...]
    curves: tuple[CurvePoint, ...]
    compared_forms: Mapping[tuple[str, str], CellRow]
    examples: Sequence[str] = ()

    @property
    def factors(self) -> list[str]:
        """The names of the factors."""
        return [factor.name for factor in self.plan.study.factors]

    @property
    def varied(self) -> set[str]:
        """The fields of a cell that levels set: recipe.phases and so on."""
        return {name for factor in self.plan.study.factors for name in factor.set_fields}

    @property
    def factor_names(self) -> str:
        """The factors as a list: width, depth."""
        return ", ".join(self.factors)

    def level_name(self, label: str) -> str:
        """A level in a sentence: k = 4."""
        return f"{self.factor_names} = {label}" if len(self.factors) == 1 else label

    @property
    def missing(self) -> Mapping[str, Sequence[PlannedCell]]:
        """Cells without a usable row, by level."""
        return {level: [cell for cell in cells if cell.key not in self.rows] for level, cells in self.levels.items()}

    def finished(self, *levels: str) -> list[tuple[PlannedCell, CellRow]]:
        """The finished cells of levels with their rows."""
        return finished_cells(itertools.chain(*(self.levels[name] for name in levels)), self.rows)

    @property
    def compared(self) -> tuple[Comparison, ...]:
        """The rows of all levels except baselines."""
        return tuple(row for row in self.analysis.comparisons if row.level != self.analysis.base_of[row.level])

    def costs(self, cells: Sequence[PlannedCell]) -> ModelCost:
        """The cost of a level's network: as recorded of one by name, a detector or segmenter, else from its spec.

        Of the former only the deployed form is recorded; zeros where no cell is finished.
        """
        spec = cells[0].spec
        if not (spec.backbone or task_spec(spec.task).has_head):
            return cached_cost(spec.model, spec.data.image_size, spec.data.num_classes)
        metrics = next((self.rows[cell.key].metrics for cell in cells if cell.key in self.rows), {})
        counts = [int(metrics.get(f"deployed/{name}", 0)) for name in ("params", "macs")]
        return ModelCost(FormCost(), FormCost(*counts))

    def value(self, key: str) -> float:
        """The metric of a cell or teacher in the shown unit; top-1 of a classifier that another task starts from."""
        row = self.rows.get(key) or self.teachers[key]
        name = self.metric.name if self.metric.name in row.metrics else task_spec(CellSpec.task).metric
        return row.metrics[name] * self.metric.scale

    @property
    def axis_label(self) -> str:
        """The metric with its unit."""
        return f"{self.metric.label}, {self.metric.unit}".rstrip(", ")


def analyse(plan: GridPlan, record: StudyRecord) -> TrainedResult:
    """Compute the statistics of the plan's cells; rows of other plans are ignored.

    A cell with two finished runs, or with a value that is not finite, is a problem and left out.
    """
    metric = metric_of(plan.study.metric)
    levels = {level_label(setting): list[PlannedCell]() for setting in plan.study.settings}
    for cell in plan.cells:
        levels[level_label(cell.factors)].append(cell)
    first = task_spec(CellSpec.task).metric
    metrics = {cell.key: metric.name if cell.spec.task == plan.study.task else first for cell in plan.teachers}
    metrics |= {cell.key: metric.name for cell in plan.cells}
    usable, errors = _usable(metrics, record.rows)
    rows, teachers = (
        {cell.key: usable[cell.key] for cell in cells if cell.key in usable} for cells in (plan.cells, plan.teachers)
    )
    forms, form_errors = _forms(plan, record.comparison)
    finished = {label: finished_cells(cells, rows) for label, cells in levels.items()}
    sample = {
        label: {cell.seed: row.metrics[metric.name] * metric.scale for cell, row in pairs}
        for label, pairs in finished.items()
    }
    baseline = level_label(plan.study.baseline)
    within = plan.study.within
    base_of = {
        level_label(item): level_label(plan.study.baseline | {name: item[name] for name in item if name == within})
        for item in plan.study.settings
    }
    trainings, is_higher_better = trainings_of(plan), metric.higher_is_better
    analysis = compare(sample, baseline, higher_is_better=is_higher_better, baselines=base_of, trainings=trainings)
    compared = (judged(row, [*finished[row.level], *finished[base_of[row.level]]]) for row in analysis.comparisons)
    analysis = replace(analysis, comparisons=tuple(compared))
    is_int8 = any(cell.spec.is_quantized for cell in plan.cells)  # its losses are compared instead
    trained = list(itertools.chain(*finished.values()))
    tested = () if is_int8 else tuple(judged(row, trained) for row in effects(plan.study, sample, trainings))
    # ImageNet's numbers: comparable there, the scale of the effects next to embedded digits, and shown nowhere else
    published = published_values(plan.study.published) if plan.base.data.name in PUBLISHED_ON else ()
    published = tuple(value for value in published if value.level in sample)
    curves = tuple(point for point in record.curves if point.key in rows and point.metric in plan.curves)
    problems = (*record.problems, *(text for text in (*errors, *form_errors) if text not in record.problems))
    return TrainedResult(
        plan, metric, levels, rows, teachers, problems, analysis, tested, published, curves, forms, [*record.examples]
    )


def trainings_of(plan: GridPlan) -> dict[str, str]:
    """The training that each level's cells read, by level; levels that read averaged weights or int8 share it."""
    return {level_label(cell.factors): cell.spec.training.key for cell in plan.cells if cell.seed == plan.cells[0].seed}


def _usable(metrics: Mapping[str, str], rows: Sequence[CellRow]) -> tuple[dict[str, CellRow], list[str]]:
    """The usable rows by key, and what is wrong with the others; metrics names what each cell must have."""
    runs = defaultdict[str, list[CellRow]](list)
    for row in rows:
        runs[row.key].append(row)
    usable, problems = {}, []
    for key, metric in ((key, metric) for key, metric in metrics.items() if key in runs):
        row, *others = runs[key]
        if others:
            names = ", ".join(sorted(run.run_id for run in runs[key]))
            problems.append(f"cell {key} has {len(runs[key])} finished runs, where one is allowed: {names}")
        elif not math.isfinite(row.metrics.get(metric, math.nan)):
            problems.append(f"cell {key} has no finite {metric}: run {row.run_id}")
        else:
            usable[key] = row
    return usable, problems


def runs_by_form(plan: GridPlan, rows: Sequence[CellRow]) -> dict[tuple[str, str], list[CellRow]]:
    """The rows of the plan's comparison by level and form, in the plan's order, train form first."""
    labels = map(level_label, plan.study.settings)
    runs = {entry: list[CellRow]() for entry in itertools.product(labels, (TRAIN, DEPLOYED))}
    for row in rows:
        setting = {name: level for name, level in row.factors.items() if name != FORM}
        entry = level_label(setting), str(row.factors[FORM])
        if plan.comparison and row.key == plan.comparison.key and entry in runs:
            runs[entry].append(row)
    return runs


def _forms(plan: GridPlan, rows: Sequence[CellRow]) -> tuple[dict[tuple[str, str], CellRow], list[str]]:
    """The comparison's rows by level and form; two of the same are a problem and neither is used."""
    runs = runs_by_form(plan, rows)
    problems = [
        f"comparison {group[0].key} has {len(group)} runs of {label}, {form}, where one is allowed"
        for (label, form), group in runs.items()
        if len(group) > 1
    ]
    return {entry: group[0] for entry, group in runs.items() if len(group) == 1}, problems
