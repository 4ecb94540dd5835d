"""Triton kernels for the moments of a 1x1 convolution's input and their gradient: matrix products on tensor cores.

Values enter less their channel's shift or mean, in float32: no digit is lost to a mean. Tensor cores then multiply them
as three products of halves (precision bf16x3 or tf32x3), with sums in float32. A layout is channels, positions,
positions per image, and the strides of image, channel and position. Only the first of these may need 64 bits.
"""

import triton
import triton.language as tl
from triton.language import constexpr


@triton.jit
def _load_centred(x, shift, layout, channel, position):
    """Load x - shift at channels and positions (one of them a column), in float32; 0 beyond."""
    channels, positions, area, image_stride, channel_stride, position_stride = layout
    channel_mask = channel < channels
    mask = channel_mask & (position < positions)
    offset = (position // area).to(tl.int64) * image_stride + (position % area) * position_stride
    value = tl.load(x + (offset + channel * channel_stride), mask=mask, other=0.0).to(tl.float32)
    return tl.where(mask, value - tl.load(shift + channel, mask=channel_mask, other=0.0), 0.0)


@triton.jit
def position_sums(
    x, x_shift, x_layout, y, y_shift, y_layout, out, sums, symmetric: constexpr, precision: constexpr, block: constexpr
):
    """Sums of (y - y_shift) (x - x_shift)^T and of y - y_shift over the positions of a split.

    out (splits, O, C), sums (splits, O); block channels and positions. Where it is symmetric, y is x, and tiles above
    the diagonal are mirrored.
    """
    tile_row, tile_column, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if symmetric and tile_row < tile_column:
        return
    channels, positions, outputs = x_layout[0], x_layout[1], y_layout[0]
    side: constexpr = block[0]
    span = tl.cdiv(positions, tl.num_programs(2) * block[1]) * block[1]  # positions per split
    row = tile_row * side + tl.arange(0, side)
    column = tile_column * side + tl.arange(0, side)
    total, row_sums = tl.zeros((side, side), tl.float32), tl.zeros((side,), tl.float32)
    for start in range(split * span, tl.minimum((split + 1) * span, positions), block[1]):
        position = start + tl.arange(0, block[1])
        one = _load_centred(y, y_shift, y_layout, row[:, None], position[None, :])
        other = _load_centred(x, x_shift, x_layout, column[None, :], position[:, None])
        total = tl.dot(one, other, total, input_precision=precision)
        row_sums += tl.sum(one, 1)
    product = out + split.to(tl.int64) * outputs * channels
    mask = (row[:, None] < outputs) & (column[None, :] < channels)
    tl.store(product + row[:, None] * channels + column[None, :], total, mask=mask)
    if symmetric and tile_row > tile_column:
        tl.store(product + row[:, None] + column[None, :] * channels, total, mask=mask)
    if tile_column == 0:
        tl.store(sums + split * outputs + row, row_sums, mask=row < outputs)


@triton.jit
def input_gradient(x, mean, weights, constants, other, out, layout, precision: constexpr, block: constexpr):
    """out = A (x - mean) + k + other.

    Weights A (C, C), symmetric; mean and constants k (C); other and out with the strides of x; block channels,
    positions, and channels multiplied at a time.
    """
    side: constexpr = block[0]
    length: constexpr = block[1]
    channels, positions, area, image_stride, channel_stride, position_stride = layout
    tiles = tl.cdiv(channels, side)  # programs that share positions follow one another
    channel = tl.program_id(0) % tiles * side + tl.arange(0, side)
    position = tl.program_id(0) // tiles * length + tl.arange(0, length)
    channel_mask = channel[None, :] < channels
    total = tl.zeros((length, side), tl.float32)
    for start in range(0, channels, block[2]):
        depth = start + tl.arange(0, block[2])
        z = _load_centred(x, mean, layout, depth[None, :], position[:, None])
        mask = channel_mask & (depth[:, None] < channels)
        a = tl.load(weights + depth[:, None] * channels + channel[None, :], mask=mask, other=0.0)
        total = tl.dot(z, a, total, input_precision=precision)
    total += tl.load(constants + channel[None, :], mask=channel_mask, other=0.0)
    offset = (position // area).to(tl.int64) * image_stride + (position % area) * position_stride
    target = offset[:, None] + channel[None, :] * channel_stride
    mask = channel_mask & (position[:, None] < positions)
    total += tl.load(other + target, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + target, total.to(out.dtype.element_ty), mask=mask)
