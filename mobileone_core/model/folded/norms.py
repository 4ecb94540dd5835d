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
    pairs = zip(norms, means.unbind(), variances.unbind(), strict=True)
    tracking = [pair for pair in pairs if pair[0].training and pair[0].track_running_stats]
    if not tracking:
        return
    torch._foreach_add_([_counter(norm) for norm, *_ in tracking], 1)
    for momentum in {norm.momentum for norm, *_ in tracking}:
        alike = [pair for pair in tracking if pair[0].momentum == momentum]
        running = [buffer for norm, *_ in alike for buffer in _buffers(norm)]
        batch = [value.to(running[0].dtype) for _, *values in alike for value in values]
        if momentum is None:  # the plain average over all batches
            shares = [1 / _counter(norm).to(running[0].dtype) for norm, *_ in alike]
            for index, (mine, new) in enumerate(zip(running, batch, strict=True)):
                mine.lerp_(new, shares[index // 2])
        else:
            torch._foreach_lerp_(running, batch, momentum)


def _buffers(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a BN that tracks them."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def _counter(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.num_batches_tracked is not None
    return norm.num_batches_tracked
