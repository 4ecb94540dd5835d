"""Rows of the record as lines of CSV in full precision, and back."""

from collections.abc import Mapping, Sequence

from mobileone_core.reporting.environment import reportable_tags
from mobileone_core.reporting.render.csv import csv_text
from mobileone_core.study.factor import Level, level_text
from mobileone_core.study.rows import CellRow

FACTOR, ENVIRONMENT = "factor.", "environment."


def columns_of(rows: Sequence[CellRow]) -> tuple[list[str], list[str]]:
    """The names of all metrics and of all environment tags that reports show."""
    tags = {name for row in rows for name in reportable_tags(row)}
    return sorted({name for row in rows for name in row.metrics}), sorted(tags)


def measured(row: CellRow, metrics: Sequence[str], tags: Sequence[str]) -> list[str]:
    """A row's run, metrics and tags; those that it lacks stay empty."""
    values = (repr(float(row.metrics[name])) if name in row.metrics else "" for name in metrics)
    environment = reportable_tags(row)
    return [row.run_id, *values, *(environment.get(name, "") for name in tags)]


def rows_csv(lines: Sequence[tuple[Mapping[str, object], Sequence[CellRow]]]) -> str:
    """A line per row, after the columns that name it; names without rows have a line without measurements."""
    metrics, tags = columns_of([row for _, rows in lines for row in rows])
    table = [[*lines[0][0], "run_id", *metrics, *(ENVIRONMENT + tag for tag in tags)]]
    for names, rows in lines:
        runs = [measured(row, metrics, tags) for row in sorted(rows, key=lambda row: row.run_id)]
        table += [[*map(str, names.values()), *run] for run in runs or [[""] * (1 + len(metrics) + len(tags))]]
    return csv_text(table)


def factor_columns(levels: Mapping[str, Level]) -> dict[str, str]:
    """The columns that hold the levels of a cell."""
    return {FACTOR + name: level_text(level) for name, level in levels.items()}


def read_measured(line: Mapping[str, str], fixed: set[str]) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and environment of a line; fixed names the columns that are neither."""
    filled = {name: text for name, text in line.items() if text and name not in fixed}
    metrics = {name: float(text) for name, text in filled.items() if not name.startswith((FACTOR, ENVIRONMENT))}
    tags = {name.removeprefix(ENVIRONMENT): text for name, text in filled.items() if name.startswith(ENVIRONMENT)}
    return metrics, tags
