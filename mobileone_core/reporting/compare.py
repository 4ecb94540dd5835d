"""Paired differences of the same cells of two settings: a recipe against another, or two machines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileone_core.errors import InputError, require
from mobileone_core.reporting.document import MISSING, Column, Table
from mobileone_core.reporting.metric import Metric, metric_of
from mobileone_core.reporting.report import PLAN, read_saved_plan
from mobileone_core.reporting.results import Source, cells_of, settings_by_name
from mobileone_core.study.factor import level_label
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.rows import CellRow
from mobileone_core.study.statistics import paired
from mobileone_core.study.workspace import Workspace

Cell = tuple[str, int]  # level and seed
Values = Mapping[Cell, float]  # in the metric's shown unit


@dataclass(frozen=True)
class Setting:
    """A grid study's plan with the rows of its finished cells."""

    name: str
    plan: GridPlan
    rows: Sequence[CellRow]

    def values(self, metric: Metric) -> Values:
        """The metric of every cell that has it."""
        return {
            (level_label(row.factors), row.seed): row.metrics[metric.name] * metric.scale
            for row in self.rows
            if metric.name in row.metrics
        }


def read_setting(name: str, workspace: Workspace, reports: Path) -> Setting:
    """Read a grid study's setting by the path of a report or by a report's name. Raises InputError."""
    path = Path(name).expanduser()
    if (path / PLAN).is_file():
        sources: Sequence[Source] = [(read_saved_plan(path), path)]
    else:
        known = settings_by_name("", workspace, reports)
        require(name in known, "setting", name, f"the path of a report, or one of {', '.join(sorted(known)) or 'none'}")
        sources = known[name]
    plan = sources[0][0]
    if not isinstance(plan, GridPlan):
        raise InputError.of("setting", name, "a study that trains a grid of cells")
    return Setting(name, plan, cells_of(sources, workspace))


def paired_table(one: Setting, other: Setting, metric: str = "") -> Table:
    """A row per level, and one of the seeds' means over levels: other minus one over the cells that both have.

    metric is that of both studies if it is not given. Raises InputError if no cell is in both.
    """
    name = metric or one.plan.study.metric
    fits = bool(metric) or name == other.plan.study.metric
    require(fits, "metric", name, f"that of both; {other.name} has {other.plan.study.metric}: name one with --metric")
    shown = metric_of(name)
    before, after = one.values(shown), other.values(shown)
    cells = [cell for cell in before if cell in after]
    factors = [*one.plan.study.baseline]
    is_shared = bool(cells) and factors == [*other.plan.study.baseline]
    require(is_shared, "setting", other.name, f"one that shares levels, seeds and {name} with {one.name}")
    levels = list(dict.fromkeys(level for level, _ in cells))
    groups = {level: [cell for cell in cells if cell[0] == level] for level in levels}
    if len(levels) > 1:  # levels of one seed are not independent: its mean over them is one pair
        groups["all"] = cells
    unit = shown.difference_unit
    columns = (
        Column(", ".join(factors), is_text=True),
        Column("pairs"),
        Column("A", shown.unit),
        Column("B", shown.unit),
        Column("B - A", f"{unit} [95 %]".strip()),
        Column("B better"),
    )
    return Table(columns, tuple(_row(level, group, before, after, shown) for level, group in groups.items()))


def _row(level: str, cells: Sequence[Cell], before: Values, after: Values, metric: Metric) -> tuple[str, ...]:
    seeds = {seed: [cell for cell in cells if cell[1] == seed] for _, seed in cells}
    old, new = ({seed: _mean(values, group) for seed, group in seeds.items()} for values in (before, after))
    pairs = paired(new, old, metric.higher_is_better)
    means = [metric.number(_mean(values, cells)) for values in (before, after)]
    return (level, str(pairs.pairs), *means, metric.difference(pairs) or MISSING, f"{pairs.wins} of {pairs.pairs}")


def _mean(values: Values, cells: Sequence[Cell]) -> float:
    return sum(values[cell] for cell in cells) / len(cells)
