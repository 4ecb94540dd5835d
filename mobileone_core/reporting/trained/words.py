"""For measured/ and search/ until they give documents."""

from dataclasses import dataclass

MISSING = "-"


@dataclass(frozen=True)
class Table:
    """Columns as (title, note) and rows, all as printed text."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]
