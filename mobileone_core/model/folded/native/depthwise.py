"""depthwise.c as operators of torch: 3x3 kernels, float32 but for the moments."""

import ctypes

import torch
from torch import Tensor

from mobileone_core.model.folded.geometry import output_sizes
from mobileone_core.model.folded.native.library import call
from mobileone_core.model.folded.operators import registered

TAPS = 9


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "channels", "height", "width", "stride")]


def _call(name: str, stride: int, x: Tensor, *others: Tensor) -> None:
    call(name, _Shape(*x.shape, stride), x, *others)


def _output(x: Tensor, stride: int) -> Tensor:
    """An empty output (N, C, H', W')."""
    return x.new_empty(*x.shape[:2], *output_sizes(x.shape, stride))


def moments(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Mean (C, 9) and covariance (C, 9, 9) of the patches of x (N, C, H, W), in float64."""
    found = _like_moments(x, stride)
    call("moments", _Shape(*x.shape, stride), x, doubles=found)
    return found


def convolve(x: Tensor, mean: Tensor, kernel: Tensor, bias: Tensor, stride: int) -> Tensor:
    """kernel (C, 1, 9) over patches less their mean (C, 9), plus bias (C, 1)."""
    y = _output(x, stride)
    _call("convolve", stride, x, mean, kernel, bias, y)
    return y


def parameter_gradients(x: Tensor, mean: Tensor, grad_output: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The gradients of convolve to kernel and bias."""
    found = _like_parameters(x, mean, grad_output, stride)
    _call("parameter_gradients", stride, x, mean, grad_output, *found)
    return found


def input_gradient(  # noqa: PLR0913, PLR0917
    x: Tensor, mean: Tensor, grad_output: Tensor, mean_grad: Tensor, kernel: Tensor, weights: Tensor, stride: int
) -> Tensor:
    """What x receives where a patch is given kernel * (grad_output - mean_grad) + weights (p - mean)."""
    grad_input = torch.empty_like(x, memory_format=torch.contiguous_format)
    _call("input_gradient", stride, x, mean, grad_output, mean_grad, kernel, weights, grad_input)
    return grad_input


def _like_moments(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    shape = (x.shape[1], TAPS)
    return x.new_empty(shape, dtype=torch.float64), x.new_empty(*shape, TAPS, dtype=torch.float64)


def _like_parameters(x: Tensor, mean: Tensor, grad_output: Tensor, stride: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return x.new_empty(x.shape[1], 1, TAPS), x.new_empty(x.shape[1], 1)


OPERATORS = registered(
    "depthwise",
    {
        moments: _like_moments,
        convolve: lambda x, mean, kernel, bias, stride: _output(x, stride),  # noqa: ARG005
        parameter_gradients: _like_parameters,
        input_gradient: lambda x, *others: torch.empty_like(x, memory_format=torch.contiguous_format),  # noqa: ARG005
    },
)
