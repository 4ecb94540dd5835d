"""1x1 convolutions by Triton kernels: moments of the input, and what they send back, as matrix products."""

from typing import NamedTuple

import torch
from torch import Tensor

from mobileone_core.model.folded.gpu.dispatch import INTERPRETED
from mobileone_core.model.folded.gpu.kernels.pointwise import blend, cross_products, products
from mobileone_core.model.folded.gpu.layout import PROGRAMS, dense, laid_as, launch, plain, power_of_two, shift

DEPTH = 32  # channels or positions that meet at a time
POSITIONS = 128  # that a program of the way back holds
LEAST = 16  # of a side of a matrix product


class Lines(NamedTuple):
    """Positions in all, positions a line, and strides of line, channel and position."""

    positions: int
    line: int
    of_line: int
    of_channel: int
    of_position: int


def lines(x: Tensor) -> Lines:
    """Of x (N, C, H, W): an image a line, or where channels lie together one line in all."""
    batch, channels, height, width = x.shape
    positions = batch * height * width
    if x.is_contiguous():
        return Lines(positions, height * width, x.stride(0), x.stride(1), 1)
    return Lines(positions, positions, 0, 1, channels)


def precision(x: Tensor) -> str:
    """Three products of halves: of bfloat16 for half types, of tf32 for float32. The interpreter multiplies exactly."""
    if INTERPRETED:
        return "ieee"
    return "tf32x3" if x.dtype == torch.float32 else "bf16x3"


def block(x: Tensor) -> tuple[int, int]:
    """Channels a tile, and warps: what shared memory of 100 KiB holds."""
    widest = 64 if x.dtype == torch.float32 else 128
    side = max(LEAST, min(widest, power_of_two(x.shape[1])))
    return side, 8 if side > 64 else 4


def parts(positions: int, places: int) -> tuple[int, int]:
    """Splits of the positions where there are so many tiles, and positions a split."""
    splits = max(1, min(PROGRAMS // places, positions // (4 * DEPTH)))
    return splits, -(-positions // (splits * DEPTH)) * DEPTH


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (N, C, H, W) -> mean (C) and covariance (C, C) of its channels, float32."""
    x = dense(x)
    channels, place, level = x.shape[1], lines(x), shift(x)
    side, warps = block(x)
    places = -(-channels // side)
    splits, span = parts(place.positions, places * (places + 1) // 2)
    out = x.new_empty(splits, channels, channels, dtype=torch.float32)
    sums = x.new_empty(splits, channels, dtype=torch.float32)
    blocks = {"precision": precision(x), "block_channels": side, "block_positions": DEPTH}
    grid = (places, places, splits)
    launch(products, grid, x, level, out, sums, channels, *place, span, **blocks, num_warps=warps)
    mean = sums.sum(0, dtype=torch.float64) / place.positions
    covariance = out.sum(0, dtype=torch.float64) / place.positions - torch.outer(mean, mean)
    return plain(mean + level), plain(covariance)


def moments_backward(x: Tensor, mean: Tensor, weights: Tensor, constants: Tensor, onto: Tensor | None) -> Tensor:
    """weights (x - mean) + constants at every position, and what x has received, onto.

    mean and constants (C), weights (C, C), symmetric; onto and the result as x, (N, C, H, W).
    """
    x = dense(x)
    channels, place, out = x.shape[1], lines(x), torch.empty_like(x)
    side, warps = block(x)
    blocks = {"adds": onto is not None, "precision": precision(x)}
    blocks |= {"block_channels": side, "block_positions": POSITIONS, "block_depth": DEPTH}
    grid = (-(-channels // side) * -(-place.positions // POSITIONS),)
    given = (*map(plain, (mean, weights, constants)), laid_as(x, onto), out)
    launch(blend, grid, x, *given, channels, *place, **blocks, num_warps=warps)
    return out


def parameter_gradients(x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a convolution to its kernel (O, C) over x less mean (C), and to its bias (O)."""
    x, grad_output = dense(x), dense(grad_output)
    channels, outputs = x.shape[1], grad_output.shape[1]
    side, warps = block(x)
    places = -(-outputs // side), -(-channels // side)
    splits, span = parts(lines(x).positions, places[0] * places[1])
    out = x.new_empty(splits, outputs, channels, dtype=torch.float32)
    sums = x.new_empty(splits, outputs, dtype=torch.float32)
    blocks = {"precision": precision(x), "block_channels": side, "block_positions": DEPTH}
    given = (plain(mean), grad_output, sums.new_zeros(outputs), out, sums)
    sizes = (channels, *lines(x), outputs, *lines(grad_output)[1:], span)
    launch(cross_products, (*places, splits), x, *given, *sizes, **blocks, num_warps=warps)
    return plain(out.sum(0, dtype=torch.float64)), plain(sums.sum(0, dtype=torch.float64))


def like_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    channels = x.shape[1]
    return x.new_empty(channels, dtype=torch.float32), x.new_empty(channels, channels, dtype=torch.float32)


def like_parameters(x: Tensor, mean: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
    return mean.new_empty(grad_output.shape[1], x.shape[1]), mean.new_empty(grad_output.shape[1])
