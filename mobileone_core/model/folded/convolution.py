"""The sum of a block's branches as one differentiable function of its input and their parameters."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mobileone_core.model.folded.algebra import Branches, Moments, fold, fold_backward
from mobileone_core.model.folded.distributed import all_reduce_moments, all_reduce_sums
from mobileone_core.model.folded.statistics import PatchStatistics


class FoldedConvolution(Function):
    """x (N, C, H, W), gammas and betas (B, C_out) and the weights of all branches to their sum (N, C_out, H', W').

    Also returned are the batch mean and the unbiased variance of every branch, (G, B, O).
    With sync_batchnorm the statistics are those of all ranks, and gradients those of the sum of all ranks' losses.
    Saved for backward are x, the weights, and two values per channel and branch; nothing else grows with the branches.
    """

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any,
        x: Tensor,
        statistics: PatchStatistics,
        branches: Branches,
        sync_batchnorm: bool,
        gammas: Tensor,
        betas: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the sum, and each branch's batch statistics for its running ones."""
        geometry = statistics.geometry
        local, count = statistics.moments(x), geometry.positions(x.shape)
        moments, total = all_reduce_moments(local, count) if sync_batchnorm else (local, count)
        stacked = branches.stack(weights, gammas, geometry, local.mean)
        folded = fold(moments, branches, stacked, geometry)
        bias = betas.to(local.mean.dtype).sum(0).view(geometry.groups, -1)
        output = statistics.convolve(x, moments.mean, folded.kernel, bias)
        offset = (local.mean - moments.mean, total) if sync_batchnorm else ()
        ctx.save_for_backward(x, *moments, folded.kernel, folded.scales, gammas, *offset, *weights)
        ctx.statistics, ctx.branches, ctx.sync_batchnorm = statistics, branches, sync_batchnorm
        variances = folded.variances * (total / (total - 1))
        ctx.mark_non_differentiable(folded.means, variances)
        return _not_a_view(output), folded.means, variances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, gammas, betas and weights; None for the other arguments."""
        with torch.autocast(grad_output.device.type, enabled=False):
            return _gradients(ctx, grad_output)


def _not_a_view(values: Tensor) -> Tensor:
    """The same memory as no view of another tensor: activations change it in place, which autograd refuses of views.

    Under torch.compile it is a view: PyTorch 2.11 gives a result that was itself changed in place a gradient of zero.
    """
    if torch.compiler.is_compiling():
        return values.view_as(values)
    return values.new_empty(0).set_(values) if values._is_view() else values  # type: ignore[call-overload]


def _gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    x, mean, covariance, kernel, scales, gammas, *weights = ctx.saved_tensors
    statistics: PatchStatistics = ctx.statistics
    branches: Branches = ctx.branches
    geometry = statistics.geometry
    count = geometry.positions(x.shape)
    if ctx.sync_batchnorm:
        offset, count, *weights = weights
        grad_weight, grad_bias = statistics.parameter_gradients(x, mean + offset, grad_output)
        grad_weight = grad_weight + grad_bias.unsqueeze(-1) * offset.unsqueeze(-2)
    else:
        grad_weight, grad_bias = statistics.parameter_gradients(x, mean, grad_output)
    stacked = branches.stack(weights, gammas, geometry, mean)
    moments = Moments(mean, covariance)
    grad_covariance, grad_kernels, by_branch = fold_backward(moments, scales, stacked, grad_weight, geometry)
    grad_weights = branches.unstack(grad_kernels, weights, geometry)
    grad_gammas = by_branch.transpose(0, 1).reshape(gammas.shape)
    # repeated, not expanded: optimizers change gradients in place
    grad_betas = grad_bias.reshape(1, -1).repeat(len(gammas), 1)
    grad_input = None
    if ctx.sync_batchnorm:
        grad_covariance, grad_bias = all_reduce_sums(grad_covariance, grad_bias)
    if ctx.needs_input_grad[0]:
        mean_grad = grad_bias / count
        grad_input = statistics.input_gradient(x, mean, grad_output, mean_grad, kernel, grad_covariance * (2 / count))
    return grad_input, None, None, None, grad_gammas.to(gammas.dtype), grad_betas.to(gammas.dtype), *grad_weights
