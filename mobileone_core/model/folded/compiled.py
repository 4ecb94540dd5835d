"""Statistics of depthwise 3x3 convolutions on a CPU, by operators compiled from C, one channel at a time."""

import torch
from torch import Tensor

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.native import depthwise as native
from mobileone_core.model.folded.statistics import PatchStatistics, at_least_float32

FEW_OUTPUTS = 2  # rows and columns


class Compiled(PatchStatistics):
    """For depthwise 3x3 convolutions at stride 1 or 2, inputs of any size; half precisions are computed in float32."""

    def moments(self, x: Tensor) -> Moments:
        """Mean and covariance of the patches of x, per group."""
        mean, covariance = native.moments(at_least_float32(x), self.geometry.stride)
        # with so few outputs, w^T S w needs digits that float32 does not have
        in_float64 = x.dtype == torch.float32 and max(self.geometry.sizes(x.shape)) <= FEW_OUTPUTS
        return Moments(mean, covariance) if in_float64 else Moments(mean.float(), covariance.float())

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """kernel (p - mean) + bias: (N, C, H', W'), in the dtype of x."""
        parameters = (mean.float(), kernel.float(), bias.float())
        return native.convolve(at_least_float32(x), *parameters, self.geometry.stride).to(x.dtype)

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of convolve to kernel and bias, given the mean of the patches."""
        tensors = (at_least_float32(x), mean.float(), at_least_float32(grad_output))
        grad_weight, grad_bias = native.parameter_gradients(*tensors, self.geometry.stride)
        return grad_weight.to(mean.dtype), grad_bias.to(mean.dtype)

    def input_gradient(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        """The gradient of x: kernel^T (grad_output - mean_grad) + weights (p - mean), added up over patches."""
        tensors = (at_least_float32(x), mean.float(), at_least_float32(grad_output))
        parameters = (mean_grad.float(), kernel.float(), weights.float())
        return native.input_gradient(*tensors, *parameters, self.geometry.stride).to(x.dtype)
