"""Autocorrelations of a depthwise block's input, from which the products of its taps follow at stride 1.

13 products a value stand for the taps' 45. What the border takes away of them is summed beside them: the same along
the first and last row and column; and sums of the two rows and columns next to each border.
"""

import triton
import triton.language as tl

from mobileone_core.model.folded.gpu.kernels.tile import beside, line, place, plus, write, zeros


@triton.jit
def _less(values, level, inside):
    """z = x - shift, 0 outside the image."""
    shifted = ()
    for index in tl.static_range(len(values)):
        shifted = shifted + (tl.where(inside[index], values[index] - level, 0.0),)
    return shifted


@triton.jit
def _along(here):
    """Products of a value with itself and the two to its right, and the value."""
    return (here[0] * here[0], here[0] * here[1], here[0] * here[2], here[0])


@triton.jit
def _across(past, here):
    """Products of a row above with the row here: z(i, j) z(i + d, j + e) for e = -2 ... 2."""
    return (past[2] * here[0], past[1] * here[0], past[0] * here[0], past[0] * here[1], past[0] * here[2])


@triton.jit
def _mark(out, tiles, chosen, first: tl.constexpr, channels):
    """The values of tiles at one place chosen, to rows first, first + 1, ... of out."""
    for index in tl.static_range(len(tiles)):
        tl.store(out + (first + index) * channels + tl.zeros_like(chosen).to(tl.int32), tiles[index], mask=chosen)


@triton.jit
def _store(target, sums, top, bottom, second, column, width, channels, known):
    """Sums of all columns; of the border's columns their own."""
    write(target, sums + top + bottom + second, column < width, 0, channels, known)
    left, right, vertical = known & (column == 0), known & (column == width - 1), (sums[0], sums[5], sums[10])
    _mark(target, vertical, left, 24, channels)
    _mark(target, vertical, right, 27, channels)
    _mark(target, (top[0], bottom[0]), left, 30, channels)
    _mark(target, (top[0], bottom[0]), right, 32, channels)
    lines = (sums[13], top[3], second[0], second[1], bottom[3])
    _mark(target, lines, left, 34, channels)
    _mark(target, lines, known & (column == 1), 39, channels)
    _mark(target, lines, known & (column == width - 2), 44, channels)
    _mark(target, lines, right, 49, channels)


@triton.jit
def lag_sums(
    x,  # (N, C, H, W), of two rows and columns or more
    shift,  # (C)
    out,  # (programs, 54, C), zeros: as gpu.lags names them
    batch,
    channels,
    height,
    width,
    of_image,
    of_channel,
    of_row,
    of_column,
    images,
    block_columns: tl.constexpr,
    block_channels: tl.constexpr,
):
    """Of z = x - shift, 0 outside the image."""
    column, channel = place(block_columns, block_channels)
    known = channel < channels
    level = tl.load(shift + channel, mask=known, other=0.0)
    places, inside = beside(column, channel, known, width, of_channel, of_column, 0, 2)
    sums, second = zeros(14, block_columns, block_channels), zeros(2, block_columns, block_channels)
    top, bottom = zeros(4, block_columns, block_channels), zeros(4, block_columns, block_channels)
    first = tl.program_id(0) * images
    start = x + first.to(tl.int64) * of_image
    for index in range(tl.minimum(images, batch - first)):
        image = start + index * of_image
        above, higher = zeros(3, block_columns, block_channels), zeros(3, block_columns, block_channels)
        for row in range(height):
            here = _less(line(image, row, height, of_row, places, inside), level, inside)
            own = _along(here)
            lags = (own[0], own[1], own[2]) + _across(above, here) + _across(higher, here)
            sums = plus(sums, lags + (here[0],))
            higher = above
            above = here
        bottom = plus(bottom, _along(above))
        top = plus(top, _along(_less(line(image, 0, height, of_row, places, inside), level, inside)))
        low = _less(line(image, 1, height, of_row, places, inside), level, inside)
        second = plus(second, (low[0], higher[0]))
    group = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    target = out + group * 54 * channels + channel
    _store(target, sums, top, bottom, second, column, width, channels, known)
