"""The MobileOne block (section 3.3, figure 3) in its train form and its deployed form."""

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from mobileone_core.model.activations import SqueezeExcite, build_activation
from mobileone_core.model.expand.branches import Branch
from mobileone_core.model.folded.block import folded_sum, uses_folded
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.layers import ConvNorm, block_conv
from mobileone_core.model.methods import block_branches
from mobileone_core.model.spec import BlockExecution, BlockSpec


class MobileOneBlock(nn.Module):
    """Branches summed, then SE, then the activation: (N, C_in, H, W) -> (N, C_out, ceil(H / s), ceil(W / s)).

    Train form: conv_kxk (k conv-BN branches), conv_scale (the scale branch, 1x1 conv-BN) and identity (the skip
    branch, BN alone), the last two None where the spec has none; methods other than mobileone's and repvgg's have all
    their branches in conv_kxk, in the order of model/methods.py. Deployed form: reparam_conv alone. The names
    are timm's, so that state dicts are interchangeable. execution says how the train form computes in training,
    sync_batchnorm whether it normalizes by the statistics of all ranks; neither is part of its state.
    """

    __jit_unused_properties__ = ("deployed",)
    if TYPE_CHECKING:  # TorchScript reads annotations, and knows none of modules
        conv_kxk: nn.ModuleList
        conv_scale: ConvNorm | None
        identity: nn.BatchNorm2d | None
        reparam_conv: nn.Conv2d | None

    def __init__(self, spec: BlockSpec, activation: str = "relu", deployed: bool = False) -> None:
        super().__init__()
        self.spec, self.geometry = spec, Geometry.of(spec)
        self.execution: BlockExecution = "branches"
        self.sync_batchnorm = False
        branched = not deployed
        conv = block_conv(spec, spec.kernel_size, bias=True) if deployed else None
        self.register_module("reparam_conv", conv)  # first in the order of parameters, in either form
        if branched and spec.method not in ("mobileone", "repvgg"):
            plans = block_branches(spec).values()
            self.conv_kxk = nn.ModuleList(Branch(self.geometry, plan, nn.BatchNorm2d) for plan in plans)
        else:
            self.conv_kxk = nn.ModuleList(ConvNorm(spec, spec.kernel_size) for _ in range(spec.k if branched else 0))
        self.conv_scale = ConvNorm(spec, 1) if branched and spec.scale else None
        self.identity = nn.BatchNorm2d(spec.in_channels) if branched and spec.skip else None
        self.attn = SqueezeExcite(spec.out_channels) if spec.se else nn.Identity()
        self.act = build_activation(activation, spec.out_channels)

    @property
    def deployed(self) -> bool:
        """Whether this is the deployed form: one convolution with bias."""
        return self.reparam_conv is not None

    def branches(self) -> list[nn.Module]:
        """Return the branches that the train form sums, in order; empty in the deployed form."""
        optional = (self.conv_scale, self.identity)
        return [*self.conv_kxk, *(branch for branch in optional if branch is not None)]

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
