"""Blocks whose moments, and what these send back, are Triton kernels; the convolution is the library's."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.gpu import depthwise, pointwise
from mobileone_core.model.folded.gpu.layout import dense
from mobileone_core.model.folded.kind import PatchStatistics
from mobileone_core.model.folded.operators import Function, chosen, registered

OPERATORS = registered(
    "fused_depthwise",
    {
        depthwise.moments: depthwise.like_moments,
        depthwise.parameter_gradients: depthwise.like_parameters,
        depthwise.input_gradient: lambda x, *_: torch.empty_like(dense(x)),
    },
) | registered(
    "fused_pointwise",
    {
        pointwise.moments: pointwise.like_moments,
        pointwise.parameter_gradients: pointwise.like_parameters,
        pointwise.moments_backward: lambda x, *_: torch.empty_like(dense(x)),
    },
)


class Fused(PatchStatistics):
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

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        grad_weight, grad_bias = _operator(depthwise.parameter_gradients)(x, mean, grad_output, self.geometry.stride)
        return grad_weight, grad_bias

    def moments_backward(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        constants, stride = -_times(weights, mean), self.geometry.stride
        grad_input: Tensor = _operator(depthwise.input_gradient)(x, weights, constants, None, None, stride)
        return grad_input

    def input_gradient(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        constants = -_times(weights, mean) - kernel.squeeze(1) * mean_grad
        grad_input: Tensor = _operator(depthwise.input_gradient)(
            x, weights, constants, grad_output, kernel, self.geometry.stride
        )
        return grad_input


class FusedPointwise(Fused):
    """At stride 1 and in one group."""

    def moments(self, x: Tensor) -> Moments:
        mean, covariance = _operator(pointwise.moments)(x)
        return Moments(mean.unsqueeze(0), covariance.unsqueeze(0))

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        grad_weight, grad_bias = _operator(pointwise.parameter_gradients)(x, mean[0], grad_output)
        return grad_weight.unsqueeze(0), grad_bias.unsqueeze(0)

    def moments_backward(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        return self._weigh(x, mean, weights, torch.zeros_like(mean[0]), None)

    def input_gradient(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        rounded = kernel.to(x.dtype)
        grad_input = self._backward(grad_output, x, self._weight(rounded))[0]
        constants = -torch.mv(rounded[0].to(mean.dtype).T, mean_grad[0])
        return self._weigh(x, mean, weights, constants, grad_input)

    def _weigh(self, x: Tensor, mean: Tensor, weights: Tensor, constants: Tensor, onto: Tensor | None) -> Tensor:
        grad_input: Tensor = _operator(pointwise.moments_backward)(x, mean[0], weights[0], constants, onto)
        return grad_input


def _times(weights: Tensor, mean: Tensor) -> Tensor:
    """weights (G, T, T) times mean (G, T), summed without tensor cores, which would round."""
    return (weights * mean.unsqueeze(1)).sum(-1)


def _operator(function: Function) -> Function:
    return chosen(OPERATORS, function)
