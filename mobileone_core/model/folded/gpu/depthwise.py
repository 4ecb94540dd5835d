"""Depthwise 3x3 by Triton kernels: moments of the patches, and what they send back."""

from functools import cache

import torch
from torch import Tensor

from mobileone_core.model.folded.geometry import output_sizes
from mobileone_core.model.folded.gpu.kernels.gradient import spread
from mobileone_core.model.folded.gpu.kernels.lags import lag_sums
from mobileone_core.model.folded.gpu.kernels.taps import kernel_sums, tap_sums
from mobileone_core.model.folded.gpu.lags import SUMS, moments_of_lags
from mobileone_core.model.folded.gpu.layout import dense, launch, plain, shift, tiles

TAPS = 9
PRODUCTS = TAPS * (TAPS + 1) // 2
WARPS = 4


def moments(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """x (N, C, H, W) -> mean (C, 9) and covariance (C, 9, 9) of its patches with padding 1.

    In float64 where x is float32, else in float32. Two output rows and columns or more.
    """
    x = dense(x)
    level = shift(x)
    mean, covariance = _from_lags(x, level) if stride == 1 else _from_taps(x, level, stride)
    return plain(mean, _finest(x)), plain(covariance, _finest(x))


def _from_lags(x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    cut = tiles(x, x.shape[3], x.shape[2], 2)
    out = x.new_zeros(cut.grid[0] * cut.grid[1], SUMS, x.shape[1], dtype=torch.float32)
    blocks = {"block_columns": cut.columns, "block_channels": cut.channels}
    launch(lag_sums, cut.grid, x, level, out, *x.shape, *x.stride(), cut.images, **blocks, num_warps=WARPS)
    return moments_of_lags(out.sum(0, dtype=torch.float64), level, (x.shape[2], x.shape[3]), x.shape[0])


def _from_taps(x: Tensor, level: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    rows, columns = output_sizes(x.shape, stride)
    cut = tiles(x, columns, rows)
    out = x.new_empty(cut.grid[0] * cut.grid[1], TAPS + PRODUCTS, x.shape[1], dtype=torch.float32)
    blocks = {"stride": stride, "block_columns": cut.columns, "block_channels": cut.channels}
    sizes = (*x.shape, *x.stride(), cut.images, rows, columns)
    launch(tap_sums, cut.grid, x, level, out, *sizes, **blocks, num_warps=WARPS)
    sums = out.sum(0, dtype=torch.float64).T / (x.shape[0] * rows * columns)
    mean, products = sums[:, :TAPS], sums[:, _pairs(x.device)].view(-1, TAPS, TAPS)
    return mean + level.unsqueeze(-1), products - mean.unsqueeze(-1) * mean.unsqueeze(-2)


def input_gradient(  # noqa: PLR0913, PLR0917
    x: Tensor, weights: Tensor, constants: Tensor, grad_output: Tensor | None, kernel: Tensor | None, stride: int
) -> Tensor:
    """What x receives where every patch is given weights p + constants, and kernel * grad_output where there is one.

    weights (C, 9, 9), constants (C, 9), kernel (C, 1, 9); grad_output (N, C, H', W'), the result as x (N, C, H, W).
    """
    x = dense(x)
    out, cut = torch.empty_like(x), tiles(x, x.shape[3])
    weights, constants = (plain(values.flatten(1).T) for values in (weights, constants))
    filters = constants if kernel is None else plain(kernel.flatten(1).T)
    given = x if grad_output is None else grad_output
    height, (rows, columns) = x.shape[2], output_sizes(x.shape, stride)
    last = max(height - 1, 1) if stride == 1 else height - 1 + height % 2
    grid = (3 * cut.grid[0], *cut.grid[1:])  # three kinds of rows
    sizes = (*x.shape, *x.stride(), *given.stride(), cut.images, rows, columns, last)
    blocks = {"receives": grad_output is not None, "stride": stride}
    blocks |= {"block_columns": cut.columns, "block_channels": cut.channels}
    launch(spread, grid, x, weights, constants, given, filters, out, *sizes, **blocks, num_warps=WARPS)
    return out


def parameter_gradients(x: Tensor, mean: Tensor, grad_output: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The gradients of a convolution to its kernel (C, 1, 9) over x less mean (C, 9), and to its bias (C, 1)."""
    x = dense(x)
    rows, columns = output_sizes(x.shape, stride)
    cut = tiles(x, columns, rows)
    out = x.new_empty(cut.grid[0] * cut.grid[1], TAPS + 1, x.shape[1], dtype=torch.float32)
    blocks = {"stride": stride, "block_columns": cut.columns, "block_channels": cut.channels}
    sizes = (*x.shape, *x.stride(), *grad_output.stride(), cut.images, rows, columns)
    launch(kernel_sums, cut.grid, x, plain(mean.T), grad_output, out, *sizes, **blocks, num_warps=WARPS)
    sums = out.sum(0, dtype=torch.float64).T.unsqueeze(1)
    return plain(sums[..., :TAPS], mean.dtype), plain(sums[:, :, TAPS], mean.dtype)


def like_moments(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    mean = x.new_empty(x.shape[1], TAPS, dtype=_finest(x))
    return mean, x.new_empty(x.shape[1], TAPS, TAPS, dtype=_finest(x))


def like_parameters(x: Tensor, mean: Tensor, grad_output: Tensor, stride: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return mean.new_empty(x.shape[1], 1, TAPS), mean.new_empty(x.shape[1], 1)


def _finest(x: Tensor) -> torch.dtype:
    """What little there is of moments is kept in: of neighbouring pixels, much alike, float32 keeps too few digits."""
    return torch.float64 if x.dtype == torch.float32 else torch.float32


@cache
def _pairs(device: torch.device) -> Tensor:
    """Where tap_sums keeps the product of taps t and t': (81)."""
    low, high = torch.triu_indices(TAPS, TAPS)
    places = torch.empty(TAPS, TAPS, dtype=torch.long)
    places[low, high] = places[high, low] = TAPS + torch.arange(PRODUCTS)
    return places.flatten().to(device)
