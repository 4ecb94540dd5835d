"""What a block's convolution looks at: groups and taps."""

from dataclasses import dataclass

from torch import Size

from mobileone_core.model.spec import BlockSpec


def output_sizes(shape: Size, stride: int) -> tuple[int, int]:
    """Rows and columns that a convolution with padding kernel // 2 makes of an input (N, C, H, W)."""
    return (shape[2] - 1) // stride + 1, (shape[3] - 1) // stride + 1


@dataclass(frozen=True)
class Geometry:
    """A convolution with padding kernel // 2. A tap is one input value of a group's patch: channel, row, column."""

    groups: int
    kernel: int
    stride: int
    in_channels: int
    out_channels: int

    @classmethod
    def of(cls, spec: BlockSpec) -> "Geometry":
        return cls(spec.groups, spec.kernel_size, spec.stride, spec.in_channels, spec.out_channels)

    @property
    def pointwise(self) -> bool:
        return self.kernel == 1 and self.stride == 1 and self.groups == 1

    @property
    def depthwise(self) -> bool:
        """One 3x3 kernel a channel, neighbours overlapping."""
        return self.groups == self.in_channels == self.out_channels and self.kernel == 3 and self.stride <= 2

    @property
    def area(self) -> int:
        return self.kernel * self.kernel

    @property
    def taps(self) -> int:
        return self.in_channels // self.groups * self.area

    @property
    def outputs(self) -> int:
        """Output channels of a group."""
        return self.out_channels // self.groups

    def sizes(self, shape: Size) -> tuple[int, int]:
        """Output rows and columns for an input (N, C, H, W)."""
        return output_sizes(shape, self.stride)

    def positions(self, shape: Size) -> int:
        """Values a channel of the output for an input (N, C, H, W)."""
        rows, columns = self.sizes(shape)
        return shape[0] * rows * columns

    def can_have_full_rank(self, shape: Size) -> bool:
        """Whether an input (N, C, H, W) has patches enough for a covariance of full rank."""
        return self.positions(shape) > self.taps
