"""A block's branches as one convolution in training."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.model.folded.algebra import Folded, FoldParameters, Moments
from mobileone_core.model.folded.depthwise import DepthwiseMoments
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.lags import LagMoments
from mobileone_core.model.folded.norms import follow_the_batch, update_running
from mobileone_core.model.folded.patches import PatchMoments
from mobileone_core.model.folded.pointwise import PointwiseMoments
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
    """Whether the block computes x (N, C, H, W) by one convolution: as its execution says, where it can."""
    if block.execution == "branches" or not folds(block):
        return False
    return block.execution == "folded" or pays(Geometry.of(block.spec), block.spec.k, x)


def sum_of_branches(block: "MobileOneBlock", x: Tensor) -> Tensor:
    """What the branches sum to on x (N, C, H, W), by one convolution; moves their running statistics.

    Raises ValueError where a channel has a single value, as BN does.
    """
    geometry = Geometry.of(block.spec)
    count = geometry.positions(x.shape)
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    with torch.autocast(x.device.type, enabled=False):
        moments = input_moments(_exact(x), geometry)
        norms = block_norms(block)
        folded = Folded(*FoldParameters.apply(*moments, *_parameters(block, norms, moments.mean), geometry))
        shape = (len(norms), geometry.out_channels)
        update_running(norms, folded.means.reshape(shape), folded.variances.reshape(shape), count)
        return _convolve(x, folded, moments.mean, geometry)


def input_moments(x: Tensor, geometry: Geometry) -> Moments:
    """Mean (G, T) and covariance (G, T, T) of the patches of x (N, C, H, W), by the way that suits the block."""
    if geometry.pointwise:
        return Moments(*PointwiseMoments.apply(x))
    # a tap that only ever sees padding needs a centre of its own
    if geometry.depthwise and min(geometry.sizes(x.shape)) > 1:
        if geometry.stride == 1:
            return Moments(*LagMoments.apply(x))
        return Moments(*DepthwiseMoments.apply(x, geometry))
    return Moments(*PatchMoments.apply(x, geometry))


def _exact(values: Tensor) -> Tensor:
    """float32 at least."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _parameters(
    block: "MobileOneBlock", norms: list[nn.BatchNorm2d], like: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """kernels (B', G, O, T), gammas and betas (B, G, O), eps (B, 1, 1), in the dtype of the moments."""
    geometry = Geometry.of(block.spec)
    convolutions = [module for part in block.conv_kxk for module in part.children() if isinstance(module, nn.Conv2d)]
    weights: list[Tensor] = [convolution.weight for convolution in convolutions]
    if block.conv_scale is not None:
        weights.append(F.pad(block.conv_scale.conv.weight, [geometry.kernel // 2] * 4))
    kernels = torch.stack(weights).view(len(weights), geometry.groups, geometry.outputs, geometry.taps)
    shape = (len(norms), geometry.groups, geometry.outputs)
    gammas = torch.stack([norm.weight for norm in norms]).view(shape)
    betas = torch.stack([norm.bias for norm in norms]).view(shape)
    eps = torch.tensor([norm.eps for norm in norms], dtype=like.dtype, device=like.device).view(-1, 1, 1)
    return kernels.to(like.dtype), gammas.to(like.dtype), betas.to(like.dtype), eps


def _convolve(x: Tensor, folded: Folded, mean: Tensor, geometry: Geometry) -> Tensor:
    exact, bias = folded.kernel, folded.bias
    kernel = exact.to(x.dtype)
    if kernel.dtype != exact.dtype:  # what rounding takes from the kernel, given back where it matters
        bias = bias + torch.bmm(exact - kernel.to(exact.dtype), mean.unsqueeze(-1)).squeeze(-1)
    if geometry.pointwise and kernel.dtype == exact.dtype:
        out = torch.baddbmm(bias.view(1, -1, 1), kernel.expand(len(x), -1, -1), x.flatten(2))
        return out.view(len(x), -1, *x.shape[2:])
    kernel = kernel.reshape(geometry.out_channels, -1, geometry.kernel, geometry.kernel)
    bias = bias.reshape(-1)
    padding = geometry.kernel // 2
    coarse = bias.to(x.dtype)
    out = F.conv2d(x, kernel, coarse, geometry.stride, padding, groups=geometry.groups)
    if coarse.dtype != bias.dtype:
        out = out + (bias - coarse.to(bias.dtype)).to(x.dtype).view(1, -1, 1, 1)
    return out
