"""Cross-layer equalization of a deployed network: the channels of neighbouring layers get equal weight ranges."""

import copy
import itertools

import torch
from torch import nn

from mobileone_core.errors import require
from mobileone_core.model.blocks import MobileOneBlock
from mobileone_core.model.network import MobileOne

SWEEPS = 50  # over all pairs of layers; ranges have settled long before


@torch.no_grad()
def equalize(network: MobileOne) -> MobileOne:
    """Return a copy of a deployed network that computes the same, with weight ranges equalized channel by channel.

    A channel between two layers is divided by s in the first and multiplied by s in the second, with s = sqrt(r1 r2) /
    r2 and r the largest absolute weight of the channel: both then have the range sqrt(r1 r2). ReLU and pooling commute
    with s > 0. Pairs are repeated until the ranges settle. Nagel et al., "Data-Free Quantization Through Weight
    Equalization and Bias Correction", ICCV 2019, section 4.1.

    Raises InputError for another activation than relu and for SE, which do not commute with a scale.
    """
    require(network.deployed, "equalize", "train form", "a deployed network: fold it first")
    activation = network.spec.activation
    require(activation == "relu", "equalize", activation, "networks with relu, which commutes with a scale per channel")
    network = copy.deepcopy(network)
    blocks = [module for module in network.modules() if isinstance(module, MobileOneBlock)]
    has_se = any(block.spec.se for block in blocks)
    require(not has_se, "equalize", "se", "networks without SE, which does not commute with a scale per channel")
    layers = [block.reparam_conv for block in blocks] + [network.head.fc]
    for _ in range(SWEEPS):
        change = max(_equalize_pair(*pair) for pair in itertools.pairwise(layers))  # type: ignore[arg-type]
        if change < 1e-4:
            break
    return network


def _equalize_pair(first: nn.Conv2d, second: nn.Conv2d | nn.Linear) -> float:
    """Equalize the channels between two layers; returns the largest change of a scale."""
    is_depthwise = isinstance(second, nn.Conv2d) and second.groups > 1
    incoming = second.weight if is_depthwise else second.weight.transpose(0, 1)
    ranges = [weight.flatten(1).abs().amax(1) for weight in (first.weight, incoming)]
    lives = (ranges[0] > 0) & (ranges[1] > 0)  # a channel that is 0 on one side stays as it is
    scale = torch.where(lives, (ranges[0] / ranges[1].clamp(min=1e-30)).sqrt(), 1.0)
    first.weight /= scale[:, None, None, None]
    if first.bias is not None:
        first.bias /= scale
    incoming *= scale.view(-1, *[1] * (incoming.ndim - 1))
    return float((scale.log()).abs().max())
