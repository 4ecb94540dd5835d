"""The variances w^T S w of a block's kernels and their gradients: their cost grows with k, but not with the batch."""

import torch
from torch import Tensor

from mobileone_core.model.folded.branches import Stacked
from mobileone_core.model.folded.native import quadratic as native
from mobileone_core.model.folded.native.library import available
from mobileone_core.model.folded.operators import chosen


def forms(stacked: Stacked, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """w . mean and w^T covariance w of every row, for mean (G, T) and covariance (G, T, T): (G, B', O) each."""
    if _native(stacked, covariance):
        operator = chosen(native.OPERATORS, native.forms)
        means, variances = operator(_matrices(stacked), mean[0], covariance[0])
        return means.unsqueeze(0), variances.unsqueeze(0)
    column = mean.unsqueeze(-1)
    means = stacked.by_branch([torch.bmm(rows, column).squeeze(-1) for rows in stacked.rows])
    return means, stacked.by_branch([torch.bmm(rows, covariance).mul_(rows).sum(-1) for rows in stacked.rows])


def gradients(
    stacked: Stacked, to_kernel: Tensor, covariance: Tensor, factors: Tensor, halves: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """From that to the kernel (G, O, T), the sum of all rows times their factors (G, B, O): the gradients to the
    factors (G, B', O), to the rows and to the covariance (G, T, T), which is symmetric. What the variance of a row
    gets is its factor's gradient times its half (G, B, O).
    """
    if _native(stacked, covariance):
        count = len(stacked.rows)
        operator = chosen(native.OPERATORS, native.gradients)
        given = (to_kernel[0], covariance[0], factors[0, :count], halves[0, :count])
        to_factors, to_rows, to_covariance = operator(_matrices(stacked), *given)
        return to_factors.unsqueeze(0), [rows.unsqueeze(0) for rows in to_rows], to_covariance.unsqueeze(0)
    found, to_rows = [], []
    to_covariance = torch.zeros_like(covariance)
    for factor, half, rows in zip(stacked.by_row(factors), stacked.by_row(halves), stacked.rows, strict=True):
        to_factor = (rows * to_kernel).sum(-1)
        weighted = to_factor.unsqueeze(-1) * half * rows
        to_covariance.baddbmm_(rows.transpose(1, 2), weighted)
        to_rows.append((factor * to_kernel).baddbmm_(weighted, covariance, alpha=2))
        found.append(to_factor)
    return stacked.by_branch(found), to_rows, to_covariance


def _native(stacked: Stacked, covariance: Tensor) -> bool:
    """Whether the compiled operators take them: one group, each branch a matrix."""
    one = len(covariance) == 1 and stacked.gammas.shape[2] > 1
    return one and covariance.device.type == "cpu" and covariance.dtype == torch.float32 and available()


def _matrices(stacked: Stacked) -> list[Tensor]:
    return [rows[0] for rows in stacked.rows]
