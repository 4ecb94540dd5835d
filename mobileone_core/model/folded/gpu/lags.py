"""From the sums of kernels/lags.py to the moments of the nine taps at stride 1: constants of the geometry.

With z = x - shift, 0 outside the image, and 1 inside it, a tap sees p_t = z_t + shift * 1_t. The mean of z_t z_t' is a
lag less what the border takes away, that of z_t 1_t' the total less rows and columns; both are linear in the sums.
"""

import itertools
from functools import cache

import torch
from torch import Tensor

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.lags import SIDE, TAPS, moments_of_centred

# first indices into the kernel's sums: z z' along a row, one and two rows apart; the total; in the first and last row;
# of the second and last but one
LAGS, TOTAL, ROWS, SECOND = 0, 13, (14, 18), (22, 23)
COLUMNS, CORNERS, LINES, SUMS = (24, 27), (30, 32), (34, 39, 44, 49), 54


def moments_of_lags(sums: Tensor, shift: Tensor, size: tuple[int, int], batch: int) -> Moments:
    """Mean (C, 9) and covariance (C, 9, 9) from sums (54, C) in float64, shift (C), image height and width."""
    count = batch * size[0] * size[1]
    both = (_map(sums.device) @ sums).T.view(-1, 2, TAPS, TAPS) / count
    products, means = both.unbind(1)
    return moments_of_centred(products, means, _inside(size, sums.device), shift.double())


def dropped(tap: int, other: int) -> tuple[int, int]:
    """Rows at the first and at the last border that a tap does not cover while the other tap is inside the image."""
    return max(0, tap - 1, tap - other), max(0, 1 - tap, other - tap)


@cache
def _inside(size: tuple[int, int], device: torch.device) -> Tensor:
    """The share of outputs whose two taps are both inside the image: (9, 9)."""
    rows, columns = (
        torch.tensor([[length - sum(dropped(a, c)) for c in range(SIDE)] for a in range(SIDE)], device=device).double()
        / length
        for length in size
    )
    return torch.einsum("ac,bd->abcd", rows, columns).reshape(TAPS, TAPS)


@cache
def _map(device: torch.device) -> Tensor:
    """The matrix (162, 54) from the kernel's sums to those of z_t z_t', then of z_t 1_t'."""
    table = torch.zeros(2, SIDE, SIDE, SIDE, SIDE, SUMS, dtype=torch.float64, device="cpu")
    for a, b, c, d in itertools.product(range(SIDE), repeat=4):
        _add_products(table[0, a, b, c, d], a, b, c, d)
        _add_means(table[1, a, b, c, d], dropped(a, c), dropped(b, d))
    return table.view(-1, SUMS).to(device)


def _add_products(row: Tensor, a: int, b: int, c: int, d: int) -> None:
    """The lag of taps (a, b) and (c, d), less the border that both miss in one outer row or column of the kernel."""
    down, across = (c - a, d - b) if (c, d) >= (a, b) else (a - c, b - d)
    row[LAGS + (across if down == 0 else 5 * down + across)] = 1
    outer_row = {0: 1, 2: 0}.get(a) if a == c else None  # last or first
    outer_column = {0: 1, 2: 0}.get(b) if b == d else None
    if outer_row is not None:
        row[ROWS[outer_row] + abs(across)] -= 1
    if outer_column is not None:
        row[COLUMNS[outer_column] + abs(down)] -= 1
    if outer_row is not None and outer_column is not None:
        row[CORNERS[outer_column] + outer_row] += 1


def _add_means(row: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """The total, less the rows and columns that drop out, plus what two of them share."""
    lines = [1, 2][: rows[0]] + [4, 3][: rows[1]]  # indices into the sums of a column's rows
    row[TOTAL] = 1
    for line in lines:
        row[{1: ROWS[0] + 3, 2: SECOND[0], 3: SECOND[1], 4: ROWS[1] + 3}[line]] -= 1
    for column in [0, 1][: columns[0]] + [3, 2][: columns[1]]:
        row[LINES[column]] -= 1
        for line in lines:
            row[LINES[column] + line] += 1
