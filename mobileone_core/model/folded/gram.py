"""Products of rows with themselves, summed so that float32 keeps its digits."""

import torch
from torch import Tensor

PIECE = 48  # terms of a sum of products that cost few digits in float32
FEW_PIECES = 4  # pieces, among whose roundings too few are of either sign


def shift_of(values: Tensor) -> Tensor:
    """What values (N, C, L) are best taken less, (C): their mean where it is most of their mean square, else nothing.

    Behind a ReLU zeros are many: taken less a mean they are alike, and so are the roundings of their squares.
    """
    mean = values.mean((0, 2))
    square = torch.linalg.vector_norm(torch.linalg.vector_norm(values, dim=2), dim=0).square()  # fastest in two
    return torch.where(2 * mean.square() > square / (values.shape[0] * values.shape[2]), mean, 0)


def gram(rows: Tensor) -> Tensor:
    """rows (C, M) times themselves: (C, C), by pieces of the sum, all at once where their products are small.

    A matrix product adds term by term. Behind a ReLU many terms are alike, and so are the roundings: they add up to
    ten and more in 500 terms.
    """
    channels, terms = rows.shape
    if rows.dtype == torch.float64:
        return rows @ rows.T
    length = PIECE if terms >= FEW_PIECES * PIECE else PIECE // 3
    if channels > 2 * PIECE:
        total = rows.new_zeros(channels, channels)
        for piece in torch.split(rows, length, 1):
            total.addmm_(piece, piece.T)
        return total
    pieces = max(1, terms // length)
    length = terms // pieces
    parts = rows[:, : pieces * length].view(channels, pieces, length).transpose(0, 1)
    rest = rows[:, pieces * length :]
    return torch.bmm(parts, parts.transpose(1, 2)).sum(0).addmm_(rest, rest.T)
