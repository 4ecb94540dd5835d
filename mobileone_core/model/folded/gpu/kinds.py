"""Blocks whose moments, and what these send back, are Triton kernels; the convolution is the library's."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.gpu import depthwise, pointwise
from mobileone_core.model.folded.gpu.layout import dense
from mobileone_core.model.folded.kind import Kind
from mobileone_core.model.folded.operators import Function, chosen, registered

OPERATORS = registered(
    "fused_depthwise",
    {
        depthwise.moments: depthwise.like_moments,
        depthwise.to_parameters: depthwise.like_parameters,
        depthwise.to_input: lambda x, *_: torch.empty_like(dense(x)),
    },
) | registered(
    "fused_pointwise",
    {
        pointwise.moments: pointwise.like_moments,
        pointwise.to_parameters: pointwise.like_parameters,
        pointwise.weigh: lambda x, *_: torch.empty_like(dense(x)),
    },
)


class Fused(Kind):
    """What the kernels of both kinds stand beside."""

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """In lower precision the bias is added in float32, and in one pass."""
        weight, bias = self._on_patches(x, mean, kernel, bias)
        out = F.conv2d(x, weight, None, self.geometry.stride, self._padding, groups=self.geometry.groups)
        return out.add_(bias.float().view(1, -1, 1, 1))


class FusedDepthwise(Fused):
    """3x3 at stride 1 or 2, two output rows and columns or more."""

    def moments(self, x: Tensor) -> Moments:
        return Moments(*_operator(depthwise.moments)(x, self.geometry.stride))

    def to_parameters(self, x: Tensor, mean: Tensor, to_y: Tensor) -> tuple[Tensor, Tensor]:
        to_kernel, to_bias = _operator(depthwise.to_parameters)(x, mean, to_y, self.geometry.stride)
        return to_kernel, to_bias

    def weigh(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        constants, stride = -_times(weights, mean), self.geometry.stride
        to_x: Tensor = _operator(depthwise.to_input)(x, weights, constants, None, None, stride)
        return to_x

    def to_input(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, to_y: Tensor, level: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        constants = -_times(weights, mean) - kernel.squeeze(1) * level
        to_x: Tensor = _operator(depthwise.to_input)(x, weights, constants, to_y, kernel, self.geometry.stride)
        return to_x


class FusedPointwise(Fused):
    """At stride 1 and in one group."""

    def moments(self, x: Tensor) -> Moments:
        mean, covariance = _operator(pointwise.moments)(x)
        return Moments(mean.unsqueeze(0), covariance.unsqueeze(0))

    def to_parameters(self, x: Tensor, mean: Tensor, to_y: Tensor) -> tuple[Tensor, Tensor]:
        to_kernel, to_bias = _operator(pointwise.to_parameters)(x, mean[0], to_y)
        return to_kernel.unsqueeze(0), to_bias.unsqueeze(0)

    def weigh(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        return self._weigh(x, mean, weights, torch.zeros_like(mean[0]), None)

    def to_input(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, to_y: Tensor, level: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        rounded = kernel.to(x.dtype)
        to_x = self._backward(to_y, x, self._weight(rounded))[0]
        constants = -torch.mv(rounded[0].to(mean.dtype).T, level[0])
        return self._weigh(x, mean, weights, constants, to_x)

    def _weigh(self, x: Tensor, mean: Tensor, weights: Tensor, constants: Tensor, onto: Tensor | None) -> Tensor:
        to_x: Tensor = _operator(pointwise.weigh)(x, mean[0], weights[0], constants, onto)
        return to_x


def _times(weights: Tensor, mean: Tensor) -> Tensor:
    """weights (G, T, T) times mean (G, T), summed without tensor cores, which would round."""
    return (weights * mean.unsqueeze(1)).sum(-1)


def _operator(function: Function) -> Function:
    return chosen(OPERATORS, function)
