"""The shape of a block's convolution: groups, taps and output positions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mobileone_core.model.spec import BlockSpec


def output_sizes(shape: Sequence[int], stride: int) -> tuple[int, int]:
    """Output rows and columns of a convolution with padding kernel // 2 for an input of shape (N, C, H, W)."""
    return (shape[2] - 1) // stride + 1, (shape[3] - 1) // stride + 1


class ConvPairs(NamedTuple):
    """A convolution's arguments, of rows and of columns each."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """A convolution with zeros around its input; a tap is one input value of a group's patch: channel, row, column.

    Unless it is square and centred, uncommon says its arguments, and kernel and stride are 0.
    """

    groups: int
    kernel: int
    stride: int
    in_channels: int
    out_channels: int
    dilation: int = 1
    uncommon: ConvPairs | None = None

    @classmethod
    def of(cls, spec: BlockSpec) -> "Geometry":
        """The geometry of a block."""
        return cls(spec.groups, spec.kernel_size, spec.stride, spec.in_channels, spec.out_channels, spec.dilation)

    @property
    def pointwise(self) -> bool:
        """Whether this is a dense 1x1 convolution at stride 1."""
        return self.kernel == 1 and self.stride == 1 and self.groups == 1

    @property
    def depthwise(self) -> bool:
        """Whether this is an undilated 3x3 convolution with one kernel per channel and overlapping patches."""
        one_each = self.groups == self.in_channels == self.out_channels
        return one_each and self.kernel == 3 and self.stride <= 2 and self.dilation == 1

    def phases_of(self, shape: Sequence[int]) -> int:
        """Images of lower resolution that an image of shape (N, C, H, W) is cut into per side, 1 if it is not cut.

        At stride 1 pixels that are not a multiple of the dilation apart never meet: each phase is convolved undilated.
        """
        divides = self.stride == 1 and shape[2] % self.dilation == shape[3] % self.dilation == 0
        return self.dilation if divides else 1

    @property
    def padding(self) -> int:
        """Zeros around the input."""
        return self.dilation * (self.kernel // 2)

    @property
    def pairs(self) -> ConvPairs:
        """The convolution's arguments."""
        both = ((value, value) for value in (self.kernel, self.stride, self.padding, self.dilation))
        return self.uncommon or ConvPairs(*both)

    @property
    def can_skip(self) -> bool:
        """Whether the output has the input's shape and kernels are centred."""
        kernel, stride, padding, dilation = self.pairs
        centred = all(gap * (size - 1) == 2 * zeros for size, zeros, gap in zip(kernel, padding, dilation, strict=True))
        return centred and stride == (1, 1) and self.in_channels == self.out_channels and self.area % 2 == 1

    @property
    def kind(self) -> str:
        """Name of the kind in measurements, as "dense 1x1/1" or "depthwise 3x3/2": groups, kernel, stride, dilation."""
        depthwise = self.groups == self.in_channels == self.out_channels
        groups = "dense" if self.groups == 1 else "depthwise" if depthwise else "grouped"
        dilation = f" dilated {self.dilation}" if self.dilation > 1 else ""
        return f"{groups} {self.kernel}x{self.kernel}/{self.stride}{dilation}"

    @property
    def area(self) -> int:
        """Taps per channel."""
        return math.prod(self.pairs.kernel)

    @property
    def taps(self) -> int:
        """Taps per group, T."""
        return self.in_channels // self.groups * self.area

    @property
    def outputs(self) -> int:
        """Output channels per group, O."""
        return self.out_channels // self.groups

    def sizes(self, shape: Sequence[int]) -> tuple[int, int]:
        """Output rows and columns for an input of shape (N, C, H, W)."""
        rows, columns = (
            (size + 2 * zeros - gap * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, zeros, gap in zip(shape[2:], *self.pairs, strict=True)
        )
        return rows, columns

    def positions(self, shape: Sequence[int]) -> int:
        """Output positions of the whole batch, N L, for an input of shape (N, C, H, W)."""
        rows, columns = self.sizes(shape)
        return shape[0] * rows * columns

    def can_have_full_rank(self, shape: Sequence[int]) -> bool:
        """Whether an input of shape (N, C, H, W) has more patches than taps, as a covariance of full rank needs."""
        return self.positions(shape) > self.taps
