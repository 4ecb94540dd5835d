"""The page's table as plain text for a terminal. No torch here."""

from collections.abc import Sequence
from itertools import zip_longest
from textwrap import wrap

from mobileone_core.reporting.page import missing_lines, setting
from mobileone_core.reporting.result import analyse
from mobileone_core.reporting.words import table_of, verdict
from mobileone_core.study.declaration import Plan
from mobileone_core.study.rows import CellRow


def terminal_table(plan: Plan, rows: Sequence[CellRow], problems: Sequence[str] = ()) -> str:
    """Question, table, verdict, and what is missing or wrong: the same texts as the page."""
    result = analyse(plan, rows, problems)
    table = table_of(result)
    widths = [
        max(len(text) for text in (*title.split(), *note.split(), *cells))
        for (title, note), cells in zip(table.columns, zip(*table.rows, strict=True), strict=True)
    ]
    heads = [wrap(head[0], width) + wrap(head[1], width) for head, width in zip(table.columns, widths, strict=True)]
    lines = [*zip_longest(*heads, fillvalue=""), *table.rows]
    printed = ["  ".join(map(str.rjust, line, widths)) for line in lines]
    rule = "-" * len(printed[0])
    split = len(printed) - len(table.rows)
    head = [plan.study.question, f"Measured: {setting(plan)}.", "", *printed[:split], rule, *printed[split:], rule]
    notes = [f"error: {problem}" for problem in result.problems]
    notes += [f"missing: {line.replace('`', '')}" for line in missing_lines(result)]
    return "\n".join([*head, verdict(result), *notes])
