"""Depthwise 3x3 by Triton kernels: moments of the patches, and their gradients, as operators of torch."""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mobileone_core.model.folded.geometry import output_sizes
from mobileone_core.model.folded.gpu.kernels.gradient import input_gradient as input_gradient_kernel
from mobileone_core.model.folded.gpu.kernels.taps import tap_sums
from mobileone_core.model.folded.gpu.layout import Tiles, contiguous, dense, launch, shift, tiles
from mobileone_core.model.folded.operators import operator

TAPS = 9
PRODUCTS = TAPS * (TAPS + 1) // 2
WARPS = 4


def _moments_dtype(x: Tensor) -> torch.dtype:
    """float64 for float32 inputs: the moments of neighbouring pixels, much alike, need its digits, and are small."""
    return torch.float64 if x.dtype == torch.float32 else torch.float32


def _empty_moments(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    shape, dtype = (x.shape[1], TAPS), _moments_dtype(x)
    return x.new_empty(shape, dtype=dtype), x.new_empty(*shape, TAPS, dtype=dtype)


@operator("triton_depthwise", _empty_moments)
def moments(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Mean (C, 9) and covariance (C, 9, 9) of the patches of x (N, C, H, W) with padding 1.

    In float64 where x is float32, else in float32. x must give two output rows and columns or more.
    """
    x = dense(x)
    near_mean = shift(x)
    sums = _tap_sums(x, near_mean.expand(TAPS, -1), None, stride)
    sums = sums.T / (x.shape[0] * math.prod(output_sizes(x.shape, stride)))
    mean, products = sums[:, :TAPS], sums[:, _pairs(x.device)].view(-1, TAPS, TAPS)
    covariance = products - mean.unsqueeze(-1) * mean.unsqueeze(-2)
    dtype = _moments_dtype(x)
    return contiguous(mean + near_mean.unsqueeze(-1), dtype), contiguous(covariance, dtype)


def _empty_parameters(x: Tensor, mean: Tensor, grad_output: Tensor, stride: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return mean.new_empty(x.shape[1], 1, TAPS), mean.new_empty(x.shape[1], 1)


@operator("triton_depthwise", _empty_parameters)
def parameter_gradients(x: Tensor, mean: Tensor, grad_output: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The gradients of a convolution of patches less their mean (C, 9): to kernel (C, 1, 9) and bias (C, 1)."""
    sums = _tap_sums(dense(x), mean.T, grad_output, stride).T.unsqueeze(1)
    return contiguous(sums[..., :TAPS], mean.dtype), contiguous(sums[:, :, TAPS], mean.dtype)


@operator("triton_depthwise", lambda x, *_: torch.empty_like(dense(x)))
def input_gradient(  # noqa: PLR0913, PLR0917
    x: Tensor, weights: Tensor, constants: Tensor, grad_output: Tensor, kernel: Tensor, stride: int
) -> Tensor:
    """The gradient of x, where that of a patch p is weights p + constants + kernel * grad_output.

    weights (C, 9, 9), constants (C, 9), kernel (C, 1, 9); grad_output (N, C, H', W'), the result as x (N, C, H, W).
    """
    x = dense(x)
    out, cut = torch.empty_like(x), tiles(x, x.shape[3])
    weights, constants, filters = (contiguous(values.flatten(1).T) for values in (weights, constants, kernel))
    height = x.shape[2]
    last = max(height - 1, 1) if stride == 1 else height - 1 + height % 2
    sizes = (*output_sizes(x.shape, stride), last)
    cut = cut._replace(grid=(3 * cut.grid[0], *cut.grid[1:]))  # three kinds of rows
    tensors = (x, weights, constants, grad_output, filters, out)
    _launch(input_gradient_kernel, cut, tensors, grad_output.stride(), sizes, stride=stride)
    return out


def _tap_sums(x: Tensor, centres: Tensor, y: Tensor | None, stride: int) -> Tensor:
    """The sums of kernels/taps.py over all programs, in float64: (54, C) without y, else (10, C)."""
    rows, columns = output_sizes(x.shape, stride)
    cut, count = tiles(x, columns, rows), TAPS + PRODUCTS if y is None else TAPS + 1
    out = x.new_zeros(cut.grid[0] * cut.grid[1], count, x.shape[1], dtype=torch.float32)
    tensors = (x, contiguous(centres), x if y is None else y, out)
    _launch(tap_sums, cut, tensors, tensors[2].stride(), (rows, columns), pairs=y is None, stride=stride)
    return out.sum(0, dtype=torch.float64)


def _launch(kernel: Any, cut: Tiles, tensors: tuple[Tensor, ...], *sizes: Any, **options: Any) -> None:
    x, options = tensors[0], {**options, "block": (cut.columns, cut.channels), "num_warps": WARPS}
    launch(kernel, cut.grid, *tensors, tuple(x.shape), x.stride(), cut.images, *sizes, **options)


@cache
def _pairs(device: torch.device) -> Tensor:
    """The index in tap_sums of the product of taps t and t', for each pair: (81)."""
    low, high = torch.triu_indices(TAPS, TAPS, device=device)
    indices = torch.empty(TAPS, TAPS, dtype=torch.long, device=device)
    indices[low, high] = indices[high, low] = TAPS + torch.arange(PRODUCTS, device=device)
    return indices.flatten()
