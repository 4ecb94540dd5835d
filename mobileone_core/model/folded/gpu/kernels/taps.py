"""Sums over the taps of a depthwise 3x3 convolution, at any stride: of their products with each other, or with y."""

import triton
import triton.language as tl

from mobileone_core.model.folded.gpu.kernels.tile import beside, line, place, plus, write, zeros


@triton.jit
def _less(values, level, valid):
    """Padding becomes minus the level, what no output sees 0."""
    shifted = ()
    for index in tl.static_range(len(values)):
        shifted = shifted + (tl.where(valid, values[index] - level, 0.0),)
    return shifted


@triton.jit
def _products(taps):
    """Of taps t and t' >= t."""
    values = ()
    for one in tl.static_range(len(taps)):
        for other in tl.static_range(one, len(taps)):
            values = values + (taps[one] * taps[other],)
    return values


@triton.jit
def tap_sums(
    x,  # (N, C, H, W)
    shift,  # (C)
    out,  # (programs, 54, C): the taps, then the products of taps t and t' >= t
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
    stride: tl.constexpr,
    block_columns: tl.constexpr,
    block_channels: tl.constexpr,
):
    """Of the patches of x - shift, in which padding is minus the shift."""
    column, channel = place(block_columns, block_channels)
    known = channel < channels
    valid = known & (column < columns_out)
    level = tl.load(shift + channel, mask=known, other=0.0)
    places, inside = beside(column * stride, channel, valid, width, of_channel, of_column, -1, 1)
    sums = zeros(54, block_columns, block_channels)
    first = tl.program_id(0) * images
    start = x + first.to(tl.int64) * of_image
    for index in range(tl.minimum(images, batch - first)):
        image = start + index * of_image
        for row in range(0, rows_out * stride, stride):
            taps = line(image, row - 1, height, of_row, places, inside)
            taps = taps + line(image, row, height, of_row, places, inside)
            taps = _less(taps + line(image, row + 1, height, of_row, places, inside), level, valid)
            sums = plus(sums, taps + _products(taps))
    group = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    write(out + group * 54 * channels + channel, sums, valid, 0, channels, known)


@triton.jit
def kernel_sums(
    x,  # (N, C, H, W)
    mean,  # (9, C)
    y,  # (N, C, H', W')
    out,  # (programs, 10, C): for every tap, then for none
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
    stride: tl.constexpr,
    block_columns: tl.constexpr,
    block_channels: tl.constexpr,
):
    """Of y (p_t - m_t), and of y: the gradients of a convolution's kernel and bias from that of its output."""
    column, channel = place(block_columns, block_channels)
    known = channel < channels
    valid = known & (column < columns_out)
    places, inside = beside(column * stride, channel, valid, width, of_channel, of_column, -1, 1)
    received = column * y_of_column + channel * y_of_channel
    levels = ()
    for tap in tl.static_range(9):
        levels = levels + (tl.load(mean + tap * channels + channel, mask=known, other=0.0),)
    sums = zeros(10, block_columns, block_channels)
    first = tl.program_id(0) * images
    for index in range(tl.minimum(images, batch - first)):
        image = x + first.to(tl.int64) * of_image + index * of_image
        start = y + first.to(tl.int64) * y_of_image + index * y_of_image
        for row in range(rows_out):
            given = tl.load(start + row * y_of_row + received, mask=valid, other=0.0).to(tl.float32)
            taps = line(image, row * stride - 1, height, of_row, places, inside)
            taps = taps + line(image, row * stride, height, of_row, places, inside)
            taps = taps + line(image, row * stride + 1, height, of_row, places, inside)
            values = ()
            for tap in tl.static_range(9):
                values = values + (given * (taps[tap] - levels[tap]),)
            sums = plus(sums, values + (given,))
    group = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    write(out + group * 10 * channels + channel, sums, valid, 0, channels, known)
