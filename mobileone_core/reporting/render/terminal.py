"""A document as plain text for a terminal."""

from itertools import zip_longest
from textwrap import wrap

from mobileone_core.reporting.document import Document, Table, plain
from mobileone_core.study.columns import fitting_columns

DROPPED_FIRST = ("published", "detectable", "sd", "n")  # heads of columns, the least important ones first


def render(document: Document) -> str:
    """Question, setting, tables, verdict, and what is wrong or missing: the texts of the page without their markup."""
    keyed = [block for section in document.body if section.is_key for block in section.blocks]
    lines = [document.title, f"Setting: {document.setting}."]
    for table in (document.table, *(block for block in keyed if isinstance(block, Table))):
        lines += ["", *table_lines(table)]
    lines.append(document.verdict)
    lines += [f"error: {problem}" for problem in document.problems]
    lines += [f"missing: {item}" for item in document.missing]
    return "\n".join(map(plain, lines))


def table_lines(table: Table) -> list[str]:
    """Columns as wide as their longest cell or word of the head, between rules; those that fit the terminal."""
    columns = [(column.head, column.note) for column in table.columns]
    rows = [tuple(map(plain, row)) for row in table.rows]
    widths = [
        max(len(text) for text in (*head.split(), *note.split(), *(row[index] for row in rows)))
        for index, (head, note) in enumerate(columns)
    ]
    heads = [wrap(head, width) + wrap(note, width) for (head, note), width in zip(columns, widths, strict=True)]
    optional = range(table.labels + 1, len(columns))  # never the names of the rows and the first value
    order = sorted(optional, key=lambda index: (_importance(columns[index][0]), -index))
    shown = fitting_columns(widths, order)
    widths = [widths[index] for index in shown]
    head_lines = list(zip_longest(*(heads[index] for index in shown), fillvalue=""))
    lines = (*head_lines, *([row[index] for index in shown] for row in rows))
    printed = ["  ".join(map(str.rjust, line, widths)).rstrip() for line in lines]
    if hidden := [", ".join(filter(None, columns[index])) for index in optional if index not in shown]:
        printed.append(f"not shown in this narrow terminal: {'; '.join(hidden)}")
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    bottom = len(head_lines) + len(rows)
    return [*printed[: len(head_lines)], rule, *printed[len(head_lines) : bottom], rule, *printed[bottom:]]


def _importance(head: str) -> int:
    """Rank of a column by its head: the lowest is dropped first."""
    starts = [number for number, start in enumerate(DROPPED_FIRST) if f"{head} ".startswith(f"{start} ")]
    return starts[0] if starts else len(DROPPED_FIRST)
