"""CSV: tables as shown, and rows of the record in full precision and back."""

from collections.abc import Mapping, Sequence

from mobileone_core.reporting.document import MISSING, Table, plain
from mobileone_core.reporting.environment import reportable_tags
from mobileone_core.study.factor import Level, level_text
from mobileone_core.study.rows import CellRow
from mobileone_core.texts import csv_text

FACTOR, ENVIRONMENT = "factor.", "environment."


def table_csv(table: Table) -> str:
    """A line per row, numbers with six significant digits; a missing value stays empty."""
    if table.numbers:
        lines = ([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row.values()] for row in table.numbers)
        return csv_text([[*table.numbers[0]], *lines])
    heads = [f"{column.head}, {column.note}" if column.note else column.head for column in table.columns]
    return csv_text([heads, *(["" if cell == MISSING else plain(cell) for cell in row] for row in table.rows)])


def rows_csv(lines: Sequence[tuple[Mapping[str, object], Sequence[CellRow]]]) -> str:
    """A line per row: the columns that name it, then run, metrics and tags; values that it lacks stay empty.

    Names without rows have a line without measurements; rows of the same names are sorted by run.
    """
    tags_of = {id(row): reportable_tags(row) for _, rows in lines for row in rows}
    metrics = sorted({name for _, rows in lines for row in rows for name in row.metrics})
    tags = sorted({name for names in tags_of.values() for name in names})
    table: list[list[object]] = [[*lines[0][0], "run_id", *metrics, *(ENVIRONMENT + tag for tag in tags)]]
    for names, rows in lines:
        for row in sorted(rows, key=lambda row: row.run_id):
            values = (repr(float(row.metrics[name])) if name in row.metrics else "" for name in metrics)
            table.append([*names.values(), row.run_id, *values, *(tags_of[id(row)].get(tag, "") for tag in tags)])
        if not rows:
            table.append([*names.values(), *[""] * (1 + len(metrics) + len(tags))])
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
