"""From the moments of a block's input to its one kernel, and back: everything here is of the size of parameters."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mobileone_core.model.folded import quadratic
from mobileone_core.model.folded.branches import Branches, Stacked, centre
from mobileone_core.model.folded.geometry import Geometry


class Moments(NamedTuple):
    """Of the input patch over batch and positions: mean (G, T) and covariance (G, T, T)."""

    mean: Tensor
    covariance: Tensor


class Folded(NamedTuple):
    """kernel (G, O, T) over patches less their mean; of every branch the batch mean and biased variance, and one over
    its standard deviation: (G, B, O).
    """

    kernel: Tensor
    means: Tensor
    variances: Tensor
    scales: Tensor


def diagonal(kernels: Tensor, geometry: Geometry) -> Tensor:
    """Where the skip branch has its ones in kernels (G, O, T): (G, O), a view."""
    return kernels.flatten(1)[:, geometry.area // 2 :: geometry.taps + geometry.area]


def variances_of(covariance: Tensor, geometry: Geometry) -> Tensor:
    """Of (G, T, T) those of the centre taps: (G, C / G), a view."""
    return centre(covariance.flatten(1)[:, :: geometry.taps + 1], geometry)


def fold(moments: Moments, branches: Branches, stacked: Stacked, geometry: Geometry) -> Folded:
    """W = sum_i a_i w_i with a_i = gamma_i / sqrt(w_i^T S w_i + eps_i)."""
    mean, covariance = moments
    means, variances = quadratic.forms(stacked, mean, covariance)
    if branches.skip:
        own = variances_of(covariance, geometry)
        means = torch.cat((means, centre(mean, geometry).unsqueeze(1)), 1)
        variances = torch.cat((variances, own.unsqueeze(1)), 1)
    variances = variances.clamp_(min=0)
    scales = (variances + branches.epsilons(mean)).rsqrt_()
    factors = stacked.gammas * scales
    kernel = quadratic.kernel(stacked, factors)
    if branches.skip:
        diagonal(kernel, geometry).add_(factors[:, -1])
    return Folded(kernel, means, variances, scales)


class Unfolded(NamedTuple):
    """Gradients: to the covariance (G, T, T), symmetric; to the rows; to the gammas (G, B, O)."""

    covariance: Tensor
    rows: Sequence[Tensor]
    gammas: Tensor


def unfold(moments: Moments, scales: Tensor, stacked: Stacked, grad_weight: Tensor, geometry: Geometry) -> Unfolded:
    """The gradients of fold, from that to its kernel. Those to the betas are the bias's; none reaches the mean."""
    factors = stacked.gammas * scales
    halves = factors * scales.square() * -0.5  # of the gradient to a factor that to its variance is
    grad_factors, grad_rows, grad_covariance = quadratic.gradients(
        stacked, grad_weight, moments.covariance, factors, halves
    )
    if stacked.gammas.shape[1] > grad_factors.shape[1]:
        own = diagonal(grad_weight, geometry)
        variances_of(grad_covariance, geometry).add_(own * halves[:, -1])
        grad_factors = torch.cat((grad_factors, own.unsqueeze(1)), 1)
    return Unfolded(grad_covariance, grad_rows, grad_factors * scales)
