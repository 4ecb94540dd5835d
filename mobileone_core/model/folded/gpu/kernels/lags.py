"""Autocorrelations of a depthwise block's input, from which the products of its taps follow at stride 1.

13 products per value replace the taps' 45. To correct them at the borders, the kernel also sums the same products along
the first and last row and column, and the values of the two rows and columns next to each border.
"""

import triton
import triton.language as tl

from mobileone_core.model.folded.gpu.kernels import tile


@triton.jit
def _along(row):
    """Products of a value with itself and the two to its right, and the value."""
    return (row[0] * row[0], row[0] * row[1], row[0] * row[2], row[0])


@triton.jit
def _across(above, row):
    """Products with a row above: z(i, j) z(i + d, j + e) for e = -2 ... 2."""
    return (above[2] * row[0], above[1] * row[0], above[0] * row[0], above[0] * row[1], above[0] * row[2])


@triton.jit
def _store_column(rows, tiles, mask, first: tl.constexpr, channels):
    """Store the values of tiles at the one column of a mask to rows first, first + 1, ..."""
    for index in tl.static_range(len(tiles)):
        tl.store(rows + (first + index) * channels + tl.zeros_like(mask).to(tl.int32), tiles[index], mask=mask)


@triton.jit
def _store(rows, sums, top, bottom, second, column, width, channels, channel_mask):
    """Store the sums over all columns, and those of each border column."""
    tile.store_sums(rows, sums + top + bottom + second, column < width, channels, channel_mask)
    left, right, vertical = (
        channel_mask & (column == 0),
        channel_mask & (column == width - 1),
        (sums[0], sums[5], sums[10]),
    )
    _store_column(rows, vertical, left, 24, channels)
    _store_column(rows, vertical, right, 27, channels)
    _store_column(rows, (top[0], bottom[0]), left, 30, channels)
    _store_column(rows, (top[0], bottom[0]), right, 32, channels)
    lines = (sums[13], top[3], second[0], second[1], bottom[3])
    _store_column(rows, lines, left, 34, channels)
    _store_column(rows, lines, channel_mask & (column == 1), 39, channels)
    _store_column(rows, lines, channel_mask & (column == width - 2), 44, channels)
    _store_column(rows, lines, right, 49, channels)


@triton.jit
def lag_sums(x, shift, out, shape, strides, images, block: tl.constexpr):
    """Sums over z = x - shift, 0 outside the image, to the zeros of out (programs, 54, C), as gpu/lags.py names them.

    x has two rows and columns or more; shift (C).
    """
    batch, channels, height, width = shape
    column, channel, channel_mask = tile.indices(channels, block)
    level = tl.load(shift + channel, mask=channel_mask, other=0.0)
    offsets, inside = tile.neighbours(column, channel, channel_mask, width, strides, 0, 2)
    sums, second = tile.zeros(14, block), tile.zeros(2, block)
    top, bottom = tile.zeros(4, block), tile.zeros(4, block)
    first = tl.program_id(0) * images
    start = tile.advance(x, first, strides[0])
    for index in range(tl.minimum(images, batch - first)):
        image = start + index * strides[0]
        above, higher = tile.zeros(3, block), tile.zeros(3, block)
        for row in range(height):
            here = tile.centred(tile.load_row(image, row, height, strides[2], offsets, inside), level, inside)
            along = _along(here)
            lags = (along[0], along[1], along[2]) + _across(above, here) + _across(higher, here)
            sums = tile.add(sums, lags + (here[0],))
            higher = above
            above = here
        bottom = tile.add(bottom, _along(above))
        high = tile.centred(tile.load_row(image, 0, height, strides[2], offsets, inside), level, inside)
        top = tile.add(top, _along(high))
        low = tile.centred(tile.load_row(image, 1, height, strides[2], offsets, inside), level, inside)
        second = tile.add(second, (low[0], higher[0]))
    rows = tile.program_rows(out, 54, channels, channel)
    _store(rows, sums, top, bottom, second, column, width, channels, channel_mask)
