"""What the depthwise kernels share: a program's tile of columns by channels, and tuples of such tiles.

A program walks down the rows of a few images. What it reads again, for the next tap or the next row, lies in a cache:
from memory a value comes once. Sums are kept for every place of the tile and written by every program apart.
"""

import triton
import triton.language as tl


@triton.jit
def place(block_columns: tl.constexpr, block_channels: tl.constexpr):
    """Columns (columns, 1) and channels (1, channels) of this program's tile."""
    columns = tl.program_id(1) * block_columns + tl.arange(0, block_columns)
    channels = tl.program_id(2) * block_channels + tl.arange(0, block_channels)
    return columns[:, None], channels[None, :]


@triton.jit
def value(image, row, column, channel, height, width, of_channel, of_row, of_column, valid):
    """Of an image (a scalar pointer) x at a row (a scalar) and every column and channel, float32; 0 outside."""
    inside = valid & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    line = image + row * of_row
    return tl.load(line + (column * of_column + channel * of_channel), mask=inside, other=0.0).to(tl.float32)


@triton.jit
def zeros(count: tl.constexpr, block_columns: tl.constexpr, block_channels: tl.constexpr):
    """So many tiles of zeros."""
    zero = tl.zeros((block_columns, block_channels), tl.float32)
    tiles = ()
    for _ in tl.static_range(count):
        tiles = tiles + (zero,)
    return tiles


@triton.jit
def plus(sums, values):
    """Two tuples added value by value."""
    added = ()
    for index in tl.static_range(len(sums)):
        added = added + (sums[index] + values[index],)
    return added


@triton.jit
def write(out, tiles, chosen, first: tl.constexpr, channels, known):
    """The sums of tiles over the chosen columns, to rows first, first + 1, ... of out (.., C) at this tile's channels."""
    for index in tl.static_range(len(tiles)):
        total = tl.sum(tl.where(chosen, tiles[index], 0.0), 0)
        tl.store(out + (first + index) * channels, total[None, :], mask=known)
