"""Builds the network of a latency cell, calibrated on random images and deployed, and counts its cost."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mobileone_core.errors import InputError
from mobileone_core.latency.cell import Chain, LatencyCell
from mobileone_core.latency.chain import ChainNetwork, fold_norms
from mobileone_core.latency.runtimes import UnmeasuredError
from mobileone_core.latency.zoo import MISSING, ZooEntry, zoo_entry
from mobileone_core.model.network import MobileOne, build_model, calibrate
from mobileone_core.model.reparam import reparameterize
from mobileone_core.model.spec import ModelSpec

CHANNELS = 3
BATCHES, BATCH, LARGEST_BATCH = 2, 4, 32  # of calibration at USUAL_SIZE; smaller images, whose maps have few pixels,
USUAL_SIZE = 224  # come in larger batches
SEED = 0


def build_network(cell: LatencyCell) -> nn.Module:
    """A cell's network in its form, in evaluation mode, on the CPU in float32.

    Weights are random but the same each time; BN is calibrated on random images. The random state is left as it was.
    Raises InputError if the network's library is not installed, and UnmeasuredError if no library has the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network, deploy = _built(cell)
        batch = max(BATCH, min(LARGEST_BATCH, BATCH * (USUAL_SIZE // cell.image_size) ** 2))
        calibrate(network, [_images(cell, batch) for _ in range(BATCHES)])
    return (_deployed(network) if deploy else network).eval()  # timm's folding makes layers in train mode


def build_images(cell: LatencyCell) -> Tensor:
    """The input that is timed, normal noise: (1, C, S, S)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED + 1)
        return _images(cell, 1)


def count_cost(network: nn.Module, images: Tensor) -> tuple[int, int]:
    """Numbers of parameters and of multiply-adds of convolutions, linear layers and attention products."""
    counted = copy.deepcopy(network).requires_grad_(False)  # the counter's hooks fail on tuples with some gradients
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        counted(images)
    return sum(item.numel() for item in network.parameters()), counter.get_total_flops() // 2


def _built(cell: LatencyCell) -> tuple[nn.Module, bool]:
    """The network in the form to calibrate, and whether to fold it afterwards."""
    network = cell.network
    if isinstance(network, Chain):
        return ChainNetwork(network, cell.num_classes), True
    if isinstance(network, ModelSpec):
        return build_model(network, cell.num_classes), True
    entry = zoo_entry(network.model)
    if entry.library == "mobileone":
        spec = ModelSpec.preset(entry.entry, **({"k": network.k} if network.k else {}))
        return build_model(spec, cell.num_classes), network.form == "deployed"
    return _from_library(entry, cell), entry.folds


def _from_library(entry: ZooEntry, cell: LatencyCell) -> nn.Module:
    """A network as timm or torchvision builds it, with random weights."""
    if not entry.library:
        raise UnmeasuredError(f"{entry.title}: {MISSING}")
    size = {"img_size": cell.image_size} if entry.sized else {}
    options: dict[str, Any] = {**entry.options, "num_classes": cell.num_classes, **size}
    try:
        if entry.library == "timm":
            import timm

            return timm.create_model(entry.entry, pretrained=False, **options)
        import torchvision

        return torchvision.models.get_model(entry.entry, weights=None, **options)  # type: ignore[no-any-return]
    except ImportError as error:
        raise InputError(f"{entry.title}: {entry.library} is not installed; pip install {entry.library}") from error


def _deployed(network: nn.Module) -> nn.Module:
    """The network with its branches and norms folded."""
    if isinstance(network, ChainNetwork):
        fold_norms(network)
        return network
    if isinstance(network, MobileOne):
        return reparameterize(network)
    from timm.utils.model import reparameterize_model

    return reparameterize_model(network)


def _images(cell: LatencyCell, batch: int) -> Tensor:
    """Normal noise: (batch, C, S, S)."""
    channels = cell.network.in_channels if isinstance(cell.network, ModelSpec) else CHANNELS
    return torch.randn((batch, channels, cell.image_size, cell.image_size))
