"""Moments of a depthwise 3x3 convolution's input by batched matrix products, without its nine-fold patches.

Columns are cut into blocks of a few outputs with their halo; the three rows under the kernel stand side by side. The
products of such rows hold the product of any two taps on their diagonals, the gradient's are banded matrices.
"""

from dataclasses import dataclass

import torch
from torch import Size, Tensor
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Moments
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.kind import PatchStatistics, at_least_float32, summing

WIDEST = 16  # outputs a block: the products grow with it, the halo's share shrinks


@dataclass(frozen=True)
class Blocks:
    """How rows are cut: output rows, blocks a row, outputs a block, input columns a block with halo; the stride."""

    rows: int
    count: int
    outputs: int
    columns: int
    stride: int

    @classmethod
    def of(cls, shape: Size, geometry: Geometry) -> "Blocks":
        rows, width = geometry.sizes(shape)
        outputs = max(size for size in range(1, min(width, WIDEST) + 1) if width % size == 0)
        return cls(rows, width // outputs, outputs, geometry.stride * (outputs - 1) + 3, geometry.stride)

    def cut(self, x: Tensor) -> Tensor:
        """(N, C, H + 2, W + 2) -> (C, positions / outputs, 3 * columns): what each block sees, row by row."""
        seen = x.unfold(2, 3, self.stride).unfold(3, self.columns, self.stride * self.outputs)
        return seen.transpose(0, 1).reshape(x.shape[1], -1, 3 * self.columns)

    def sums(self, rows: Tensor) -> Tensor:
        """(C, 3 * columns) summed over the outputs of a block: (C, 9), by tap."""
        size = (len(rows), 3, 3, self.outputs)
        return rows.as_strided(size, (3 * self.columns, self.columns, 1, self.stride)).sum(-1).view(-1, 9)

    def products(self, matrices: Tensor) -> Tensor:
        """(C, 3 * columns, 3 * columns) summed along its diagonals: (C, 9, 9), by two taps."""
        line = 3 * self.columns
        size = (len(matrices), 3, 3, 3, 3, self.outputs)
        strides = (line * line, self.columns * line, line, self.columns, 1, self.stride * (line + 1))
        return matrices.as_strided(size, strides).sum(-1).view(-1, 9, 9)

    def banded(self, weights: Tensor) -> Tensor:
        """The gradient of products: (C, 9, 9) -> (C, 3 * columns, 3 * columns)."""
        out = weights.new_zeros(len(weights), 3, self.columns, 3, self.columns)
        for start in range(0, self.stride * self.outputs, self.stride):
            out[:, :, start : start + 3, :, start : start + 3] += weights.view(-1, 3, 3, 3, 3)
        return out.view(len(weights), 3 * self.columns, 3 * self.columns)

    def spread(self, values: Tensor) -> Tensor:
        """The gradient of sums: (C, 9) -> (C, 3 * columns)."""
        out = values.new_zeros(len(values), 3, self.columns)
        for start in range(0, self.stride * self.outputs, self.stride):
            out[:, :, start : start + 3] += values.view(-1, 3, 3)
        return out.view(len(values), 3 * self.columns)

    def join(self, seen: Tensor, shape: Size) -> Tensor:
        """The gradient of cut, which it spoils; for the input (N, C, H, W) without its padding."""
        number, channels, height, width = shape
        step = self.stride * self.outputs
        seen = seen.view(channels, number, self.rows, self.count, 3, self.columns)
        seen[:, :, :, 1:, :, : self.columns - step] += seen[:, :, :, :-1, :, step:]
        out = seen.new_zeros(number, channels, height + 2, width + 2)
        for row in range(3):
            target = out[:, :, row : row + self.stride * (self.rows - 1) + 1 : self.stride].transpose(0, 1)
            whole = target[..., : step * self.count]
            whole.view(*whole.shape[:-1], self.count, step).add_(seen[:, :, :, :, row, :step])
            target[..., step * self.count : step * self.count + self.columns - step] += seen[:, :, :, -1, row, step:]
        return out[:, :, 1 : height + 1, 1 : width + 1]


class Columns(PatchStatistics):
    """Depthwise 3x3 at stride 2, two output rows and columns or more."""

    def moments(self, x: Tensor) -> Moments:
        blocks, count = Blocks.of(x.shape, self.geometry), self.geometry.positions(x.shape)
        shift = at_least_float32(x).mean((0, 2, 3))
        seen = _shifted(at_least_float32(x), shift, blocks).to(summing(x))
        mean = blocks.sums(seen.sum(1)) / count
        products = blocks.products(torch.bmm(seen.transpose(1, 2), seen)) / count
        return Moments(mean + shift.unsqueeze(-1), products - mean.unsqueeze(-1) * mean.unsqueeze(-2))

    def moments_backward(self, x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
        x = at_least_float32(x)
        mean, weights = mean.to(x.dtype), weights.to(x.dtype)
        blocks, shift = Blocks.of(x.shape, self.geometry), mean[:, 4]
        offset = torch.bmm(weights, (shift.unsqueeze(-1) - mean).unsqueeze(-1)).squeeze(-1)
        seen = _shifted(x, shift, blocks)
        received = torch.baddbmm(blocks.spread(offset).unsqueeze(1), seen, blocks.banded(weights))
        return blocks.join(received, x.shape)


def _shifted(x: Tensor, shift: Tensor, blocks: Blocks) -> Tensor:
    """The blocks of x less a channel's shift; the padding becomes minus the shift."""
    return blocks.cut(F.pad(x, [1, 1, 1, 1]).sub_(shift.view(1, -1, 1, 1)))
