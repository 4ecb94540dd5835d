"""Rows of the record as lines of CSV in full precision, and back."""

from collections.abc import Mapping, Sequence

from mobileone_core.reporting.environment import reportable_tags
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


def read_measured(line: Mapping[str, str], fixed: set[str]) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and environment of a line; fixed names the columns that are neither."""
    filled = {name: text for name, text in line.items() if text and name not in fixed}
    metrics = {name: float(text) for name, text in filled.items() if not name.startswith((FACTOR, ENVIRONMENT))}
    tags = {name.removeprefix(ENVIRONMENT): text for name, text in filled.items() if name.startswith(ENVIRONMENT)}
    return metrics, tags
