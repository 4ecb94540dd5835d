"""depthwise.c as operators of torch: 3x3 kernels, in float32 except for the moments."""

import ctypes

import torch
from torch import Tensor

from mobileone_core.model.folded.geometry import output_sizes
from mobileone_core.model.folded.native.library import native_operator

TAPS = 9


class Shape(ctypes.Structure):
    """The shape of an input (N, C, H, W), and the stride."""

    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "channels", "height", "width", "stride")]


def _shape(x: Tensor, *others: Tensor | int) -> Shape:
    return Shape(*x.shape, others[-1])


_operator = native_operator("depthwise", _shape)


@_operator
def moments(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Mean (C, 9) and covariance (C, 9, 9) of the patches of x (N, C, H, W), in float64."""
    shape = (x.shape[1], TAPS)
    return x.new_empty(shape, dtype=torch.float64), x.new_empty(*shape, TAPS, dtype=torch.float64)


@_operator
def convolve(x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Convolve patches less their mean (C, 9) with a kernel (C, 1, 9), and add a bias (C, 1): (N, C, H', W')."""
    return x.new_empty(*x.shape[:2], *output_sizes(x.shape, stride))


@_operator
def parameter_gradients(x: Tensor, mean: Tensor, grad_output: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The gradients of convolve to kernel and bias, given the mean of the patches."""
    return x.new_empty(x.shape[1], 1, TAPS), x.new_empty(x.shape[1], 1)


@_operator
def input_gradient(  # noqa: PLR0913, PLR0917
    x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor, stride: int
) -> Tensor:
    """The gradient of x (N, C, H, W), where that of a patch p is kernel (grad_output - mean_grad) + weights (p - mean).

    mean_grad (C, 1), weights (C, 9, 9), symmetric.
    """
    return torch.empty_like(x, memory_format=torch.contiguous_format)
