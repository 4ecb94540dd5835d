"""Statistics of depthwise and pointwise blocks by Triton kernels; the convolution is the library's."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.gpu import depthwise, pointwise
from mobileone_core.model.folded.statistics import PatchStatistics


class TritonStatistics(PatchStatistics):
    """The part that the depthwise and the pointwise kernels share."""

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """kernel (p - mean) + bias; in half precision the bias is added in float32, and in one pass."""
        weight, bias = self._for_uncentred_patches(x, mean, kernel, bias)
        out = F.conv2d(x, weight, None, self.geometry.stride, self.geometry.padding, groups=self.geometry.groups)
        return out.add_(bias.float().view(1, -1, 1, 1))


class TritonDepthwise(TritonStatistics):
    """For depthwise 3x3 convolutions at stride 1 or 2, with two output rows and columns or more."""

    def moments(self, x: Tensor) -> Moments:
        """Mean and covariance of the patches of x, per group."""
        return Moments(*depthwise.moments(x, self.geometry.stride))

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of convolve to kernel and bias, given the mean of the patches."""
        return depthwise.parameter_gradients(x, mean, grad_output, self.geometry.stride)

    def input_gradient(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        """The gradient of x: kernel^T (grad_output - mean_grad) + weights (p - mean), added up over patches."""
        constants = -_times(weights, mean) - kernel.squeeze(1) * mean_grad
        return depthwise.input_gradient(x, weights, constants, grad_output, kernel, self.geometry.stride)


class TritonPointwise(TritonStatistics):
    """At stride 1 and in one group."""

    def moments(self, x: Tensor) -> Moments:
        """Mean and covariance of the channels of x."""
        mean, covariance = pointwise.moments(x)
        return Moments(mean.unsqueeze(0), covariance.unsqueeze(0))

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of convolve to kernel and bias, given the mean of the patches."""
        grad_weight, grad_bias = pointwise.parameter_gradients(x, mean[0], grad_output)
        return grad_weight.unsqueeze(0), grad_bias.unsqueeze(0)

    def input_gradient(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        """The gradient of x: kernel^T (grad_output - mean_grad) + weights (p - mean)."""
        rounded = kernel.to(x.dtype)
        grad_input = self._conv_backward(grad_output, x, self._as_weight(rounded))[0]
        constants = -torch.mv(rounded[0].to(mean.dtype).T, mean_grad[0])
        return pointwise.input_gradient(x, mean[0], weights[0], constants, grad_input)


def _times(weights: Tensor, mean: Tensor) -> Tensor:
    """weights (G, T, T) times mean (G, T), summed without tensor cores, which would round."""
    return (weights * mean.unsqueeze(1)).sum(-1)
