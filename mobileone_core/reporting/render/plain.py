"""Tables as plain text for a terminal. No torch here."""

from itertools import zip_longest
from textwrap import wrap

from mobileone_core.reporting.trained.page import missing_lines, setting
from mobileone_core.reporting.trained.result import analyse
from mobileone_core.reporting.trained.words import Table, effects_table, table_of, verdict
from mobileone_core.study.plan import Plan
from mobileone_core.study.rows import StudyRecord


def trained_terminal(plan: Plan, record: StudyRecord) -> str:
    """Of a study whose cells are trained: the same texts as the page."""
    result = analyse(plan, record)
    effects = effects_table(result)
    lines = [plan.study.question, f"Measured: {setting(plan)}.", "", *table_lines(table_of(result))]
    if effects is not None:
        lines += ["", *table_lines(effects)]
    lines.append(verdict(result))
    lines += [f"error: {problem}" for problem in result.problems]
    lines += [f"missing: {line.replace('`', '')}" for line in missing_lines(result)]
    return "\n".join(lines)


def table_lines(table: Table) -> list[str]:
    """Columns as wide as their longest cell or word of the head, and rules."""
    widths = [
        max(len(text) for text in (*title.split(), *note.split(), *cells))
        for (title, note), cells in zip(table.columns, zip(*table.rows, strict=True), strict=True)
    ]
    heads = [wrap(head[0], width) + wrap(head[1], width) for head, width in zip(table.columns, widths, strict=True)]
    lines = [*zip_longest(*heads, fillvalue=""), *table.rows]
    printed = ["  ".join(map(str.rjust, line, widths)).rstrip() for line in lines]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    split = len(printed) - len(table.rows)
    return [*printed[:split], rule, *printed[split:], rule]
