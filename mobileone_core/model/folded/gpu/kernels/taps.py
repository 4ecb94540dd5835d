"""Sums over the taps of a depthwise 3x3 convolution, at any stride: of their products with each other, or with y."""

import triton
import triton.language as tl
from triton.language import constexpr

from mobileone_core.model.folded.gpu.kernels import tile


@triton.jit
def _products(taps):
    """Products of taps t and t' >= t."""
    values = ()
    for one in tl.static_range(len(taps)):
        for other in tl.static_range(one, len(taps)):
            values = values + (taps[one] * taps[other],)
    return values


@triton.jit
def _scaled(taps, factor):
    """Each tap times a factor, then the factor."""
    values = ()
    for tap in tl.static_range(len(taps)):
        values = values + (factor * taps[tap],)
    return values + (factor,)


@triton.jit
def tap_sums(
    x, centres, y, out, shape, strides, images, y_strides, sizes, pairs: constexpr, stride: constexpr, block: constexpr
):
    """Sums over all outputs of p_t, tap t less its centre, then of p_t p_t' for t' >= t; or of y p_t, then of y.

    The first, if pairs, to out (programs, 54, C); the second, the gradients of a convolution's kernel and bias, to
    out (programs, 10, C). centres (9, C) are subtracted from padding too; y, the gradient of the convolution's output,
    (N, C, H', W'); sizes H' and W'.
    """
    batch, channels, height, width = shape
    column, channel, channel_mask = tile.indices(channels, block)
    mask = channel_mask & (column < sizes[1])
    centre = tile.load_rows(centres + channel, 9, channels, channel_mask)
    offsets, inside = tile.neighbours(column * stride, channel, mask, width, strides, -1, 1)
    y_offsets = column * y_strides[3] + channel * y_strides[1]
    count: constexpr = 54 if pairs else 10
    sums = tile.zeros(count, block)
    first = tl.program_id(0) * images
    start, y_start = tile.advance(x, first, strides[0]), tile.advance(y, first, y_strides[0])
    for index in range(tl.minimum(images, batch - first)):
        image, y_image = start + index * strides[0], y_start + index * y_strides[0]
        for row in range(sizes[0]):
            taps = tile.centred(tile.load_taps(image, row * stride, height, strides[2], offsets, inside), centre, mask)
            if pairs:
                sums = tile.add(sums, taps + _products(taps))
            else:
                grad = tl.load(y_image + row * y_strides[2] + y_offsets, mask=mask, other=0.0).to(tl.float32)
                sums = tile.add(sums, _scaled(taps, grad))
    program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    for index in tl.static_range(count):
        total = tl.sum(tl.where(mask, sums[index], 0.0), 0)
        tl.store(out + (program * count + index) * channels + channel, total[None, :], mask=channel_mask)
