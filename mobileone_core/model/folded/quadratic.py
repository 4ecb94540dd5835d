"""Variances w^T S w of a block's kernels, their sum, the gradients: what costs more with k, but not with the batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mobileone_core.model.folded.branches import Stacked
from mobileone_core.model.folded.native import quadratic as native
from mobileone_core.model.folded.native.library import available
from mobileone_core.model.folded.operators import chosen


def kernel(stacked: Stacked, factors: Tensor) -> Tensor:
    """All rows times their factors (G, B, O), summed over the branches: (G, O, T)."""
    if _native(factors):
        summed: Tensor = chosen(native.OPERATORS, native.kernel)(list(stacked.rows), factors[:, : len(stacked.rows)])
        return summed
    pieces = _pieces(stacked)
    first, *others = list(zip(_of_pieces(factors, stacked), pieces, strict=True))
    if factors.shape[2] == 1:
        return torch.bmm(first[0].transpose(1, 2), first[1])
    total = first[0] * first[1]
    for factor, rows in others:
        total.addcmul_(factor, rows)
    return total


def forms(stacked: Stacked, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """w . mean and w^T covariance w of every row, for mean (G, T) and covariance (G, T, T): (G, B', O) each."""
    if _native(covariance):
        found: tuple[Tensor, Tensor] = chosen(native.OPERATORS, native.forms)(list(stacked.rows), mean, covariance)
        return found
    column, pieces = mean.unsqueeze(-1), _pieces(stacked)
    means = [torch.bmm(rows, column).squeeze(-1) for rows in pieces]
    variances = [torch.bmm(rows, covariance).mul_(rows).sum(-1) for rows in pieces]
    return _by_branch(means, stacked), _by_branch(variances, stacked)


def gradients(
    stacked: Stacked, grad_weight: Tensor, covariance: Tensor, factors: Tensor, halves: Tensor
) -> tuple[Tensor, Sequence[Tensor], Tensor]:
    """From that to the kernel (G, O, T): the gradients to the factors (G, B', O), to the rows, and to the covariance
    (G, T, T), which is symmetric. What the variance of a row gets is its factor's gradient times its half (G, B, O).
    """
    count = len(stacked.rows)
    if _native(covariance):
        operator = chosen(native.OPERATORS, native.gradients)
        of_rows = (factors[:, :count], halves[:, :count])
        both: tuple[Tensor, list[Tensor], Tensor] = operator(list(stacked.rows), grad_weight, covariance, *of_rows)
        return both
    found, grad_rows = [], []
    grad_covariance = torch.zeros_like(covariance)
    values = (_of_pieces(factors, stacked), _of_pieces(halves, stacked), _pieces(stacked))
    for factor, half, rows in zip(*values, strict=True):
        grad_factor = (rows * grad_weight).sum(-1)
        weighted = grad_factor.unsqueeze(-1) * half * rows
        grad_covariance.baddbmm_(rows.transpose(1, 2), weighted)
        grad_rows.append((factor * grad_weight).baddbmm_(weighted, covariance, alpha=2))
        found.append(grad_factor)
    parted = grad_rows if factors.shape[2] > 1 else grad_rows[0].unsqueeze(2).unbind(1)
    return _by_branch(found, stacked), parted, grad_covariance


def _native(like: Tensor) -> bool:
    """Whether the compiled operators take what goes with it."""
    return like.device.type == "cpu" and like.dtype == torch.float32 and available()


def _pieces(stacked: Stacked) -> tuple[Tensor, ...]:
    """Rows (G, n, T): those of a branch, so that its algebra stays in the cache; where O is 1, of all branches."""
    return stacked.rows if stacked.gammas.shape[2] > 1 else (torch.cat(stacked.rows, 1),)


def _of_pieces(values: Tensor, stacked: Stacked) -> tuple[Tensor, ...]:
    """Values (G, B, O) as they belong to the rows of pieces: (G, n, 1) each."""
    count = len(stacked.rows)
    if values.shape[2] == 1:
        return (values[:, :count],)
    return tuple(values[:, branch].unsqueeze(-1) for branch in range(count))


def _by_branch(values: list[Tensor], stacked: Stacked) -> Tensor:
    """The reverse, of values (G, n): (G, B', O)."""
    return torch.stack(values, 1) if stacked.gammas.shape[2] > 1 else values[0].unsqueeze(-1)
