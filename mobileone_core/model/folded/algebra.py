"""From the moments of a block's input to its one kernel, and back: everything here is of the size of parameters."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mobileone_core.model.folded.geometry import Geometry


class Moments(NamedTuple):
    """Of the input patch over batch and positions: mean (G, T) and covariance (G, T, T)."""

    mean: Tensor
    covariance: Tensor


class Folded(NamedTuple):
    """kernel (G, O, T), bias (G, O); and of every branch the batch mean and biased variance, (B, G, O)."""

    kernel: Tensor
    bias: Tensor
    means: Tensor
    variances: Tensor


def centre(values: Tensor, geometry: Geometry) -> Tensor:
    """Of (..., T) the centre tap of every channel of the group: (..., C / G), a view."""
    return values[..., geometry.area // 2 :: geometry.area]


def diagonal(kernels: Tensor, geometry: Geometry) -> Tensor:
    """Where the skip branch has its ones in kernels (G, O, T): (G, O), a view."""
    return centre(kernels, geometry).diagonal(dim1=-2, dim2=-1)


class FoldParameters(Function):
    """kernels (B', G, O, T) without the skip branch; gammas and betas (B, G, O), eps (B, 1, 1), the skip's last.

    Returns Folded. W = sum_i a_i w_i and b = sum_i beta_i - W . m, with a_i = gamma_i / sqrt(w_i^T S w_i + eps_i).
    """

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any,  # noqa: ANN401
        mean: Tensor,
        covariance: Tensor,
        kernels: Tensor,
        gammas: Tensor,
        betas: Tensor,
        eps: Tensor,
        geometry: Geometry,
    ) -> Folded:
        branches, groups, outputs, taps = kernels.shape
        rows = kernels.transpose(0, 1).reshape(groups, branches * outputs, taps)
        spread = torch.bmm(rows, covariance).view(groups, branches, outputs, taps).transpose(0, 1)  # S w
        means = torch.matmul(kernels, mean.unsqueeze(-1)).squeeze(-1)
        variances = (spread * kernels).sum(-1)
        if skips := len(gammas) - branches:
            own = centre(covariance.diagonal(dim1=-2, dim2=-1), geometry)
            means = torch.cat((means, centre(mean, geometry).unsqueeze(0)))
            variances = torch.cat((variances, own.unsqueeze(0)))
        variances = variances.clamp_(min=0)
        scales = (variances + eps).rsqrt_()
        factors = gammas * scales
        kernel = (factors[:branches].unsqueeze(-1) * kernels).sum(0)
        if skips:
            diagonal(kernel, geometry).add_(factors[-1])
        bias = betas.sum(0) - torch.bmm(kernel, mean.unsqueeze(-1)).squeeze(-1)
        ctx.save_for_backward(mean, kernels, spread, gammas, scales, kernel)
        ctx.geometry = geometry
        ctx.mark_non_differentiable(means, variances)
        return Folded(kernel, bias, means, variances)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_kernel: Tensor, to_bias: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        mean, kernels, spread, gammas, scales, kernel = ctx.saved_tensors
        branches, groups, outputs, taps = kernels.shape
        to_kernel = to_kernel - to_bias.unsqueeze(-1) * mean.unsqueeze(-2)  # b holds -W . m
        to_mean = -torch.bmm(to_bias.unsqueeze(-2), kernel).squeeze(-2)
        to_factors = (to_kernel * kernels).sum(-1)
        if len(gammas) > branches:
            to_factors = torch.cat((to_factors, diagonal(to_kernel, ctx.geometry).unsqueeze(0)))
        factors = gammas * scales
        to_variances = to_factors * factors * scales.square() * -0.5
        own = to_variances[:branches].unsqueeze(-1)
        to_kernels = factors[:branches].unsqueeze(-1) * to_kernel + 2 * own * spread
        rows = kernels.transpose(0, 1).reshape(groups, branches * outputs, taps)
        weighted = (own * kernels).transpose(0, 1).reshape(groups, branches * outputs, taps)
        to_covariance = torch.bmm(rows.transpose(1, 2), weighted)
        if len(gammas) > branches:
            centre(to_covariance.diagonal(dim1=-2, dim2=-1), ctx.geometry).add_(to_variances[-1])
        to_betas = to_bias.expand_as(gammas)
        return to_mean, to_covariance, to_kernels, to_factors * scales, to_betas, None, None
