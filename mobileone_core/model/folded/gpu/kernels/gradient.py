"""The gradient of a depthwise block's input: what a value receives from all taps that cover it.

From the moments that is a 5x5 convolution of the input, with other weights where some tap covers a value from no
output: at the borders, and at stride 2 on every other row and column. There are three kinds of rows; a program takes
the rows of one. From the outputs it is the usual transposed convolution.
"""

import triton
import triton.language as tl
from triton.language import constexpr

from mobileone_core.model.folded.gpu.kernels import tile


@triton.jit
def _covered(index, size_out, stride: constexpr):
    """Whether tap 0, 1, 2 of a row or column covers this index of the input from some output."""
    covered = ()
    for tap in tl.static_range(3):
        distance = index + 1 - tap
        covered = covered + ((distance >= 0) & (distance % stride == 0) & (distance // stride < size_out),)
    return covered


@triton.jit
def _weight(weights, channels, mask, rows, columns, down: constexpr, across: constexpr):
    """The sum of A_tt' over taps t = (a, b) that cover a value, t' = t + (down - 2, across - 2). weights (81, C)."""
    total = 0.0
    for a in tl.static_range(3):
        for b in tl.static_range(3):
            if a + down >= 2 and a + down < 5 and b + across >= 2 and b + across < 5:
                pair = weights + (9 * (3 * a + b) + 3 * (a + down - 2) + b + across - 2) * channels
                total = total + tl.load(pair, mask=mask & rows[a] & columns[b], other=0.0)
    return total


@triton.jit
def _kernel(weights, channels, mask, rows, columns):
    """The 5x5 weights of every value."""
    kernel = ()
    for index in tl.static_range(25):
        kernel = kernel + (_weight(weights, channels, mask, rows, columns, index // 5, index % 5),)
    return kernel


@triton.jit
def _constant(constants, channels, mask, rows, columns):
    """The sum of k_t over the taps that cover a value. constants (9, C)."""
    total = 0.0
    for tap in tl.static_range(9):
        covered = rows[tap // 3] & columns[tap % 3]
        total = total + tl.load(constants + tap * channels, mask=mask & covered, other=0.0)
    return total


@triton.jit
def _convolved(image, row, height, row_stride, offsets, inside, kernel):
    """The 5x5 convolution at every value of a row."""
    total = 0.0
    for down in tl.static_range(5):
        values = tile.load_row(image, row + down - 2, height, row_stride, offsets, inside)
        for across in tl.static_range(5):
            total = total + kernel[5 * down + across] * values[across]
    return total


@triton.jit
def _transposed(y, row, row_stride, outputs, mask, rows, columns, w, stride: constexpr):
    """The sum of w_t y(o) over the taps that cover a row. outputs: the offset of o in its row, per tap's column."""
    total = 0.0
    for tap in tl.static_range(9):
        y_row = y + (row + 1 - tap // 3) // stride * row_stride
        grad = tl.load(y_row + outputs[tap % 3], mask=mask & rows[tap // 3] & columns[tap % 3], other=0.0)
        total = total + w[tap] * grad.to(tl.float32)
    return total


@triton.jit
def _rows_of(kind, height, last, stride: constexpr):
    """First row, and end, of the rows of one kind."""
    begin = tl.where(kind == 0, 0, tl.where(kind == 1, 1, last))
    end = tl.where(kind == 1, height - 1, height)
    if stride == 1:
        end = tl.where(kind == 0, 1, end)
    return begin, end


@triton.jit
def input_gradient(x, a, k, y, w, out, shape, strides, images, y_strides, sizes, stride: constexpr, block: constexpr):
    """out(q): the sum over taps t that cover q, from o, of k_t + sum_t' A_tt' x(q + t' - t) + w_t y(o).

    Weights A (81, C), constants k and filters w (9, C), y (N, C, H', W'), out with the strides of x. sizes: H', W', and
    where the third kind of rows begins, the height if nowhere.
    """
    batch, channels, height, width = shape
    column, channel, channel_mask = tile.indices(channels, block)
    mask = channel_mask & (column < width)
    first = tl.program_id(0) // 3 * images
    begin, end = _rows_of(tl.program_id(0) % 3, height, sizes[2], stride)
    rows, columns = _covered(begin, sizes[0], stride), _covered(column, sizes[1], stride)
    constant = _constant(k + channel, channels, channel_mask, rows, columns)
    kernel = _kernel(a + channel, channels, channel_mask, rows, columns)
    filters, outputs = tile.load_rows(w + channel, 9, channels, channel_mask), ()
    for b in tl.static_range(3):
        outputs = outputs + ((column + 1 - b) // stride * y_strides[3] + channel * y_strides[1],)
    offsets, inside = tile.neighbours(column, channel, mask, width, strides, -2, 2)
    start, target = tile.advance(x, first, strides[0]), tile.advance(out, first, strides[0])
    y_start = tile.advance(y, first, y_strides[0])
    for index in range(tl.minimum(images, batch - first)):
        image, y_image = start + index * strides[0], y_start + index * y_strides[0]
        for row in range(begin, end, stride):
            total = constant + _convolved(image, row, height, strides[2], offsets, inside, kernel)
            total += _transposed(y_image, row, y_strides[2], outputs, mask, rows, columns, filters, stride)
            stored = target + index * strides[0] + row * strides[2] + offsets[2]
            tl.store(stored, total.to(out.dtype.element_ty), mask=mask)
