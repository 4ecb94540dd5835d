"""The MobileOne block (section 3.3, figure 3) in its train form and its deployed form."""

from torch import Tensor, nn

from mobileone_core.model.activations import SqueezeExcite, build_activation
from mobileone_core.model.folded.block import sum_of_branches, uses_folded
from mobileone_core.model.spec import BlockExecution, BlockSpec


def block_conv(spec: BlockSpec, kernel_size: int, bias: bool) -> nn.Conv2d:
    """A convolution with the block's channels, stride and groups; padding keeps the centres aligned."""
    return nn.Conv2d(
        spec.in_channels,
        spec.out_channels,
        kernel_size,
        stride=spec.stride,
        padding=kernel_size // 2,
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
        out: Tensor = self.bn(self.conv(x))
        return out


class MobileOneBlock(nn.Module):
    """Branches summed, then SE, then the activation: (N, C_in, H, W) -> (N, C_out, ceil(H / s), ceil(W / s)).

    Train form: conv_kxk (k conv-BN branches), conv_scale (the scale branch, 1x1 conv-BN) and identity (the skip
    branch, BN alone), the last two None where the spec has none. Deployed form: reparam_conv alone. The names
    are timm's, so that state dicts are interchangeable. execution says how the train form computes in training,
    sync_batchnorm whether it normalizes by the statistics of all ranks; neither is part of its state.
    """

    conv_kxk: nn.ModuleList
    conv_scale: ConvNorm | None
    identity: nn.BatchNorm2d | None
    reparam_conv: nn.Conv2d | None

    def __init__(self, spec: BlockSpec, activation: str = "relu", deployed: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.execution: BlockExecution = "branches"
        self.sync_batchnorm = False
        branched = not deployed
        conv = block_conv(spec, spec.kernel_size, bias=True) if deployed else None
        self.register_module("reparam_conv", conv)  # keeps its place in the order of parameters when it comes later
        self.conv_kxk = nn.ModuleList(ConvNorm(spec, spec.kernel_size) for _ in range(spec.k if branched else 0))
        self.conv_scale = ConvNorm(spec, 1) if branched and spec.scale else None
        self.identity = nn.BatchNorm2d(spec.in_channels) if branched and spec.skip else None
        self.attn = SqueezeExcite(spec.out_channels) if spec.se else nn.Identity()
        self.act = build_activation(activation, spec.out_channels)

    @property
    def deployed(self) -> bool:
        return self.reparam_conv is not None

    def branches(self) -> list[nn.Module]:
        """What the train form sums, in order; empty in the deployed form."""
        optional = (self.conv_scale, self.identity)
        return [*self.conv_kxk, *(branch for branch in optional if branch is not None)]

    def forward(self, x: Tensor) -> Tensor:
        linear = self._linear(x) if self.reparam_conv is None else self.reparam_conv(x)
        out: Tensor = self.act(self.attn(linear))
        return out

    def _linear(self, x: Tensor) -> Tensor:
        if uses_folded(self, x):
            return sum_of_branches(self, x)
        return self._sum_branches(x)

    def _sum_branches(self, x: Tensor) -> Tensor:
        first, *others = self.branches()
        out: Tensor = first(x)
        for branch in others:
            out += branch(x)  # in place: no branch needs its own output for its gradient
        return out
