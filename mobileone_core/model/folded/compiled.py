"""Depthwise 3x3 on a CPU by compiled operators: a channel at a time, everything in the order it lies in."""

import torch
from torch import Tensor

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.kind import Kind, exact
from mobileone_core.model.folded.native import depthwise as native
from mobileone_core.model.folded.operators import Function, chosen

FEW_OUTPUTS = 2  # rows and columns


class Compiled(Kind):
    """At stride 1 or 2, whatever the size; lower precisions are computed on in float32."""

    def moments(self, x: Tensor) -> Moments:
        mean, covariance = _operator(native.moments)(exact(x), self.geometry.stride)
        # of so few outputs, w^T S w needs digits that float32 does not have
        fine = x.dtype == torch.float32 and max(self.geometry.sizes(x.shape)) <= FEW_OUTPUTS
        return Moments(mean, covariance) if fine else Moments(mean.float(), covariance.float())

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        out: Tensor = _operator(native.convolve)(exact(x), *_floats(mean, kernel, bias), self.geometry.stride)
        return out.to(x.dtype)

    def to_parameters(self, x: Tensor, mean: Tensor, to_y: Tensor) -> tuple[Tensor, Tensor]:
        found = _operator(native.to_parameters)(exact(x), mean.float(), exact(to_y), self.geometry.stride)
        to_kernel, to_bias = (value.to(mean.dtype) for value in found)
        return to_kernel, to_bias

    def to_input(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, to_y: Tensor, level: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        given = (exact(x), mean.float(), exact(to_y), *_floats(level, kernel, weights))
        to_x: Tensor = _operator(native.to_input)(*given, self.geometry.stride)
        return to_x.to(x.dtype)


def _floats(*values: Tensor) -> tuple[Tensor, ...]:
    return tuple(value.float() for value in values)


def _operator(function: Function) -> Function:
    return chosen(native.OPERATORS, function)
