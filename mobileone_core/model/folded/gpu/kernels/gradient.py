"""The gradient of a depthwise block's moments: what a value receives from all taps that see it.

That is a 5x5 convolution of the input, with other weights where some tap sees a value from no output: at the borders,
and at stride 2 on every other row and column. There are three kinds of rows; a program takes the rows of one.
"""

import triton
import triton.language as tl

from mobileone_core.model.folded.gpu.kernels.tile import beside, line, place


@triton.jit
def _seen(position, size_out, stride: tl.constexpr):
    """Whether tap 0, 1, 2 of a line sees this row or column of the input from some output."""
    seen = ()
    for tap in tl.static_range(3):
        distance = position + 1 - tap
        seen = seen + ((distance >= 0) & (distance % stride == 0) & (distance // stride < size_out),)
    return seen


@triton.jit
def _weight(weights, channels, known, rows, columns, down: tl.constexpr, across: tl.constexpr):
    """The sum of A_tt' over taps t = (a, b) that see a place, t' = t + (down - 2, across - 2). weights (81, C)."""
    total = 0.0
    for a in tl.static_range(3):
        for b in tl.static_range(3):
            if a + down >= 2 and a + down < 5 and b + across >= 2 and b + across < 5:
                pair = weights + (9 * (3 * a + b) + 3 * (a + down - 2) + b + across - 2) * channels
                total = total + tl.load(pair, mask=known & rows[a] & columns[b], other=0.0)
    return total


@triton.jit
def _kernel(weights, channels, known, rows, columns):
    """The 25 weights of every place."""
    kernel = ()
    for index in tl.static_range(25):
        kernel = kernel + (_weight(weights, channels, known, rows, columns, index // 5, index % 5),)
    return kernel


@triton.jit
def _level(constants, channels, known, rows, columns):
    """The sum of k_t over taps that see a place. constants (9, C)."""
    total = 0.0
    for tap in tl.static_range(9):
        seen = rows[tap // 3] & columns[tap % 3]
        total = total + tl.load(constants + tap * channels, mask=known & seen, other=0.0)
    return total


@triton.jit
def spread(
    x,  # (N, C, H, W)
    weights,  # A (81, C)
    constants,  # k (9, C)
    onto,  # (N, C, H, W), laid out as x
    out,  # (N, C, H, W), laid out as x
    batch,
    channels,
    height,
    width,
    of_image,
    of_channel,
    of_row,
    of_column,
    images,
    rows_out,
    columns_out,
    last,  # where the third kind of rows begins, height where there is none
    adds: tl.constexpr,
    stride: tl.constexpr,
    block_columns: tl.constexpr,
    block_channels: tl.constexpr,
):
    """out(q) = the sum over taps t that see q of k_t + sum_t' A_tt' x(q + t' - t); where it adds, plus onto(q)."""
    column, channel = place(block_columns, block_channels)
    known = channel < channels
    valid = known & (column < width)
    kind, first = tl.program_id(0) % 3, tl.program_id(0) // 3 * images
    begin = tl.where(kind == 0, 0, tl.where(kind == 1, 1, last))
    end = tl.where(kind == 1, height - 1, height)
    if stride == 1:
        end = tl.where(kind == 0, 1, end)
    rows, columns = _seen(begin, rows_out, stride), _seen(column, columns_out, stride)
    level = _level(constants + channel, channels, known, rows, columns)
    kernel = _kernel(weights + channel, channels, known, rows, columns)
    places, inside = beside(column, channel, valid, width, of_channel, of_column, -2, 2)
    start = first.to(tl.int64) * of_image
    for index in range(tl.minimum(images, batch - first)):
        image = x + start + index * of_image
        for row in range(begin, end, stride):
            total = level
            for down in tl.static_range(5):
                values = line(image, row + down - 2, height, of_row, places, inside)
                for across in tl.static_range(5):
                    total += kernel[5 * down + across] * values[across]
            line_start = start + index * of_image + row * of_row
            if adds:
                total += tl.load(onto + line_start + places[2], mask=valid, other=0.0).to(tl.float32)
            tl.store(out + line_start + places[2], total.to(out.dtype.element_ty), mask=valid)
