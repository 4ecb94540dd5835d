"""CSV: tables as shown, and rows of the record in full precision and back."""

from collections.abc import Callable, Mapping, Sequence

from mobileone_core.reporting.document import MISSING, Table, plain
from mobileone_core.reporting.environment import reportable_tags
from mobileone_core.study.factor import Level, level_text
from mobileone_core.study.rows import CellRow
from mobileone_core.texts import csv_rows, csv_text

FACTOR, ENVIRONMENT = "factor.", "environment."
NAMES = {"key", "seed", "run_id", "role", "teacher", "arm", "form"}  # columns of a row that are not measured


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


def read_rows(text: str, cell_of: Callable[[Mapping[str, str]], tuple[int, Mapping[str, Level]]]) -> list[CellRow]:
    """Read the rows that `rows_csv` wrote; cell_of gives seed and levels of a line."""
    rows = []
    for line in csv_rows(text):
        seed, levels = cell_of(line)
        filled = {name: cell for name, cell in line.items() if cell and name not in NAMES}
        metrics = {name: float(cell) for name, cell in filled.items() if not name.startswith((FACTOR, ENVIRONMENT))}
        tags = {name.removeprefix(ENVIRONMENT): cell for name, cell in filled.items() if name.startswith(ENVIRONMENT)}
        if line["run_id"]:
            rows.append(CellRow(line["key"], seed, levels, line["run_id"], metrics, tags))
    return rows
