"""Moments of a depthwise 3x3 block's input by Triton kernels, as operators that torch.compile leaves whole."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from mobileone_core.model.folded.gpu.kernels.gradient import spread
from mobileone_core.model.folded.gpu.kernels.lags import lag_sums
from mobileone_core.model.folded.gpu.kernels.taps import tap_sums
from mobileone_core.model.folded.gpu.lags import SUMS, moments
from mobileone_core.model.folded.gpu.layout import dense, launch, plain, shift, tiles

TAPS = 9
PRODUCTS = TAPS * (TAPS + 1) // 2
WARPS = 4


@custom_op("mobileone::depthwise_moments", mutates_args=())
def depthwise_moments(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """x (N, C, H, W) -> mean (C, 9) and covariance (C, 9, 9) of its patches with padding 1, float32.

    Two output rows and columns or more.
    """
    x = dense(x)
    level = shift(x)
    return _from_lags(x, level) if stride == 1 else _from_taps(x, level, stride)


def _from_lags(x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    cut = tiles(x, x.shape[3])
    out = x.new_zeros(cut.grid[0] * cut.grid[1], SUMS, x.shape[1], dtype=torch.float32)
    blocks = {"block_columns": cut.columns, "block_channels": cut.channels}
    launch(lag_sums, cut.grid, x, level, out, *x.shape, *x.stride(), cut.images, **blocks, num_warps=WARPS)
    return moments(out.sum(0, dtype=torch.float64), level, (x.shape[2], x.shape[3]), x.shape[0])


def _from_taps(x: Tensor, level: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    rows, columns = _sizes(x, stride)
    cut = tiles(x, columns)
    out = x.new_empty(cut.grid[0] * cut.grid[1], TAPS + PRODUCTS, x.shape[1], dtype=torch.float32)
    blocks = {"stride": stride, "block_columns": cut.columns, "block_channels": cut.channels}
    sizes = (*x.shape, *x.stride(), cut.images, rows, columns)
    launch(tap_sums, cut.grid, x, level, out, *sizes, **blocks, num_warps=WARPS)
    sums = out.sum(0, dtype=torch.float64).T / (x.shape[0] * rows * columns)
    mean, products = sums[:, :TAPS], sums[:, _pairs(x.device)].view(-1, TAPS, TAPS)
    covariance = products - mean.unsqueeze(-1) * mean.unsqueeze(-2)
    return plain(mean + level.unsqueeze(-1)), plain(covariance)


@depthwise_moments.register_fake
def _(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    mean = x.new_empty(x.shape[1], TAPS, dtype=torch.float32)
    return mean, x.new_empty(x.shape[1], TAPS, TAPS, dtype=torch.float32)


@custom_op("mobileone::depthwise_moments_gradient", mutates_args=())
def depthwise_moments_gradient(x: Tensor, mean: Tensor, to_mean: Tensor, to_covariance: Tensor, stride: int) -> Tensor:
    """dx = sum over the taps that see a value of A (p - m) + dm / M, with A = (dS + dS^T) / M."""
    x = dense(x)
    channels, height, width = x.shape[1:]
    rows, columns = _sizes(x, stride)
    count, cut, out = x.shape[0] * rows * columns, tiles(x, width), torch.empty_like(x)
    weights = (to_covariance + to_covariance.transpose(1, 2)) / count
    constants = to_mean / count - (weights * mean.unsqueeze(1)).sum(-1)
    by_tap = weights.view(channels, -1).T.contiguous(), constants.T.contiguous()
    last = max(height - 1, 1) if stride == 1 else height - 1 + height % 2
    grid = (3 * cut.grid[0], *cut.grid[1:])  # three kinds of rows
    blocks = {"stride": stride, "block_columns": cut.columns, "block_channels": cut.channels}
    sizes = (*x.shape, *x.stride(), cut.images, rows, columns, last)
    launch(spread, grid, x, *by_tap, out, *sizes, **blocks, num_warps=WARPS)
    return out


@depthwise_moments_gradient.register_fake
def _(x: Tensor, mean: Tensor, to_mean: Tensor, to_covariance: Tensor, stride: int) -> Tensor:  # noqa: ARG001
    return torch.empty_like(dense(x))


def _keep(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    ctx.save_for_backward(inputs[0], output[0])
    ctx.stride = inputs[1]


def _backward(ctx: Any, to_mean: Tensor, to_covariance: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
    return depthwise_moments_gradient(*ctx.saved_tensors, to_mean, to_covariance, ctx.stride), None


depthwise_moments.register_autograd(_backward, setup_context=_keep)


def _sizes(x: Tensor, stride: int) -> tuple[int, int]:
    """Output rows and columns."""
    return (x.shape[2] - 1) // stride + 1, (x.shape[3] - 1) // stride + 1


@cache
def _pairs(device: torch.device) -> Tensor:
    """Where tap_sums keeps the product of taps t and t': (81)."""
    low, high = torch.triu_indices(TAPS, TAPS)
    places = torch.empty(TAPS, TAPS, dtype=torch.long)
    places[low, high] = places[high, low] = TAPS + torch.arange(PRODUCTS)
    return places.flatten().to(device)
