"""Measured cells of a study as a table, and paired differences of the same cells of two settings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobileone_core.errors import InputError, require
from mobileone_core.files import expanded
from mobileone_core.reporting.document import MISSING, Column, Table
from mobileone_core.reporting.metric import Metric, metric_of
from mobileone_core.reporting.report import PLAN, read_report, read_saved_plan, report_homes, report_name
from mobileone_core.study.factor import COLUMNS, level_label
from mobileone_core.study.grid import GridPlan
from mobileone_core.study.plan import Plan
from mobileone_core.study.rows import CellRow
from mobileone_core.study.statistics import paired
from mobileone_core.study.workspace import Workspace, runs_directory, workspace_directory

if TYPE_CHECKING:
    import pandas as pd

    from mobileone_core.study.declaration import Declaration

Source = tuple[Plan, Path | None]  # a plan and the report that holds its rows, or None for the record
Settings = Mapping[str, Sequence[Source]]  # by the name of the report
Cell = tuple[str, int]  # level and seed
Values = Mapping[Cell, float]  # in the metric's shown unit


def results(
    study: "str | Declaration",
    data: str = "",
    setting: str = "",
    *,
    runs: str | Path | None = None,
    reports: str | Path | None = None,
) -> "pd.DataFrame":
    """Return the finished cells of a study: one row per cell, with its levels, metrics and run id.

    Args:
        study: The study's name, or its declaration.
        data: Data set of the setting to read; that of the default study if not given.
        setting: A report's name, such as "branch_count-fashion_mnist"; "all" for every setting, which the column
            setting tells apart.
        runs: Directory of the record; runs/ of this workspace if not given.
        reports: Directory of reports, which are read where the record lacks a setting; reports/ if not given.

    Columns are setting, key, seed, one per factor, one per metric (fractions, seconds) and run_id. Studies that measure
    have a row per level. Raises InputError for a study or setting without results, and for data with several settings.

    Example:
        results("branch_count").groupby("k")["test/top1"].mean()
    """
    import pandas as pd

    study = study if isinstance(study, str) else study.name
    workspace = Workspace.at(Path(runs) if runs is not None else runs_directory())
    home = Path(reports) if reports is not None else workspace_directory() / "reports"
    known = settings_by_name(study, workspace, home)
    require(bool(known), "study", study, f"a study with a record in {workspace.runs} or a report in {home}")
    rows, factors, metrics = [], dict[str, None](), set[str]()
    for name in _chosen(known, study, data, setting):
        for row in cells_of(known[name], workspace):
            named = {"setting": name, "key": row.key, "seed": row.seed, "run_id": row.run_id}
            rows.append({**named, **row.factors, **row.metrics})
            factors |= dict.fromkeys(row.factors)
            metrics |= set(row.metrics)
    return pd.DataFrame(rows, columns=[*COLUMNS[:3], *factors, *sorted(metrics), *COLUMNS[3:]])


def settings_by_name(study: str, workspace: Workspace, reports: Path) -> Settings:
    """The settings of a study, or of all if it is empty; recorded plans, largest first, come before saved reports."""
    from mobileone_core.study.record.access import recorded_plans

    known = defaultdict[str, list[Source]](list)
    plans = recorded_plans(workspace.tracking, study)
    for plan in sorted(plans, key=lambda plan: len(plan.queued), reverse=True):
        known[report_name(plan)].append((plan, None))
    for home in report_homes(reports):
        with suppress(InputError):  # one unreadable report hides no other
            plan = read_saved_plan(home)
            if study in ("", plan.study.name):
                known[home.name].append((plan, home))
    return known


def _chosen(known: Settings, study: str, data: str, setting: str) -> list[str]:
    if setting == "all":
        return sorted(known)
    if setting or not data:
        name = setting or study
        require(name in known, "setting", name, f"one of {', '.join(sorted(known))}, or all")
        return [name]
    names = [name for name, ((plan, _), *_) in known.items() if getattr(plan.study, "data", "") == data]
    usual = [name for name in names if name in (study, f"{study}-{data}")]
    if len(usual or names) == 1:
        return usual or names
    if names:
        raise InputError.of("data", data, f"several settings, name one: {', '.join(sorted(names))}")
    sets = {getattr(plan.study, "data", "none") for sources in known.values() for plan, _ in sources}
    raise InputError.of("data", data, f"one of {', '.join(sorted(sets))}")


def cells_of(sources: Sequence[Source], workspace: Workspace) -> list[CellRow]:
    """The rows of cells that no source excludes, each from the first that has it; else those of one comparison."""
    from mobileone_core.study.record.reading import read_record

    tracking = workspace.tracking
    records = [(plan, read_report(home)[1] if home else read_record(tracking, plan)) for plan, home in sources]
    excluded = {run_id for _, record in records for run_id in record.excluded}
    order, rows = dict[str, None](), dict[str, CellRow]()
    for plan, record in records:
        if not plan.cells and record.comparison:
            return [*record.comparison]
        cells = dict.fromkeys(cell.key for cell in plan.cells)
        order |= cells
        rows = {row.key: row for row in record.rows if row.key in cells and row.run_id not in excluded} | rows
    return [rows[key] for key in order if key in rows]


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
    path = expanded(Path(name))
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
