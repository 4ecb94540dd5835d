"""A document as plain text for a terminal."""

from itertools import zip_longest
from textwrap import wrap

from mobileone_core.reporting.document import Document, Table, plain


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
    """Columns as wide as their longest cell or word of the head, between rules."""
    columns = [(column.head, column.note) for column in table.columns]
    rows = [tuple(map(plain, row)) for row in table.rows]
    widths = [
        max(len(text) for text in (*head.split(), *note.split(), *(row[index] for row in rows)))
        for index, (head, note) in enumerate(columns)
    ]
    heads = [wrap(head, width) + wrap(note, width) for (head, note), width in zip(columns, widths, strict=True)]
    head_lines = list(zip_longest(*heads, fillvalue=""))
    printed = ["  ".join(map(str.rjust, line, widths)).rstrip() for line in (*head_lines, *rows)]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    return [*printed[: len(head_lines)], rule, *printed[len(head_lines) :], rule]
