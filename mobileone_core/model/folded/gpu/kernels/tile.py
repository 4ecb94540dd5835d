"""Shared parts of the depthwise kernels: a program's tile of columns and channels, and tuples of such tiles.

A program walks down the rows of a few images. What it reads again, for the next tap or the next row, is in the cache:
each value comes from memory once. Sums are kept per element of the tile, and each program writes its own.
"""

import triton
import triton.language as tl


@triton.jit
def indices(channels, block: tl.constexpr):
    """Numbers of the columns (columns, 1) and channels (1, channels) of this program's tile; whether channels exist."""
    column = tl.program_id(1) * block[0] + tl.arange(0, block[0])
    channel = tl.program_id(2) * block[1] + tl.arange(0, block[1])
    return column[:, None], channel[None, :], channel[None, :] < channels


@triton.jit
def advance(pointer, images, image_stride):
    """A pointer to image 0, moved on by a number of images."""
    return pointer + images.to(tl.int64) * image_stride


@triton.jit
def neighbours(column, channel, mask, width, strides, low: tl.constexpr, high: tl.constexpr):
    """Offsets in a row of the columns low ... high around each column, and whether they are inside the image."""
    offsets, inside = (), ()
    for across in tl.static_range(low, high + 1):
        offsets = offsets + ((column + across) * strides[3] + channel * strides[1],)
        inside = inside + (mask & (column + across >= 0) & (column + across < width),)
    return offsets, inside


@triton.jit
def load_row(image, row, height, row_stride, offsets, inside):
    """Load these offsets of a row of an image (a scalar pointer) in float32; 0 outside the image."""
    start, exists = image + row * row_stride, (row >= 0) & (row < height)
    values = ()
    for index in tl.static_range(len(offsets)):
        value = tl.load(start + offsets[index], mask=inside[index] & exists, other=0.0)
        values = values + (value.to(tl.float32),)
    return values


@triton.jit
def load_taps(image, row, height, row_stride, offsets, inside):
    """Load the rows above, at and below a row: the nine taps of each column."""
    taps = load_row(image, row - 1, height, row_stride, offsets, inside)
    taps = taps + load_row(image, row, height, row_stride, offsets, inside)
    return taps + load_row(image, row + 1, height, row_stride, offsets, inside)


@triton.jit
def centred(values, centres, mask):
    """Each value less its centre, 0 where the mask is false."""
    results = ()
    for index in tl.static_range(len(values)):
        results = results + (tl.where(mask, values[index] - centres[index], 0.0),)
    return results


@triton.jit
def load_rows(rows, count: tl.constexpr, channels, channel_mask):
    """The values of a tile's channels in each row of (count, C); rows points to those of the first."""
    values = ()
    for index in tl.static_range(count):
        values = values + (tl.load(rows + index * channels, mask=channel_mask, other=0.0),)
    return values


@triton.jit
def zeros(count: tl.constexpr, block: tl.constexpr):
    """A tuple of tiles of zeros."""
    zero = tl.zeros(block, tl.float32)
    tiles = ()
    for _ in tl.static_range(count):
        tiles = tiles + (zero,)
    return tiles


@triton.jit
def add(sums, values):
    """Add two tuples value by value."""
    results = ()
    for index in tl.static_range(len(sums)):
        results = results + (sums[index] + values[index],)
    return results
