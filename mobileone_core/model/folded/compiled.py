"""Depthwise 3x3 on a CPU by compiled operators: a channel at a time, everything in the order it lies in."""

from torch import Tensor

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.kind import Kind, exact
from mobileone_core.model.folded.native import depthwise as native
from mobileone_core.model.folded.operators import Function, chosen


class Compiled(Kind):
    """At stride 1 or 2, whatever the size; lower precisions are computed on in float32."""

    def moments(self, x: Tensor) -> Moments:
        return Moments(*_operator(native.moments)(exact(x), self.geometry.stride))

    def convolve(self, x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        out: Tensor = _operator(native.convolve)(exact(x), mean, kernel, bias, self.geometry.stride)
        return out.to(x.dtype)

    def to_parameters(self, x: Tensor, mean: Tensor, to_y: Tensor) -> tuple[Tensor, Tensor]:
        to_kernel, to_bias = _operator(native.to_parameters)(exact(x), mean, exact(to_y), self.geometry.stride)
        return to_kernel, to_bias

    def to_input(  # noqa: PLR0913, PLR0917
        self, x: Tensor, mean: Tensor, to_y: Tensor, level: Tensor, kernel: Tensor, weights: Tensor
    ) -> Tensor:
        given = (exact(x), mean, exact(to_y), level, kernel, weights)
        to_x: Tensor = _operator(native.to_input)(*given, self.geometry.stride)
        return to_x.to(x.dtype)


def _operator(function: Function) -> Function:
    return chosen(native.OPERATORS, function)
