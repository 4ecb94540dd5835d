"""The sum of a block's branches as one function of its input and their parameters, with its gradient."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mobileone_core.model.folded.algebra import Moments, fold, unfold
from mobileone_core.model.folded.branches import Branches
from mobileone_core.model.folded.kind import PatchStatistics
from mobileone_core.model.folded.ranks import of_all_ranks, summed


class Sum(NamedTuple):
    """output (N, C_out, H', W'); of every branch the batch mean and unbiased variance, (G, B, O)."""

    output: Tensor
    means: Tensor
    variances: Tensor


class FoldedConvolution(Function):
    """x (N, C, H, W), gammas and betas (B, C_out) and weights of all branches -> Sum; with sync_batchnorm by the
    statistics of all ranks.

    Kept for the gradient: x, the weights, and what does not grow with the branches but for two factors a channel.
    Together, gradients are those of the sum of all ranks' losses; DDP's mean makes of them the mean loss's.
    """

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        kind: PatchStatistics,
        branches: Branches,
        sync_batchnorm: bool,
        gammas: Tensor,
        betas: Tensor,
        *weights: Tensor,
    ) -> Sum:
        own, count = kind.moments(x), kind.geometry.positions(x.shape)
        moments, total = of_all_ranks(own, count) if sync_batchnorm else (own, count)
        stacked = branches.stacked(weights, gammas, kind.geometry, own.mean)
        folded = fold(moments, branches, stacked, kind.geometry)
        bias = betas.to(own.mean.dtype).sum(0).view(kind.geometry.groups, -1)
        output = kind.convolve(x, moments.mean, folded.kernel, bias)
        apart = (own.mean - moments.mean, total) if sync_batchnorm else ()
        ctx.save_for_backward(x, *moments, folded.kernel, folded.scales, gammas, *apart, *weights)
        ctx.kind, ctx.branches, ctx.sync_batchnorm = kind, branches, sync_batchnorm
        variances = folded.variances * (total / (total - 1))
        ctx.mark_non_differentiable(folded.means, variances)
        return Sum(output, folded.means, variances)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        with torch.autocast(grad_output.device.type, enabled=False):
            return _gradients(ctx, grad_output)


def _gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    x, mean, covariance, kernel, scales, gammas, *weights = ctx.saved_tensors
    kind: PatchStatistics = ctx.kind
    branches: Branches = ctx.branches
    count = kind.geometry.positions(x.shape)
    if ctx.sync_batchnorm:
        apart, count, *weights = weights
        grad_weight, grad_bias = kind.parameter_gradients(x, mean + apart, grad_output)
        grad_weight = grad_weight + grad_bias.unsqueeze(-1) * apart.unsqueeze(-2)
    else:
        grad_weight, grad_bias = kind.parameter_gradients(x, mean, grad_output)
    stacked = branches.stacked(weights, gammas, kind.geometry, mean)
    found = unfold(Moments(mean, covariance), scales, stacked, grad_weight, kind.geometry)
    grad_weights = branches.parted(found.rows, weights, kind.geometry)
    grad_gammas = found.gammas.transpose(0, 1).reshape(gammas.shape)
    # memory of its own to each: gradients are changed in place
    grad_betas = grad_bias.reshape(1, -1).repeat(len(gammas), 1)
    grad_input, grad_covariance = None, found.covariance
    if ctx.sync_batchnorm:
        grad_covariance, grad_bias = summed(grad_covariance, grad_bias)
    if ctx.needs_input_grad[0]:
        grad_input = kind.input_gradient(x, mean, grad_output, grad_bias / count, kernel, grad_covariance * (2 / count))
    return grad_input, None, None, None, grad_gammas.to(gammas.dtype), grad_betas.to(gammas.dtype), *grad_weights
