"""Statistics of depthwise 3x3 convolutions at stride 2 by batched matrix products, without making patches.

Rows are cut into blocks of a few outputs with their halo. A block's line holds the three input rows under the kernel,
one after another. A product of such lines has the products of any two taps on its diagonals; the matrix of its gradient
is banded.
"""

from dataclasses import dataclass

import torch
from torch import Size, Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.statistics import PatchStatistics, at_least_float32, summation_dtype

MOST_OUTPUTS = 16  # per block: the products grow with it, the halo's share shrinks


@dataclass(frozen=True)
class ColumnBlocks:
    """A cut of rows into blocks: output rows, blocks per row, outputs per block, input columns per block with halo.

    A block's line has 3 * columns values.
    """

    rows: int
    count: int
    outputs: int
    columns: int
    stride: int

    @classmethod
    def of(cls, shape: Size, geometry: Geometry) -> "ColumnBlocks":
        """The blocks of an input of shape (N, C, H, W): as wide as divides its output, up to MOST_OUTPUTS."""
        rows, width = geometry.sizes(shape)
        outputs = max(size for size in range(1, min(width, MOST_OUTPUTS) + 1) if width % size == 0)
        return cls(rows, width // outputs, outputs, geometry.stride * (outputs - 1) + 3, geometry.stride)

    def cut(self, x: Tensor) -> Tensor:
        """The line of every block of a padded x (N, C, H + 2, W + 2): (C, positions / outputs, 3 * columns)."""
        lines = x.unfold(2, 3, self.stride).unfold(3, self.columns, self.stride * self.outputs)
        return lines.transpose(0, 1).reshape(x.shape[1], -1, 3 * self.columns)

    def sums(self, lines: Tensor) -> Tensor:
        """Sums over a block's outputs of (C, 3 * columns), per tap: (C, 9)."""
        size = (len(lines), 3, 3, self.outputs)
        return lines.as_strided(size, (3 * self.columns, self.columns, 1, self.stride)).sum(-1).view(-1, 9)

    def products(self, matrices: Tensor) -> Tensor:
        """Sums over the diagonals of (C, 3 * columns, 3 * columns), per pair of taps: (C, 9, 9)."""
        line = 3 * self.columns
        size = (len(matrices), 3, 3, 3, 3, self.outputs)
        strides = (line * line, self.columns * line, line, self.columns, 1, self.stride * (line + 1))
        return matrices.as_strided(size, strides).sum(-1).view(-1, 9, 9)

    def products_backward(self, weights: Tensor) -> Tensor:
        """The gradient of products: banded matrices (C, 3 * columns, 3 * columns) from weights (C, 9, 9)."""
        out = weights.new_zeros(len(weights), 3, self.columns, 3, self.columns)
        for start in range(0, self.stride * self.outputs, self.stride):
            out[:, :, start : start + 3, :, start : start + 3] += weights.view(-1, 3, 3, 3, 3)
        return out.view(len(weights), 3 * self.columns, 3 * self.columns)

    def sums_backward(self, values: Tensor) -> Tensor:
        """The gradient of sums: (C, 3 * columns) from values (C, 9)."""
        out = values.new_zeros(len(values), 3, self.columns)
        for start in range(0, self.stride * self.outputs, self.stride):
            out[:, :, start : start + 3] += values.view(-1, 3, 3)
        return out.view(len(values), 3 * self.columns)

    def cut_backward(self, lines: Tensor, shape: Size) -> Tensor:
        """The gradient of cut, for the input (N, C, H, W) without its padding. Overwrites the lines."""
        number, channels, height, width = shape
        step = self.stride * self.outputs
        lines = lines.view(channels, number, self.rows, self.count, 3, self.columns)
        lines[:, :, :, 1:, :, : self.columns - step] += lines[:, :, :, :-1, :, step:]
        out = lines.new_zeros(number, channels, height + 2, width + 2)
        for row in range(3):
            target = out[:, :, row : row + self.stride * (self.rows - 1) + 1 : self.stride].transpose(0, 1)
            whole = target[..., : step * self.count]
            whole.view(*whole.shape[:-1], self.count, step).add_(lines[:, :, :, :, row, :step])
            target[..., step * self.count : step * self.count + self.columns - step] += lines[:, :, :, -1, row, step:]
        return out[:, :, 1 : height + 1, 1 : width + 1]


class Columns(PatchStatistics):
    """For depthwise 3x3 convolutions at stride 2, with two output rows and columns or more."""

    def moments(self, x: Tensor) -> Moments:
        """Mean and covariance of the patches of x, per group."""
        blocks, count = ColumnBlocks.of(x.shape, self.geometry), self.geometry.positions(x.shape)
        shift = at_least_float32(x).mean((0, 2, 3))
        lines = _centred_lines(at_least_float32(x), shift, blocks).to(summation_dtype(x))
        mean = blocks.sums(lines.sum(1)) / count
        products = blocks.products(torch.bmm(lines.transpose(1, 2), lines)) / count
        return Moments(mean + shift.unsqueeze(-1), products - mean.unsqueeze(-1) * mean.unsqueeze(-2))

    def moments_backward(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        """The gradient of x, (N, C, H, W), where that of a patch p is weights (p - mean)."""
        x = at_least_float32(x)
        mean, weights = mean.to(x.dtype), weights.to(x.dtype)
        blocks, shift = ColumnBlocks.of(x.shape, self.geometry), mean[:, 4]
        offset = torch.bmm(weights, (shift.unsqueeze(-1) - mean).unsqueeze(-1)).squeeze(-1)
        lines, banded = _centred_lines(x, shift, blocks), blocks.products_backward(weights)
        return blocks.cut_backward(torch.baddbmm(blocks.sums_backward(offset).unsqueeze(1), lines, banded), x.shape)


def _centred_lines(x: Tensor, shift: Tensor, blocks: ColumnBlocks) -> Tensor:
    """The blocks of x less a shift (C) per channel, padding included."""
    return blocks.cut(F.pad(x, [1, 1, 1, 1]).sub_(shift.view(1, -1, 1, 1)))
