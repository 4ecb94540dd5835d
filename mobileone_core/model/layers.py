"""The layers a block is made of, convolutions of its shape and batch normalization, and what they fold into."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import require
from mobileone_core.model.spec import BlockSpec

KNOWN_FORWARDS = (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)  # of BN that scales and shifts, nothing else


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

    def kernel(self) -> Tensor:
        """The convolution's weight (C_out, C_in / groups, kernel, kernel)."""
        return self.conv.weight


def scale_and_bias(norm: Any) -> tuple[Tensor, Tensor]:
    """What a BN multiplies by and adds, (C) each. Raises InputError unless it does that alone."""
    name, allowed = type(norm).__name__, "a BN with running statistics that scales and shifts, nothing else"
    require(getattr(norm, "running_var", None) is not None, "model", name, allowed)
    mean, deviation = in_float64(norm.running_mean), (in_float64(norm.running_var) + norm.eps).sqrt()
    scale = deviation.reciprocal() if norm.weight is None else in_float64(norm.weight) / deviation
    bias = -mean * scale if norm.bias is None else in_float64(norm.bias) - mean * scale
    if type(norm).forward not in KNOWN_FORWARDS:
        levels = torch.linspace(-9, 9, 7, dtype=torch.float64, device="cpu")
        values = levels.view(-1, 1, 1, 1).expand(-1, len(bias), 1, 1)
        actual = copy.deepcopy(norm).to("cpu", torch.float64)(values)
        expected = values * scale.view(-1, 1, 1) + bias.view(-1, 1, 1)
        require(torch.allclose(actual, expected, 1e-4, 1e-4), "model", name, allowed)
    return scale, bias


def identity_kernel(channels: int, groups: int) -> Tensor:
    """The 1x1 kernel that copies every channel: (C, C / groups, 1, 1), float64 on the CPU."""
    group_width = channels // groups
    columns = torch.arange(channels, device="cpu") % group_width
    return F.one_hot(columns, group_width).to(torch.float64)[:, :, None, None]


def in_float64(values: Tensor) -> Tensor:
    """Values in float64 on the CPU."""
    return values.to("cpu", torch.float64)
