"""The MobileOne block (section 3.3, figure 3) in its train form and its deployed form."""

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from mobileone_core.model.activations import SqueezeExcite, build_activation
from mobileone_core.model.expand.branches import Branch
from mobileone_core.model.folded.block import folded_sum, uses_folded
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.methods import block_branches
from mobileone_core.model.spec import BlockExecution, BlockSpec


def block_conv(spec: BlockSpec) -> nn.Conv2d:
    """Return the convolution of a block's deployed form."""
    padding = spec.dilation * (spec.kernel_size // 2)
    sizes = (spec.in_channels, spec.out_channels, spec.kernel_size, spec.stride, padding)
    return nn.Conv2d(*sizes, dilation=spec.dilation, groups=spec.groups)


class MobileOneBlock(nn.Module):
    """Branches summed, then SE, then the activation: (N, C_in, H, W) -> (N, C_out, ceil(H / s), ceil(W / s)).

    Train form: conv_kxk (k conv-BN branches), conv_scale (the scale branch, 1x1 conv-BN) and identity (the skip
    branch, BN alone), the last two None where the spec has none; methods other than mobileone's and repvgg's have all
    their branches in conv_kxk, in the order of model/methods.py. Deployed form: reparam_conv alone. The names
    are timm's, so that state dicts are interchangeable. execution says how the train form computes in training,
    sync_batchnorm whether it normalizes by the statistics of all ranks; neither is part of its state.
    """

    __jit_unused_properties__ = ("deployed",)

    def __init__(self, spec: BlockSpec, activation: str = "relu", deployed: bool = False) -> None:
        super().__init__()
        self.spec, self.geometry = spec, Geometry.of(spec)
        self.execution: BlockExecution = "branches"
        self.sync_batchnorm = False
        self.reparam_conv: nn.Conv2d | None  # first in the order of parameters, in either form
        self.register_module("reparam_conv", block_conv(spec) if deployed else None)
        plans = {} if deployed else block_branches(spec)
        branches = {name: Branch(self.geometry, plan) for name, plan in plans.items() if name != "skip"}
        scale = branches.pop("scale", None) if spec.scale else None
        self.conv_kxk, self.conv_scale = nn.ModuleList(branches.values()), scale
        self.identity = nn.BatchNorm2d(spec.in_channels) if "skip" in plans else None
        self.attn = SqueezeExcite(spec.out_channels) if spec.se else nn.Identity()
        self.act = build_activation(activation, spec.out_channels)

    @property
    def deployed(self) -> bool:
        """Whether this is the deployed form: one convolution with bias."""
        return self.reparam_conv is not None

    def branches(self) -> list[Branch]:
        """Return the branches that the train form sums, in order; empty in the deployed form."""
        branches = [*cast("Iterable[Branch]", self.conv_kxk), *([self.conv_scale] if self.conv_scale else [])]
        if (norm := self.identity) is not None:
            branches.append(Branch(self.geometry, block_branches(self.spec)["skip"], lambda _: norm))
        return branches

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C_in, H, W) to (N, C_out, ceil(H / s), ceil(W / s))."""
        linear = self._linear(x) if self.reparam_conv is None else self.reparam_conv(x)
        out: Tensor = self.act(self.attn(linear))
        return out

    def _linear(self, x: Tensor) -> Tensor:
        if not is_scripting():
            if uses_folded(self, x):
                return folded_sum(self, x)
            if self.spec.method == "expandnet" and self.execution != "branches":
                return cast("Branch", self.conv_kxk[0]).composed(x)
        out = x
        for index, conv in enumerate(self.conv_kxk):
            if index == 0:
                out = conv(x)
            else:
                out += conv(x)  # in place: no branch needs its own output for its gradient
        if self.conv_scale is not None:
            out += self.conv_scale(x)
        if self.identity is not None:
            out += self.identity(x)
        return out
