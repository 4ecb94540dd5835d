"""For measured/ and search/ until they give documents."""

from mobileone_core.reporting.document import Column
from mobileone_core.reporting.document import Table as NewTable
from mobileone_core.reporting.render.terminal import table_lines as new_lines
from mobileone_core.reporting.trained.words import Table


def table_lines(table: Table) -> list[str]:
    """The lines of an old table."""
    return new_lines(NewTable(tuple(Column(*item) for item in table.columns), table.rows))
