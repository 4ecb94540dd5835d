"""Joins reports of one setting, such as seeds that were trained on several machines."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mobileone_core.errors import InputError
from mobileone_core.study.factor import Factor, Level
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.plan import Plan
from mobileone_core.study.rows import CellRow, CurvePoint, StudyRecord

TIMES = "time/"  # metrics that differ between two runs of the same cell


@dataclass(frozen=True)
class MergedReport:
    """A plan with its record, and where they come from, for messages."""

    plan: Plan
    record: StudyRecord
    source: str


def merged(reports: Iterable[MergedReport]) -> list[tuple[Plan, StudyRecord]]:
    """Join the reports of each setting: their levels, their seeds, and every cell once.

    Grid studies that differ in levels or seeds alone are one setting. Of two runs of a cell with equal results one is
    shown; a run that one report excludes is left out. The order of the reports does not matter. Raises InputError if
    two runs of a cell differ in a result, or another kind of study was run twice.
    """
    settings = defaultdict[tuple[str, str], list[MergedReport]](list)
    for report in reports:
        plan = report.plan
        settings[plan.study.name, plan.queue if isinstance(plan, GridPlan) else plan.id].append(report)
    groups = [settings[name] for name in sorted(settings)]
    return [_joined(group) if isinstance(group[0].plan, GridPlan) else _only(group) for group in groups]


def _only(reports: Sequence[MergedReport]) -> tuple[Plan, StudyRecord]:
    """The report of a study whose runs are not joined. Raises InputError if there are two with unlike runs."""
    first, *others = sorted(reports, key=lambda report: report.source)
    for other in others:
        if _runs(first.record) != _runs(other.record):
            name = first.plan.study.name
            raise InputError(f"{name}: {first.source} and {other.source} hold different runs; leave one of them out")
    return first.plan, first.record


def _runs(record: StudyRecord) -> set[str]:
    return {row.run_id for row in (*record.rows, *record.comparison)}


def _joined(reports: Sequence[MergedReport]) -> tuple[Plan, StudyRecord]:
    plan = joined_plan([report.plan for report in reports])
    excluded = {run_id for report in reports for run_id in report.record.excluded}
    owners = defaultdict[str, list[tuple[CellRow, MergedReport]]](list)
    for report in reports:
        for row in report.record.rows:
            if row.run_id not in excluded:
                owners[row.key].append((row, report))
    rows, curves = [], set[CurvePoint]()
    for key in (item.key for item in plan.queued if item.key in owners):
        row, report = _same(key, owners[key])
        rows.append(row)
        curves |= {point for point in report.record.curves if point.key == key}
    key = plan.comparison.key if plan.comparison else ""
    compared = [
        [row for row in report.record.comparison if row.key == key and row.run_id not in excluded] for report in reports
    ]
    comparison = tuple(min(filter(None, compared), key=lambda group: sorted(row.run_id for row in group), default=()))
    problems = tuple(sorted({text for report in reports for text in report.record.problems}))
    points = tuple(sorted(curves, key=lambda point: (point.key, point.metric, point.epoch)))
    images = {key: item for report in reports for key, item in report.record.examples.items()}
    shown = StudyRecord(tuple(rows), problems, comparison, points, excluded=tuple(sorted(excluded)), examples=images)
    return plan, shown


def _same(key: str, runs: Sequence[tuple[CellRow, MergedReport]]) -> tuple[CellRow, MergedReport]:
    """The run of a cell to show, the one that is recorded most completely. Raises InputError if results differ."""
    first, *others = sorted(runs, key=lambda item: (item[0].run_id, item[1].source))
    for row, report in others:
        names = (first[0].metrics.keys() & row.metrics.keys()) if row.run_id != first[0].run_id else row.metrics.keys()
        for name in sorted(names):
            one, other = first[0].metrics.get(name), row.metrics[name]
            is_time = name.startswith(TIMES) and row.run_id != first[0].run_id
            if one != other and not is_time and (one == one or other == other):  # noqa: PLR0124 - NaN equals NaN here
                raise InputError(
                    f"cell {key}: {name} is {one!r} in run {first[0].run_id} ({first[1].source}) and {other!r} in run "
                    f"{row.run_id} ({report.source}); leave one of them out"
                )
    return max(
        ((row, report) for row, report in (first, *others) if row.run_id == first[0].run_id),
        key=lambda item: (sum(point.key == key for point in item[1].record.curves), len(item[0].environment)),
    )


def joined_plan(plans: Sequence[Plan]) -> Plan:
    """The plan with the levels and seeds of all plans of one setting; one of them, where it has them all."""
    keys = {item.key for plan in plans for item in plan.queued if item.role != "comparison"}
    whole = [plan for plan in plans if {item.key for item in plan.queued if item.role != "comparison"} == keys]
    if whole:
        return min(whole, key=lambda plan: (not plan.default, plan.id))
    grids = [plan for plan in plans if isinstance(plan, GridPlan)]
    first = min(grids, key=lambda plan: plan.id)
    seeds = [(plan.study.first_seed, plan.study.first_seed + plan.study.seeds) for plan in grids]
    start = min(seeds)[0]
    factors = tuple(map(_joined_factor, zip(*(plan.study.factors for plan in grids), strict=True)))
    study = replace(first.study, factors=factors, first_seed=start, seeds=max(end for _, end in seeds) - start)
    return replace(first, study=study, default=False)


def _joined_factor(factors: Sequence[Factor]) -> Factor:
    """The factor with the levels of all: labels as declared, numbers rising, others as the longest list has them."""
    longest = min(factors, key=lambda factor: (-len(factor.levels), repr(factor.levels)))
    settings: Mapping[str, Mapping[str, object]] = {}
    for factor in sorted(factors, key=lambda factor: (-len(factor.settings), repr(list(factor.settings)))):
        settings = {**settings, **{name: item for name, item in factor.settings.items() if name not in settings}}
    levels = {level for factor in factors for level in factor.levels}
    ordered: list[Level] = [*longest.levels, *sorted(levels - set(longest.levels), key=repr)]
    if settings:
        ordered.sort(key=lambda level: [*settings].index(str(level)))
    elif all(isinstance(level, int | float) for level in levels):
        ordered.sort()
    return replace(longest, levels=tuple(ordered), settings=settings)
