"""Moments of a 1x1 convolution's input: one matrix product, one more for their gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mobileone_core.model.folded.algebra import Moments


class PointwiseMoments(Function):
    """x (N, C, H, W) -> Moments of its channels: (1, C) and (1, C, C). Nothing of x's size is kept but x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Moments:  # noqa: ANN401
        flat = x.flatten(2)
        count = len(x) * flat.shape[2]
        mean = flat.mean((0, 2))
        apart = flat - mean.unsqueeze(-1)
        rest = apart.mean((0, 2))  # what rounding left of the mean
        covariance = torch.bmm(apart, apart.transpose(1, 2)).sum(0) / count - torch.outer(rest, rest)
        mean = mean + rest
        ctx.save_for_backward(x, mean)
        return Moments(mean.unsqueeze(0), covariance.unsqueeze(0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_mean: Tensor, to_covariance: Tensor) -> Tensor:  # noqa: ANN401
        x, mean = ctx.saved_tensors
        flat = x.flatten(2)
        count = len(x) * flat.shape[2]
        weights = (to_covariance[0] + to_covariance[0].T) / count
        offset = to_mean[0] / count - weights @ mean
        to_x = torch.baddbmm(offset.view(1, -1, 1), weights.expand(len(x), -1, -1), flat)
        return to_x.view(x.shape)
