"""BatchNorm statistics for untrained networks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def calibrate(network: nn.Module, batches: Sequence[Tensor]) -> None:
    """Set every BN's running statistics to those of some batches of images, and switch to evaluation mode.

    With initial statistics activations explode from block to block, and slow arithmetic on denormals would be timed.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    network.train()
    for batch in batches:
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
