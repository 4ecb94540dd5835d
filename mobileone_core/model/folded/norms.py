"""What the batch normalizations of a block are to do, read without looking at any value; their running statistics."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def follow_the_batch(norms: Sequence[nn.Module]) -> bool:
    """Whether all are plain BatchNorm2d with weight and bias that normalize by the batch, as in training."""
    return all(
        type(norm) is nn.BatchNorm2d and norm.affine and (norm.training or norm.running_mean is None) for norm in norms
    )


@torch.no_grad()
def update_running(norms: Sequence[nn.BatchNorm2d], means: Tensor, variances: Tensor) -> None:
    """Move every BN's running statistics towards batch means and unbiased variances (B, C), as BN itself does."""
    tracking = [index for index, norm in enumerate(norms) if norm.training and norm.track_running_stats]
    if not tracking:
        return
    dtype = _buffers(norms[tracking[0]])[0].dtype
    values = list(zip(means.to(dtype).unbind(), variances.to(dtype).unbind(), strict=True))
    torch._foreach_add_([_counter(norms[index]) for index in tracking], 1)
    for momentum in {norms[index].momentum for index in tracking}:
        alike = [index for index in tracking if norms[index].momentum == momentum]
        running = [buffer for index in alike for buffer in _buffers(norms[index])]
        batch = [value for index in alike for value in values[index]]
        if momentum is None:  # the plain average over all batches
            shares = [1 / _counter(norms[index]).to(dtype) for index in alike for _ in range(2)]
            for mine, new, share in zip(running, batch, shares, strict=True):
                mine.lerp_(new, share)
        else:
            torch._foreach_lerp_(running, batch, momentum)


def _buffers(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a BN that tracks them."""
    mean, variance = norm.running_mean, norm.running_var  # every look at a module's buffer costs
    assert mean is not None
    assert variance is not None
    return mean, variance


def _counter(norm: nn.BatchNorm2d) -> Tensor:
    batches = norm.num_batches_tracked
    assert batches is not None
    return batches
