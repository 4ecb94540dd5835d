"""Which columns of a table a terminal has room for."""

import shutil
from collections.abc import Iterable, Sequence

GAP = 2  # spaces between two columns
UNLIMITED = 10**6  # where the output is no terminal


def fitting_columns(widths: Sequence[int], dropped: Iterable[int]) -> list[int]:
    """Indices of the columns that are shown: if the terminal is too narrow for all, columns go in the given order."""
    shown, room = list(range(len(widths))), shutil.get_terminal_size((UNLIMITED, 1)).columns
    for index in dropped:
        if sum(widths[item] + GAP for item in shown) - GAP <= room:
            break
        shown.remove(index)
    return shown
