"""A block's branches as one convolution in training."""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from mobileone_core.errors import require
from mobileone_core.model.folded.branches import Branches
from mobileone_core.model.folded.columns import Columns
from mobileone_core.model.folded.compiled import Compiled
from mobileone_core.model.folded.convolution import FoldedConvolution, Sum
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.gpu.dispatch import gpu_statistics
from mobileone_core.model.folded.kind import PatchStatistics
from mobileone_core.model.folded.lags import Lags
from mobileone_core.model.folded.native.library import available
from mobileone_core.model.folded.norms import follow_the_batch, update_running
from mobileone_core.model.folded.patches import Patches
from mobileone_core.model.folded.pointwise import Pointwise
from mobileone_core.model.folded.ranks import refuse_own_statistics, synchronizes
from mobileone_core.model.folded.rule import folding_is_faster

if TYPE_CHECKING:
    from mobileone_core.model.blocks import ConvNorm, MobileOneBlock


def _convolving(block: "MobileOneBlock") -> "list[ConvNorm]":
    """The branches with a convolution, in their order."""
    scale = [] if block.conv_scale is None else [block.conv_scale]
    return [*cast("list[ConvNorm]", block.conv_kxk), *scale]


def block_norms(block: "MobileOneBlock") -> list[nn.BatchNorm2d]:
    """The BN of every branch, in the order of the branches."""
    norms = [branch.bn for branch in _convolving(block)]
    return norms if block.identity is None else [*norms, block.identity]


def can_fold(block: "MobileOneBlock") -> bool:
    """Whether the block's branches can be folded as they stand: convolutions as its spec has them, norms that follow
    the batch.
    """
    geometry = Geometry.of(block.spec)
    kernels = ((branch.conv, 1 if branch is block.conv_scale else geometry.kernel) for branch in _convolving(block))
    return all(_is_plain(conv, geometry, kernel) for conv, kernel in kernels) and follow_the_batch(block_norms(block))


def _is_plain(conv: nn.Conv2d, geometry: Geometry, kernel: int) -> bool:
    """Whether a convolution is a branch's own, not one that somebody put in its place."""
    if type(conv) is not nn.Conv2d:
        return False
    declared = ((kernel, kernel), (geometry.stride,) * 2, (kernel // 2,) * 2, (1, 1), geometry.groups)
    found = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    return found == declared and conv.padding_mode == "zeros" and conv.bias is None


def _fits(block: "MobileOneBlock", x: Tensor) -> bool:
    """Whether x is what the block takes, and not empty; anything else is left to the branches, and to their errors."""
    weight = cast("ConvNorm", block.conv_kxk[0]).conv.weight
    if x.device != weight.device or x.is_meta or type(x) not in (Tensor, nn.Parameter):
        return False
    alike = x.dtype == weight.dtype or (_autocasts(x) and _autocasts(weight))
    return alike and x.dim() == len("NCHW") and x.shape[1] == block.spec.in_channels and x.numel() > 0


def _autocasts(values: Tensor) -> bool:
    """Whether autocast is on and of a convolution's values takes these: any floating-point ones but float64."""
    is_taken = values.is_floating_point() and values.dtype != torch.float64
    return is_taken and torch.is_autocast_enabled(values.device.type)


def uses_folded(block: "MobileOneBlock", x: Tensor) -> bool:
    """Whether the block computes x (N, C, H, W) by one convolution: as its execution says, where it can; also where
    only that can synchronize it. Raises InputError where it is to be synchronized and cannot.
    """
    if block.execution == "branches" or not can_fold(block):
        if synchronizes(block):
            refuse_own_statistics(block_norms(block))
        return False
    if not _fits(block, x):
        require(x.numel() > 0 or not synchronizes(block), "batch", 0, "an image or more where ranks are synchronized")
        return False
    return block.execution == "folded" or synchronizes(block) or folding_is_faster(block.spec, x)


def sum_of_branches(block: "MobileOneBlock", x: Tensor) -> Tensor:
    """What the branches sum to on x (N, C, H, W), by one convolution; moves their running statistics.

    Raises ValueError where a channel has a single value, as BN does.
    """
    geometry, norms = Geometry.of(block.spec), block_norms(block)
    sync_batchnorm = synchronizes(block)
    if geometry.positions(x.shape) == 1 and not sync_batchnorm:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    if _autocasts(x):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    kind = statistics_for(geometry, x)
    branches = Branches(block.conv_scale is not None, block.identity is not None, tuple(norm.eps for norm in norms))
    with torch.autocast(x.device.type, enabled=False):
        gammas, betas = torch.stack([norm.weight for norm in norms]), torch.stack([norm.bias for norm in norms])
        weights = [branch.conv.weight for branch in _convolving(block)]
        found = Sum(*FoldedConvolution.apply(x, kind, branches, sync_batchnorm, gammas, betas, *weights))
        means, variances = (value.transpose(0, 1).reshape(len(norms), -1) for value in found[1:])
        update_running(norms, means, variances)
    return found.output


def statistics_for(geometry: Geometry, x: Tensor) -> PatchStatistics:
    """The way that suits a block and its input x (N, C, H, W), by its shape, dtype and device."""
    fused = gpu_statistics(geometry, x)
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
