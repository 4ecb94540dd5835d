"""Tables in GitHub's Markdown."""

from collections.abc import Sequence

from mobileone_core.reporting.trained.words import Table

# Columns of words; the others hold numbers.
TEXTS = ("verdict", "form", "teacher", "weights", "role", "cell", "run", "tag", "value")


def markdown(table: Table) -> str:
    """A table; text left, numbers right."""
    heads = [f"{title}<br>{note}" if note else title for title, note in table.columns]
    signs = ["---" if title in TEXTS else "--:" for title, _ in table.columns]
    return "\n".join(_line(cells) for cells in (heads, signs, *table.rows))


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns have no notes."""
    return markdown(Table(tuple((title, "") for title in head), tuple(map(tuple, rows))))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
