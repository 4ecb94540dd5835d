"""Moments over all ranks, from each rank's moments: one all-reduce forward, one backward.

Gradients are those of the sum of all ranks' losses. DDP's mean over ranks turns them into the gradients of the mean
loss, so that ranks with equal shares of a batch train as one process does with the whole batch.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from mobileone_core.model.folded.algebra import Moments


def has_other_ranks() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def merge_moments(counts: Tensor, means: Tensor, scatter: Tensor) -> tuple[Moments, Tensor]:
    """Merge the moments of R ranks; also return the number of all positions, a tensor without dimensions.

    Nothing but means is subtracted: no digits are lost beyond those of the means.

    Args:
        counts: positions of each rank, (R).
        means: mean of each rank, (R, G, T).
        scatter: the sum of count * covariance over all ranks, (G, T, T).
    """
    total = counts.sum()
    weights = (counts / total).view(-1, 1, 1)
    offsets = means - means[0]
    centre = (weights * offsets).sum(0)
    centred = offsets - centre
    between = torch.bmm((weights * centred).permute(1, 2, 0), centred.transpose(0, 1))
    return Moments(means[0] + centre, scatter / total + between), total


def all_reduce_moments(local: Moments, count: int) -> tuple[Moments, Tensor]:
    """Merge this rank's moments of count positions with those of all other ranks, as merge_moments does.

    Every rank gets the same bits, provided that its moments have the same dtype. What is sent is float64, whatever that
    dtype. Each rank's count and mean have a slot where all others add 0: T^2 + R T values per group, where an
    all-gather would take R (T^2 + T).
    """
    mean, covariance = local
    ranks, rank = dist.get_world_size(), dist.get_rank()
    packed = mean.new_zeros(covariance.numel() + ranks * (mean.numel() + 1), dtype=torch.float64)
    scatter, counts, means = torch.split(packed, [covariance.numel(), ranks, ranks * mean.numel()])
    scatter.copy_(covariance.reshape(-1)).mul_(count)
    counts[rank] = count
    means.view(ranks, *mean.shape)[rank] = mean
    dist.all_reduce(packed)
    moments, total = merge_moments(counts, means.view(ranks, *mean.shape), scatter.view_as(covariance))
    return Moments(*(value.to(mean.dtype) for value in moments)), total


def all_reduce_sums(*values: Tensor) -> list[Tensor]:
    """Sum each value over all ranks, with one all-reduce in float64."""
    packed = torch.cat([value.reshape(-1).double() for value in values])
    dist.all_reduce(packed)
    parts = torch.split(packed, [value.numel() for value in values])
    return [part.view_as(value).to(value.dtype) for part, value in zip(parts, values, strict=True)]
