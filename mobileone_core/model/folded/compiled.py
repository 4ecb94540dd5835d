"""Depthwise 3x3 on a CPU by compiled operators: a channel at a time, everything in the order it lies in."""

import torch
from torch import Tensor

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.kind import PatchStatistics, at_least_float32
from mobileone_core.model.folded.native import depthwise as native
from mobileone_core.model.folded.operators import Function, chosen

FEW_OUTPUTS = 2  # rows and columns


class Compiled(PatchStatistics):
    """At stride 1 or 2, whatever the size; lower precisions are computed on in float32."""

    def moments(self, x: Tensor) -> Moments:
        mean, covariance = _operator(native.moments)(at_least_float32(x), self.geometry.stride)
        # of so few outputs, w^T S w needs digits that float32 does not have
        fine = x.dtype == torch.float32 and max(self.geometry.sizes(x.shape)) <= FEW_OUTPUTS
        return Moments(mean, covariance) if fine else Moments(mean.float(), covariance.float())

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        out: Tensor = _operator(native.convolve)(
            at_least_float32(x), *_floats(mean, kernel, bias), self.geometry.stride
        )
        return out.to(x.dtype)

    def parameter_gradients(self, x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        found = _operator(native.parameter_gradients)(
            at_least_float32(x), mean.float(), at_least_float32(grad_output), self.geometry.stride
        )
        grad_weight, grad_bias = (value.to(mean.dtype) for value in found)
        return grad_weight, grad_bias

    def input_gradient(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        given = (at_least_float32(x), mean.float(), at_least_float32(grad_output), *_floats(mean_grad, kernel, weights))
        grad_input: Tensor = _operator(native.input_gradient)(*given, self.geometry.stride)
        return grad_input.to(x.dtype)


def _floats(*values: Tensor) -> tuple[Tensor, ...]:
    return tuple(value.float() for value in values)


def _operator(function: Function) -> Function:
    return chosen(native.OPERATORS, function)
