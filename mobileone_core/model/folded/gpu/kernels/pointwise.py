"""Triton kernels for the moments of a 1x1 convolution's input and their gradient: matrix products on tensor cores.

Values are taken less their channel's shift or mean in float32 before they meet: no digit is lost to a mean. Tensor
cores then multiply them in three products of halves (precision bf16x3 or tf32x3), with sums in float32.
"""

import triton
import triton.language as tl


@triton.jit
def _values(x, level, channel, position, channels, positions, line, of_image, of_channel, of_position):
    """x - level at channels and positions (one of them a column), in float32; 0 beyond."""
    known = channel < channels
    inside = known & (position < positions)
    place = (position // line).to(tl.int64) * of_image + (position % line) * of_position + channel * of_channel
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside, value - tl.load(level + channel, mask=known, other=0.0), 0.0)


@triton.jit
def _place(block: tl.constexpr):
    """Rows and columns of this program's tile of a product, and the split."""
    places = tl.arange(0, block)
    return tl.program_id(0) * block + places, tl.program_id(1) * block + places, tl.program_id(2)


@triton.jit
def _zeros(block: tl.constexpr):
    """A tile's product and its rows' sums, so far."""
    return tl.zeros((block, block), tl.float32), tl.zeros((block,), tl.float32)


@triton.jit
def products(
    x,  # (N, C, L)
    shift,  # (C)
    out,  # (splits, C, C)
    sums,  # (splits, C)
    channels,
    positions,  # N L
    line,  # L
    of_image,
    of_channel,
    of_position,
    span,  # positions a split, of whole blocks
    precision: tl.constexpr,
    block_channels: tl.constexpr,
    block_positions: tl.constexpr,
):
    """Sums of z z^T and of z over the positions of a split, z = x - shift; tiles above the diagonal are mirrored."""
    low, high = tl.program_id(0), tl.program_id(1)
    if low < high:
        return
    row, column, split = _place(block_channels)
    total, level = _zeros(block_channels)
    for start in range(split * span, tl.minimum((split + 1) * span, positions), block_positions):
        position = start + tl.arange(0, block_positions)
        one = _values(
            x, shift, row[:, None], position[None, :], channels, positions, line, of_image, of_channel, of_position
        )
        other = _values(
            x, shift, column[None, :], position[:, None], channels, positions, line, of_image, of_channel, of_position
        )
        total = tl.dot(one, other, total, input_precision=precision)
        level += tl.sum(one, 1)
    here = out + split.to(tl.int64) * channels * channels
    inside = (row[:, None] < channels) & (column[None, :] < channels)
    tl.store(here + row[:, None] * channels + column[None, :], total, mask=inside)
    if low > high:
        tl.store(here + row[:, None] + column[None, :] * channels, total, mask=inside)
    if high == 0:
        tl.store(sums + split * channels + row, level, mask=row < channels)


@triton.jit
def cross_products(
    x,  # (N, C, L)
    mean,  # (C)
    y,  # (N, O, L)
    zero,  # (O)
    out,  # (splits, O, C)
    sums,  # (splits, O)
    channels,
    positions,  # N L
    line,  # L
    of_image,
    of_channel,
    of_position,
    outputs,
    y_line,
    y_of_image,
    y_of_channel,
    y_of_position,
    span,  # positions a split, of whole blocks
    precision: tl.constexpr,
    block_channels: tl.constexpr,
    block_positions: tl.constexpr,
):
    """Sums of y (x - mean)^T and of y over the positions of a split."""
    row, column, split = _place(block_channels)
    total, level = _zeros(block_channels)
    for start in range(split * span, tl.minimum((split + 1) * span, positions), block_positions):
        position = start + tl.arange(0, block_positions)
        one = _values(
            y,
            zero,
            row[:, None],
            position[None, :],
            outputs,
            positions,
            y_line,
            y_of_image,
            y_of_channel,
            y_of_position,
        )
        other = _values(
            x, mean, column[None, :], position[:, None], channels, positions, line, of_image, of_channel, of_position
        )
        total = tl.dot(one, other, total, input_precision=precision)
        level += tl.sum(one, 1)
    here = out + split.to(tl.int64) * outputs * channels + row[:, None] * channels + column[None, :]
    tl.store(here, total, mask=(row[:, None] < outputs) & (column[None, :] < channels))
    if tl.program_id(1) == 0:
        tl.store(sums + split * outputs + row, level, mask=row < outputs)


@triton.jit
def blend(
    x,  # (N, C, L)
    mean,  # (C)
    weights,  # A (C, C), symmetric
    constants,  # k (C)
    onto,  # (N, C, L), laid out as x
    out,  # (N, C, L), laid out as x
    channels,
    positions,  # N L
    line,  # L
    of_image,
    of_channel,
    of_position,
    adds: tl.constexpr,
    precision: tl.constexpr,
    block_channels: tl.constexpr,
    block_positions: tl.constexpr,
    block_depth: tl.constexpr,
):
    """out = A (x - mean) + k; where it adds, plus onto."""
    tiles = tl.cdiv(channels, block_channels)  # that share positions follow each other
    channel = tl.program_id(0) % tiles * block_channels + tl.arange(0, block_channels)
    position = tl.program_id(0) // tiles * block_positions + tl.arange(0, block_positions)
    known = channel[None, :] < channels
    total = tl.zeros((block_positions, block_channels), tl.float32)
    for start in range(0, channels, block_depth):
        depth = start + tl.arange(0, block_depth)
        z = _values(
            x, mean, depth[None, :], position[:, None], channels, positions, line, of_image, of_channel, of_position
        )
        both = known & (depth[:, None] < channels)
        a = tl.load(weights + depth[:, None] * channels + channel[None, :], mask=both, other=0.0)
        total = tl.dot(z, a, total, input_precision=precision)
    total += tl.load(constants + channel[None, :], mask=known, other=0.0)
    place = (position // line).to(tl.int64) * of_image + (position % line) * of_position
    target = place[:, None] + channel[None, :] * of_channel
    inside = known & (position[:, None] < positions)
    if adds:
        total += tl.load(onto + target, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + target, total.to(out.dtype.element_ty), mask=inside)
