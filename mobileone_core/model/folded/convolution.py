"""The sum of a block's branches as one function of its input and their parameters, with its gradient."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mobileone_core.model.folded.algebra import Branches, Moments, fold, unfold
from mobileone_core.model.folded.kind import Kind


class Sum(NamedTuple):
    """output (N, C_out, H', W'); of every branch the batch mean and biased variance: (G, B, O)."""

    output: Tensor
    means: Tensor
    variances: Tensor


class FoldedConvolution(Function):
    """x (N, C, H, W) and weights, gammas and betas of all branches -> Sum.

    Kept for the gradient: x, the parameters, and what does not grow with the branches but for one scale a channel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: Kind, branches: Branches, *parameters: Tensor) -> Sum:  # noqa: ANN401
        moments = kind.moments(x)
        stacked = branches.stacked(parameters, kind.geometry, moments.mean)
        folded = fold(moments, branches, stacked, kind.geometry)
        output = kind.convolve(x, moments.mean, folded.kernel, folded.bias)
        ctx.save_for_backward(x, *moments, folded.kernel, folded.scales, *parameters)
        ctx.kind, ctx.branches = kind, branches
        ctx.mark_non_differentiable(folded.means, folded.variances)
        return Sum(output, folded.means, folded.variances)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        with torch.autocast(to_output.device.type, enabled=False):
            return _gradients(ctx, to_output)


def _gradients(ctx: Any, to_output: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    x, mean, covariance, kernel, scales, *parameters = ctx.saved_tensors
    kind: Kind = ctx.kind
    branches: Branches = ctx.branches
    stacked = branches.stacked(tuple(parameters), kind.geometry, mean)
    to_kernel, to_bias = kind.to_parameters(x, mean, to_output)
    found = unfold(Moments(mean, covariance), scales, stacked, to_kernel, kind.geometry)
    to_x = None
    if ctx.needs_input_grad[0]:
        count = kind.geometry.positions(x.shape)
        weights = found.covariance * (2 / count)
        to_x = kind.to_input(x, mean, to_output, to_bias / count, kernel, weights)
    return to_x, None, None, *branches.parted(found, to_bias, parameters, kind.geometry)
