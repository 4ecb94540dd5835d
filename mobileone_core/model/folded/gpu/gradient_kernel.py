"""The gradient of a depthwise block's moments: what a value receives from all taps that see it.

That is a 5x5 convolution of the input, with other weights where some tap sees a value from no output: at the borders,
and at stride 2 on every other row and column. Three kinds of rows there are; the weights of one are made at a time.
"""

import triton
import triton.language as tl

from mobileone_core.model.folded.gpu.tile import place, value


@triton.jit
def _sees(tap: tl.constexpr, position, size_out, stride: tl.constexpr):
    """Whether a tap sees this row or column of the input from some output."""
    distance = position + 1 - tap
    return (distance >= 0) & (distance % stride == 0) & (distance // stride < size_out)


@triton.jit
def _weight(
    weights,  # A (81, C), at the tile's channels
    channels,
    known,
    row,
    column,
    rows_out,
    columns_out,
    down: tl.constexpr,
    across: tl.constexpr,
    stride: tl.constexpr,
):
    """The sum of A_tt' over taps t that see (row, column) and t' = t + (down - 2, across - 2)."""
    total = 0.0
    for a in tl.static_range(3):  # the row and column of t
        for b in tl.static_range(3):
            if a + down >= 2 and a + down < 5 and b + across >= 2 and b + across < 5:
                pair = weights + (9 * (3 * a + b) + 3 * (a + down - 2) + b + across - 2) * channels
                seen = _sees(a, row, rows_out, stride) & _sees(b, column, columns_out, stride)
                total = total + tl.load(pair, mask=known & seen, other=0.0)
    return total


@triton.jit
def _level(constants, channels, known, row, column, rows_out, columns_out, stride):
    """The sum of k_t over taps t that see (row, column). constants (9, C), at the tile."""
    total = 0.0
    for tap in tl.static_range(9):
        seen = _sees(tap // 3, row, rows_out, stride) & _sees(tap % 3, column, columns_out, stride)
        total = total + tl.load(constants + tap * channels, mask=known & seen, other=0.0)
    return total


@triton.jit
def spread(
    x,  # (N, C, H, W)
    weights,  # A (81, C)
    constants,  # k (9, C)
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
    stride: tl.constexpr,
    block_columns: tl.constexpr,
    block_channels: tl.constexpr,
):
    """out(q) = the sum over taps t that see q of k_t + sum_t' A_tt' x(q + t' - t)."""
    column, channel = place(block_columns, block_channels)
    known = channel < channels
    valid = known & (column < width)
    kind, first = tl.program_id(0) % 3, tl.program_id(0) // 3 * images
    begin = tl.where(kind == 0, 0, tl.where(kind == 1, 1, last))
    end = tl.where(kind == 1, height - 1, height)
    if stride == 1:
        end = tl.where(kind == 0, 1, end)
    level = _level(constants + channel, channels, known, begin, column, rows_out, columns_out, stride)
    kernel = ()
    for place_of in tl.static_range(25):
        weight = _weight(
            weights + channel, channels, known, begin, column, rows_out, columns_out, place_of // 5, place_of % 5, stride
        )
        kernel = kernel + (weight,)
    start = first.to(tl.int64) * of_image
    for index in range(tl.minimum(images, batch - first)):
        image = x + start + index * of_image
        for row in range(begin, end, stride):
            total = level
            for place_of in tl.static_range(25):
                down, across = row + place_of // 5 - 2, column + place_of % 5 - 2
                seen = value(image, down, across, channel, height, width, of_channel, of_row, of_column, valid)
                total += kernel[place_of] * seen
            line = out + start + index * of_image + row * of_row
            target = line + (column * of_column + channel * of_channel)
            tl.store(target, total.to(out.dtype.element_ty), mask=valid)
