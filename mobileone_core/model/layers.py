"""The layers a block is made of: convolutions of its shape, alone or followed by batch normalization."""

from torch import Tensor, nn

from mobileone_core.model.spec import BlockSpec


def block_conv(spec: BlockSpec, kernel_size: int, bias: bool) -> nn.Conv2d:
    """Return a convolution of the block's channels, stride, dilation and groups, padded so that centres are aligned."""
    return nn.Conv2d(
        spec.in_channels,
        spec.out_channels,
        kernel_size,
        stride=spec.stride,
        padding=spec.dilation * (kernel_size // 2),
        dilation=spec.dilation,
        groups=spec.groups,
        bias=bias,
    )


class ConvNorm(nn.Module):
    """Convolution without bias, then batch normalization."""

    def __init__(self, spec: BlockSpec, kernel_size: int) -> None:
        super().__init__()
        self.conv = block_conv(spec, kernel_size, bias=False)
        self.bn = nn.BatchNorm2d(spec.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Images or features (N, C_in, H, W) to (N, C_out, H', W')."""
        out: Tensor = self.bn(self.conv(x))
        return out
