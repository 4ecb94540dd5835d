"""Sums over the taps of a depthwise 3x3 convolution, at any stride: of their products with each other, or with y."""

import triton
import triton.language as tl

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
def tap_sums(x, shift, out, shape, strides, images, outputs, stride: tl.constexpr, block: tl.constexpr):
    """Sums of the taps of x - shift, then of their products t, t' >= t: out (programs, 54, C).

    shift (C) is subtracted from padding too; outputs are the output rows and columns.
    """
    batch, channels, height, width = shape
    column, channel, channel_mask = tile.indices(channels, block)
    mask = channel_mask & (column < outputs[1])
    level = tl.load(shift + channel, mask=channel_mask, other=0.0)
    offsets, inside = tile.neighbours(column * stride, channel, mask, width, strides, -1, 1)
    sums = tile.zeros(54, block)
    first = tl.program_id(0) * images
    start = tile.advance(x, first, strides[0])
    for index in range(tl.minimum(images, batch - first)):
        image = start + index * strides[0]
        for row in range(0, outputs[0] * stride, stride):
            taps = tile.centred(tile.load_taps(image, row, height, strides[2], offsets, inside), level, (mask,))
            sums = tile.add(sums, taps + _products(taps))
    tile.store_sums(tile.program_rows(out, 54, channels, channel), sums, mask, channels, channel_mask)


@triton.jit
def kernel_sums(x, mean, y, out, shape, strides, images, y_strides, outputs, stride: tl.constexpr, block: tl.constexpr):
    """Sums of y (p_t - m_t) for every tap t, then of y: the gradients of a convolution's kernel and bias.

    mean (9, C); y, the gradient of the convolution's output, (N, C, H', W'); out (programs, 10, C).
    """
    batch, channels, height, width = shape
    column, channel, channel_mask = tile.indices(channels, block)
    mask = channel_mask & (column < outputs[1])
    offsets, inside = tile.neighbours(column * stride, channel, mask, width, strides, -1, 1)
    y_offsets = column * y_strides[3] + channel * y_strides[1]
    means = ()
    for tap in tl.static_range(9):
        means = means + (tl.load(mean + tap * channels + channel, mask=channel_mask, other=0.0),)
    sums = tile.zeros(10, block)
    first = tl.program_id(0) * images
    start, y_start = tile.advance(x, first, strides[0]), tile.advance(y, first, y_strides[0])
    for index in range(tl.minimum(images, batch - first)):
        image, y_image = start + index * strides[0], y_start + index * y_strides[0]
        for row in range(outputs[0]):
            grad = tl.load(y_image + row * y_strides[2] + y_offsets, mask=mask, other=0.0).to(tl.float32)
            taps = tile.load_taps(image, row * stride, height, strides[2], offsets, inside)
            values = ()
            for tap in tl.static_range(9):
                values = values + (grad * (taps[tap] - means[tap]),)
            sums = tile.add(sums, values + (grad,))
    tile.store_sums(tile.program_rows(out, 10, channels, channel), sums, mask, channels, channel_mask)
