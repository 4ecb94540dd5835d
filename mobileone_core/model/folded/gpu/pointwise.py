"""1x1 convolutions by Triton kernels: moments of the input, and their gradients, as matrix products."""

import torch
from torch import Tensor

from mobileone_core.model.folded.gpu.kernels.pointwise import input_gradient as input_gradient_kernel
from mobileone_core.model.folded.gpu.kernels.pointwise import position_sums
from mobileone_core.model.folded.gpu.layout import INTERPRETED, PROGRAMS, contiguous, dense, launch, power_of_two, shift
from mobileone_core.model.folded.operators import operator

DEPTH = 32  # channels or positions multiplied at a time
POSITIONS = 128  # per program of input_gradient
LEAST_SIDE = 16  # of a matrix product


def layout(x: Tensor) -> tuple[int, ...]:
    """Channels and positions of x (N, C, H, W), positions per image, and strides of image, channel and position."""
    batch, channels, height, width = x.shape
    area = height * width
    strides = (area, 1) if x.is_contiguous() else (1, channels)
    return channels, batch * area, area, channels * area, *strides


def precision(x: Tensor) -> str:
    """Three products of halves: of bfloat16 for half types, of tf32 for float32. The interpreter multiplies exactly."""
    if INTERPRETED:
        return "ieee"
    return "tf32x3" if x.dtype == torch.float32 else "bf16x3"


def block(x: Tensor) -> tuple[int, int]:
    """Channels per tile, and warps: as many as fit into 100 KiB of shared memory."""
    widest = 64 if x.dtype == torch.float32 else 128
    side = max(LEAST_SIDE, min(widest, power_of_two(x.shape[1])))
    return side, 8 if side > 64 else 4


def splits_of(positions: int, tiles: int) -> int:
    """Number of programs that share a tile's sum over positions, so that those of all tiles fill the GPU."""
    return max(1, min(PROGRAMS // tiles, positions // (4 * DEPTH)))


def _empty_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    channels = x.shape[1]
    return x.new_empty(channels, dtype=torch.float32), x.new_empty(channels, channels, dtype=torch.float32)


@operator("triton_pointwise", _empty_moments)
def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C) and covariance (C, C) of the channels of x (N, C, H, W), in float32."""
    x = dense(x)
    near_mean, positions = shift(x), layout(x)[1]
    squares, sums = _products(x, near_mean, x, near_mean)
    mean = sums / positions
    covariance = squares / positions - torch.outer(mean, mean)
    return contiguous(mean + near_mean), contiguous(covariance)


def _empty_parameters(x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
    return mean.new_empty(grad_output.shape[1], x.shape[1]), mean.new_empty(grad_output.shape[1])


@operator("triton_pointwise", _empty_parameters)
def parameter_gradients(x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a convolution of x less its mean (C): to kernel (O, C) and bias (O)."""
    y = dense(grad_output)
    zero = y.new_zeros(y.shape[1], dtype=torch.float32)
    grad_weight, grad_bias = _products(dense(x), contiguous(mean), y, zero)
    return contiguous(grad_weight), contiguous(grad_bias)


@operator("triton_pointwise", lambda x, *_: torch.empty_like(dense(x)))
def input_gradient(x: Tensor, mean: Tensor, weights: Tensor, constants: Tensor, other: Tensor) -> Tensor:
    """weights (x - mean) + constants + other at every position.

    mean and constants (C), weights (C, C), symmetric; other and the result as x, (N, C, H, W).
    """
    x = dense(x)
    shape, out = layout(x), torch.empty_like(x)
    side, warps = block(x)
    options = {"precision": precision(x), "block": (side, POSITIONS, DEPTH)}
    grid = (-(-shape[0] // side) * -(-shape[1] // POSITIONS),)
    other = other if other.stride() == x.stride() else torch.empty_like(x).copy_(other)
    tensors = (*map(contiguous, (mean, weights, constants)), other, out)
    launch(input_gradient_kernel, grid, x, *tensors, shape, **options, num_warps=warps)
    return out


def _products(x: Tensor, x_shift: Tensor, y: Tensor, y_shift: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over positions of (y - y_shift) (x - x_shift)^T, (O, C), and of y - y_shift, (O), in float64."""
    x_layout, y_layout, symmetric = layout(x), layout(y), x_shift is y_shift
    side, warps = block(x)
    rows, columns = -(-y_layout[0] // side), -(-x_layout[0] // side)
    splits = splits_of(x_layout[1], rows * (rows + 1) // 2 if symmetric else rows * columns)
    out = x.new_empty(splits, y_layout[0], x_layout[0], dtype=torch.float32)
    sums = x.new_empty(splits, y_layout[0], dtype=torch.float32)
    options = {"symmetric": symmetric, "precision": precision(x), "block": (side, DEPTH)}
    tensors = (x_shift, x_layout, y, y_shift, y_layout, out, sums)
    launch(position_sums, (rows, columns, splits), x, *tensors, **options, num_warps=warps)
    return out.sum(0, dtype=torch.float64), sums.sum(0, dtype=torch.float64)
