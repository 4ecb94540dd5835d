"""Cutting a tensor into programs, from its shape and strides alone, and launching kernels."""

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
PROGRAMS = 512  # enough for every multiprocessor to hold a few
TILE = 256  # values of a tile: two per thread
# products summed one by one in float32: those of neighbouring pixels are much alike, and roundings add up; half
# precisions are coarser anyway
TERMS = {torch.float32: 32, torch.bfloat16: 256, torch.float16: 256}
SAMPLED = 16  # every 16th row is averaged for a channel's shift


class Tiles(NamedTuple):
    """Columns and channels of a tile, images of a program; grid: groups of images, tiles of columns, of channels."""

    columns: int
    channels: int
    images: int
    grid: tuple[int, int, int]


def tiles(x: Tensor, columns_out: int, rows: int = 1) -> Tiles:
    """Cut x (N, C, H, W) into tiles of TILE values, widest along the contiguous axis, for sums over `rows` rows."""
    batch, channels = x.shape[:2]
    if x.stride(1) == 1 and channels > 1:
        across = min(64, power_of_two(channels))
        down = min(TILE // across, power_of_two(columns_out))
    else:
        down = min(64, power_of_two(columns_out))
        across = min(TILE // down, power_of_two(channels))
    counts = -(-columns_out // down), -(-channels // across)
    images = max(1, min(batch * counts[0] * counts[1] // PROGRAMS, TERMS[x.dtype] // rows))
    return Tiles(down, across, images, (-(-batch // images), *counts))


def contiguous(values: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Values in a dtype and contiguous, as the operators promise their results."""
    return values.to(dtype).contiguous()


def launch(kernel: Any, grid: tuple[int, ...], x: Tensor, *arguments: Any, **options: Any) -> None:
    """Launch a kernel on the device of its first argument x."""
    with torch.cuda.device(x.get_device()):  # -1, a CPU's, changes nothing
        kernel[grid](x, *arguments, **options)


def power_of_two(size: int) -> int:
    """Smallest power of two >= size."""
    return 1 << (size - 1).bit_length()


def dense(x: Tensor) -> Tensor:
    """x (N, C, H, W), contiguous or channels-last; copied only where it is neither."""
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x
    return x.contiguous()


def shift(x: Tensor) -> Tensor:
    """A value near each channel's mean, from a few rows of every image: (C), float32.

    The mean of a share f of the values lies within sqrt(1 / f - 1) standard deviations of the mean, whatever the values
    are: sums of squares about it are at most 1 / f times those about the mean, and lose no more digits than that.
    """
    step = min(SAMPLED, x.shape[2])
    return x[:, :, step // 2 :: step].mean((0, 2, 3), dtype=torch.float32)
