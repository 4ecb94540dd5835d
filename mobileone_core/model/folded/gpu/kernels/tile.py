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
def beside(column, channel, valid, width, of_channel, of_column, low: tl.constexpr, high: tl.constexpr):
    """Of the columns from low to high beside every place: where they lie in a row, and whether inside the image."""
    places, inside = (), ()
    for across in tl.static_range(low, high + 1):
        places = places + ((column + across) * of_column + channel * of_channel,)
        inside = inside + (valid & (column + across >= 0) & (column + across < width),)
    return places, inside


@triton.jit
def line(image, row, height, of_row, places, inside):
    """x at these places of a row of an image (a scalar pointer), in float32; 0 outside."""
    start, exists = image + row * of_row, (row >= 0) & (row < height)
    values = ()
    for index in tl.static_range(len(places)):
        seen = tl.load(start + places[index], mask=inside[index] & exists, other=0.0)
        values = values + (seen.to(tl.float32),)
    return values


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
    """The sums of tiles over the chosen columns, to rows first, first + 1, ... of out (.., C) at the channels."""
    for index in tl.static_range(len(tiles)):
        total = tl.sum(tl.where(chosen, tiles[index], 0.0), 0)
        tl.store(out + (first + index) * channels, total[None, :], mask=known)
