"""Tables as CSV: the numbers behind them where a table has them, else their texts."""

import csv
import io
from collections.abc import Iterable, Sequence

from mobileone_core.reporting.document import MISSING, Document, Number, Table, plain


def render(document: Document) -> str:
    """The main table."""
    return table_csv(document.table)


def table_csv(table: Table) -> str:
    """A line per row, numbers with six significant digits; a missing value stays empty."""
    if table.numbers:
        return csv_text([[*table.numbers[0]], *(map(_cell, line.values()) for line in table.numbers)])
    heads = [f"{column.head}, {column.note}" if column.note else column.head for column in table.columns]
    return csv_text([heads, *(["" if cell == MISSING else plain(cell) for cell in row] for row in table.rows)])


def csv_text(lines: Iterable[Iterable[object] | Sequence[object]]) -> str:
    """Lines as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _cell(value: Number) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
