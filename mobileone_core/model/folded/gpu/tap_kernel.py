"""Sums over the nine taps of a depthwise 3x3 convolution and over their products, at any stride."""

import triton
import triton.language as tl

from mobileone_core.model.folded.gpu.tile import place, plus, value, write, zeros


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
    sums = zeros(54, block_columns, block_channels)
    first = tl.program_id(0) * images
    start = x + first.to(tl.int64) * of_image
    for index in range(tl.minimum(images, batch - first)):
        image = start + index * of_image
        for row in range(rows_out):
            taps = ()
            for tap in tl.static_range(9):
                down, across = row * stride + tap // 3 - 1, column * stride + tap % 3 - 1
                seen = value(image, down, across, channel, height, width, of_channel, of_row, of_column, valid)
                taps = taps + (tl.where(valid, seen - level, 0.0),)
            values = taps
            for one in tl.static_range(9):
                for other in tl.static_range(one, 9):
                    values = values + (taps[one] * taps[other],)
            sums = plus(sums, values)
    group = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    write(out + group * 54 * channels + channel, sums, valid, 0, channels, known)
