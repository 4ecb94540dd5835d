"""The gradient of a depthwise block to its input: what a value receives from all taps that see it.

From the moments that is a 5x5 convolution of the input, with other weights where some tap sees a value from no output:
at the borders, and at stride 2 on every other row and column. There are three kinds of rows; a program takes the rows
of one. From the outputs it is the usual convolution backwards.
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
def _around(image, row, height, of_row, places, inside, kernel):
    """The 25 values around every place of a row, weighted."""
    total = 0.0
    for down in tl.static_range(5):
        values = line(image, row + down - 2, height, of_row, places, inside)
        for across in tl.static_range(5):
            total = total + kernel[5 * down + across] * values[across]
    return total


@triton.jit
def _received(image, row, of_row, outputs, valid, rows, columns, w, stride: tl.constexpr):
    """The sum of w_t y(o) over the taps that see a row. outputs: where o lies in its row, by tap."""
    total = 0.0
    for tap in tl.static_range(9):
        line_of_y = image + (row + 1 - tap // 3) // stride * of_row
        given = tl.load(line_of_y + outputs[tap % 3], mask=valid & rows[tap // 3] & columns[tap % 3], other=0.0)
        total = total + w[tap] * given.to(tl.float32)
    return total


@triton.jit
def _filters(filters, channels, channel, column, of_channel, of_column, stride: tl.constexpr):
    """The nine weights of every channel; and where in a row of y lie the outputs whose tap 0, 1, 2 sees a column."""
    w, outputs = (), ()
    for tap in tl.static_range(9):
        w = w + (tl.load(filters + tap * channels + channel, mask=channel < channels, other=0.0),)
    for b in tl.static_range(3):
        outputs = outputs + ((column + 1 - b) // stride * of_column + channel * of_channel,)
    return w, outputs


@triton.jit
def _lines(kind, height, last, stride: tl.constexpr):
    """Where the rows of one kind begin and end."""
    begin = tl.where(kind == 0, 0, tl.where(kind == 1, 1, last))
    end = tl.where(kind == 1, height - 1, height)
    if stride == 1:
        end = tl.where(kind == 0, 1, end)
    return begin, end


@triton.jit
def spread(
    x,  # (N, C, H, W)
    weights,  # A (81, C)
    constants,  # k (9, C)
    y,  # (N, C, H', W')
    filters,  # w (9, C)
    out,  # (N, C, H, W), laid out as x
    batch,
    channels,
    height,
    width,
    of_image,
    of_channel,
    of_row,
    of_column,
    y_of_image,
    y_of_channel,
    y_of_row,
    y_of_column,
    images,
    rows_out,
    columns_out,
    last,  # where the third kind of rows begins, height where there is none
    receives: tl.constexpr,
    stride: tl.constexpr,
    block_columns: tl.constexpr,
    block_channels: tl.constexpr,
):
    """out(q): the sum over taps t that see q, from o, of k_t + sum_t' A_tt' x(q + t' - t); and of w_t y(o) if given."""
    column, channel = place(block_columns, block_channels)
    known = channel < channels
    valid = known & (column < width)
    first = tl.program_id(0) // 3 * images
    begin, end = _lines(tl.program_id(0) % 3, height, last, stride)
    rows, columns = _seen(begin, rows_out, stride), _seen(column, columns_out, stride)
    level = _level(constants + channel, channels, known, rows, columns)
    kernel = _kernel(weights + channel, channels, known, rows, columns)
    w, outputs = _filters(filters, channels, channel, column, y_of_channel, y_of_column, stride)
    places, inside = beside(column, channel, valid, width, of_channel, of_column, -2, 2)
    start, y_start = x + first.to(tl.int64) * of_image, y + first.to(tl.int64) * y_of_image
    target = out + first.to(tl.int64) * of_image
    for index in range(tl.minimum(images, batch - first)):
        image, received = start + index * of_image, y_start + index * y_of_image
        for row in range(begin, end, stride):
            total = level + _around(image, row, height, of_row, places, inside, kernel)
            if receives:
                total += _received(received, row, y_of_row, outputs, valid, rows, columns, w, stride)
            tl.store(target + index * of_image + row * of_row + places[2], total.to(out.dtype.element_ty), mask=valid)
