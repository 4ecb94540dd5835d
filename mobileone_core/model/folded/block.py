"""Whether and how a block computes its branches as one convolution in training; the branches' running statistics."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileone_core.errors import InputError, require
from mobileone_core.model.expand.branches import Branch
from mobileone_core.model.folded.algebra import Branches
from mobileone_core.model.folded.columns import Columns
from mobileone_core.model.folded.compiled import Compiled
from mobileone_core.model.folded.convolution import FoldedConvolution
from mobileone_core.model.folded.distributed import has_other_ranks
from mobileone_core.model.folded.geometry import Geometry
from mobileone_core.model.folded.gpu.dispatch import gpu_statistics
from mobileone_core.model.folded.lags import Lags
from mobileone_core.model.folded.native.library import available
from mobileone_core.model.folded.patches import Patches
from mobileone_core.model.folded.pointwise import Pointwise
from mobileone_core.model.folded.rule import folding_is_faster
from mobileone_core.model.folded.statistics import PatchStatistics
from mobileone_core.model.spec import BlockExecution, BlockSpec


class FoldableBlock(Protocol):
    """The attributes that folded training reads of a block in its train form; conv_kxk may hold any linear branches.

    spec is None where the rule of "auto" knows nothing of the block; geometry is that of the folded convolution.
    """

    execution: BlockExecution
    sync_batchnorm: bool
    geometry: Geometry

    @property
    def spec(self) -> BlockSpec | None: ...
    @property
    def conv_kxk(self) -> Iterable[nn.Module]: ...
    @property
    def conv_scale(self) -> Branch | None: ...
    @property
    def identity(self) -> nn.BatchNorm2d | None: ...


def can_fold(block: FoldableBlock) -> bool:
    """Whether every convolution is as it was built, and every BN normalizes by the batch."""
    return all(branch.is_one_kernel for branch in _conv_norms(block)) and all(
        type(norm) is nn.BatchNorm2d and norm.affine and _follows_the_batch(norm) for norm in _norms(block)
    )


def uses_folded(block: FoldableBlock, x: Tensor) -> bool:
    """Whether the block computes x (N, C, H, W) by one convolution, as its execution says and where that can be done.

    With sync_batchnorm and other ranks, "auto" always folds. Raises InputError where a branch would then normalize by
    this rank's batch alone, or where this rank's batch is empty.
    """
    sync_batchnorm = block.sync_batchnorm and has_other_ranks()
    if block.execution == "branches" or not can_fold(block):
        if sync_batchnorm and any(
            isinstance(norm, nn.BatchNorm2d) and _follows_the_batch(norm) for norm in _norms(block)
        ):
            allowed = "it needs execution folded or auto, and in every branch a BN that follows the batch"
            raise InputError.of("sync_batchnorm", True, allowed)
        return False
    if not _fits(block, x):
        require(x.numel() > 0 or not sync_batchnorm, "batch", 0, "one image or more per rank with sync_batchnorm")
        return False
    is_faster = block.spec is not None and folding_is_faster(block.spec, x)
    return block.execution == "folded" or sync_batchnorm or is_faster


def folded_sum(block: FoldableBlock, x: Tensor) -> Tensor:
    """Compute the sum of the branches on x (N, C, H, W) by one convolution, and update their running statistics.

    Raises ValueError where a channel has a single value, as BN does.
    """
    geometry, norms = block.geometry, _norms(block)
    sync_batchnorm = block.sync_batchnorm and has_other_ranks()
    if geometry.positions(x.shape) == 1 and not sync_batchnorm:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    if _autocasts(x):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    phases = geometry.phases_of(x.shape)
    if phases > 1:
        x, geometry = to_phases(x, phases), replace(geometry, dilation=1)
    statistics = statistics_for(geometry, x)
    branches = Branches(block.conv_scale is not None, block.identity is not None, tuple(norm.eps for norm in norms))
    with torch.autocast(x.device.type, enabled=False):
        gammas, betas = torch.stack([norm.weight for norm in norms]), torch.stack([norm.bias for norm in norms])
        weights = [branch.kernel() for branch in cast("Iterable[Branch]", block.conv_kxk)]
        weights += [block.conv_scale.convs[0].weight] if block.conv_scale is not None else []
        arguments = x, statistics, branches, sync_batchnorm, gammas, betas, *weights
        output, *moments = FoldedConvolution.apply(*arguments)
        means, variances = (value.transpose(0, 1).reshape(len(norms), -1) for value in moments)
        update_running(norms, means, variances)
    return from_phases(output, phases) if phases > 1 else cast("Tensor", output)


def to_phases(x: Tensor, phases: int) -> Tensor:
    """Cut images (N, C, H, W) into interleaved ones of lower resolution: (N p p, C, H / p, W / p)."""
    cut = F.pixel_unshuffle(x, phases)
    parts = cut.reshape(x.shape[0], x.shape[1], phases * phases, *cut.shape[2:])
    return parts.transpose(1, 2).flatten(0, 1)


def from_phases(x: Tensor, phases: int) -> Tensor:
    """Put the phases (N p p, C, H, W) of images together again: (N, C, H p, W p)."""
    parts = x.reshape(-1, phases * phases, *x.shape[1:]).transpose(1, 2)
    return F.pixel_shuffle(parts.flatten(1, 2), phases)


def statistics_for(geometry: Geometry, x: Tensor) -> PatchStatistics:
    """Choose the statistics for an input x (N, C, H, W) by its shape, dtype and device, never by its values."""
    on_gpu = gpu_statistics(geometry, x)
    if on_gpu is not None:
        return on_gpu
    if geometry.pointwise:
        return Pointwise(geometry)
    # with one output row or column, some taps see nothing but padding, and need a centre of their own
    if not geometry.depthwise or min(geometry.sizes(x.shape)) == 1:
        return Patches(geometry)
    if x.device.type == "cpu" and x.dtype != torch.float64 and available():
        return Compiled(geometry)
    return Lags(geometry) if geometry.stride == 1 else Columns(geometry)


@torch.no_grad()
def update_running(norms: Sequence[nn.BatchNorm2d], means: Tensor, variances: Tensor) -> None:
    """Move each BN's running statistics towards batch means and unbiased variances (B, C_out), as BN itself does."""
    tracking = [index for index, norm in enumerate(norms) if norm.training and norm.track_running_stats]
    if not tracking:
        return
    buffers = {index: cast("list[Tensor]", [norms[index].running_mean, norms[index].running_var]) for index in tracking}
    counters = {index: cast("Tensor", norms[index].num_batches_tracked) for index in tracking}
    dtype = buffers[tracking[0]][0].dtype
    values = list(zip(means.to(dtype).unbind(), variances.to(dtype).unbind(), strict=True))
    torch._foreach_add_(list(counters.values()), 1)
    for momentum in {norms[index].momentum for index in tracking}:
        equal = [index for index in tracking if norms[index].momentum == momentum]
        running = [buffer for index in equal for buffer in buffers[index]]
        batch = [value for index in equal for value in values[index]]
        if momentum is None:  # the plain average over all batches
            shares = [1 / counters[index].to(dtype) for index in equal for _ in range(2)]
            for buffer, value, share in zip(running, batch, shares, strict=True):
                buffer.lerp_(value, share)
        else:
            torch._foreach_lerp_(running, batch, momentum)


def _conv_norms(block: FoldableBlock) -> list[Branch]:
    scale = [] if block.conv_scale is None else [block.conv_scale]
    return [*cast("list[Branch]", block.conv_kxk), *scale]


def _norms(block: FoldableBlock) -> list[nn.BatchNorm2d]:
    """The BN of every branch, in the order of the branches."""
    norms: list[nn.BatchNorm2d] = [branch.norms[-1] for branch in _conv_norms(block)]
    return norms if block.identity is None else [*norms, block.identity]


def _follows_the_batch(norm: nn.BatchNorm2d) -> bool:
    """Whether a BN normalizes by the batch, as in training."""
    return norm.training or norm.running_mean is None


def _fits(block: FoldableBlock, x: Tensor) -> bool:
    """Whether x is a valid, non-empty input of the block; the branches raise their errors for any other."""
    weight = _norms(block)[0].weight
    if x.device != weight.device or x.is_meta or type(x) not in (Tensor, nn.Parameter):
        return False
    fits = x.dtype == weight.dtype or (_autocasts(x) and _autocasts(weight))
    return fits and x.dim() == len("NCHW") and x.shape[1] == block.geometry.in_channels and x.numel() > 0


def _autocasts(values: Tensor) -> bool:
    """Whether autocast is on and casts these values of a convolution: floating-point ones, except float64."""
    casts = values.is_floating_point() and values.dtype != torch.float64
    return casts and torch.is_autocast_enabled(values.device.type)
