"""Moments of the input patch for any kernel, stride and groups, through the patches themselves: the plain way."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.geometry import Geometry


def patches(x: Tensor, geometry: Geometry) -> Tensor:
    """(N, C, H, W) -> (N, G, T, L): what the kernel sees at each of L output positions."""
    if geometry.kernel == 1:  # a view where the stride is 1
        return x[..., :: geometry.stride, :: geometry.stride].reshape(len(x), geometry.groups, geometry.taps, -1)
    unfolded = F.unfold(x, geometry.kernel, padding=geometry.kernel // 2, stride=geometry.stride)
    return unfolded.view(len(x), geometry.groups, geometry.taps, -1)


class PatchMoments(Function):
    """x (N, C, H, W) -> Moments; patches are made once for it and once for its gradient, and not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, geometry: Geometry) -> Moments:  # noqa: ANN401
        seen = patches(x, geometry)
        count = geometry.positions(x.shape)
        mean = seen.mean((0, 3))
        apart = seen - mean.unsqueeze(-1)
        mean = mean + apart.mean((0, 3))  # what rounding left
        covariance = torch.matmul(apart, apart.transpose(-1, -2)).sum(0) / count
        ctx.save_for_backward(x, mean)
        ctx.geometry = geometry
        return Moments(mean, covariance)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_mean: Tensor, to_covariance: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, mean = ctx.saved_tensors
        geometry: Geometry = ctx.geometry
        count = geometry.positions(x.shape)
        weights = (to_covariance + to_covariance.transpose(-1, -2)) / count
        apart = patches(x, geometry) - mean.unsqueeze(-1)
        to_patches = torch.matmul(weights, apart).add_((to_mean / count).unsqueeze(-1))
        if geometry.kernel == geometry.stride == 1:
            return to_patches.view(x.shape), None
        flat = to_patches.view(len(x), geometry.in_channels * geometry.area, -1)
        padding, stride = geometry.kernel // 2, geometry.stride
        return F.fold(flat, x.shape[2:], geometry.kernel, padding=padding, stride=stride), None
