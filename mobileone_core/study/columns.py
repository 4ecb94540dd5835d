"""Tables of text, and which of their columns a terminal has room for."""

import shutil
from collections.abc import Callable, Iterable, Sequence

Justify = Callable[[str, int], str]
GAP = 2  # spaces between two columns
UNLIMITED = 10**6  # where the output is no terminal


def text_table(rows: Sequence[Sequence[str]], dropped: Iterable[str], justify: Justify = str.ljust) -> list[str]:
    """Rows of text as lines that fit the terminal; the first row has the columns' heads.

    dropped: heads of the columns that a narrow terminal has no room for, first to last.
    """
    heads, widths = rows[0], [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = fitting_columns(widths, [heads.index(name) for name in dropped if name in heads])
    return [(GAP * " ").join(justify(row[index], widths[index]) for index in shown).rstrip() for row in rows]


def fitting_columns(widths: Sequence[int], dropped: Iterable[int]) -> list[int]:
    """Indices of the columns that are shown: if the terminal is too narrow for all, columns go in the given order."""
    shown, room = list(range(len(widths))), shutil.get_terminal_size((UNLIMITED, 1)).columns
    for index in dropped:
        if sum(widths[item] + GAP for item in shown) - GAP <= room:
            break
        shown.remove(index)
    return shown
