"""Moments of what all ranks see, from the moments of what each sees: one all-reduce forward, one backward.

Gradients come out as those of the sum of all ranks' losses; DDP's mean over ranks makes of them the gradients of the
mean loss, so that ranks with equal shares of a batch train as one process does with the whole of it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mobileone_core.errors import require
from mobileone_core.model.folded.algebra import Moments

if TYPE_CHECKING:
    from mobileone_core.model.blocks import MobileOneBlock


class Merged(NamedTuple):
    """Moments of all ranks' values, and how many values they are (0-d)."""

    moments: Moments
    total: Tensor


def has_others() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def synchronizes(block: "MobileOneBlock") -> bool:
    """Whether a block is to train by the statistics of all ranks: it was asked to, and there are others."""
    return block.sync_batchnorm and has_others()


def refuse_own_statistics(norms: Sequence[nn.BatchNorm2d]) -> None:
    """Raise InputError where any BN of a block would normalize by this rank's batch alone.

    Frozen statistics and nn.SyncBatchNorm do not.
    """
    alone = any(isinstance(norm, nn.BatchNorm2d) and (norm.training or norm.running_mean is None) for norm in norms)
    allowed = "it needs execution folded or auto, and in every branch a BN that follows the batch"
    require(not alone, "sync_batchnorm", True, allowed)


def merge(counts: Tensor, means: Tensor, scatter: Tensor) -> Merged:
    """From R ranks' numbers of values (R) and means (R, G, T), and the sum of count * covariance over them (G, T, T).

    Nothing is subtracted but means: no digits are lost that the means still have.
    """
    total = counts.sum()
    weights = (counts / total).view(-1, 1, 1)
    offsets = means - means[0]
    centre = (weights * offsets).sum(0)
    apart = offsets - centre
    between = torch.bmm((weights * apart).permute(1, 2, 0), apart.transpose(0, 1))
    return Merged(Moments(means[0] + centre, scatter / total + between), total)


def of_all_ranks(own: Moments, count: int) -> Merged:
    """From this rank's moments of count values; the same bits on every rank that has them in the same dtype.

    Counts and means travel in a place of their own for each rank, where all others add 0: T^2 + R T values a group of
    channels, where gathering everything would take R (T^2 + T). In float64, whatever dtype each rank's way to its
    moments has. Of two ranks or more, each with a value a channel at least, there is always more than the one that BN
    refuses.
    """
    mean, covariance = own
    ranks, rank = dist.get_world_size(), dist.get_rank()
    packed = mean.new_zeros(covariance.numel() + ranks * (mean.numel() + 1), dtype=torch.float64)
    scatter, counts, means = torch.split(packed, [covariance.numel(), ranks, ranks * mean.numel()])
    scatter.copy_(covariance.reshape(-1)).mul_(count)
    counts[rank] = count
    means.view(ranks, *mean.shape)[rank] = mean
    dist.all_reduce(packed)
    moments, total = merge(counts, means.view(ranks, *mean.shape), scatter.view_as(covariance))
    return Merged(Moments(*(value.to(mean.dtype) for value in moments)), total)


def summed(*values: Tensor) -> list[Tensor]:
    """Of every value the sum over all ranks, by one all-reduce."""
    packed = torch.cat([value.reshape(-1).double() for value in values])
    dist.all_reduce(packed)
    parts = torch.split(packed, [value.numel() for value in values])
    return [part.view_as(value).to(value.dtype) for part, value in zip(parts, values, strict=True)]
