"""For measured/ and search/ until they give documents."""

from mobileone_core.reporting.document import Column, Document, Figure
from mobileone_core.reporting.document import Table as NewTable
from mobileone_core.reporting.render import latex
from mobileone_core.reporting.trained.words import Table


def table_tex(table: Table, caption: str) -> str:
    """An old table in LaTeX."""
    new = NewTable(tuple(Column(*item, is_text=item[0] == "verdict") for item in table.columns), table.rows)
    lines = latex.render(Document("", "", "", "", "", new, Figure("", ""))).splitlines()
    return "\n".join([f"% {caption}", *lines[1:], ""])
