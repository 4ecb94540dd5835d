"""A block's branches as one convolution in training."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mobileone_core.model.folded.branches import Branches
from mobileone_core.model.folded.columns import Columns
from mobileone_core.model.folded.compiled import Compiled
from mobileone_core.model.folded.convolution import FoldedConvolution, Sum
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.gpu.dispatch import gpu_kind
from mobileone_core.model.folded.kind import Kind
from mobileone_core.model.folded.lags import Lags
from mobileone_core.model.folded.native.library import available
from mobileone_core.model.folded.norms import follow_the_batch, update_running
from mobileone_core.model.folded.patches import Patches
from mobileone_core.model.folded.pointwise import Pointwise
from mobileone_core.model.folded.ranks import refuse_own_statistics, synchronizes
from mobileone_core.model.folded.rule import pays

if TYPE_CHECKING:
    from mobileone_core.model.blocks import MobileOneBlock


def block_norms(block: "MobileOneBlock") -> list[nn.BatchNorm2d]:
    """The BN of every branch, in the order of the branches."""
    convolved = [*block.conv_kxk, block.conv_scale] if block.conv_scale is not None else [*block.conv_kxk]
    return [branch.bn for branch in convolved] + ([block.identity] if block.identity is not None else [])


def folds(block: "MobileOneBlock") -> bool:
    """Whether the block's branches can be folded as they stand: all of them follow the batch."""
    return follow_the_batch(block_norms(block))


def takes_folded(block: "MobileOneBlock", x: Tensor) -> bool:
    """Whether the block computes x (N, C, H, W) by one convolution: as its execution says, where it can; also where
    only that can synchronize it. Raises InputError where it is to be synchronized and cannot.
    """
    if block.execution == "branches" or not folds(block):
        if synchronizes(block):
            refuse_own_statistics(block_norms(block))
        return False
    return block.execution == "folded" or synchronizes(block) or pays(Geometry.of(block.spec), block.spec.k, x)


def sum_of_branches(block: "MobileOneBlock", x: Tensor) -> Tensor:
    """What the branches sum to on x (N, C, H, W), by one convolution; moves their running statistics.

    Raises ValueError where a channel has a single value, as BN does.
    """
    geometry, norms = Geometry.of(block.spec), block_norms(block)
    together = synchronizes(block)
    if geometry.positions(x.shape) == 1 and not together:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    kind = kind_of(geometry, x)
    with torch.autocast(x.device.type, enabled=False):
        found = Sum(*FoldedConvolution.apply(x, kind, _branches(block, norms), together, *_parameters(block, norms)))
        means, variances = (value.transpose(0, 1).reshape(len(norms), -1) for value in found[1:])
        update_running(norms, means, variances)
    return found.output


def kind_of(geometry: Geometry, x: Tensor) -> Kind:
    """The way that suits a block and its input x (N, C, H, W), by its shape, dtype and device."""
    fused = gpu_kind(geometry, x)
    if fused is not None:
        return fused
    if geometry.pointwise:
        return Pointwise(geometry)
    # a tap that only ever sees padding needs a centre of its own
    if not geometry.depthwise or min(geometry.sizes(x.shape)) == 1:
        return Patches(geometry)
    if x.device.type == "cpu" and x.dtype != torch.float64 and available():
        return Compiled(geometry)
    return Lags(geometry) if geometry.stride == 1 else Columns(geometry)


def _branches(block: "MobileOneBlock", norms: list[nn.BatchNorm2d]) -> Branches:
    skip = block.identity is not None
    return Branches(len(block.conv_kxk), block.conv_scale is not None, skip, tuple(norm.eps for norm in norms))


def _parameters(block: "MobileOneBlock", norms: list[nn.BatchNorm2d]) -> list[Tensor]:
    """Weights, gammas and betas, in the order of the branches."""
    convolutions = [module for part in block.conv_kxk for module in part.children() if isinstance(module, nn.Conv2d)]
    if block.conv_scale is not None:
        convolutions.append(block.conv_scale.conv)
    weights = [convolution.weight for convolution in convolutions]
    return [*weights, *(norm.weight for norm in norms), *(norm.bias for norm in norms)]
